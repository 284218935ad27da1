//! What the driver reports: XIDs, and that a GPU is divided in another way. One event set a GPU, since a registration that fails takes its whole set along.
//!
//! The library is asked itself: the wrapper's own wait leaves out which part of a divided GPU an event is about.

use std::{collections::BTreeMap, mem::MaybeUninit};

use nvml_wrapper::{Device, EventSet, Nvml, bitmasks::event::EventTypes, error::NvmlError};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventMigConfigChange};
use plasma_device_plugin_core::{Instance, Xid};

/// More events of one GPU than these are left for the next time.
const EVENTS_AT_ONCE: usize = 64;
/// What stands where an event is about the whole GPU.
const NO_INSTANCE: u32 = u32::MAX;

/// The event sets of one loaded library, by the GPU's UUID.
pub(crate) struct Events<'lib> {
    nvml: &'lib Nvml,
    gpus: BTreeMap<String, OfGpu<'lib>>,
    news: Vec<(String, u64)>,
}

/// One GPU's.
#[derive(Default)]
struct OfGpu<'lib> {
    /// `None` where the GPU has no events.
    set: Option<EventSet<'lib>>,
    /// What came since the last look.
    heard: Vec<Xid>,
}

impl<'lib> Events<'lib> {
    pub(crate) fn new(nvml: &'lib Nvml) -> Self {
        Self { nvml, gpus: BTreeMap::new(), news: Vec::new() }
    }

    /// Registers a GPU that isn't yet. Where events fail, the other signs of health remain.
    pub(crate) fn register(&mut self, uuid: &str, device: &Device<'lib>) {
        if self.gpus.contains_key(uuid) {
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
            // Tried again at the next look.
            Err(fault) => return tracing::warn!("GPU {uuid}: its XID events can't be had: {fault}"),
        };
        self.gpus.insert(uuid.to_owned(), OfGpu { set, heard: Vec::new() });
    }

    /// Takes in what has come, without waiting; whether there was anything.
    pub(crate) fn hear(&mut self) -> bool {
        let mut heard = false;
        let (nvml, news) = (self.nvml, &mut self.news);
        self.gpus.retain(|uuid, gpu| {
            let Some(set) = &gpu.set else { return true };
            for _ in 0..EVENTS_AT_ONCE {
                match next(nvml, set) {
                    Ok(Some(event)) => {
                        heard = true;
                        match event {
                            Event::Xid(xid) => {
                                tracing::info!("GPU {uuid}: XID {}", xid.number);
                                news.push((uuid.clone(), xid.number));
                                gpu.heard.push(xid);
                            }
                            Event::Layout => tracing::info!("GPU {uuid}: its MIG layout changes"),
                        }
                    }
                    Ok(None) => break,
                    // Registered anew at the next look; what was heard before is kept by looking at once.
                    Err(fault) => {
                        tracing::warn!("GPU {uuid}: its XID events can't be read: {fault}");
                        heard = true;
                        return !gpu.heard.is_empty();
                    }
                }
            }
            true
        });
        heard
    }

    /// All that came since this was asked last: a GPU that no longer answers is never asked what came of it.
    pub(crate) fn news(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.news)
    }

    /// What came of a GPU since this was asked last.
    pub(crate) fn take(&mut self, uuid: &str) -> Vec<Xid> {
        self.gpus.get_mut(uuid).map(|gpu| std::mem::take(&mut gpu.heard)).unwrap_or_default()
    }
}

/// XIDs, and changes of the layout where the GPU has any: a kind that it hasn't would have all refused.
fn wanted(device: &Device<'_>) -> EventTypes {
    let supported = device.supported_event_types().unwrap_or(EventTypes::empty());
    EventTypes::CRITICAL_XID_ERROR | (supported & EventTypes::MIG_CONFIG_CHANGE)
}

/// One event of one GPU.
enum Event {
    Xid(Xid),
    /// It is divided in another way: the next look says how.
    Layout,
}

/// The next event, if one has come.
fn next(nvml: &Nvml, set: &EventSet<'_>) -> Result<Option<Event>, NvmlError> {
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
