//! What the node has, as the looks at NVML tell it, and how it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Gpu, GpuState, HealthRules, Look, MigInstance, Scan, Seen, Signs, Silence, Topology, Xid, health::Health,
    is_device_name,
};

/// The kubelet takes no device id of more than 63 characters; some of them are a replica's number.
const LONGEST_ID: usize = 56;

/// So many looks in a row must count no GPU where there were some, before that is believed: at the pace of looks at GPUs that
/// aren't healthy, half a minute. A driver that is being reloaded counts none for a while.
const EMPTY_LOOKS: u32 = 60;

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
    /// Looks in a row that counted no GPU although some are known.
    empty_looks: u32,
    shared_nodes: Vec<String>,
    topology: Topology,
    entries: BTreeMap<String, Entry>,
    /// Indexes behind which no GPU is known by name: nothing to offer, but a fault to tell.
    nameless: BTreeMap<u32, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    gpu: Gpu,
    health: Health,
    state: GpuState,
    /// Where it is divided: how each part is, by its UUID.
    parts: BTreeMap<String, Part>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// What happened to this part alone.
    health: Health,
    /// How it is, its GPU considered.
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
            Scan::Failed(fault) => self.know_nothing(fault),
            Scan::Looked(look) if look.gpus.is_empty() && self.is_new_emptiness() => {
                self.know_nothing("NVML counts no GPUs any more".to_owned());
            }
            Scan::Looked(look) => self.observe_look(look),
        }
    }

    fn know_nothing(&mut self, fault: String) {
        for entry in self.entries.values_mut() {
            let unknown = GpuState::Unknown(fault.clone());
            entry.parts.values_mut().for_each(|part| part.state = unknown.clone());
            entry.state = unknown;
        }
        self.fault = Some(fault);
    }

    /// Whether there were GPUs until a while ago, so that a look that counts none isn't believed yet.
    fn is_new_emptiness(&mut self) -> bool {
        self.empty_looks = self.empty_looks.saturating_add(1);
        !self.entries.is_empty() && self.empty_looks < EMPTY_LOOKS
    }

    fn observe_look(&mut self, look: Look) {
        self.known = true;
        self.fault = None;
        self.empty_looks = 0;
        self.driver_version = look.driver_version.or_else(|| self.driver_version.take());
        self.cuda_version = look.cuda_version.or(self.cuda_version);
        self.shared_nodes = look.shared_nodes;
        self.topology = look.topology;
        let (mut answered, mut silent) = (BTreeSet::new(), BTreeMap::new());
        for (index, seen) in (0_u32..).zip(look.gpus) {
            let certain = |why| Silence { why, certain: true };
            match seen {
                Seen::Silent(silence) => drop(silent.insert(index, silence)),
                Seen::Answered { gpu, signs } => match unusable(&gpu, &answered) {
                    Some(why) => drop(silent.insert(index, certain(why))),
                    None => {
                        answered.extend(gpu.uuids().map(str::to_owned));
                        let entry = self.entries.entry(gpu.uuid.clone()).or_default();
                        entry.answered(gpu, signs, look.session, &self.rules);
                    }
                },
            }
        }
        self.blame(&answered, silent, look.session);
        self.entries.values_mut().for_each(Entry::settle);
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
        let take_back = |id: &str, state: &mut GpuState| {
            if let Some(why) = Some(id).filter(|_| state.is_offered()).and_then(&why) {
                *state = GpuState::Unhealthy(why);
            }
        };
        for (id, entry) in &mut self.entries {
            entry.parts.iter_mut().for_each(|(id, part)| take_back(id, &mut part.state));
            // Who is on a divided one is on one of its parts.
            if !entry.gpu.is_divided() {
                take_back(id, &mut entry.state);
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

    /// The parts of the GPU with that UUID, where it is divided, with their state.
    pub fn instances(&self, uuid: &str) -> Vec<(&MigInstance, &GpuState)> {
        let Some(entry) = self.entries.get(uuid) else { return Vec::new() };
        let with_state = |instance: &'_ MigInstance| entry.parts.get(&instance.uuid).map(|part| &part.state);
        let instances = entry.gpu.instances().iter();
        instances.map(|instance| (instance, with_state(instance).unwrap_or(&entry.state))).collect()
    }

    /// The device nodes that every GPU's user needs.
    pub fn shared_nodes(&self) -> &[String] {
        &self.shared_nodes
    }

    /// How the GPUs are connected.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }
}

impl Entry {
    /// Takes in what the GPU said. What hit a part that is there is that part's; everything else is the GPU's.
    fn answered(&mut self, gpu: Gpu, signs: Signs, session: u64, rules: &HealthRules) {
        let hits = |xid: &Xid, part: &MigInstance| xid.instance.is_some_and(|hit| hit.hits(part.instance));
        let mut before = std::mem::take(&mut self.parts);
        for part in gpu.instances() {
            let mut health = before.remove(&part.uuid).unwrap_or_default().health;
            let xids = signs.xids.iter().filter(|xid| hits(xid, part)).copied().collect();
            match &part.fault {
                Some(why) => health.silent(Silence { why: why.clone(), certain: true }, session, rules),
                None => {
                    let signs = Signs { recovery: signs.recovery, xids, ..Signs::default() };
                    health.answered(&signs, session, rules);
                }
            }
            self.parts.insert(part.uuid.clone(), Part { health, ..Part::default() });
        }
        let of_gpu = |xid: &Xid| !gpu.instances().iter().any(|part| hits(xid, part));
        let xids = signs.xids.iter().copied().filter(of_gpu).collect();
        self.health.answered(&Signs { xids, ..signs }, session, rules);
        self.gpu = gpu;
    }

    /// Works out how the GPU and its parts are. None of them is better than the GPU.
    fn settle(&mut self) {
        self.state = self.health.state();
        for part in self.parts.values_mut() {
            part.state = self.state.worse(&part.health.state()).clone();
        }
    }
}

/// Why a GPU can't be known under its name, where it can't: each id is one device to the kubelet.
fn unusable(gpu: &Gpu, taken: &BTreeSet<String>) -> Option<String> {
    let mut own = BTreeSet::new();
    gpu.uuids().find_map(|uuid| {
        if uuid.len() > LONGEST_ID || !is_device_name(uuid) {
            Some(format!("its UUID {uuid:?} can't be a device id"))
        } else if taken.contains(uuid) || !own.insert(uuid) {
            Some(format!("it has the UUID of another GPU, {uuid}"))
        } else {
            None
        }
    })
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
        inventory.gpus().into_iter().map(|(gpu, state)| (gpu.uuid.clone(), state.is_offered())).collect()
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
        assert!(inventory.is_known() && inventory.gpus().is_empty());
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
    fn that_there_are_no_gpus_any_more_is_believed_only_after_a_while() {
        let mut inventory = inventory();
        look(&mut inventory, &[answered(0, "A")]);
        for _ in 0..2 {
            (1..EMPTY_LOOKS).for_each(|_| look(&mut inventory, &[]));
            assert!(matches!(inventory.find("A"), Some((_, GpuState::Unknown(_)))), "{inventory:?}");
            assert_eq!(inventory.message().as_deref(), Some("NVML counts no GPUs any more"));
            look(&mut inventory, &[answered(0, "A")]);
            assert_eq!(offered(&inventory), list(&[("A", true)]));
        }
        (0..EMPTY_LOOKS).for_each(|_| look(&mut inventory, &[]));
        assert!(inventory.gpus().is_empty() && inventory.is_known() && inventory.fault().is_none());
        let mut never = Inventory::default();
        look(&mut never, &[]);
        assert!(never.is_known() && never.fault().is_none(), "a node that never had any");
    }

    #[test]
    fn an_id_that_the_kubelet_would_not_take_is_not_offered() {
        let mut inventory = inventory();
        let long = "x".repeat(64);
        look(
            &mut inventory,
            &[answered(0, "A"), answered(1, "A"), answered(2, &long), answered(3, ""), answered(4, "GPU/4")],
        );
        assert_eq!(offered(&inventory), list(&[("A", true)]));
        assert_eq!(inventory.message().unwrap().matches("can't be offered").count(), 4);
    }

    proptest! {
        /// Each index is one GPU or one fault, no id is offered twice, and only who answered is healthy.
        #[test]
        fn every_index_is_accounted_for(looks in vec(vec((0_u8..6, any::<bool>()), 1..6), 1..8)) {
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
                for (name, _) in offered(&inventory).into_iter().filter(|(_, healthy)| *healthy) {
                    let said = |seen: &Seen| matches!(seen, Seen::Answered { gpu, .. } if gpu.uuid == name);
                    prop_assert!(gpus.iter().any(said));
                }
            }
        }
    }
}
