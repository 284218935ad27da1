//! What is news, to whom, and what of it is worth an event.

use super::*;
use plasma_scheduler_core::Blocker;

fn waits(message: &str, subject: &str) -> Waits {
    let blocker = Blocker {
        reason: "InsufficientResource",
        subject: subject.to_owned(),
        nodes: 1,
        needed: None,
        free: None,
    };
    Waits::for_room(message.to_owned(), &[blocker], 0)
}

fn says(reason: &str, message: &str) -> NotScheduled {
    NotScheduled { reason: reason.to_owned(), message: message.to_owned(), since: None }
}

fn pod<'a>(uid: &'a str, said: Option<&'a NotScheduled>) -> Unplaced<'a> {
    Unplaced { pod: uid, uid, version: "1", generation: None, is_on_its_way: false, said }
}

/// Who is told, and whether with an event.
fn told(news: Option<News>) -> (Vec<String>, bool) {
    news.map_or_else(Default::default, |news| {
        (news.pods.into_iter().map(|pod| pod.uid).collect(), news.alarms)
    })
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[test]
fn other_numbers_are_news_after_a_while_and_another_reason_at_once() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let mut news = |waits: Waits, at| said.news("g", waits, [].into_iter(), at).map(|news| news.alarms);
    assert_eq!(news(waits("needs 4, 2 free", "gpu"), now), Some(true));
    assert_eq!(news(waits("needs 4, 2 free", "gpu"), now + PEACE), None);
    assert_eq!(news(waits("needs 4, 1 free", "gpu"), now + SECOND), None);
    assert_eq!(news(waits("needs 4, 1 free", "cpu"), now + SECOND), Some(true));
    assert_eq!(news(waits("needs 4, 0 free", "cpu"), now + SECOND + PEACE), Some(false), "but for numbers");
    assert_eq!((said.counts(|_| true), said.counts(|_| false)), ((1, 0), (0, 0)));
    said.forget("g");
    assert!(said.news("g", waits("needs 4, 0 free", "cpu"), [].into_iter(), now).is_some());
}

#[test]
fn a_pod_is_told_once_and_other_numbers_a_minute_later() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let all = |at: &str| (vec![at.to_owned()], true);
    let mut news = |message: &str, pods: &[Unplaced<'_>], at| {
        told(said.news("g", waits(message, "gpu"), pods.iter().copied(), at))
    };
    assert_eq!(news("2 free", &[pod("a", None)], now), all("a"));
    assert_eq!(news("1 free", &[pod("a", None)], now + PEACE).0, [""; 0], "the watch may be late");
    let old = says("Unschedulable", "2 free");
    assert_eq!(news("1 free", &[pod("a", Some(&old))], now + PEACE).0, [""; 0]);
    // One that came later is told at once.
    assert_eq!(news("1 free", &[pod("a", Some(&old)), pod("b", None)], now + PEACE).0, ["b"]);
    assert_eq!(news("1 free", &[pod("a", Some(&old))], now + PODS_PEACE), (vec!["a".to_owned()], false));
}

#[test]
fn who_begins_anew_says_nothing_again_and_corrects_numbers_a_minute_later() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let old = says("Unschedulable", "2 free");
    let mut news = |at| told(said.news("g", waits("1 free", "gpu"), [pod("a", Some(&old))].into_iter(), at));
    assert_eq!(news(now).0, [""; 0]);
    assert_eq!(news(now + PODS_PEACE), (vec!["a".to_owned()], false));
}

#[test]
fn a_pod_that_is_refused_now_says_so_at_once() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let old = says("Unschedulable", "2 free");
    said.news("g", waits("2 free", "gpu"), [pod("a", None)].into_iter(), now);
    let refused = Waits { why: Why::Refused, ..waits("a field", "spec.x") };
    let news = said.news("g", refused, [pod("a", Some(&old))].into_iter(), now + SECOND).unwrap();
    assert_eq!((news.pods[0].reason, news.alarms), (Some("SchedulerError"), true));
}

#[test]
fn volumes_that_fail_again_and_again_are_an_event_once() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let mut news = |waits: Waits, at| told(said.news("g", waits, [pod("a", None)].into_iter(), at)).1;
    assert!(news(Waits::for_volumes("c", 0), now));
    for round in 1..4 {
        let at = now + SECOND * (round * 10);
        assert!(!news(Waits::for_claim("c", 0), at));
        assert!(!news(Waits::for_volumes("c", 0), at + SECOND));
    }
    assert!(news(waits("2 free", "gpu"), now + SECOND * 60));
}

#[test]
fn what_could_not_be_said_is_said_again() {
    let (mut said, now) = (Said::default(), Timestamp::now());
    let news =
        |said: &mut Said| told(said.news("g", waits("2 free", "gpu"), [pod("a", None)].into_iter(), now));
    assert_eq!(news(&mut said), (vec!["a".to_owned()], true));
    said.owes("g", true);
    let again = said.news("g", waits("2 free", "gpu"), [].into_iter(), now).unwrap();
    assert!(again.is_for_gang && !again.alarms);
    said.owes("g", true);
    assert_eq!(news(&mut said).0, ["a"]);
    said.owes("g", false);
    assert_eq!(news(&mut said), (vec!["a".to_owned()], true));
}

#[test]
fn a_gang_that_gathers_takes_back_what_does_not_hold_and_leaves_the_rest() {
    let gathers = Waits { why: Why::Gathering, ..waits("1 of 2 pods exist", "") };
    let (room, error) = (says("Unschedulable", ""), says("SchedulerError", ""));
    let pods = [pod("a", None), pod("b", Some(&room)), pod("c", Some(&error))];
    let news = Said::default().news("g", gathers, pods.into_iter(), Timestamp::now()).unwrap();
    let pods: Vec<_> = news.pods.iter().map(|pod| (pod.uid.as_str(), pod.reason)).collect();
    assert_eq!(pods, [("c", None)]);
}
