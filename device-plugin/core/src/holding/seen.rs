//! What is told of the node's pods, and of the devices that they were given.

use std::collections::BTreeMap;

use super::End;

/// A pod as it is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSeen {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether its phase is an end and none of its containers runs any more.
    pub over: bool,
    /// Its containers that have a status.
    pub containers: Vec<ContainerSeen>,
}

/// A container as its pod's status tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its name.
    pub name: String,
    /// Whether it runs before the others. The kubelet doesn't list what such a container was given, side-cars excepted.
    pub init: bool,
    /// When it started, the earliest that is told. Milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// When its newest run started. Milliseconds since 1970.
    pub run_started_ms: Option<u64>,
    /// When it finished last. Milliseconds since 1970.
    pub finished_ms: Option<u64>,
    /// The devices that its status names; none where it names none.
    pub devices: Vec<String>,
    /// How many devices its spec asks for, by resource.
    pub asks: BTreeMap<String, u64>,
    /// The runtime's id of the container that runs now, such as `containerd://0f3a…`; `None` where none does.
    pub running: Option<String>,
}

/// A container's devices as the kubelet lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The ids of its devices.
    pub devices: Vec<String>,
}

impl PodSeen {
    /// The same with its times by another clock. That is asked of each time, and told whether it is an end.
    #[must_use]
    pub fn with_times(mut self, mut by: impl FnMut(u64, bool) -> u64) -> Self {
        for one in &mut self.containers {
            for start in [&mut one.started_ms, &mut one.run_started_ms] {
                *start = start.map(|at_ms| by(at_ms, false));
            }
            one.finished_ms = one.finished_ms.map(|at_ms| by(at_ms, true));
        }
        self
    }

    /// Whether it was given devices, or asks for some.
    pub(crate) fn has_devices(&self) -> bool {
        self.containers.iter().any(|one| !one.devices.is_empty() || !one.asks.is_empty())
    }

    pub(super) fn ran_after(&self, ms: u64) -> bool {
        self.containers.iter().any(|one| one.started_after(ms).is_some())
    }

    /// What of it came after that moment. That it is over is old news where nothing ran since.
    pub(super) fn after(&self, ms: u64) -> Self {
        let containers = self.containers.iter().map(|one| {
            let started_ms = one.started_after(ms);
            let finished_ms = one.finished_ms.filter(|at_ms| *at_ms > ms);
            let run_started_ms = one.run_started_ms.filter(|at_ms| *at_ms > ms);
            let devices = if started_ms.is_some() { one.devices.clone() } else { Vec::new() };
            ContainerSeen { started_ms, run_started_ms, finished_ms, devices, ..one.clone() }
        });
        Self { over: self.over && self.ran_after(ms), containers: containers.collect(), ..self.clone() }
    }

    /// When it ended. A kubelet that lost a container tells of its end without a time.
    pub(super) fn end(&self, at_ms: u64) -> End {
        let ran = self.containers.iter().filter(|one| one.started_ms.is_some() || one.finished_ms.is_some());
        let finished: Option<Vec<u64>> = ran.map(|one| one.finished_ms).collect();
        match finished.and_then(|all| all.into_iter().max()) {
            Some(at_ms) => End { at_ms, told: true },
            None => End { at_ms, told: false },
        }
    }
}

impl ContainerSeen {
    /// The first start that is told after that moment.
    fn started_after(&self, ms: u64) -> Option<u64> {
        first_after([self.started_ms, self.run_started_ms], ms)
    }
}

/// The first of them after that moment.
pub(super) fn first_after(moments: [Option<u64>; 2], ms: u64) -> Option<u64> {
    moments.into_iter().flatten().filter(|at_ms| *at_ms > ms).min()
}
