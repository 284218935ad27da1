//! A pod's volumes: each source by its name, so that one that isn't known is told.

use serde::Deserialize;

use super::{
    disk::{AwsDisk, AzureDisk, GceDisk, IdDisk, IscsiDisk, RbdDisk},
    skip::Skip,
};

/// One volume. A field for each source; those whose content doesn't say where the pod may run are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) persistent_volume_claim: Option<ClaimSource>,
    /// A claim that is made for the pod, named after pod and volume.
    pub(crate) ephemeral: Option<Skip>,
    pub(crate) aws_elastic_block_store: Option<AwsDisk>,
    pub(crate) gce_persistent_disk: Option<GceDisk>,
    pub(crate) iscsi: Option<IscsiDisk>,
    pub(crate) rbd: Option<RbdDisk>,
    pub(crate) azure_disk: Option<AzureDisk>,
    pub(crate) cinder: Option<IdDisk>,
    pub(crate) portworx_volume: Option<IdDisk>,
    azure_file: Option<Skip>,
    cephfs: Option<Skip>,
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
