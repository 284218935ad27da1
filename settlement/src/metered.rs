//! What is known of a finished pod's devices: by its node's meter, its GpuNode and its status.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use plasma_api::{
    GpuNode,
    compute_queue::Billing,
    gpu_node::{Gpu, MigInstance},
    names::UNMETERED_UNTIL_ANNOTATION,
    size,
};
use plasma_settlement_core::{
    self as core, Extent, Held, Life, NodeMeter, PodMeter, Source, Unit, Usage, WHOLE, Why,
};
use plasma_types::UnixMillis;

use crate::{collect::Over, meter::View, pods};

/// What is known of one pod.
pub(crate) struct Evidence<'a> {
    pub(crate) over: &'a Over,
    pub(crate) node: Option<&'a GpuNode>,
    pub(crate) view: &'a View,
    pub(crate) node_is_gone: bool,
}

impl Evidence<'_> {
    /// What bills the pod, and what a person should know of that.
    ///
    /// # Errors
    /// What it waits for, and the way out.
    pub(crate) fn source(&self) -> Result<(Source, Option<String>), String> {
        let pod = &self.over.pod;
        let evidence = core::Evidence {
            // A pod without devices is no meter's concern.
            meter: if pods::devices(pod) > 0 { self.node_meter() } else { NodeMeter::None },
            admitted: pods::admitted(pod),
            began: self.began(),
            ended: pods::ended(pod),
            seen_over: self.over.seen,
            told: self.view.told.as_ref(),
            complete_until: self.view.complete_until,
            connected: self.view.connected,
            given_up: self.given_up().unwrap_or_default(),
            node_is_gone: self.node_is_gone,
        };
        match core::source(&evidence) {
            // An annotation that can't be read holds up nobody of whom all is told.
            Source::Wait => Err(self.given_up().err().unwrap_or_else(|| self.waits())),
            Source::Meter(_) if let Some(device) = self.unknown_device() => {
                if evidence.given_up.is_some_and(|until| evidence.admitted <= until) {
                    let source = Source::Status(Why::GivenUp);
                    return Ok((source, self.note(source)));
                }
                Err(self.given_up().err().unwrap_or_else(|| self.waits_for(device)))
            }
            source => Ok((source, self.note(source))),
        }
    }

    /// When it began, where its status says for how long it ran.
    fn began(&self) -> Option<UnixMillis> {
        let Usage::Known { end, duration, .. } = self.over.usage else { return None };
        Some(UnixMillis(end.0.saturating_sub(duration.0)))
    }

    fn node_meter(&self) -> NodeMeter {
        match self.node.and_then(|node| node.spec.meter.as_ref()) {
            None => NodeMeter::None,
            Some(meter) => {
                let since = meter.since.as_ref().and_then(pods::millis);
                since.map_or(NodeMeter::Unknown, |since| NodeMeter::Since(self.view.clock.ours(since)))
            }
        }
    }

    /// Until when an administrator gave up what this node's meter would tell.
    fn given_up(&self) -> Result<Option<UnixMillis>, String> {
        let Some(text) = self.node.and_then(|node| node.annotations().get(UNMETERED_UNTIL_ANNOTATION)) else {
            return Ok(None);
        };
        let time: Result<Timestamp, _> = text.parse();
        let millis = time.ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
        let millis = millis.ok_or_else(|| {
            format!(
                "the annotation {UNMETERED_UNTIL_ANNOTATION} of GpuNode {} is {text:?}, which is no time such as \
                 2026-01-31T12:00:00Z",
                self.node_name()
            )
        })?;
        Ok(Some(UnixMillis(millis)))
    }

    fn node_name(&self) -> &str {
        pods::node(&self.over.pod).unwrap_or_default()
    }

    /// A device that the meter says it held, and whose board its GpuNode doesn't have: what it costs, and who else had it, isn't
    /// known. A whole GPU is its own board. A part has a UUID that no GPU has, even where it is all of the board's slices, and
    /// may be gone since: its board says enough.
    fn unknown_device(&self) -> Option<&str> {
        let held = self.view.told.iter().flat_map(PodMeter::devices);
        let is_known = |(_, held): &(&str, &Held)| self.gpu(&held.board).is_some();
        // One without any GPU waits for those.
        held.filter(|_| !self.gpus().is_empty()).find(|device| !is_known(device)).map(|(uuid, _)| uuid)
    }

    fn waits_for(&self, device: &str) -> String {
        format!(
            "the meter of node {0} told that it held {device}, which GpuNode {0} doesn't list: bring that GPU back. {1}",
            self.node_name(),
            self.way_out()
        )
    }

    fn waits(&self) -> String {
        let node = self.node_name();
        if self.node_meter() == NodeMeter::Unknown {
            return format!(
                "GpuNode {node} doesn't say since when its meter tells all (spec.meter.since): the log of the device plugin \
                 on node {node} says why. {}",
                self.way_out()
            );
        }
        let state = match (self.view.connected, &self.view.told) {
            (true, Some(_)) => "it has not told the pod's end. ",
            (true, None) => "it has told nothing of the pod. ",
            (false, _) => {
                "it isn't connected: look at the device plugin there. If the node is gone for good, delete its Node, which \
                 ends every pod that is bound to it: what was told is billed after five minutes. "
            }
        };
        format!("the meter of node {node} has not told all of it, and {state}{}", self.way_out())
    }

    fn way_out(&self) -> String {
        format!(
            "To have its pods that began until now billed from their status: kubectl annotate --overwrite gpunode {} \
             {UNMETERED_UNTIL_ANNOTATION}=$(date -u +%FT%TZ)",
            self.node_name()
        )
    }

    fn note(&self, source: Source) -> Option<String> {
        let node = self.node_name();
        match source {
            Source::Status(Why::BeforeTheMeter) => Some(format!(
                "billed from its status: it began before the journal of node {node}'s meter, which can't know all of it"
            )),
            Source::Status(Why::GivenUp) => Some(format!(
                "billed from its status: the annotation {UNMETERED_UNTIL_ANNOTATION} of GpuNode {node} says so"
            )),
            Source::Meter(Extent::NoMore) => Some(format!(
                "billed for what the meter of node {node} told, which never told its end, and says that it told all"
            )),
            Source::Meter(Extent::NodeGone) => {
                Some(format!("billed for what the meter of node {node} told before the node was gone"))
            }
            Source::Meter(Extent::NobodyKnowsMore) => Some(format!(
                "billed for what the meter of node {node} told, which may not be all: its status doesn't say for how long \
                 it ran"
            )),
            Source::Meter(Extent::All) if self.node_meter() == NodeMeter::None => Some(format!(
                "billed for all that the meter of node {node} told, though its GpuNode has no spec.meter any more"
            )),
            Source::Status(Why::MeterGone) => Some(format!(
                "billed from its status: GpuNode {node} has no spec.meter any more, and its meter had not told all of it"
            )),
            Source::Meter(Extent::All) | Source::Status(Why::NoMeter) | Source::Wait => None,
        }
    }

    /// What the meter says that it used, in the unit that is priced.
    pub(crate) fn metered(&self, billing: &Billing) -> Usage {
        let created = pods::created(&self.over.pod);
        let pod = &self.over.pod;
        let (ended, devices) = (pods::ended(pod), pods::devices(pod));
        let life = Life { created, seen_over: self.over.seen, ended, devices };
        let nothing = PodMeter::default();
        let unit = if self.parts_class(billing).is_some() { Unit::Device } else { Unit::Board };
        self.view.told.as_ref().unwrap_or(&nothing).usage(&life, unit)
    }

    /// Whether its GPUs are a substitute's, by anybody's word.
    pub(crate) fn is_simulated(&self) -> bool {
        let told = self.view.told.as_ref().is_some_and(PodMeter::is_simulated);
        told || self.node.is_some_and(|node| node.spec.simulated)
    }

    /// The class that prices it: its devices' model's. Of several, the cheapest.
    pub(crate) fn class(&self, billing: &Billing, source: Source) -> Option<u16> {
        let is_metered = matches!(source, Source::Meter(_));
        let class = match self.parts_class(billing).filter(|_| is_metered) {
            Some(class) => Some(class),
            None => self.boards_class(billing, is_metered),
        };
        class.and_then(|class| u16::try_from(class).ok())
    }

    /// Where all that the meter says it held is parts of divided GPUs, each for itself, and the queue has a price for each such
    /// part by its model's name: that class. What it was is what the records say; where they don't, what its GPU is divided
    /// into now.
    fn parts_class(&self, billing: &Billing) -> Option<usize> {
        let told = self.view.told.as_ref()?;
        let priced = |product: &str| {
            billing.prices.iter().position(|price| price.gpu_product.as_deref() == Some(product))
        };
        let parts = || self.gpus().iter().flat_map(|gpu| &gpu.instances);
        let found = |uuid: &str, milli| {
            let part = parts().find(|part| part.uuid == uuid).filter(|part| is_all_of(part, milli))?;
            Some(part.product.as_str())
        };
        let part = |(uuid, held): (_, &Held)| match &held.kind {
            Some(kind) => priced(kind.part.as_deref()?),
            None => priced(found(uuid, held.milli)?),
        };
        let classes: Option<Vec<_>> = told.devices().map(part).collect();
        cheapest(billing, classes?)
    }

    fn boards_class(&self, billing: &Billing, is_metered: bool) -> Option<usize> {
        let told = self.view.told.iter().filter(|_| is_metered).flat_map(PodMeter::devices);
        let mut products: Vec<_> = told.filter_map(|(_, held)| self.board_product(held)).collect();
        if products.is_empty() {
            products.extend(self.presumed());
        }
        if products.is_empty() {
            return billing.class_of(None);
        }
        let classes: Option<Vec<_>> =
            products.into_iter().map(|product| billing.class_of(Some(product))).collect();
        cheapest(billing, classes?)
    }

    /// The model that prices what it asked for, where nobody tells what it got: a part counts as its share of its board.
    fn presumed(&self) -> Option<&str> {
        let parts = pods::has_parts(&self.over.pod);
        let gpu = self.gpus().iter().find(|gpu| gpu.instances.is_empty() != parts).or(self.gpus().first())?;
        Some(if parts { &gpu.product } else { sold_as(gpu) })
    }

    /// The model of a device's board: as the records say that it was, or, where they don't, as it is.
    fn board_product<'a>(&'a self, held: &'a Held) -> Option<&'a str> {
        match &held.kind {
            Some(kind) => Some(&kind.board),
            None => self.gpu(&held.board).map(|gpu| gpu.product.as_str()),
        }
    }

    /// Which devices it held, a bit for each by its index; none where a bit can't stand for each: of a part others have the
    /// rest, and the mask says how many devices a receipt may bill.
    pub(crate) fn device_mask(&self, source: Source) -> u64 {
        if !matches!(source, Source::Meter(_)) {
            return 0;
        }
        let bit = |(uuid, held): (&str, &Held)| {
            let gpu = self.gpu(uuid).filter(|_| held.milli == WHOLE)?;
            1_u64.checked_shl(u32::try_from(gpu.index).ok()?)
        };
        let bits: Option<Vec<u64>> = self.view.told.iter().flat_map(PodMeter::devices).map(bit).collect();
        bits.unwrap_or_default().into_iter().fold(0, |mask, bit| mask | bit)
    }

    fn gpus(&self) -> &[Gpu] {
        self.node.map(|node| node.spec.gpus.as_slice()).unwrap_or_default()
    }

    fn gpu(&self, uuid: &str) -> Option<&Gpu> {
        self.gpus().iter().find(|gpu| gpu.uuid == uuid)
    }
}

/// The model that a GPU's devices are sold as, where nobody tells which they were.
fn sold_as(gpu: &Gpu) -> &str {
    gpu.instances.first().map_or(&gpu.product, |part| &part.product)
}

fn cheapest(billing: &Billing, classes: Vec<usize>) -> Option<usize> {
    let price = |class: &usize| billing.prices.get(*class).map(|price| price.price_per_gpu_hour.per_second());
    classes.into_iter().min_by_key(price)
}

/// Whether so many thousandths of a board are the whole part, and not what one of several that share it has.
fn is_all_of(part: &MigInstance, milli: u16) -> bool {
    size::part(&part.profile).is_some_and(|whole| milli >= whole)
}
