//! What others say or want and do not get: counted, and told at a bounded rate.

use std::time::Duration;

use hawser_routing::TokenBucket;
use hawser_wire::{MonoTime, NodeId};

use crate::EventKind;
use crate::control::Control;

/// Events about what one neighbour says, or brings: so many, and one more a second.
const EVENTS: TokenBucket = TokenBucket::new(16, Duration::from_secs(1));

/// What of a neighbour was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    count: u64,
    /// Why the last of it was.
    last: String,
    events: TokenBucket,
}

impl Default for Refused {
    fn default() -> Self {
        Self { count: 0, last: String::new(), events: EVENTS }
    }
}

impl Refused {
    /// Something was refused. It may come again: the same is told once, then counted, and what differs
    /// each time is told no more often than once a second. True if it is to be told.
    fn add(&mut self, now: MonoTime, why: &str) -> bool {
        self.count = self.count.saturating_add(1);
        let is_told = self.last != why && self.events.take(now);
        if is_told {
            why.clone_into(&mut self.last);
        }
        is_told
    }
}

impl Control {
    /// What a neighbour says or wants is not taken: link state, lanes. True if that was told.
    pub(crate) fn tell_refused(&mut self, from: NodeId, why: String) -> bool {
        let now = self.now();
        let refused = self.refused.entry(from).or_default();
        let is_told = refused.add(now, &why);
        if is_told {
            self.events.emit(EventKind::Refused, Some(from), why);
        } else {
            tracing::debug!(%from, why, count = refused.count, "refused again");
        }
        is_told
    }

    /// What a datagram of `from` says, or wants, is not taken. How much of that is told goes by the
    /// neighbour that brought it, `via`: `from` is what the datagram says.
    pub(crate) fn refuse_datagram(
        &mut self,
        (from, via): (NodeId, NodeId),
        reason: &'static str,
        why: String,
    ) {
        let now = self.now();
        let count = self.datagrams_refused.entry(reason).or_default();
        *count = count.saturating_add(1);
        let refused = self.refused_via.entry(via).or_default();
        if refused.add(now, &why) {
            self.events.emit(EventKind::Refused, Some(from), why);
        } else {
            tracing::debug!(%from, %via, why, count = refused.count, "datagram refused again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_others_at_a_rate() {
        let mut refused = Refused::default();
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        assert_eq!([refused.add(at(1), "a"), refused.add(at(2), "a")], [true, false]);
        let told = (0..10_000).filter(|&ms| refused.add(at(ms), &ms.to_string())).count();
        assert_eq!((told, refused.count), (15 + 9, 10_002));
    }
}
