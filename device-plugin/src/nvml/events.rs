//! What the driver reports: XIDs, and that a GPU is divided in another way. One event set a GPU, since a registration that fails takes its whole set along.
//!
//! The library is asked itself: the wrapper's own wait leaves out which part of a divided GPU an event is about.

use std::{
    collections::BTreeMap,
    mem::MaybeUninit,
    time::{Duration, Instant},
};

use nvml_wrapper::{Device, EventSet, Nvml, bitmasks::event::EventTypes, error::NvmlError};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventMigConfigChange};
use plasma_device_plugin_core::{Instance, Xid};

/// More events of one GPU than these are left for the next time.
const EVENTS_AT_ONCE: usize = 64;
/// Where a GPU's events can't be had, they are tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// What stands where an event is about the whole GPU.
const NO_INSTANCE: u32 = u32::MAX;

/// The event sets of one loaded library, by the GPU's UUID.
pub(crate) struct Events<'lib> {
    nvml: &'lib Nvml,
    /// `None` where the GPU has no events.
    sets: BTreeMap<String, Option<EventSet<'lib>>>,
    /// Where they could not be had, and not since: when that was last. It is said once.
    failed: BTreeMap<String, Instant>,
    /// What came since the last look, also of a GPU that has no set any more.
    heard: BTreeMap<String, Vec<Xid>>,
    news: Vec<(String, u64)>,
}

impl<'lib> Events<'lib> {
    pub(crate) fn new(nvml: &'lib Nvml) -> Self {
        Self {
            nvml,
            sets: BTreeMap::new(),
            failed: BTreeMap::new(),
            heard: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Registers a GPU that isn't yet. Where events fail, the other signs of health remain.
    pub(crate) fn register(&mut self, uuid: &str, device: &Device<'lib>) {
        let is_due = self.failed.get(uuid).is_none_or(|last| last.elapsed() >= TRY_AGAIN);
        if self.sets.contains_key(uuid) || !is_due {
            return;
        }
        let registered = self
            .nvml
            .create_event_set()
            .and_then(|set| device.register_events(wanted(device), set).map_err(|fault| fault.error));
        let set = match registered {
            Ok(set) => Some(set),
            Err(NvmlError::NotSupported) => {
                tracing::info!("GPU {uuid} has no XID events");
                None
            }
            Err(fault) => return self.note_failed(uuid, &fault),
        };
        self.sets.insert(uuid.to_owned(), set);
    }

    fn note_failed(&mut self, uuid: &str, fault: &NvmlError) {
        if self.failed.insert(uuid.to_owned(), Instant::now()).is_none() {
            tracing::warn!("GPU {uuid}: its XID events can't be had: {fault}");
        }
    }

    /// Takes in what has come, without waiting; whether a look is due: something came, or a GPU's events have just failed, as
    /// those of one that was lost do.
    pub(crate) fn hear(&mut self) -> bool {
        let mut is_due = false;
        for (uuid, set) in std::mem::take(&mut self.sets) {
            let heard = set.as_ref().map_or(Ok(false), |set| self.hear_one(&uuid, set));
            match heard {
                Ok(heard) => {
                    is_due |= heard;
                    self.sets.insert(uuid, set);
                }
                // The set is dropped, and the GPU registered anew at a later look. What fails again asks for nothing.
                Err(fault) => {
                    is_due |= !self.failed.contains_key(&uuid);
                    self.note_failed(&uuid, &fault);
                }
            }
        }
        is_due
    }

    fn hear_one(&mut self, uuid: &str, set: &EventSet<'_>) -> Result<bool, NvmlError> {
        for count in 0..EVENTS_AT_ONCE {
            match next(self.nvml, set)? {
                Some(Event::Xid(xid)) => {
                    tracing::info!("GPU {uuid}: XID {}", xid.number);
                    self.news.push((uuid.to_owned(), xid.number));
                    self.heard.entry(uuid.to_owned()).or_default().push(xid);
                }
                Some(Event::Layout) => tracing::info!("GPU {uuid}: its MIG layout changes"),
                None => {
                    if self.failed.remove(uuid).is_some() {
                        tracing::info!("GPU {uuid}: its XID events can be had again");
                    }
                    return Ok(count > 0);
                }
            }
        }
        Ok(true)
    }

    /// All that came since this was asked last: a GPU that no longer answers is never asked what came of it.
    pub(crate) fn news(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.news)
    }

    /// What came of a GPU since this was asked last.
    pub(crate) fn take(&mut self, uuid: &str) -> Vec<Xid> {
        self.heard.remove(uuid).unwrap_or_default()
    }
}

/// XIDs, and changes of the layout where the GPU has any: a kind that it hasn't would have all refused.
pub(super) fn wanted(device: &Device<'_>) -> EventTypes {
    let supported = device.supported_event_types().unwrap_or(EventTypes::empty());
    EventTypes::CRITICAL_XID_ERROR | (supported & EventTypes::MIG_CONFIG_CHANGE)
}

/// One event of one GPU.
#[derive(Debug)]
pub(super) enum Event {
    Xid(Xid),
    /// It is divided in another way: the next look says how.
    Layout,
}

/// The next event, if one has come.
pub(super) fn next(nvml: &Nvml, set: &EventSet<'_>) -> Result<Option<Event>, NvmlError> {
    let wait = nvml.lib().nvmlEventSetWait_v2.as_ref();
    let wait = wait.map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))?;
    let mut event = MaybeUninit::<nvmlEventData_t>::zeroed();
    // SAFETY: the set lives as long as its borrow, and the library writes one event.
    let (told, event) = unsafe {
        let told = wait(set.handle(), event.as_mut_ptr(), 0);
        (told, event.assume_init())
    };
    match nvml_wrapper::error::nvml_try(told) {
        Ok(()) if event.eventType == u64::from(nvmlEventMigConfigChange) => Ok(Some(Event::Layout)),
        Ok(()) => Ok(Some(Event::Xid(Xid { number: event.eventData, instance: instance(&event) }))),
        Err(NvmlError::Timeout) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn instance(event: &nvmlEventData_t) -> Option<Instance> {
    let (gpu, compute) = (event.gpuInstanceId, event.computeInstanceId);
    (gpu != NO_INSTANCE).then_some(Instance { gpu, compute })
}
