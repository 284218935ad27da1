//! The thread that owns NVML outlives its own bugs.

use std::path::Path;

use plasma_device_plugin_core::{HealthRules, Inventory, Look};
use plasma_runtime::prometheus::Registry;

use super::*;

#[test]
fn a_look_that_panics_is_said_and_the_next_one_begins_anew() {
    let (publish, receive) = watch::channel(Observed::for_tests(Inventory::new(HealthRules::default())));
    let mut looker = Looker {
        publish: Arc::new(publish),
        look_soon: Arc::default(),
        period: Duration::from_secs(1),
        metrics: LookMetrics::register(&Registry::new()).unwrap(),
        clock: Clock::open(Path::new("/nowhere")),
        limiter: None,
    };
    let (mut looks, mut asks) = (Vec::new(), Some(receive));
    looker.look_forever(|looker, session| {
        let said = looker.publish.borrow().inventory.fault().map(str::to_owned);
        looks.push((session, said));
        assert!(session > 0, "a thing that can't be");
        looker.tell(Scan::Looked(Look::default()), Vec::new(), None, Duration::ZERO);
        let known = asks.take().is_some_and(|asks| asks.borrow().is_known());
        assert!(known, "what the next look saw is told");
        Ok(true)
    });
    let [(0, None), (1, Some(said))] = &looks[..] else { panic!("{looks:?}") };
    assert!(said.contains("it panicked (a thing that can't be), which is a bug"), "{said}");
}
