//! Settlement's metrics.

use plasma_chain::RentalState;
use plasma_runtime::prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};
use plasma_types::{RentalId, Xpl};
use tonic::Status;

use crate::bill::Reason;

/// Counted where it happens.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) chain_reachable: IntGauge,
    waiting_pods: IntGaugeVec,
    pub(crate) open_batches: IntGauge,
    pub(crate) receipts: IntCounter,
    pub(crate) final_batches: IntCounter,
    pub(crate) failures: IntCounter,
    key_balance: Gauge,
    rental_balance: GaugeVec,
    rental_owed: GaugeVec,
    rental_forked: IntGaugeVec,
    pub(crate) meter: MeterMetrics,
}

/// What the nodes' meters do.
#[derive(Clone)]
pub(crate) struct MeterMetrics {
    pub(crate) nodes: IntGauge,
    records: IntCounterVec,
    refused: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them. A metric that can't be registered is logged and still counts.
    #[allow(clippy::expect_used)] // The names below are constants; the first start would show a wrong one.
    pub(crate) fn register(registry: &Registry) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a valid name");
        let counter = |name, help| IntCounter::new(name, help).expect("a valid name");
        let by_rental = |name, help| GaugeVec::new(Opts::new(name, help), &["rental"]).expect("a valid name");
        let forked = Opts::new(
            "plasma_settlement_rental_forked",
            "1 if the batches recorded here and the chain's are two histories: nothing is recorded until that is mended",
        );
        let waiting =
            Opts::new("plasma_settlement_waiting_pods", "Finished pods without a durable receipt, and why");
        let key_balance = "plasma_settlement_key_balance_xpl";
        let metrics = Self {
            chain_reachable: gauge("plasma_settlement_chain_reachable", "1 if the chain answered last time"),
            waiting_pods: IntGaugeVec::new(waiting, &["reason"]).expect("a valid name"),
            meter: MeterMetrics::new(),
            open_batches: gauge("plasma_settlement_open_batches", "Batches whose payment isn't final"),
            receipts: counter("plasma_settlement_receipts_total", "Receipts made durable"),
            final_batches: counter("plasma_settlement_final_batches_total", "Batches paid for good"),
            failures: counter(
                "plasma_settlement_failures_total",
                "Things that went wrong and are tried again",
            ),
            key_balance: Gauge::new(key_balance, "XPL that the key's account has for gas")
                .expect("a valid name"),
            rental_balance: by_rental(
                "plasma_settlement_rental_balance_xpl",
                "XPL that can still be drawn from a rental",
            ),
            rental_owed: by_rental(
                "plasma_settlement_rental_owed_xpl",
                "XPL earned beyond a rental's balance",
            ),
            rental_forked: IntGaugeVec::new(forked, &["rental"]).expect("a valid name"),
        };
        plasma_runtime::register(registry, metrics.collectors());
        plasma_runtime::register(registry, metrics.meter.collectors());
        metrics
    }

    fn collectors(&self) -> [Box<dyn Collector>; 10] {
        [
            Box::new(self.chain_reachable.clone()),
            Box::new(self.waiting_pods.clone()),
            Box::new(self.open_batches.clone()),
            Box::new(self.receipts.clone()),
            Box::new(self.final_batches.clone()),
            Box::new(self.failures.clone()),
            Box::new(self.key_balance.clone()),
            Box::new(self.rental_balance.clone()),
            Box::new(self.rental_owed.clone()),
            Box::new(self.rental_forked.clone()),
        ]
    }

    /// How many pods wait, by reason; a reason for which none does says 0.
    pub(crate) fn tell_waiting(&self, waiting: impl Fn(Reason) -> usize) {
        for reason in Reason::ALL {
            let pods = i64::try_from(waiting(reason)).unwrap_or(i64::MAX);
            self.waiting_pods.with_label_values(&[reason.name()]).set(pods);
        }
    }

    /// What a rental holds and owes.
    pub(crate) fn tell_rental(&self, rental: RentalId, state: &RentalState) {
        let rental = rental.to_string();
        self.rental_balance.with_label_values(&[&rental]).set(as_float(state.balance));
        self.rental_owed.with_label_values(&[&rental]).set(as_float(state.owed));
    }

    /// Whether a rental has two histories.
    pub(crate) fn tell_forked(&self, rental: RentalId, forked: bool) {
        self.rental_forked.with_label_values(&[&rental.to_string()]).set(i64::from(forked));
    }

    /// What the key's account has.
    pub(crate) fn tell_key_balance(&self, balance: Xpl) {
        self.key_balance.set(as_float(balance));
    }
}

#[allow(clippy::expect_used)] // As above.
impl MeterMetrics {
    pub(crate) fn new() -> Self {
        let counter =
            |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]).expect("a valid name");
        Self {
            nodes: IntGauge::new("plasma_settlement_meter_nodes", "Nodes whose meter is connected")
                .expect("a valid name"),
            records: counter(
                "plasma_settlement_meter_records_total",
                "Records of meters: taken, repeated (in already), unusable (absurd, not billed), other_node (not its pods)",
                "outcome",
            ),
            refused: counter(
                "plasma_settlement_meter_refused_calls_total",
                "Calls of meters that were refused or ended",
                "code",
            ),
        }
    }

    fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [Box::new(self.nodes.clone()), Box::new(self.records.clone()), Box::new(self.refused.clone())]
    }

    /// A record came.
    pub(crate) fn record(&self, outcome: &str) {
        self.records_by(outcome, 1);
    }

    /// Several records came.
    pub(crate) fn records_by(&self, outcome: &str, count: u64) {
        self.records.with_label_values(&[outcome]).inc_by(count);
    }

    #[cfg(test)]
    pub(crate) fn count(&self, outcome: &str) -> u64 {
        self.records.with_label_values(&[outcome]).get()
    }

    /// A call was refused, or ended by a fault.
    pub(crate) fn refused(&self, status: &Status) {
        self.refused.with_label_values(&[&format!("{:?}", status.code())]).inc();
    }
}

/// XPL as a float: for a graph, and for nothing that is ever paid.
#[allow(clippy::cast_precision_loss)]
fn as_float(amount: Xpl) -> f64 {
    amount.wei() as f64 / 1e18
}
