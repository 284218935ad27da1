//! The stand-in is called through the bindings that call the real library: names and signatures must be theirs.
#![allow(unsafe_code, reason = "a library is loaded")]
#![allow(clippy::panic, reason = "that is how a test fails")]

use std::env;

use nvml_wrapper_sys::bindings::NvmlLib;
use plasma_fake_nvml as fake;

/// Compiles only where the stand-in's function has the binding's type; then says whether the library exports it.
fn exported<F, E: std::fmt::Display>(binding: &Result<F, E>, _stand_in: F, name: &str) {
    if let Err(fault) = binding {
        panic!("{name} is not exported: {fault}");
    }
}

#[test]
fn names_and_signatures_are_nvmls() {
    let tests = env::current_exe().unwrap();
    let library = tests.parent().unwrap().join("libplasma_fake_nvml.so");
    // SAFETY: the library is ours, and does nothing when it is loaded.
    let lib = unsafe { NvmlLib::new(&library) }.unwrap();
    macro_rules! exported {
        ($($path:path => $name:ident),* $(,)?) => { $( exported(&lib.$name, $path, stringify!($name)); )* };
    }
    exported! {
        fake::nvmlInit_v2 => nvmlInit_v2,
        fake::nvmlInitWithFlags => nvmlInitWithFlags,
        fake::nvmlShutdown => nvmlShutdown,
        fake::nvmlErrorString => nvmlErrorString,
        fake::nvmlSystemGetDriverVersion => nvmlSystemGetDriverVersion,
        fake::nvmlSystemGetNVMLVersion => nvmlSystemGetNVMLVersion,
        fake::nvmlSystemGetCudaDriverVersion_v2 => nvmlSystemGetCudaDriverVersion_v2,
        fake::device::nvmlDeviceGetCudaComputeCapability => nvmlDeviceGetCudaComputeCapability,
        fake::device::nvmlDeviceGetMigMode => nvmlDeviceGetMigMode,
        fake::device::nvmlDeviceGetCount_v2 => nvmlDeviceGetCount_v2,
        fake::device::nvmlDeviceGetHandleByIndex_v2 => nvmlDeviceGetHandleByIndex_v2,
        fake::device::nvmlDeviceGetHandleByUUID => nvmlDeviceGetHandleByUUID,
        fake::device::nvmlDeviceGetUUID => nvmlDeviceGetUUID,
        fake::device::nvmlDeviceGetName => nvmlDeviceGetName,
        fake::device::nvmlDeviceGetMinorNumber => nvmlDeviceGetMinorNumber,
        fake::device::nvmlDeviceGetMemoryInfo_v2 => nvmlDeviceGetMemoryInfo_v2,
        fake::device::nvmlDeviceGetPciInfo_v3 => nvmlDeviceGetPciInfo_v3,
        fake::device::nvmlDeviceGetNumaNodeId => nvmlDeviceGetNumaNodeId,
        fake::device::nvmlDeviceGetUtilizationRates => nvmlDeviceGetUtilizationRates,
        fake::device::nvmlDeviceGetTemperature => nvmlDeviceGetTemperature,
        fake::device::nvmlDeviceGetPowerUsage => nvmlDeviceGetPowerUsage,
        fake::device::nvmlDeviceGetTotalEnergyConsumption => nvmlDeviceGetTotalEnergyConsumption,
        fake::device::nvmlDeviceGetFieldValues => nvmlDeviceGetFieldValues,
        fake::topology::nvmlDeviceGetNvLinkState => nvmlDeviceGetNvLinkState,
        fake::topology::nvmlDeviceGetNvLinkRemoteDeviceType => nvmlDeviceGetNvLinkRemoteDeviceType,
        fake::topology::nvmlDeviceGetNvLinkRemotePciInfo_v2 => nvmlDeviceGetNvLinkRemotePciInfo_v2,
        fake::topology::nvmlDeviceGetTopologyCommonAncestor => nvmlDeviceGetTopologyCommonAncestor,
        fake::events::nvmlEventSetCreate => nvmlEventSetCreate,
        fake::events::nvmlEventSetFree => nvmlEventSetFree,
        fake::events::nvmlDeviceRegisterEvents => nvmlDeviceRegisterEvents,
        fake::events::nvmlEventSetWait_v2 => nvmlEventSetWait_v2,
    }
    assert!(lib.nvmlGpmSampleFree.is_ok(), "dropping a sample would panic");
    // SAFETY: the symbol is only looked for.
    let says_so = unsafe { lib.__library.get::<*const ()>(b"plasma_fake_nvml\0") };
    assert!(says_so.is_ok(), "what it says must be known as simulated");
}
