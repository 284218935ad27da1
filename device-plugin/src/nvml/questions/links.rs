//! How a GPU is connected: its NVLinks, where they lead, and how near other GPUs are.

use nvml_wrapper::{Device, error::NvmlError};

use super::{
    super::topology::{self, GPU},
    Asker,
};

/// Asks a GPU for its links, and how far each of the others is.
pub(super) fn about_neighbours(
    ask: &mut Asker<'_>,
    device: &Device<'_>,
    others: impl Iterator<Item = u32> + Clone,
) {
    let active = ask.about("nvmlDeviceGetNvLinkState (each link)", || active(device)).unwrap_or_default();
    if !active.is_empty() {
        let kinds =
            || active.iter().map(|link| topology::leads_to(device, *link)).collect::<Result<Vec<_>, _>>();
        let kinds = ask.about("nvmlDeviceGetNvLinkRemoteDeviceType (each active link)", kinds);
        // Older drivers don't say what kind of device it is: then each is asked for its address.
        let kinds = kinds.unwrap_or_else(|| vec![GPU; active.len()]);
        let to_gpus: Vec<u32> =
            active.into_iter().zip(kinds).filter(|(_, kind)| *kind == GPU).map(|(link, _)| link).collect();
        if !to_gpus.is_empty() {
            ask.about("nvmlDeviceGetNvLinkRemotePciInfo_v2 (each link to a GPU)", || {
                let address =
                    |link: &u32| device.link_wrapper_for(*link).remote_pci_info().map(|pci| pci.bus_id);
                to_gpus.iter().map(address).collect::<Result<Vec<_>, _>>()
            });
        }
    }
    // One that is alone has nobody to be near.
    if others.clone().next().is_some() {
        ask.about("nvmlDeviceGetTopologyCommonAncestor (each other GPU)", || {
            let nvml = device.nvml();
            let level = |other| device.topology_common_ancestor(nvml.device_by_index(other)?);
            others.map(level).collect::<Result<Vec<_>, _>>()
        });
    }
}

/// The links that are up. A GPU that refuses the first one has none to ask for; the first that is refused after it is the last.
fn active(device: &Device<'_>) -> Result<Vec<u32>, NvmlError> {
    let mut active = Vec::new();
    for link in 0..topology::MOST_LINKS {
        match device.link_wrapper_for(link).is_active() {
            Ok(true) => active.push(link),
            Ok(false) => {}
            Err(fault) if link == 0 => return Err(fault),
            Err(_) => break,
        }
    }
    Ok(active)
}
