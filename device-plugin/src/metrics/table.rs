//! What a metric of a GPU is: a name, what it says, and where its value comes from.

use plasma_device_plugin_core::{Gpu, GpuState};

use super::looks::Xids;
use crate::nvml::Figures;

/// All that is known of one GPU when somebody asks.
pub(super) struct Subject<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) state: &'a GpuState,
    pub(super) figures: &'a Figures,
    pub(super) xids: &'a Xids,
}

/// Whether a value only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
}

/// Gets each value that has a label of its own: the label's value, and the value.
pub(super) type Each<'a> = &'a mut dyn FnMut(&str, f64);

/// Where the value of a metric comes from. What a GPU doesn't tell is no value: never zero.
pub(super) enum Value {
    /// One of a GPU.
    One(fn(&Subject<'_>) -> Option<f64>),
    /// Several of a GPU, told from each other by a label of this name.
    Several(&'static str, fn(&Subject<'_>, Each<'_>)),
}

/// One metric.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) value: Value,
}

/// A metric that goes up and down, one value a GPU.
pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    value: fn(&Subject<'_>) -> Option<f64>,
) -> Row {
    Row { name, help, kind: Kind::Gauge, value: Value::One(value) }
}

/// A metric that only grows, one value a GPU.
pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    value: fn(&Subject<'_>) -> Option<f64>,
) -> Row {
    Row { name, help, kind: Kind::Counter, value: Value::One(value) }
}

/// The same number as a metric's value. Above 2⁵³, which no counter of a GPU reaches in its life, it is rounded.
pub(super) fn float(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}
