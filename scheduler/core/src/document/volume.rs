//! A pod's volumes: each source by its name, so that one that isn't known is told.

use serde::Deserialize;

use super::skip::Skip;

/// One volume. A field for each source; those whose content doesn't say where the pod may run are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) persistent_volume_claim: Option<ClaimSource>,
    /// A claim that is made for the pod, named after pod and volume.
    pub(crate) ephemeral: Option<Skip>,
    pub(crate) aws_elastic_block_store: Option<Skip>,
    pub(crate) gce_persistent_disk: Option<Skip>,
    pub(crate) iscsi: Option<Skip>,
    pub(crate) rbd: Option<Skip>,
    azure_disk: Option<Skip>,
    azure_file: Option<Skip>,
    cephfs: Option<Skip>,
    cinder: Option<Skip>,
    config_map: Option<Skip>,
    csi: Option<Skip>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<Skip>,
    empty_dir: Option<Skip>,
    fc: Option<Skip>,
    flex_volume: Option<Skip>,
    flocker: Option<Skip>,
    git_repo: Option<Skip>,
    glusterfs: Option<Skip>,
    host_path: Option<Skip>,
    image: Option<Skip>,
    nfs: Option<Skip>,
    photon_persistent_disk: Option<Skip>,
    portworx_volume: Option<Skip>,
    projected: Option<Skip>,
    quobyte: Option<Skip>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<Skip>,
    secret: Option<Skip>,
    storageos: Option<Skip>,
    vsphere_volume: Option<Skip>,
}

/// A claim in the pod's namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
pub(crate) struct ClaimSource {
    pub(crate) claim_name: String,
    read_only: Option<Skip>,
}

impl Volume {
    /// The field of a source that this scheduler leaves to others.
    pub(crate) fn not_taken_on(&self) -> Option<&'static str> {
        [
            ("spec.volumes[].persistentVolumeClaim", self.persistent_volume_claim.is_some()),
            ("spec.volumes[].ephemeral", self.ephemeral.is_some()),
            ("spec.volumes[].awsElasticBlockStore", self.aws_elastic_block_store.is_some()),
            ("spec.volumes[].gcePersistentDisk", self.gce_persistent_disk.is_some()),
            ("spec.volumes[].iscsi", self.iscsi.is_some()),
            ("spec.volumes[].rbd", self.rbd.is_some()),
        ]
        .into_iter()
        .find_map(|(field, is_set)| is_set.then_some(field))
    }
}
