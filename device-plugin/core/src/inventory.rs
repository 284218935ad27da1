//! What the node has, as the looks at NVML tell it, and what of it is offered to the kubelet.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Advertised, Gpu, GpuState, HealthRules, Look, Scan, Seen, Silence, Topology, health::Health};

/// The kubelet takes no longer device id.
const LONGEST_ID: usize = 63;

/// Everything known about the node's GPUs.
///
/// A GPU that was seen once stays: a lost one is unhealthy, not gone, so that the kubelet keeps its capacity and says
/// which pods held it. It leaves when NVML answers and counts fewer GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The driver's version, where it was ever read.
    pub driver_version: Option<String>,
    /// The newest CUDA that the driver runs, where it was ever read: major, minor.
    pub cuda_version: Option<(u32, u32)>,
    rules: HealthRules,
    /// Whether NVML ever answered: until then nobody knows what this node has.
    known: bool,
    /// Why NVML can't be asked, where it can't.
    fault: Option<String>,
    shared_nodes: Vec<String>,
    topology: Topology,
    entries: BTreeMap<String, Entry>,
    /// Indexes behind which no GPU is known by name: nothing to offer, but a fault to tell.
    nameless: BTreeMap<u32, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    gpu: Gpu,
    health: Health,
    state: GpuState,
}

impl Inventory {
    /// Knows nothing yet.
    pub fn new(rules: HealthRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Takes in what a look at NVML gave.
    pub fn observe(&mut self, scan: Scan) {
        match scan {
            Scan::Failed(fault) => {
                for entry in self.entries.values_mut() {
                    entry.state = GpuState::Unknown(fault.clone());
                }
                self.fault = Some(fault);
            }
            Scan::Looked(look) => self.observe_look(look),
        }
    }

    fn observe_look(&mut self, look: Look) {
        self.known = true;
        self.fault = None;
        self.driver_version = look.driver_version.or_else(|| self.driver_version.take());
        self.cuda_version = look.cuda_version.or(self.cuda_version);
        self.shared_nodes = look.shared_nodes;
        self.topology = look.topology;
        let (mut answered, mut silent) = (BTreeSet::new(), BTreeMap::new());
        for (index, seen) in (0_u32..).zip(look.gpus) {
            let certain = |why| Silence { why, certain: true };
            match seen {
                Seen::Silent(silence) => drop(silent.insert(index, silence)),
                Seen::Answered { gpu, .. } if gpu.uuid.is_empty() || gpu.uuid.len() > LONGEST_ID => {
                    silent.insert(index, certain(format!("its UUID {:?} can't be a device id", gpu.uuid)));
                }
                Seen::Answered { gpu, .. } if answered.contains(&gpu.uuid) => {
                    silent.insert(index, certain(format!("it has the UUID of another GPU, {}", gpu.uuid)));
                }
                Seen::Answered { gpu, signs } => {
                    answered.insert(gpu.uuid.clone());
                    let entry = self.entry(gpu);
                    entry.1.answered(&signs, look.session, entry.0);
                }
            }
        }
        self.blame(&answered, silent, look.session);
        for entry in self.entries.values_mut() {
            entry.state = entry.health.state();
        }
    }

    fn entry(&mut self, gpu: Gpu) -> (&HealthRules, &mut Health) {
        let entry = self.entries.entry(gpu.uuid.clone()).or_insert_with(|| Entry {
            gpu: Gpu::default(),
            health: Health::default(),
            state: GpuState::Healthy,
        });
        entry.gpu = gpu;
        (&self.rules, &mut entry.health)
    }

    /// A silent index has no name: it is the GPU that was there, else any that is missing. Who is missing from a look
    /// in which nobody else is silent has left.
    fn blame(&mut self, answered: &BTreeSet<String>, mut silent: BTreeMap<u32, Silence>, session: u64) {
        let mut missing: Vec<Entry> =
            self.entries.extract_if(.., |uuid, _| !answered.contains(uuid)).map(|(_, entry)| entry).collect();
        missing.sort_by_key(|entry| (!silent.contains_key(&entry.gpu.index), entry.gpu.index));
        for mut entry in missing {
            let silence = match silent.remove(&entry.gpu.index) {
                Some(silence) => silence,
                None => match silent.pop_first() {
                    Some((index, silence)) => {
                        entry.gpu.index = index;
                        silence
                    }
                    None => continue,
                },
            };
            entry.health.silent(silence, session, &self.rules);
            self.entries.insert(entry.gpu.uuid.clone(), entry);
        }
        self.nameless = silent.into_iter().map(|(index, silence)| (index, silence.why)).collect();
    }

    /// Takes GPUs back that can't be handed to containers although they are well; `why` says so of an id. The next look
    /// judges anew.
    pub fn hold_back(&mut self, why: impl Fn(&str) -> Option<String>) {
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.state.is_offered()) {
            if let Some(why) = why(id) {
                entry.state = GpuState::Unhealthy(why);
            }
        }
    }

    /// Whether NVML ever answered. Until then an empty inventory says nothing about the node.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Why NVML can't be asked, where it can't.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// What is wrong beyond the GPUs that are known by name, for people.
    pub fn message(&self) -> Option<String> {
        let nameless =
            self.nameless.iter().map(|(index, fault)| format!("GPU {index} can't be offered: {fault}"));
        let faults: Vec<String> = self.fault.iter().cloned().chain(nameless).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The GPUs in NVML's order, with their state.
    pub fn gpus(&self) -> Vec<(&Gpu, &GpuState)> {
        let mut gpus: Vec<_> = self.entries.values().map(|entry| (&entry.gpu, &entry.state)).collect();
        gpus.sort_by_key(|(gpu, _)| (gpu.index, &gpu.uuid));
        gpus
    }

    /// The GPU with that UUID.
    pub fn find(&self, uuid: &str) -> Option<(&Gpu, &GpuState)> {
        self.entries.get(uuid).map(|entry| (&entry.gpu, &entry.state))
    }

    /// The device nodes that every GPU's user needs.
    pub fn shared_nodes(&self) -> &[String] {
        &self.shared_nodes
    }

    /// How the GPUs are connected.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The full list that the kubelet is told.
    pub fn advertised(&self) -> Vec<Advertised> {
        let advertise = |(gpu, state): (&Gpu, &GpuState)| Advertised {
            id: gpu.uuid.clone(),
            healthy: state.is_offered(),
            numa_node: gpu.numa_node,
        };
        self.gpus().into_iter().map(advertise).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::Signs;

    fn answered(index: u32, uuid: &str) -> Seen {
        let gpu = Gpu { uuid: uuid.to_owned(), index, ..Gpu::default() };
        Seen::Answered { gpu, signs: Signs::default() }
    }

    fn silent() -> Seen {
        Seen::Silent(Silence { why: "GPU is lost".to_owned(), certain: true })
    }

    fn inventory() -> Inventory {
        Inventory::new(HealthRules { clean_looks: 1, ..HealthRules::default() })
    }

    fn look(inventory: &mut Inventory, gpus: &[Seen]) {
        inventory.observe(Scan::Looked(Look { gpus: gpus.to_vec(), ..Look::default() }));
    }

    fn offered(inventory: &Inventory) -> Vec<(String, bool)> {
        inventory.advertised().into_iter().map(|device| (device.id, device.healthy)).collect()
    }

    fn list(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
        expected.iter().map(|(id, healthy)| ((*id).to_owned(), *healthy)).collect()
    }

    #[test]
    fn a_lost_gpu_is_taken_out_and_comes_back() {
        let mut inventory = inventory();
        look(&mut inventory, &[answered(0, "A"), answered(1, "B")]);
        assert_eq!(offered(&inventory), list(&[("A", true), ("B", true)]));
        look(&mut inventory, &[answered(0, "A"), silent()]);
        assert_eq!(offered(&inventory), list(&[("A", true), ("B", false)]));
        assert_eq!(inventory.find("B").unwrap().1, &GpuState::Unhealthy("GPU is lost".to_owned()));
        look(&mut inventory, &[answered(0, "A"), answered(1, "B")]);
        assert_eq!(offered(&inventory), list(&[("A", true), ("B", true)]));
    }

    #[test]
    fn when_nvml_does_not_answer_nothing_is_offered_and_nothing_is_forgotten() {
        let mut inventory = inventory();
        assert!(!inventory.is_known());
        look(&mut inventory, &[answered(0, "A")]);
        inventory.observe(Scan::Failed("driver is reloading".to_owned()));
        assert_eq!(offered(&inventory), list(&[("A", false)]));
        assert_eq!(inventory.fault(), Some("driver is reloading"));
        look(&mut inventory, &[answered(0, "A")]);
        assert_eq!(offered(&inventory), list(&[("A", true)]));
        assert_eq!((inventory.fault(), inventory.message()), (None, None));
    }

    #[test]
    fn a_gpu_that_never_answered_is_told_of_though_it_cannot_be_offered() {
        let mut inventory = inventory();
        look(&mut inventory, &[silent()]);
        assert!(inventory.is_known() && inventory.advertised().is_empty());
        assert_eq!(inventory.message().as_deref(), Some("GPU 0 can't be offered: GPU is lost"));
        look(&mut inventory, &[answered(0, "A")]);
        assert_eq!(inventory.message(), None);
    }

    #[test]
    fn indexes_that_moved_blame_the_gpu_that_is_missing() {
        let mut inventory = inventory();
        look(&mut inventory, &[answered(0, "A"), answered(1, "B"), answered(2, "C")]);
        look(&mut inventory, &[answered(0, "B"), silent(), answered(2, "C")]);
        assert_eq!(offered(&inventory), list(&[("B", true), ("A", false), ("C", true)]));
    }

    #[test]
    fn of_several_that_are_missing_each_is_blamed_for_its_own_index_first() {
        let mut inventory = inventory();
        look(&mut inventory, &[answered(0, "A"), answered(1, "B"), answered(2, "C")]);
        let silent = |why: &str| Seen::Silent(Silence { why: why.to_owned(), certain: true });
        look(&mut inventory, &[answered(0, "C"), silent("fault of 1"), silent("fault of 2")]);
        let state = |uuid| inventory.find(uuid).unwrap().1.clone();
        assert_eq!(state("B"), GpuState::Unhealthy("fault of 1".to_owned()));
        assert_eq!(state("A"), GpuState::Unhealthy("fault of 2".to_owned()));
    }

    #[test]
    fn a_gpu_leaves_only_when_nvml_counts_fewer() {
        let mut inventory = inventory();
        look(&mut inventory, &[answered(0, "A"), answered(1, "B")]);
        look(&mut inventory, &[answered(0, "B")]);
        assert_eq!(offered(&inventory), list(&[("B", true)]));
    }

    #[test]
    fn an_id_that_the_kubelet_would_not_take_is_not_offered() {
        let mut inventory = inventory();
        let long = "x".repeat(64);
        look(&mut inventory, &[answered(0, "A"), answered(1, "A"), answered(2, &long), answered(3, "")]);
        assert_eq!(offered(&inventory), list(&[("A", true)]));
        assert_eq!(inventory.message().unwrap().matches("can't be offered").count(), 3);
    }

    proptest! {
        /// Each index is one GPU or one fault, no id is offered twice, and only who answered is healthy.
        #[test]
        fn every_index_is_accounted_for(looks in vec(vec((0_u8..6, any::<bool>()), 0..6), 1..8)) {
            let mut inventory = inventory();
            for gpus in looks {
                let gpus: Vec<Seen> = (0_u32..).zip(&gpus)
                    .map(|(index, (name, answers))| {
                        if *answers { answered(index, &format!("GPU-{name}")) } else { silent() }
                    })
                    .collect();
                look(&mut inventory, &gpus);
                let indexes: BTreeSet<u32> = inventory.gpus().iter().map(|(gpu, _)| gpu.index)
                    .chain(inventory.nameless.keys().copied()).collect();
                prop_assert_eq!(inventory.entries.len() + inventory.nameless.len(), gpus.len());
                prop_assert_eq!(indexes.len(), gpus.len());
                for device in inventory.advertised().iter().filter(|device| device.healthy) {
                    let name = &device.id;
                    let said = |seen: &Seen| matches!(seen, Seen::Answered { gpu, .. } if gpu.uuid == *name);
                    prop_assert!(gpus.iter().any(said));
                }
            }
        }
    }
}
