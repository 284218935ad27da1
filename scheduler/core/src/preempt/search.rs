//! Whom to evict: so many of the cheapest groups are taken away that the group fits, then each that need not go is put
//! back, the most precious first. That is done in three orders, and the cheapest result is taken.

use std::{cmp::Reverse, sync::Arc};

use super::{
    candidates::{Candidate, Candidates, breaks},
    stage::Stage,
};
use crate::{cluster::Cluster, places::Places};

/// Whom to evict, and where the group fits then.
pub(crate) struct Found {
    pub(crate) victims: Vec<Arc<Candidate>>,
    pub(crate) places: Places,
    /// How many pods are ending anyhow.
    pub(crate) ending: usize,
}

/// What an eviction costs: broken budgets, the highest priority, the sum of priorities, each counted above nothing so that
/// fewer groups are cheaper, pods, and for how long they have run.
type Cost = (usize, i32, i64, usize, Reverse<i64>);

/// Of so many groups three orders are tried; of more, one.
const THREE_ORDERS: usize = 2_000;

/// The cheapest way that is found: on the nodes that get room first, else anywhere. Nothing where there is none, or it
/// wasn't found in so many tries.
pub(crate) fn cheapest(stage: &mut Stage<'_>, candidates: &Candidates) -> Option<Found> {
    let nearest = candidates.nearest(stage.cluster, stage.alike);
    let are_all = nearest.len() == candidates.groups.len();
    let found = cheapest_of(stage, &nearest);
    if found.is_none() && !are_all { cheapest_of(stage, &candidates.groups) } else { found }
}

fn cheapest_of(stage: &mut Stage<'_>, groups: &[Arc<Candidate>]) -> Option<Found> {
    let mut best: Option<(Cost, Found)> = None;
    let tried = if groups.len() > THREE_ORDERS { 1 } else { 3 };
    for order in orders(groups).into_iter().take(tried) {
        let Some(found) = cheapest_in(stage, &order) else { continue };
        let cost = cost(stage.cluster, &found.victims);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, found));
        }
    }
    best.map(|(_, found)| found)
}

/// The groups, the cheapest first, in three ways: among those of the same priority the youngest, the largest or the smallest
/// is the cheapest.
fn orders(groups: &[Arc<Candidate>]) -> [Vec<Arc<Candidate>>; 3] {
    let (youngest, mut largest, mut smallest) = (groups.to_vec(), groups.to_vec(), groups.to_vec());
    largest.sort_by_key(|group| (group.breaks_budget, group.priority, Reverse(group.pods.len())));
    smallest.sort_by_key(|group| (group.breaks_budget, group.priority, group.pods.len()));
    [youngest, largest, smallest]
}

fn cheapest_in(stage: &mut Stage<'_>, order: &[Arc<Candidate>]) -> Option<Found> {
    let away = take_away(stage, order);
    let found = away.and_then(|(away, places)| reprieve(stage, &order[..away], places));
    let pods = order.iter().flat_map(|group| &group.pods);
    stage.lay_back(pods.copied());
    found
}

/// Takes the cheapest away, twice as many each time, until the group fits. How many, and where it fits.
fn take_away(stage: &mut Stage<'_>, order: &[Arc<Candidate>]) -> Option<(usize, Places)> {
    let (mut away, mut next) = (0, 1);
    while away < order.len() {
        next = next.min(order.len() - away);
        let pods = order[away..away + next].iter().flat_map(|group| &group.pods);
        stage.lift(pods.copied());
        away += next;
        if let Some(places) = stage.find() {
            return Some((away, places));
        }
        if !stage.has_tries() {
            return None;
        }
        next = away;
    }
    None
}

/// Puts back whoever need not go, the most precious first: as many at once as is possible, so that few tries are spent on
/// those of whom none need go. Nothing where the tries are spent before everybody was tried: nobody is evicted untried.
fn reprieve(stage: &mut Stage<'_>, away: &[Arc<Candidate>], mut places: Places) -> Option<Found> {
    let mut victims = Vec::new();
    let (mut left, mut at_once) = (away.len(), away.len());
    while left > 0 {
        at_once = at_once.clamp(1, left);
        let some = &away[left - at_once..left];
        let pods = || some.iter().flat_map(|group| group.pods.iter().copied());
        stage.lay_back(pods());
        if let Some(found) = stage.find() {
            places = found;
            left -= at_once;
            at_once *= 2;
            continue;
        }
        if !stage.has_tries() {
            return None;
        }
        stage.lift(pods());
        if let [must_go] = some {
            victims.push(must_go.clone());
            left -= 1;
        }
        at_once /= 2;
    }
    victims.reverse();
    Some(Found { victims, places, ending: 0 })
}

fn cost(cluster: &Cluster, victims: &[Arc<Candidate>]) -> Cost {
    let mut left: Vec<i64> = cluster.budgets.values().map(|budget| budget.allowed).collect();
    let broken = victims.iter().map(|group| breaks(cluster, &mut left, &group.pods)).sum();
    let highest = victims.iter().map(|group| group.priority).max().unwrap_or(i32::MIN);
    let above_nothing = |group: &Arc<Candidate>| i64::from(group.priority) - i64::from(i32::MIN) + 1;
    let sum = victims.iter().map(above_nothing).fold(0, i64::saturating_add);
    let pods = victims.iter().map(|group| group.pods.len()).sum();
    let started = victims.iter().map(|group| group.started).min().unwrap_or(i64::MAX);
    (broken, highest, sum, pods, Reverse(started))
}
