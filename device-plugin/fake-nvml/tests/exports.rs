//! The stand-in's door is NVML's: the same names, signatures and sizes, as the bindings have them that call the real one.
#![allow(unsafe_code, reason = "a library is loaded")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use nvml_wrapper_sys::bindings::{self as nvml, NvmlLib};
use object::{Object as _, ObjectSymbol as _};
use plasma_fake_nvml::{
    self as fake, device::*, events::*, fields::*, gpm::*, mig::*, older, processes::*, telemetry::*,
    topology::*, *,
};

/// What a driver's library exports, as seen on a machine with an H100.
const REAL: &str = include_str!("../../fixtures/h100-580.159.04/symbols.txt");

/// Says that a library is the stand-in; the one export that is not NVML's.
const STAND_IN: &str = "plasma_fake_nvml";

fn library() -> PathBuf {
    let tests = env::current_exe().unwrap();
    tests.parent().unwrap().join("libplasma_fake_nvml.so")
}

/// Since CUDA 13.4, of which neither the bindings nor that driver know.
const NEWER: [&str; 2] = ["nvmlDeviceGetMemoryLimits_v1", "nvmlDeviceSetMemoryLimits_v1"];

/// The names in the dynamic symbol table: what a loader finds.
fn exports(library: &Path) -> BTreeSet<String> {
    let bytes = fs::read(library).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let exported = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    exported.map(|symbol| symbol.name().unwrap().to_owned()).collect()
}

/// Compiles only where the stand-in's function has the binding's type; then says whether the library exports it.
fn exported<F, E: std::fmt::Display>(binding: &Result<F, E>, _stand_in: F, name: &str) {
    if let Err(fault) = binding {
        panic!("{name} is not exported: {fault}");
    }
}

#[test]
fn names_and_signatures_are_nvmls_and_no_function_is_left_out_of_this() {
    // SAFETY: the library is ours, and does nothing when it is loaded.
    let lib = unsafe { NvmlLib::new(library()) }.unwrap();
    let mut compared = BTreeSet::from([STAND_IN.to_owned()]);
    compared.extend(NEWER.map(str::to_owned));
    macro_rules! compare {
        ($($name:ident),* $(,)?) => { $(
            exported(&lib.$name, $name, stringify!($name));
            compared.insert(stringify!($name).to_owned());
        )* };
    }
    compare! {
        nvmlDeviceGetAttributes_v2,
        nvmlDeviceGetClockInfo,
        nvmlDeviceGetComputeInstanceId,
        nvmlDeviceGetComputeRunningProcesses_v3,
        nvmlDeviceGetCount_v2,
        nvmlDeviceGetCudaComputeCapability,
        nvmlDeviceGetCurrentClocksThrottleReasons,
        nvmlDeviceGetDecoderUtilization,
        nvmlDeviceGetEncoderUtilization,
        nvmlDeviceGetFieldValues,
        nvmlDeviceGetGpuInstanceId,
        nvmlDeviceGetGraphicsRunningProcesses_v3,
        nvmlDeviceGetHandleByIndex_v2,
        nvmlDeviceGetHandleByUUID,
        nvmlDeviceGetMaxMigDeviceCount,
        nvmlDeviceGetMemoryInfo,
        nvmlDeviceGetMemoryInfo_v2,
        nvmlDeviceGetMigDeviceHandleByIndex,
        nvmlDeviceGetMigMode,
        nvmlDeviceGetMinorNumber,
        nvmlDeviceGetName,
        nvmlDeviceGetNumaNodeId,
        nvmlDeviceGetNvLinkRemoteDeviceType,
        nvmlDeviceGetNvLinkRemotePciInfo_v2,
        nvmlDeviceGetNvLinkState,
        nvmlDeviceGetPciInfo_v3,
        nvmlDeviceGetPowerUsage,
        nvmlDeviceGetRemappedRows,
        nvmlDeviceGetSupportedEventTypes,
        nvmlDeviceGetTemperature,
        nvmlDeviceGetTopologyCommonAncestor,
        nvmlDeviceGetTotalEnergyConsumption,
        nvmlDeviceGetUUID,
        nvmlDeviceGetUtilizationRates,
        nvmlDeviceRegisterEvents,
        nvmlErrorString,
        nvmlEventSetCreate,
        nvmlEventSetFree,
        nvmlEventSetWait_v2,
        nvmlGpmMetricsGet,
        nvmlGpmMigSampleGet,
        nvmlGpmQueryDeviceSupport,
        nvmlGpmSampleAlloc,
        nvmlGpmSampleFree,
        nvmlGpmSampleGet,
        nvmlInitWithFlags,
        nvmlInit_v2,
        nvmlShutdown,
        nvmlSystemGetCudaDriverVersion_v2,
        nvmlSystemGetDriverVersion,
        nvmlSystemGetNVMLVersion,
    }
    let exports = exports(&library());
    assert_eq!(exports, compared, "what is exported, and what is compared here with the bindings");
}

#[test]
fn a_real_driver_exports_all_that_the_stand_in_does() {
    let real: BTreeSet<&str> = REAL.lines().map(str::trim).collect();
    assert!(real.len() > 400 && real.contains("nvmlInit_v2"), "the list itself is whole");
    let exports = exports(&library());
    let invented: Vec<_> = exports.iter().filter(|name| !real.contains(name.as_str())).collect();
    assert_eq!(invented, [NEWER[0], NEWER[1], STAND_IN], "nobody finds the others in a driver");
}

#[test]
fn sizes_and_versions_are_those_of_nvmls_header() {
    // By hand from `nvml.h`, on 64 bits: a binding that lost or gained a field has another size.
    let sizes = [
        ("nvmlMemory_t", size_of::<nvml::nvmlMemory_t>(), 3 * 8),
        ("nvmlMemory_v2_t", size_of::<nvml::nvmlMemory_v2_t>(), 8 + 4 * 8),
        ("nvmlPciInfo_t", size_of::<nvml::nvmlPciInfo_t>(), 16 + 5 * 4 + 32),
        ("nvmlUtilization_t", size_of::<nvml::nvmlUtilization_t>(), 2 * 4),
        ("nvmlFieldValue_t", size_of::<nvml::nvmlFieldValue_t>(), 2 * 4 + 2 * 8 + 2 * 4 + 8),
        ("nvmlEventData_t", size_of::<nvml::nvmlEventData_t>(), 8 + 8 + 8 + 2 * 4),
        ("nvmlGpmSupport_t", size_of::<nvml::nvmlGpmSupport_t>(), 2 * 4),
        ("nvmlGpmMetric_t", size_of::<nvml::nvmlGpmMetric_t>(), 2 * 4 + 8 + 3 * 8),
        ("nvmlSetMemoryLimits_v1_t", size_of::<fake::limits::nvmlSetMemoryLimits_v1_t>(), 3 * 8),
        ("nvmlGetMemoryLimits_v1_t", size_of::<fake::limits::nvmlGetMemoryLimits_v1_t>(), 4 * 8),
        ("nvmlGpmMetricsGet_t", size_of::<nvml::nvmlGpmMetricsGet_t>(), 2 * 4 + 2 * 8 + 210 * 40),
    ];
    for (name, size, header) in sizes {
        assert_eq!(size, header, "{name}");
    }
    // What the driver itself answered in the structure, on the machine with an H100.
    assert_eq!(fake::device::MEMORY_VERSION, 33_554_472);
}

#[test]
fn a_caller_of_another_version_is_refused_as_nvml_does() {
    const ARGUMENT_VERSION_MISMATCH: u32 = 25;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    fs::write(&file, r#"{"driverVersion": "1", "gpus": [{"uuid": "GPU-0", "name": "x", "memoryMib": 2}]}"#)
        .unwrap();
    // SAFETY: no other test of this program reads the environment.
    unsafe { env::set_var(fake::STATE_VARIABLE, &file) };
    assert_eq!(fake::nvmlInit_v2(), 0);
    let mut device = std::ptr::null_mut();
    // SAFETY: both can be written.
    assert_eq!(unsafe { fake::device::nvmlDeviceGetHandleByIndex_v2(0, &mut device) }, 0);
    let asked = |version| {
        let mut memory = nvml::nvmlMemory_v2_t { version, total: 0, reserved: 0, free: 0, used: 0 };
        // SAFETY: it can be read and written.
        let told = unsafe { fake::device::nvmlDeviceGetMemoryInfo_v2(device, &mut memory) };
        (told, memory.total)
    };
    assert_eq!(asked(fake::device::MEMORY_VERSION), (0, 2 << 20));
    assert_eq!(asked(1), (ARGUMENT_VERSION_MISMATCH, 0));
}

#[test]
fn an_older_drivers_library_lacks_what_it_is_to_lack_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("older.so");
    let missing = ["nvmlDeviceGetMemoryInfo_v2", "nvmlGpmSampleFree"];
    older::without(&library(), &missing, &copy).unwrap();
    // SAFETY: the library is ours, and does nothing when it is loaded.
    let lib = unsafe { NvmlLib::new(&copy) }.unwrap();
    assert!(lib.nvmlDeviceGetMemoryInfo_v2.is_err() && lib.nvmlGpmSampleFree.is_err());
    assert!(lib.nvmlDeviceGetMemoryInfo.is_ok() && lib.nvmlInit_v2.is_ok());
    let fault = older::without(&library(), &["nvmlNoSuchThing"], &copy).unwrap_err();
    assert!(fault.to_string().contains("no function nvmlNoSuchThing"), "{fault}");
}
