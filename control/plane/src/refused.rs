//! What others say or want and do not get: counted, and told at a bounded rate.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_routing::TokenBucket;
use hawser_wire::{LaneId, MonoTime, NodeId, TrafficClass};

use crate::EventKind;
use crate::control::Control;

/// Events about what one neighbour says, or brings: so many, and one more a second.
const EVENTS: TokenBucket = TokenBucket::new(16, Duration::from_secs(1));

/// And those about whoever is not known to be a member.
const STRANGERS: TokenBucket = TokenBucket::new(16, Duration::from_secs(1));

/// Connections and joins of strangers that were refused: told at a bounded rate, and what is not told is
/// counted, and the count told.
#[derive(Debug)]
pub(crate) struct RefusedStrangers {
    events: TokenBucket,
    untold: u64,
    /// The last of those.
    last: String,
}

impl Default for RefusedStrangers {
    fn default() -> Self {
        Self { events: STRANGERS, untold: 0, last: String::new() }
    }
}

impl RefusedStrangers {
    /// Somebody was refused; true if that is to be told.
    fn add(&mut self, now: MonoTime, why: &str) -> bool {
        // Those before it come first.
        let is_told = self.untold == 0 && self.events.take(now);
        if !is_told {
            self.untold = self.untold.saturating_add(1);
            why.clone_into(&mut self.last);
        }
        is_told
    }

    /// When [`Self::poll_untold`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        (self.untold > 0).then(|| self.events.ready_at())
    }

    /// How many were not told since that was said last, and the last of them.
    fn poll_untold(&mut self, now: MonoTime) -> Option<(u64, String)> {
        let is_due = self.untold > 0 && self.events.take(now);
        is_due.then(|| (std::mem::take(&mut self.untold), std::mem::take(&mut self.last)))
    }
}

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

    /// Somebody at the door gets nothing. Of a member that is told like the rest of what it wants.
    pub(crate) fn tell_refused_at_door(
        &mut self,
        remote: SocketAddr,
        peer: Option<NodeId>,
        lane: Option<(LaneId, TrafficClass)>,
        reason: &str,
    ) {
        let Some(peer) = peer else {
            return self.tell_stranger_refused(None, format!("{remote}: {reason}"));
        };
        let wanted = lane.map_or_else(String::new, |(lane, class)| {
            format!(", for lane {lane} ({})", class.name())
        });
        // The port is another one each time.
        self.tell_refused(peer, format!("from {}{wanted}: {reason}", remote.ip()));
    }

    /// A stranger gets nothing; it says that it is `node`.
    pub(crate) fn tell_stranger_refused(&mut self, node: Option<NodeId>, why: String) {
        let now = self.now();
        if self.refused_strangers.add(now, &why) {
            self.events.emit(EventKind::Refused, node, why);
        } else {
            tracing::debug!(why, "a stranger refused again");
        }
    }

    /// Says how many strangers were refused of whom nothing was told, if it is time.
    pub(crate) fn tell_untold_strangers(&mut self) {
        let now = self.now();
        if let Some((count, last)) = self.refused_strangers.poll_untold(now) {
            let detail = format!("{count} more strangers, the last of them {last}");
            self.events.emit(EventKind::Refused, None, detail);
        }
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

    #[test]
    fn strangers_are_told_at_a_rate_and_counted_beyond_it() {
        let mut strangers = RefusedStrangers::default();
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let (mut told, mut counts, mut counted) = (0, 0, 0);
        for ms in 0..10_000 {
            // As the loop does: what is due, then what comes.
            if strangers.poll_timeout().is_some_and(|due| due <= at(ms)) {
                let (count, last) = strangers.poll_untold(at(ms)).expect("due");
                assert_eq!(last, (ms - 1).to_string());
                (counts, counted) = (counts + 1, counted + count);
            }
            told += u64::from(strangers.add(at(ms), &ms.to_string()));
        }
        assert_eq!((told, counts), (16, 9));
        // The end of a flood is told when it may be, without another one.
        let due = strangers.poll_timeout().expect("a rest");
        assert_eq!(due, at(10_000));
        let (rest, last) = strangers.poll_untold(due).expect("due");
        assert_eq!((told + counted + rest, last), (10_000, "9999".to_owned()));
        assert_eq!((strangers.poll_timeout(), strangers.poll_untold(at(60_000))), (None, None));
    }
}
