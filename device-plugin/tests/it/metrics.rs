//! The metrics of a GPU: all that it tells, under our names and dcgm-exporter's, and nothing that it doesn't.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use plasma_fake_nvml::{FieldValue, Gpu, Instance, Telemetry, Xid};
use serde_json::Value;

use crate::plugin::{Node, Plugin, gpu};

/// A GPU that tells everything that NVML can tell.
pub(crate) fn talkative() -> Gpu {
    let field = |kind, value| FieldValue::Tagged { kind, value };
    let number = FieldValue::Number;
    let telemetry = Telemetry {
        sm_clock_mhz: Some(1980),
        memory_clock_mhz: Some(2619),
        encoder_percent: Some(3),
        decoder_percent: Some(4),
        memory_percent: Some(32),
        reserved_mib: 480,
        clock_event_reasons: Some(0b101),
        remapped_rows: Some([5, 6, 1, 0]),
        // The types are those that an H100's driver answers with.
        fields: BTreeMap::from([
            (3, number(11)),
            (5, number(12)),
            (6, number(2)),
            (74, number(1_500_000_000)),
            (75, number(0)),
            (76, number(0)),
            (77, number(0)),
            (78, number(17_977_935_904)),
            (79, number(0)),
            (82, field(1, 38)),
            (94, field(1, 7)),
            (138, number(1000)),
            (139, number(500)),
        ]),
        gpm: (1..=3).chain(5..=5).chain(9..=13).map(|metric| (metric, 10.0 * f64::from(metric))).collect(),
        ..Telemetry::default()
    };
    let mut gpu = Gpu {
        memory_used_mib: 1490,
        utilization_percent: 100,
        temperature_celsius: 36,
        power_milliwatts: Some(697_117),
        energy_millijoules: Some(4_005_777),
        uncorrectable_errors: Some(1),
        xids: vec![],
        telemetry,
        ..gpu(0)
    };
    gpu.telemetry.gpm.extend([(4, 40.0), (20, 2.0), (21, 3.0), (60, 5.0), (61, 4.0)]);
    gpu
}

/// A GPU that is divided in two. Nobody asks NVML how busy such a one is as a whole: it isn't told.
pub(crate) fn divided() -> Gpu {
    let part = |gpu_instance: u32| Instance {
        uuid: format!("MIG-00000000-0000-0000-0000-00000000000{gpu_instance}"),
        profile: "3g.40gb".to_owned(),
        gpu_instance,
        compute_instance: 0,
        memory_mib: 40_448,
        multiprocessors: 60,
        slices: [3, 3],
        engines: [3, 3, 0, 3, 0],
        ..Instance::default()
    };
    let activity = |share: f64| (1..=13).map(|metric| (metric, share)).collect::<BTreeMap<u32, f64>>();
    let telemetry = Telemetry {
        gpm: activity(75.0),
        gpm_instances: BTreeMap::from([(1, activity(50.0)), (2, activity(25.0))]),
        ..Telemetry::default()
    };
    let errors = BTreeMap::from([("nvmlDeviceGetUtilizationRates".to_owned(), 3)]);
    Gpu { mig: Some(true), instances: vec![part(1), part(2)], telemetry, errors, ..gpu(1) }
}

/// The values of the one GPU's metrics: by name, and by the label that tells several from each other.
pub(crate) fn values(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let several = ["xid=", "reason="].iter().find_map(|label| labels.split_once(label));
        let which = several.map(|(_, rest)| rest.split('"').nth(1).unwrap()).unwrap_or_default();
        let name = if which.is_empty() { name.to_owned() } else { format!("{name} {which}") };
        (name, value.parse().unwrap())
    };
    lines.map(value).collect()
}

/// The page once activity is on it, for which two looks are needed.
async fn page_with_activity(plugin: &Plugin) -> String {
    plugin.becomes("/metrics", "plasma_gpu_sm_active_ratio{").await;
    plugin.get("/metrics").await.1
}

#[tokio::test]
async fn all_that_a_gpu_tells_is_told_in_base_units_and_under_dcgm_exporters_names() {
    let node = Node::new(1);
    node.change(|state| state.gpus[0] = talkative());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--dcgm-metric-names"]);
    let told = values(&page_with_activity(&plugin).await);
    let expected = [
        ("plasma_gpu_sm_clock_hertz", 1.98e9, "DCGM_FI_DEV_SM_CLOCK", 1980.0),
        ("plasma_gpu_memory_clock_hertz", 2.619e9, "DCGM_FI_DEV_MEM_CLOCK", 2619.0),
        ("plasma_gpu_memory_temperature_celsius", 38.0, "DCGM_FI_DEV_MEMORY_TEMP", 38.0),
        ("plasma_gpu_temperature_celsius", 36.0, "DCGM_FI_DEV_GPU_TEMP", 36.0),
        ("plasma_gpu_power_watts", 697.117, "DCGM_FI_DEV_POWER_USAGE", 697.117),
        ("plasma_gpu_energy_joules_total", 4005.777, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 4_005_777.0),
        ("plasma_gpu_pcie_replays_total", 7.0, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 7.0),
        ("plasma_gpu_utilization_ratio", 1.0, "DCGM_FI_DEV_GPU_UTIL", 100.0),
        ("plasma_gpu_memory_utilization_ratio", 0.32, "DCGM_FI_DEV_MEM_COPY_UTIL", 32.0),
        ("plasma_gpu_encoder_utilization_ratio", 0.03, "DCGM_FI_DEV_ENC_UTIL", 3.0),
        ("plasma_gpu_decoder_utilization_ratio", 0.04, "DCGM_FI_DEV_DEC_UTIL", 4.0),
        ("plasma_gpu_memory_used_bytes", 1490.0 * 1_048_576.0, "DCGM_FI_DEV_FB_USED", 1490.0),
        ("plasma_gpu_memory_free_bytes", 79_589.0 * 1_048_576.0, "DCGM_FI_DEV_FB_FREE", 79_589.0),
        ("plasma_gpu_memory_reserved_bytes", 480.0 * 1_048_576.0, "DCGM_FI_DEV_FB_RESERVED", 480.0),
        ("plasma_gpu_throttled_seconds_total power", 1.5, "DCGM_FI_DEV_POWER_VIOLATION", 1.5e9),
        ("plasma_gpu_clock_event sw_power_cap", 1.0, "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 5.0),
        ("plasma_gpu_clock_event hw_slowdown", 0.0, "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 5.0),
        ("plasma_gpu_memory_errors_correctable_total", 12.0, "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 12.0),
        ("plasma_gpu_memory_errors_uncorrectable_total", 2.0, "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", 2.0),
        (
            "plasma_gpu_memory_errors_correctable_since_load_total",
            11.0,
            "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
            11.0,
        ),
        (
            "plasma_gpu_memory_errors_uncorrectable_since_load_total",
            1.0,
            "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
            1.0,
        ),
        ("plasma_gpu_remapped_rows_correctable_total", 5.0, "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", 5.0),
        ("plasma_gpu_remapped_rows_uncorrectable_total", 6.0, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 6.0),
        ("plasma_gpu_row_remapping_pending", 1.0, "DCGM_FI_DEV_ROW_REMAP_PENDING", 1.0),
        ("plasma_gpu_row_remapping_failed", 0.0, "DCGM_FI_DEV_ROW_REMAP_FAILURE", 0.0),
        ("plasma_gpu_nvlink_sent_bytes_total", 1_024_000.0, "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 0.0),
        ("plasma_gpu_graphics_active_ratio", 0.1, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.1),
        ("plasma_gpu_sm_active_ratio", 0.2, "DCGM_FI_PROF_SM_ACTIVE", 0.2),
        ("plasma_gpu_sm_occupancy_ratio", 0.3, "DCGM_FI_PROF_SM_OCCUPANCY", 0.3),
        ("plasma_gpu_integer_active_ratio", 0.4, "DCGM_FI_PROF_PIPE_INT_ACTIVE", 0.4),
        ("plasma_gpu_tensor_active_ratio", 0.5, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.5),
        ("plasma_gpu_dram_active_ratio", 1.0, "DCGM_FI_PROF_DRAM_ACTIVE", 1.0),
        ("plasma_gpu_fp64_active_ratio", 1.1, "DCGM_FI_PROF_PIPE_FP64_ACTIVE", 1.1),
        ("plasma_gpu_fp32_active_ratio", 1.2, "DCGM_FI_PROF_PIPE_FP32_ACTIVE", 1.2),
        ("plasma_gpu_fp16_active_ratio", 1.3, "DCGM_FI_PROF_PIPE_FP16_ACTIVE", 1.3),
        ("plasma_gpu_pcie_sent_bytes_per_second", 2_097_152.0, "DCGM_FI_PROF_PCIE_TX_BYTES", 2_097_152.0),
        ("plasma_gpu_pcie_received_bytes_per_second", 3_145_728.0, "DCGM_FI_PROF_PCIE_RX_BYTES", 3_145_728.0),
        ("plasma_gpu_nvlink_sent_bytes_per_second", 4_194_304.0, "DCGM_FI_PROF_NVLINK_TX_BYTES", 4_194_304.0),
        (
            "plasma_gpu_nvlink_received_bytes_per_second",
            5_242_880.0,
            "DCGM_FI_PROF_NVLINK_RX_BYTES",
            5_242_880.0,
        ),
    ];
    for (own, value, dcgm, in_its_unit) in expected {
        for (name, value) in [(own, value), (dcgm, in_its_unit)] {
            let found = told.get(name).copied().unwrap_or(f64::NAN);
            assert!((found - value).abs() <= value.abs() * 1e-12, "{name}: {found}, not {value}");
        }
    }
    assert_eq!(told["DCGM_FI_DEV_XID_ERRORS"], 0.0);
}

/// The names of all metrics, under dcgm-exporter's names too.
async fn all_names() -> BTreeSet<String> {
    let node = Node::new(1);
    node.change(|state| state.gpus = vec![talkative(), divided()]);
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--dcgm-metric-names"]);
    page_with_activity(&plugin).await;
    node.change(|state| state.gpus[0].xids.push(Xid::OfGpu(13)));
    plugin.becomes("/metrics", "plasma_gpu_last_xid{").await;
    let page = plugin.get("/metrics").await.1;
    let told = page.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let mut told: BTreeSet<String> = told.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    // What nobody did here: hold a GPU, share one, register, allocate, write a CDI spec.
    let undone = ["plasma_gpu_holder_info", "plasma_device_plugin_registrations_total"];
    let undone_either = ["plasma_device_plugin_allocations_total", "plasma_device_plugin_cdi_writes_total"];
    let unshared = [
        "plasma_gpu_memory_limit_enforced",
        "plasma_gpu_memory_share_bytes",
        "plasma_gpu_memory_share_used_bytes",
    ];
    told.extend(undone.into_iter().chain(undone_either).chain(unshared).map(str::to_owned));
    told
}

#[tokio::test]
async fn the_reference_lists_every_metric_and_no_other() {
    let told = all_names().await;
    let reference = fs::read_to_string(in_repository("docs/reference/device-plugin.md")).unwrap();
    let section = reference.split("\n## Metrics\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named = named.map(|name| name.split('{').next().unwrap()).filter(|name| is_metric(name));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    assert_eq!(named, told, "what docs/reference/device-plugin.md lists, and what is told");
}

#[tokio::test]
async fn the_charts_dashboard_and_alerts_ask_for_nothing_that_isnt_told() {
    let mut told = all_names().await;
    // Alerts ask settlement too; its reference is what can be read of it here.
    let settlement = fs::read_to_string(in_repository("docs/reference/settlement.md")).unwrap();
    let rows = settlement.lines().filter_map(|line| line.strip_prefix("| `plasma_settlement_"));
    let names = rows.map(|row| row.split(['`', '{']).next().unwrap_or_default());
    told.extend(names.map(|name| format!("plasma_settlement_{name}")));
    for (file, least) in [("gpus.json", 40), ("gpus.rules.yaml", 6)] {
        let file = in_repository("charts/plasma/dashboards").join(file);
        let asked: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let mut expressions = Vec::new();
        find_expressions(&asked, &mut expressions);
        assert!(expressions.len() >= least, "only {expressions:?} were found");
        for expression in expressions {
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let asked: Vec<&str> = words.filter(|word| is_metric(word)).collect();
            assert!(!asked.is_empty(), "{expression} asks for none of our metrics");
            for name in asked {
                let parts =
                    ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
                let is_told = told.contains(name) || parts.is_some_and(|whole| told.contains(whole));
                assert!(is_told, "{expression} asks for {name}, which nobody tells");
            }
        }
    }
}

/// Everything under `expr`, and what fills a dashboard's variables.
fn find_expressions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| ["expr", "definition"].contains(&name.as_str())) {
                    Some(text) => found.push(text),
                    None => find_expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find_expressions(value, found)),
        _ => {}
    }
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn is_metric(name: &str) -> bool {
    name.starts_with("plasma_") || name.starts_with("DCGM_")
}

#[tokio::test]
async fn what_a_gpu_doesnt_tell_is_left_out_and_other_names_only_come_when_asked_for() {
    let node = Node::new(1);
    let plugin = node.plugin();
    plugin.becomes("/metrics", "plasma_gpu_healthy{").await;
    let told = values(&plugin.get("/metrics").await.1);
    for silent in
        ["sm_clock", "power", "energy", "pcie", "nvlink", "active", "xid", "remap", "errors", "throttled"]
    {
        let of_gpus = told.keys().filter(|name| name.starts_with("plasma_gpu_"));
        let leaked: Vec<_> = of_gpus.filter(|name| name.contains(silent)).collect();
        assert!(leaked.is_empty(), "nobody told {leaked:?}");
    }
    assert!(!told.keys().any(|name| name.starts_with("DCGM_")), "{told:?}");
    assert!(told["plasma_device_plugin_looks_total"] >= 0.0 && told["plasma_gpu_memory_used_bytes"] == 0.0);
}

#[tokio::test]
async fn a_divided_gpu_tells_the_activity_of_each_part_and_no_utilisation() {
    let node = Node::new(1);
    node.change(|state| state.gpus = vec![divided()]);
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--dcgm-metric-names"]);
    plugin.becomes("/metrics", "plasma_gpu_instance_sm_active_ratio{").await;
    let page = plugin.get("/metrics").await.1;
    let series = |name: &str| {
        let start = format!("{name}{{");
        let mut found: Vec<(bool, &str)> = page
            .lines()
            .filter(|line| line.starts_with(&start))
            .map(|line| (line.contains("3g.40gb"), line.rsplit(' ').next().unwrap()))
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(series("plasma_gpu_instance_sm_active_ratio"), [(true, "0.25"), (true, "0.5")]);
    assert_eq!(series("plasma_gpu_sm_active_ratio"), [(false, "0.75")], "once a GPU, for whoever sums");
    let both = [(false, "0.75"), (true, "0.25"), (true, "0.5")];
    assert_eq!(series("DCGM_FI_PROF_SM_ACTIVE"), both, "as dcgm-exporter has it");
    assert!(page.contains("GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"2\"} 0.25"), "{page}");
    for silent in ["plasma_gpu_utilization_ratio", "DCGM_FI_DEV_GPU_UTIL"] {
        assert!(series(silent).is_empty(), "{silent} of a divided GPU isn't known");
    }
    assert_eq!(series("DCGM_FI_DEV_XID_ERRORS").len(), 1);
}

#[tokio::test]
async fn xids_are_counted_by_number_and_outlive_the_gpu_that_they_took_away() {
    let node = Node::new(2);
    let plugin = node.plugin();
    plugin.becomes("/metrics", "plasma_gpu_healthy{").await;
    // Registered for events at the first look; what comes after it counts.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    node.change(|state| {
        state.gpus[1].xids = vec![Xid::OfGpu(13), Xid::OfGpu(13), Xid::OfGpu(79)];
        state.gpus[1].lost = true;
    });
    plugin.becomes("/metrics", "xid=\"79\"} 1").await;
    let page = plugin.get("/metrics").await.1;
    let lines: Vec<&str> = page.lines().filter(|line| line.contains("xid")).collect();
    let line =
        |start: &str, end: &str| lines.iter().any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(line("plasma_gpu_xids_total{node=\"node\",gpu=\"1\"", "xid=\"13\"} 2"), "{lines:?}");
    assert!(line("plasma_gpu_last_xid{node=\"node\",gpu=\"1\"", " 79"), "{lines:?}");
    // The driver is reloaded: what was counted stays.
    node.change(|state| state.driver_epoch += 1);
    plugin.must_say("NVML is loaded from").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    plugin.becomes("/metrics", "xid=\"13\"} 2").await;
}
