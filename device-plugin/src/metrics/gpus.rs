//! The GPUs' metrics, computed anew each time that somebody asks: a GPU that left must not keep its last values.

use plasma_device_plugin_core::{Gpu, Holder};
use plasma_runtime::prometheus::{
    Error,
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    Sources, dcgm, instances,
    labels::{self, label},
    looks::Xids,
    own, shares,
    table::{Kind, Row, Subject, Value},
};
use crate::{inventory::Observed, nvml::Figures};

const NVML_UP: (&str, &str) = ("plasma_nvml_up", "1 if NVML answered lately");
const HOLDER: (&str, &str) =
    ("plasma_gpu_holder_info", "1 for each container that has the GPU, or a share of it: join it by uuid");

/// Computes them.
pub(super) struct GpuMetrics {
    sources: Sources,
    descriptions: Vec<Desc>,
}

/// One GPU, with all that is known of it.
struct Known<'a> {
    subject: Subject<'a>,
    node: &'a str,
    own: Vec<LabelPair>,
    dcgm: Vec<LabelPair>,
    /// Who has it or a share of it, with the labels that say which part of it.
    holders: Vec<(Vec<LabelPair>, Holder)>,
    parts: Vec<OfPart>,
}

/// One part of a divided GPU.
struct OfPart {
    figures: Figures,
    own: Vec<LabelPair>,
    dcgm: Vec<LabelPair>,
}

/// One GPU under one set of names.
type Labelled<'a> = (&'a [LabelPair], &'a Subject<'a>);

impl GpuMetrics {
    pub(super) fn new(sources: Sources) -> Result<Self, Error> {
        let rows = own::METRICS.iter().chain(dcgm::METRICS.iter().filter(|_| sources.dcgm_names));
        let named =
            rows.flat_map(|rows| rows.iter()).map(|row| (row.name, row.help)).chain([NVML_UP, HOLDER]);
        let named = named.chain(shares::METRICS.map(|(name, help, _)| (name, help)));
        let descriptions =
            named.map(|(name, help)| Desc::new(name.to_owned(), help.to_owned(), vec![], Default::default()));
        let descriptions = descriptions.collect::<Result<_, _>>()?;
        Ok(Self { sources, descriptions })
    }

    fn families(&self) -> Vec<MetricFamily> {
        let observed = self.sources.observed.borrow().clone();
        let inventory = observed.believed();
        let gpus = inventory.gpus();
        let heard: Vec<Xids> = gpus.iter().map(|(gpu, _)| self.sources.looks.xids(&gpu.uuid)).collect();
        let silent = Figures::default();
        let known: Vec<Known<'_>> = gpus
            .iter()
            .zip(&heard)
            .map(|((gpu, state), xids)| {
                let figures = observed.figures.iter().find(|figures| figures.uuid == gpu.uuid);
                let subject = Subject { gpu, state, figures: figures.unwrap_or(&silent), xids };
                self.known(subject, &observed)
            })
            .collect();
        let up = f64::from(u8::from(observed.is_known() && inventory.fault().is_none()));
        let mut families = vec![family(NVML_UP, Kind::Gauge, vec![metric(vec![], Kind::Gauge, up)])];
        families.push(family(HOLDER, Kind::Gauge, known.iter().flat_map(Known::holders).collect()));
        families.extend(shares::METRICS.map(|(name, help, value)| {
            let told = shares::told(&observed, (&inventory, up > 0.0), &self.sources.node, value);
            let metrics = told.into_iter().map(|(labels, value)| metric(labels, Kind::Gauge, value));
            family((name, help), Kind::Gauge, metrics.collect())
        }));
        let rows = |table: &'static [&'static [Row]]| table.iter().flat_map(|rows| rows.iter());
        let whole: Vec<Labelled<'_>> = known.iter().map(|gpu| (&gpu.own[..], &gpu.subject)).collect();
        families.extend(rows(own::METRICS).map(|row| of_row(row, &whole)));
        let no_xids = Xids::default();
        let parts: Vec<(&OfPart, Subject<'_>)> = known.iter().flat_map(|gpu| gpu.parts(&no_xids)).collect();
        let of_parts: Vec<Labelled<'_>> = parts.iter().map(|(part, it)| (&part.own[..], it)).collect();
        families.extend(own::OF_INSTANCE.iter().map(|row| of_row(row, &of_parts)));
        if self.sources.dcgm_names {
            let whole = known.iter().map(|gpu| (&gpu.dcgm[..], &gpu.subject));
            let of_parts = parts.iter().map(|(part, it)| (&part.dcgm[..], it));
            let all: Vec<Labelled<'_>> = whole.clone().chain(of_parts).collect();
            let whole: Vec<Labelled<'_>> = whole.collect();
            families.extend(rows(dcgm::METRICS).map(|row| of_row(row, &whole)));
            families.extend(dcgm::PROFILING.iter().map(|row| of_row(row, &all)));
        }
        // A metric that no GPU tells is none.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    fn known<'a>(&'a self, subject: Subject<'a>, observed: &Observed) -> Known<'a> {
        let (gpu, simulated): (&Gpu, bool) = (subject.gpu, observed.simulated);
        let (exclusive, holders, parts) = {
            let holdings = self.sources.holdings.borrow();
            let whole =
                labels::everybody(&holdings, &gpu.uuid).into_iter().map(|holder| (Vec::new(), holder));
            let holders = whole.chain(instances::holders(gpu, &holdings)).collect();
            let parts = instances::parts(gpu, subject.figures, &holdings);
            (holdings.of(&gpu.uuid).to_vec(), holders, parts)
        };
        let node = self.sources.node.as_str();
        let own = |holders: &[Holder]| labels::own(gpu, simulated, node, holders);
        let dcgm = |holders: &[Holder]| match self.sources.dcgm_names {
            true => labels::dcgm(gpu, simulated, node, holders),
            false => Vec::new(),
        };
        let parts = parts.into_iter().map(|part| OfPart {
            own: part.own(own(&part.holders)),
            dcgm: part.dcgm(dcgm(&part.holders)),
            figures: part.figures,
        });
        let parts = parts.collect();
        Known { subject, node, own: own(&exclusive), dcgm: dcgm(&exclusive), holders, parts }
    }
}

impl Known<'_> {
    fn holders(&self) -> impl Iterator<Item = Metric> {
        self.holders.iter().map(|(part, holder)| {
            let gpu = self.subject.gpu;
            let index = gpu.index.to_string();
            let mut labels = vec![label("node", self.node), label("gpu", &index), label("uuid", &gpu.uuid)];
            labels.extend(part.iter().cloned().chain(labels::of_holder(holder)));
            metric(labels, Kind::Gauge, 1.0)
        })
    }

    fn parts<'a>(&'a self, xids: &'a Xids) -> impl Iterator<Item = (&'a OfPart, Subject<'a>)> {
        let Subject { gpu, state, .. } = self.subject;
        self.parts.iter().map(move |part| (part, Subject { gpu, state, figures: &part.figures, xids }))
    }
}

fn of_row(row: &Row, gpus: &[Labelled<'_>]) -> MetricFamily {
    let mut metrics = Vec::new();
    for (labels, subject) in gpus {
        match row.value {
            Value::One(value) => {
                metrics.extend(value(subject).map(|value| metric(labels.to_vec(), row.kind, value)));
            }
            Value::Several(name, values) => values(subject, &mut |which, value| {
                let which = label(name, which);
                metrics.push(metric(labels.iter().cloned().chain([which]).collect(), row.kind, value));
            }),
        }
    }
    family((row.name, row.help), row.kind, metrics)
}

fn metric(labels: Vec<LabelPair>, kind: Kind, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    match kind {
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
    }
    metric
}

fn family((name, help): (&str, &str), kind: Kind, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(match kind {
        Kind::Gauge => MetricType::GAUGE,
        Kind::Counter => MetricType::COUNTER,
    });
    family.set_metric(metrics);
    family
}

impl Collector for GpuMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use plasma_device_plugin_core::{
        HealthRules, Holdings, Instance, Inventory, Look, Mig, MigInstance, Profile, Scan, Seen, Signs,
    };
    use plasma_runtime::prometheus::{Registry, TextEncoder};
    use tokio::sync::watch;

    use super::*;
    use crate::{metrics::LookMetrics, nvml::Activity};

    fn holder(pod: &str) -> Holder {
        let [pod_uid, namespace, container] = ["uid", "lab", "main"].map(str::to_owned);
        Holder { pod_uid: format!("{pod_uid}-{pod}"), namespace, pod: pod.to_owned(), container }
    }

    /// The page of a node with two GPUs that are held so.
    fn page(holdings: Holdings) -> String {
        let seen = |index: u32| {
            let gpu = Gpu { uuid: format!("GPU-{index}"), name: "H100".to_owned(), index, ..Gpu::default() };
            Seen::Answered { gpu, signs: Signs::default() }
        };
        let mut inventory = Inventory::new(HealthRules::default());
        inventory.observe(Scan::Looked(Look { gpus: vec![seen(0), seen(1)], ..Look::default() }));
        let registry = Registry::new();
        let sources = Sources {
            observed: watch::channel(Observed::for_tests(inventory)).1,
            holdings: watch::channel(holdings).1,
            looks: LookMetrics::register(&registry).unwrap(),
            node: "node-a".to_owned(),
            observes: false,
            dcgm_names: true,
        };
        registry.register(Box::new(GpuMetrics::new(sources).unwrap())).unwrap();
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    fn lines<'a>(page: &'a str, metric: &str) -> Vec<&'a str> {
        page.lines().filter(|line| line.starts_with(&format!("{metric}{{"))).collect()
    }

    #[test]
    fn who_has_a_gpu_alone_is_on_its_series_under_both_names() {
        let held = BTreeMap::from([("GPU-1".to_owned(), vec![holder("a")])]);
        let page = page(Holdings::Known(held));
        for metric in ["plasma_gpu_healthy", "DCGM_FI_DEV_XID_ERRORS"] {
            let [free, taken] = lines(&page, metric)[..] else { panic!("one series a GPU: {page}") };
            assert!(!free.contains("pod"), "{free}");
            for label in ["namespace=\"lab\"", "pod=\"a\"", "pod_uid=\"uid-a\"", "container=\"main\""] {
                assert!(taken.contains(label), "{label} in {taken}");
            }
        }
        assert_eq!(lines(&page, "plasma_gpu_holder_info").len(), 1);
    }

    #[test]
    fn a_shared_gpu_is_counted_once_and_everybody_who_has_it_is_told() {
        let shared = [("GPU-0::0", "a"), ("GPU-0::1", "b")];
        let held = shared.map(|(id, pod)| (id.to_owned(), vec![holder(pod)]));
        let page = page(Holdings::Known(BTreeMap::from(held)));
        let healthy = lines(&page, "plasma_gpu_healthy");
        assert!(healthy.len() == 2 && healthy.iter().all(|line| !line.contains("pod")), "{healthy:?}");
        let holders = lines(&page, "plasma_gpu_holder_info");
        assert!(
            holders.len() == 2 && holders.iter().all(|line| line.contains("uuid=\"GPU-0\"")),
            "{holders:?}"
        );
    }

    #[test]
    fn where_nobody_knows_who_holds_what_nobody_is_named() {
        let page = page(Holdings::Unknown);
        assert!(!page.contains("pod=") && lines(&page, "plasma_gpu_healthy").len() == 2, "{page}");
    }

    #[test]
    fn no_series_is_told_twice_and_counters_are_named_as_such() {
        let page = page(Holdings::Unknown);
        let series: Vec<&str> =
            page.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
        assert_eq!(series.len(), series.iter().collect::<BTreeSet<_>>().len(), "{page}");
        for row in own::METRICS.iter().flat_map(|rows| rows.iter()) {
            assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
        }
    }

    #[test]
    fn a_part_of_a_divided_gpu_has_its_own_series_and_its_own_holder() {
        let part = |number: u32| MigInstance {
            uuid: format!("MIG-{number}"),
            instance: Instance { gpu: number, compute: 0 },
            profile: Profile::named("NVIDIA H100 80GB HBM3 MIG 1g.10gb").unwrap(),
            ..MigInstance::default()
        };
        let mig = Mig { enabled: true, pending: true, instances: vec![part(7), part(8)] };
        let gpu = Gpu { uuid: "GPU-0".to_owned(), mig: Some(mig), ..Gpu::default() };
        let active = |share| Activity { sm: Some(share), ..Activity::default() };
        let figures = Figures { instances: vec![(7, active(0.5)), (8, active(0.25))], ..Figures::default() };
        let held = Holdings::Known(BTreeMap::from([("MIG-8".to_owned(), vec![holder("a")])]));
        let parts = instances::parts(&gpu, &figures, &held);
        let labels: Vec<String> = parts[1]
            .dcgm(labels::dcgm(&gpu, false, "node-a", &parts[1].holders))
            .iter()
            .map(|pair| format!("{}={}", pair.name(), pair.value()))
            .collect();
        for label in ["GPU_I_PROFILE=1g.10gb", "GPU_I_ID=8", "UUID=GPU-0", "pod=a"] {
            assert!(labels.iter().any(|found| found == label), "{label} in {labels:?}");
        }
        assert!(parts[0].holders.is_empty() && parts[0].figures.activity == Some(active(0.5)));
        let [(which, who)] = &instances::holders(&gpu, &held)[..] else { panic!("one holder") };
        assert!(who.pod == "a" && which.iter().any(|pair| pair.value() == "MIG-8"));
    }
}
