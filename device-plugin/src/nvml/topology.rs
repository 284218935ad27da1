//! How the GPUs are connected, as the driver has it. It changes seldom: links are trained after the driver is there, and may fail.

use std::collections::BTreeMap;

use nvml_wrapper::{
    Device,
    enum_wrappers::device::TopologyLevel,
    error::{NvmlError, nvml_try},
};
use plasma_device_plugin_core::{Distance, Link, Topology};

/// As many links as any GPU has (`NVML_NVLINK_MAX_LINKS`).
pub(super) const MOST_LINKS: u32 = 18;

/// `nvmlIntNvLinkDeviceType_t`.
pub(super) const GPU: u32 = 0;
const SWITCH: u32 = 2;

/// What a GPU's links lead to: how many to switches, and how many to each PCI address.
#[derive(Default)]
struct Links {
    switches: u32,
    gpus: BTreeMap<String, u32>,
}

/// What connects each pair. What the driver doesn't tell is as far apart as can be.
pub(crate) fn topology(devices: &[(String, Device<'_>)]) -> Topology {
    let mut topology = Topology::default();
    let links: Vec<Links> = devices.iter().map(|(_, device)| links(device)).collect();
    let address = |device: &Device<'_>| device.pci_info().map(|pci| pci.bus_id).unwrap_or_default();
    for (at, (one, device)) in devices.iter().enumerate() {
        for (beside, (other, remote)) in devices.iter().enumerate().skip(at + 1) {
            let direct = links[at].gpus.get(&address(remote)).copied().unwrap_or_default();
            // Every switch of a machine reaches every GPU that has links to switches.
            let nvlinks = direct + links[at].switches.min(links[beside].switches);
            topology.connect(one, other, Link { nvlinks, distance: distance(device, remote) });
        }
    }
    topology
}

fn links(device: &Device<'_>) -> Links {
    let mut links = Links::default();
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        if !link.is_active().unwrap_or(false) {
            continue;
        }
        match leads_to(device, number).ok() {
            Some(SWITCH) => links.switches += 1,
            // Older drivers don't say what kind of device it is.
            Some(GPU) | None => {
                if let Ok(remote) = link.remote_pci_info() {
                    *links.gpus.entry(remote.bus_id).or_default() += 1;
                }
            }
            Some(_) => {}
        }
    }
    links
}

/// What kind of device a link leads to. The library is asked itself: the wrapper gives "unknown" whatever it answers.
///
/// # Errors
/// When the driver doesn't say.
pub(super) fn leads_to(device: &Device<'_>, link: u32) -> Result<u32, NvmlError> {
    let ask = device.nvml().lib().nvmlDeviceGetNvLinkRemoteDeviceType.as_ref();
    let ask = ask.map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))?;
    let mut kind = u32::MAX;
    // SAFETY: the handle lives as long as its borrow, and the library writes one number.
    let told = unsafe { ask(device.handle(), link, &mut kind) };
    nvml_try(told).map(|()| kind)
}

fn distance(one: &Device<'_>, other: &Device<'_>) -> Distance {
    // The wrapper takes the other one by value; a handle costs a look-up, and this is asked once a minute.
    let other = other.uuid().and_then(|uuid| other.nvml().device_by_uuid(uuid));
    match other.and_then(|other| one.topology_common_ancestor(other)) {
        Ok(TopologyLevel::Internal) => Distance::Board,
        Ok(TopologyLevel::Single) => Distance::Switch,
        Ok(TopologyLevel::Multiple) => Distance::Switches,
        Ok(TopologyLevel::HostBridge) => Distance::HostBridge,
        Ok(TopologyLevel::Node) => Distance::Node,
        Ok(TopologyLevel::System) | Err(_) => Distance::Machine,
    }
}
