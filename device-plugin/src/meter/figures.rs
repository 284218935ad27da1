//! The meter's metrics.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use plasma_device_plugin_core::{Quality, Record};
use plasma_runtime::prometheus::{
    CounterVec, Error, Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// What energy was used for.
const HELD: &str = "held";
const IDLE: &str = "idle";

/// What the meter counts.
pub(crate) struct Figures {
    on: IntGauge,
    records: IntCounterVec,
    energy: CounterVec,
    unacknowledged: IntGauge,
    age: Gauge,
    faults: IntCounter,
    /// How many were unacknowledged, and when that was last fewer, or none.
    waits: Mutex<(u64, Instant)>,
}

impl Figures {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let figures = Self {
            on: IntGauge::new("plasma_meter_on", "1 if the meter records")?,
            records: IntCounterVec::new(
                opts("plasma_meter_records_total", "Records of the meter, by how well their energy is known"),
                &["quality"],
            )?,
            energy: CounterVec::new(
                opts(
                    "plasma_meter_energy_joules_total",
                    "Energy in the meter's records: held by pods, or idle",
                ),
                &["use"],
            )?,
            unacknowledged: IntGauge::new(
                "plasma_meter_unacknowledged_records",
                "Records that settlement hasn't acknowledged yet",
            )?,
            age: Gauge::new(
                "plasma_meter_acknowledgement_age_seconds",
                "How long records have waited since one was acknowledged last; 0 where none waits",
            )?,
            faults: IntCounter::new(
                "plasma_meter_journal_faults_total",
                "Times that the meter's journal couldn't be read or written",
            )?,
            waits: Mutex::new((0, Instant::now())),
        };
        // Those that nothing happened to yet are zero, not missing.
        for quality in [Quality::Exact, Quality::Sampled, Quality::Apportioned] {
            figures.records.with_label_values(&[quality.label()]);
        }
        [HELD, IDLE].iter().for_each(|used| drop(figures.energy.with_label_values(&[*used])));
        registry.register(Box::new(figures.on.clone()))?;
        registry.register(Box::new(figures.records.clone()))?;
        registry.register(Box::new(figures.energy.clone()))?;
        registry.register(Box::new(figures.unacknowledged.clone()))?;
        registry.register(Box::new(figures.age.clone()))?;
        registry.register(Box::new(figures.faults.clone()))?;
        Ok(figures)
    }

    pub(crate) fn set_on(&self, on: bool) {
        self.on.set(on.into());
    }

    pub(crate) fn fault(&self) {
        self.faults.inc();
    }

    pub(crate) fn recorded(&self, records: &[Record]) {
        for record in records {
            let quality = record.energy.as_ref().map_or(record.time_quality, |energy| energy.quality);
            self.records.with_label_values(&[quality.label()]).inc();
            let used = if record.holder.is_some() { HELD } else { IDLE };
            self.energy.with_label_values(&[used]).inc_by(record.used_mj() as f64 / 1000.0);
        }
    }

    pub(crate) fn unacknowledged(&self, now: u64, reports: bool) {
        self.unacknowledged.set(i64::try_from(now).unwrap_or(i64::MAX));
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if now == 0 || now < waits.0 || !reports {
            waits.1 = Instant::now();
        }
        waits.0 = now;
        self.age.set(waits.1.elapsed().as_secs_f64());
    }
}
