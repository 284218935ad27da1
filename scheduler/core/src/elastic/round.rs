//! The search for as many pods of a group as fit, in an order. Where it takes too many looks at nodes it is made in parts, a
//! plan each: a round over all of the pods. Whoever was passed over isn't tried again before the others were, so that each
//! part comes further than the one before it.

use std::collections::BTreeSet;

use super::{Pick, Wanted};
use crate::{around, cluster::Cluster, node::PodId, outlook::Vain, places::Places};

/// After so many looks at nodes a part of a search ends; not before it has come further than the one before it.
pub(crate) const LOOKS: u64 = 1_000_000;

/// A search that is made in parts.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// By which of the orders it goes now.
    order: usize,
    /// Who didn't fit beside those before him in it.
    passed_over: BTreeSet<PodId>,
    /// What the group waited for when it began; nothing where the group has changed since.
    pub(crate) since: Option<Vain>,
}

/// What is known where not enough of a group's pods were found a place for.
pub(crate) enum Missed {
    /// There is no room for them.
    Now,
    /// There was none for each of them when it was tried. With what they waited for when the first was; nothing where the
    /// group has changed since.
    Since(Option<Vain>),
    /// Not all were tried yet.
    NotAll,
}

impl Cluster {
    /// Nodes for all of the pods, or for as many of them as can be had, if these are enough.
    pub(crate) fn find_most(&mut self, key: &str, wanted: &Wanted) -> Result<Places, Missed> {
        let begun = self.find_group_mut(key).and_then(|group| group.round.take());
        if let Some(places) = self.find_room(&wanted.all) {
            return Ok(places);
        }
        if !wanted.has_choice() {
            return Err(Missed::Now);
        }
        let (is_new, mut round) = (begun.is_none(), begun.unwrap_or_default());
        let (orders, until) = (self.orders(wanted), self.looks().saturating_add(self.looks_at_once));
        while let Some(order) = orders.get(round.order) {
            let (found, is_over) = self.take_in_order(wanted, order, &mut round.passed_over, until);
            if !is_over {
                if is_new && found.is_none() {
                    round.since = Some(self.vain(wanted));
                }
                if let Some(group) = self.find_group_mut(key) {
                    group.round = Some(round);
                }
                return found.ok_or(Missed::NotAll);
            }
            if let Some(found) = found {
                return Ok(found);
            }
            round.order += 1;
            round.passed_over.clear();
        }
        Err(if is_new { Missed::Now } else { Missed::Since(round.since) })
    }

    /// Takes as many as fit in this order, without those that don't fit beside the ones before them; all together are known not
    /// to. Nothing where too few do. And whether all were tried.
    fn take_in_order(
        &mut self,
        wanted: &Wanted,
        order: &[Pick],
        passed_over: &mut BTreeSet<PodId>,
        until: u64,
    ) -> (Option<Places>, bool) {
        let passed_before = passed_over.len();
        // Pods of a kind are alike but for their claims, and for who shuns them.
        let differ = wanted.all.iter().map(|alike| around::looks(self, std::slice::from_ref(alike)));
        let differ: Vec<bool> = differ.collect();
        let is_left = |pick: &Pick| !passed_over.contains(&wanted.pod(*pick));
        let mut rest: Vec<Pick> = order.iter().copied().filter(is_left).collect();
        let (mut found, mut fit, mut more) = (None, 0, wanted.enough);
        while fit < rest.len() && rest.len() >= wanted.enough {
            let has_come_further = fit >= wanted.enough || passed_over.len() > passed_before;
            if has_come_further && self.looks() >= until {
                break;
            }
            more = more.min(rest.len() - fit);
            let some = wanted.of(&rest[..fit + more]);
            self.looked(rest.len());
            match self.find_room(&some) {
                Some(places) => {
                    (found, fit, more) = (Some(places), fit + more, more * 2);
                }
                None if more > 1 => more /= 2,
                None => {
                    let misfit = rest[fit];
                    let is_out = |pick: &Pick| *pick == misfit || pick.0 == misfit.0 && !differ[misfit.0];
                    let out = rest.extract_if(fit.., |pick| is_out(pick));
                    passed_over.extend(out.map(|pick| wanted.pod(pick)));
                }
            }
        }
        let is_over = fit == rest.len() || rest.len() < wanted.enough;
        (found.filter(|_| fit >= wanted.enough), is_over)
    }
}
