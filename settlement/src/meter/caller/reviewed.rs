//! Tokens that the API server vouched for a moment ago: who calls again and again doesn't have it asked each time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// How long its word is taken for: so much longer a token is good whose pod is gone.
const BELIEVED: Duration = Duration::from_secs(60);
/// More than any cluster's nodes call within that time.
const MOST: usize = 20_000;

/// The nodes that tokens speak for, by the tokens' hashes: no token is kept.
#[derive(Default)]
pub(super) struct Reviewed(Mutex<BTreeMap<[u8; 32], (String, Instant)>>);

impl Reviewed {
    /// The node that a token speaks for, where that was said lately.
    pub(super) fn node(&self, token: &str, now: Instant) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (node, at) = known.get(&hash(token))?;
        is_believed(*at, now).then(|| node.clone())
    }

    /// Remembers what was said just now, as long as there is room.
    pub(super) fn keep(&self, token: &str, node: &str, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (_, at)| is_believed(*at, now));
        }
        if known.len() < MOST {
            known.insert(hash(token), (node.to_owned(), now));
        }
    }
}

fn is_believed(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < BELIEVED
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_believed_for_a_minute_and_no_other_with_it() {
        let (reviewed, at) = (Reviewed::default(), Instant::now());
        reviewed.keep("a", "n", at);
        let after = |seconds: u64| at + Duration::from_secs(seconds);
        assert_eq!(reviewed.node("a", after(59)).as_deref(), Some("n"));
        assert_eq!((reviewed.node("a", after(60)), reviewed.node("b", at)), (None, None));
    }

    #[test]
    fn where_there_is_no_room_what_is_old_goes_first() {
        let (reviewed, at) = (Reviewed::default(), Instant::now());
        (0..MOST).for_each(|token| reviewed.keep(&token.to_string(), "n", at));
        reviewed.keep("too many", "n", at);
        assert_eq!((reviewed.node("too many", at), reviewed.node("0", at).is_some()), (None, true));
        let later = at + BELIEVED;
        reviewed.keep("later", "n", later);
        assert!(reviewed.node("later", later).is_some());
        assert_eq!(reviewed.0.lock().unwrap().len(), 1);
    }
}
