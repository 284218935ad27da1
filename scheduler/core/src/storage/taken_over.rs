//! Volumes that Kubernetes once attached by itself and that drivers have taken over: what they are called to the driver,
//! and which of a node's labels says where they are.

use super::volume::Source;
use crate::{
    document::{TakenOver, VolumeDocument},
    labels::{Text, Texts},
    pod::{Affinity, NodeRequirement, NodeTerm, Operator},
};

const EBS: &str = "kubernetes.io/aws-ebs";
const GCE: &str = "kubernetes.io/gce-pd";
const AZURE: &str = "kubernetes.io/azure-disk";
const CINDER: &str = "kubernetes.io/cinder";
const PORTWORX: &str = "kubernetes.io/portworx-volume";

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const OLD_REGION: &str = "failure-domain.beta.kubernetes.io/region";

/// Between the zones of a volume's label.
const BETWEEN_ZONES: &str = "__";

/// The driver that has taken over from a part of Kubernetes, by the name that classes know it by as their provisioner.
/// `Err` where a driver has, but its volumes don't count towards a limit.
pub(crate) fn driver_of_plugin(provisioner: &str) -> Option<Result<&'static str, ()>> {
    Some(match provisioner {
        EBS => Ok("ebs.csi.aws.com"),
        GCE => Ok("pd.csi.storage.gke.io"),
        AZURE => Ok("disk.csi.azure.com"),
        CINDER => Ok("cinder.csi.openstack.org"),
        PORTWORX => Ok("pxd.portworx.com"),
        "kubernetes.io/azure-file" | "kubernetes.io/vsphere-volume" => Err(()),
        _ => return None,
    })
}

fn driver(plugin: &str) -> &'static str {
    driver_of_plugin(plugin).and_then(Result::ok).unwrap_or_default()
}

/// What a driver calls a volume that a pod names itself. `Err` where the name makes no sense to it, nothing where no
/// driver has taken over such volumes.
pub(crate) fn inline(source: &TakenOver, texts: &mut Texts) -> Option<Result<Source, String>> {
    if let Some(disk) = &source.gce_persistent_disk {
        return Some(Ok(shared(GCE, &gce_handle("zones", "UNSPECIFIED", &disk.pd_name), texts)));
    }
    plain(source).map(|found| found.map(|(plugin, handle)| shared(plugin, handle, texts)))
}

/// What the driver calls a volume; an empty handle where it can't make sense of the volume's own name or zones.
pub(super) fn volume(document: &VolumeDocument, texts: &mut Texts) -> Option<Source> {
    let source = &document.spec.taken_over;
    if let Some(disk) = &source.gce_persistent_disk {
        let handle = gce_volume(document, &disk.pd_name).unwrap_or_default();
        return Some(shared(GCE, &handle, texts));
    }
    let (plugin, handle) =
        plain(source)?.unwrap_or_else(|_| (if source.azure_disk.is_some() { AZURE } else { EBS }, ""));
    Some(shared(plugin, handle, texts))
}

fn shared(plugin: &'static str, handle: &str, texts: &mut Texts) -> Source {
    let handle: Text = handle.into();
    Source { driver: texts.share(driver(plugin)), handle, plugin: Some(plugin) }
}

/// Those whose name is the same wherever they are.
fn plain(source: &TakenOver) -> Option<Result<(&'static str, &str), String>> {
    if let Some(disk) = &source.aws_elastic_block_store {
        return Some(ebs_handle(&disk.volume_id).map(|handle| (EBS, handle)));
    }
    if let Some(disk) = &source.azure_disk {
        let is_managed = disk.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("managed"));
        let why = || format!("azureDisk {}: no driver attaches what isn't managed", disk.disk_uri);
        return Some(if is_managed { Ok((AZURE, disk.disk_uri.as_str())) } else { Err(why()) });
    }
    if let Some(disk) = &source.cinder {
        return Some(Ok((CINDER, disk.volume_id.as_str())));
    }
    source.portworx_volume.as_ref().map(|disk| Ok((PORTWORX, disk.volume_id.as_str())))
}

/// `aws://zone/vol-1` and `vol-1` are the same disk.
fn ebs_handle(id: &str) -> Result<&str, String> {
    let Some(rest) = id.strip_prefix("aws://") else { return Ok(id) };
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    if path.starts_with("vol-") && !path.contains('/') {
        Ok(path)
    } else {
        Err(format!("awsElasticBlockStore {id}: not a volume's name such as vol-1 or aws://zone/vol-1"))
    }
}

fn gce_handle(level: &str, place: &str, disk: &str) -> String {
    format!("projects/UNSPECIFIED/{level}/{place}/disks/{disk}")
}

/// A disk of one zone, or of a region where it is in several zones.
fn gce_volume(document: &VolumeDocument, disk: &str) -> Option<String> {
    let labels = &document.metadata.labels;
    let zones = labels.get(OLD_ZONE).filter(|zones| !zones.is_empty()).or_else(|| labels.get(ZONE));
    let zones: Vec<&str> = zones.map_or("", |zones| zones).split(BETWEEN_ZONES).collect();
    match zones[..] {
        [] | [""] => Some(gce_handle("zones", "UNSPECIFIED", disk)),
        [zone] => Some(gce_handle("zones", zone, disk)),
        _ => {
            let region = |zone: &&str| {
                let (region, _) = zone.rsplit_once('-')?;
                (region.split('-').count() == 2).then(|| region.to_owned())
            };
            let regions: Option<Vec<String>> = zones.iter().map(region).collect();
            let regions = regions?;
            let first = regions.first()?;
            let is_one = regions.iter().all(|region| region == first);
            is_one.then(|| gce_handle("regions", first, disk))
        }
    }
}

/// Which nodes reach the volume in the driver's words; nothing where that is no other than in the volume's own.
pub(super) fn affinity(document: &VolumeDocument) -> Option<Affinity> {
    let source = &document.spec.taken_over;
    let key = match source {
        TakenOver { aws_elastic_block_store: Some(_), .. } => "topology.ebs.csi.aws.com/zone",
        TakenOver { gce_persistent_disk: Some(_), .. } => "topology.gke.io/zone",
        TakenOver { azure_disk: Some(_), .. } => "topology.disk.csi.azure.com/zone",
        TakenOver { cinder: Some(_), .. } => "topology.cinder.csi.openstack.org/zone",
        _ => return None,
    };
    let labels = &document.metadata.labels;
    let mut affinity = document.spec.node_affinity.required.clone().unwrap_or_default();
    let names = |affinity: &Affinity, key: &str| requirements(affinity).any(|one| one.key == key);
    let is_old = !names(&affinity, ZONE)
        && (names(&affinity, OLD_ZONE) || (!labels.contains_key(ZONE) && labels.contains_key(OLD_ZONE)));
    let zone = if is_old { OLD_ZONE } else { ZONE };
    if requirements(&affinity).any(|one| one.key == zone && !one.values.is_empty()) {
        rename(&mut affinity, zone, key);
    } else if let Some(label) = labels.get(zone) {
        let zones = label.split(BETWEEN_ZONES).map(str::trim).filter(|zone| !zone.is_empty());
        add(&mut affinity, key, zones.map(ToOwned::to_owned).collect());
    }
    if is_old {
        rename(&mut affinity, OLD_REGION, REGION);
    }
    (document.spec.node_affinity.required.as_ref() != Some(&affinity)
        && !affinity.node_selector_terms.is_empty())
    .then_some(affinity)
}

fn requirements(affinity: &Affinity) -> impl Iterator<Item = &NodeRequirement> {
    affinity.node_selector_terms.iter().flat_map(|term| &term.match_expressions)
}

fn rename(affinity: &mut Affinity, from: &str, to: &str) {
    let all = affinity.node_selector_terms.iter_mut().flat_map(|term| &mut term.match_expressions);
    all.filter(|one| one.key == from).for_each(|one| to.clone_into(&mut one.key));
}

fn add(affinity: &mut Affinity, key: &str, values: Vec<String>) {
    if values.is_empty() {
        return;
    }
    if affinity.node_selector_terms.is_empty() {
        affinity.node_selector_terms.push(NodeTerm::default());
    }
    let one = NodeRequirement { key: key.to_owned(), operator: Operator::In, values };
    affinity.node_selector_terms.iter_mut().for_each(|term| term.match_expressions.push(one.clone()));
}
