//! Disks that a pod names itself, and that Kubernetes once looked after without a driver.

use serde::Deserialize;

use super::skip::Skip;

/// `awsElasticBlockStore`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct AwsDisk {
    #[serde(rename = "volumeID")]
    pub(crate) volume_id: String,
    fs_type: Skip,
    partition: Skip,
    read_only: Skip,
}

/// `gcePersistentDisk`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct GceDisk {
    pub(crate) pd_name: String,
    pub(crate) read_only: Option<bool>,
    fs_type: Skip,
    partition: Skip,
}

/// `iscsi`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct IscsiDisk {
    pub(crate) iqn: String,
    pub(crate) read_only: Option<bool>,
    target_portal: Skip,
    portals: Skip,
    lun: Skip,
    iscsi_interface: Skip,
    fs_type: Skip,
    chap_auth_discovery: Skip,
    chap_auth_session: Skip,
    secret_ref: Skip,
    initiator_name: Skip,
}

/// `rbd`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct RbdDisk {
    pub(crate) monitors: Vec<String>,
    pub(crate) pool: String,
    pub(crate) image: String,
    pub(crate) read_only: Option<bool>,
    fs_type: Skip,
    user: Skip,
    keyring: Skip,
    secret_ref: Skip,
}

/// `azureDisk`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct AzureDisk {
    #[serde(rename = "diskURI")]
    pub(crate) disk_uri: String,
    pub(crate) kind: Option<String>,
    disk_name: Skip,
    caching_mode: Skip,
    fs_type: Skip,
    read_only: Skip,
}

/// `cinder` and `portworxVolume`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct IdDisk {
    #[serde(rename = "volumeID")]
    pub(crate) volume_id: String,
    fs_type: Skip,
    read_only: Skip,
    secret_ref: Skip,
}

/// A volume's source among those that a driver has taken over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TakenOver {
    pub(crate) aws_elastic_block_store: Option<AwsDisk>,
    pub(crate) gce_persistent_disk: Option<GceDisk>,
    pub(crate) azure_disk: Option<AzureDisk>,
    pub(crate) cinder: Option<IdDisk>,
    pub(crate) portworx_volume: Option<IdDisk>,
}
