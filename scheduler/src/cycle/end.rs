//! The orderly end: nothing is begun any more, what is under way ends, and the next leader need not wait.

use k8s_openapi::jiff::Timestamp;
use plasma_runtime::Leadership;

use super::Scheduler;

impl Scheduler {
    /// Takes in how the tasks under way end, for at most as long as a leader's last request may take, and gives the lease
    /// back. Where one doesn't end by then, the lease isn't given back but runs out: what that task sent may still arrive,
    /// and the next leader is to list after it.
    pub(super) async fn end(&mut self, leadership: &Leadership) {
        let within = self.args.leader.last_request();
        if tokio::time::timeout(within, self.drain()).await.is_ok() {
            return leadership.give_back().await;
        }
        tracing::warn!(
            "{} tasks have not ended within {within:?}: the lease is left to run out",
            self.tasks.len()
        );
        self.tasks.shutdown().await;
    }

    async fn drain(&mut self) {
        while let Some(outcome) = self.tasks.join_next().await {
            self.learn(outcome, Timestamp::now());
        }
    }
}
