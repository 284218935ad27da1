//! How our own looks at NVML go, and the XIDs that were heard in them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use plasma_runtime::prometheus::{
    Error, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, core::Collector,
};

/// Upper bounds of how long looks take, in seconds.
const BUCKETS: [f64; 7] = [0.005, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0];

/// How the looks go.
#[derive(Clone)]
pub(crate) struct LookMetrics {
    looks: IntCounterVec,
    seconds: Histogram,
    xids: Arc<Mutex<BTreeMap<String, Xids>>>,
}

/// The XIDs of one GPU since this program started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Xids {
    /// How often each came.
    pub(super) counts: BTreeMap<u64, u64>,
    /// The last one, and when it was heard, in seconds since 1970.
    pub(super) last: Option<(u64, f64)>,
}

impl LookMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let looks = Opts::new(
            "plasma_device_plugin_looks_total",
            "Looks at all GPUs: NVML answered, its library couldn't be loaded, or it failed",
        );
        let seconds = HistogramOpts::new(
            "plasma_device_plugin_look_seconds",
            "How long a look at all GPUs took, on a thread that nothing else waits for",
        );
        let looks = IntCounterVec::new(looks, &["outcome"])?;
        // Zero is known from the start, so that the first failure is seen as an increase.
        ["answered", "not_loaded", "failed"]
            .iter()
            .for_each(|outcome| looks.with_label_values(&[outcome]).inc_by(0));
        let seconds = Histogram::with_opts(seconds.buckets(BUCKETS.to_vec()))?;
        let all: [Box<dyn Collector>; 2] = [Box::new(looks.clone()), Box::new(seconds.clone())];
        all.into_iter().try_for_each(|metric| registry.register(metric))?;
        Ok(Self { looks, seconds, xids: Arc::default() })
    }

    /// The library couldn't be loaded.
    pub(crate) fn not_loaded(&self) {
        self.looks.with_label_values(&["not_loaded"]).inc();
    }

    /// A look went like this.
    pub(crate) fn looked(&self, answered: bool, took: Duration) {
        self.looks.with_label_values(&[if answered { "answered" } else { "failed" }]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// These XIDs came, each with its GPU's UUID.
    pub(crate) fn heard(&self, news: Vec<(String, u64)>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut xids = self.all();
        for (uuid, xid) in news {
            let of_gpu = xids.entry(uuid).or_default();
            *of_gpu.counts.entry(xid).or_default() += 1;
            of_gpu.last = Some((xid, now));
        }
    }

    /// What was heard of a GPU.
    pub(super) fn xids(&self, uuid: &str) -> Xids {
        self.all().get(uuid).cloned().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Xids>> {
        // Nobody panics while holding it; if somebody did, the counts are still counts.
        self.xids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
