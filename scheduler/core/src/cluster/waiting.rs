//! How many pods of a group wait, by priority: what decides about its place in the queue is known without a look at each pod.

/// How many pods wait, each priority once, the least first. Few groups have pods of more than one.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<(i32, usize)>);

impl Waiting {
    /// Whether none waits.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The least of their priorities.
    pub(super) fn least(&self) -> Option<i32> {
        self.0.first().map(|(priority, _)| *priority)
    }

    /// One more waits.
    pub(super) fn add(&mut self, priority: i32) {
        match self.place(priority) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (priority, 1)),
        }
    }

    /// One that waited doesn't any more.
    pub(super) fn remove(&mut self, priority: i32) {
        let Ok(at) = self.place(priority) else { return };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
        }
        if self.is_none() {
            // Most groups are one pod each, and stay when it has its node.
            self.0 = Vec::new();
        }
    }

    fn place(&self, priority: i32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&priority, |(priority, _)| *priority)
    }
}
