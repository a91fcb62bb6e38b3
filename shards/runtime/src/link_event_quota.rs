use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hawser_routing::TokenBucket;
use hawser_wire::{MonoTime, NodeId};

use crate::untold::Untold;

/// Events of one neighbour's link: so many at once, and four a second from then on. A link of six lanes
/// that all are lost and come again has fifty.
const EVENTS: TokenBucket = TokenBucket::new(128, Duration::from_millis(250));

/// How many events of each neighbour's link the control thread is told. It logs each, and keeps them: a
/// neighbour may not have more by making much happen. Those above it are counted.
#[derive(Debug, Default)]
pub(crate) struct LinkEventQuotas {
    of: BTreeMap<NodeId, Quota>,
    /// Those with events of which nobody was told.
    untold: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Quota {
    events: TokenBucket,
    untold: Untold,
}

impl LinkEventQuotas {
    /// Whether the next event of the link to `peer` is told; counted, if not.
    pub(crate) fn admit(&mut self, now: MonoTime, peer: NodeId) -> bool {
        let fresh = || Quota { events: EVENTS, untold: Untold::default() };
        let quota = self.of.entry(peer).or_insert_with(fresh);
        let admitted = quota.events.take(now);
        if !admitted {
            quota.untold.add();
            self.untold.insert(peer);
        }
        admitted
    }

    /// A neighbour of whose link events were not told, and how many since that was said last, if it is
    /// time to say so.
    pub(crate) fn poll_untold(&mut self, now: MonoTime) -> Option<(NodeId, u64)> {
        let of = &mut self.of;
        let found = self.untold.iter().find_map(|&peer| {
            let events = of.get_mut(&peer)?.untold.poll(now)?;
            Some((peer, events))
        });
        if let Some((peer, _)) = found {
            self.untold.remove(&peer);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_link_has_beyond_its_quota_is_counted_and_takes_nothing_from_another() {
        let [noisy, quiet] = [1, 2].map(|tag| NodeId::from_bytes([tag; 16]));
        let mut quotas = LinkEventQuotas::default();
        let (mut told, mut counted) = (0, 0);
        for ms in 0..10_000 {
            let now = MonoTime::from_nanos(ms * 1_000_000);
            told += u64::from(quotas.admit(now, noisy));
            if ms % 250 == 0 {
                assert!(quotas.admit(now, quiet));
            }
            while let Some((peer, events)) = quotas.poll_untold(now) {
                assert_eq!(peer, noisy);
                counted += events;
            }
        }
        assert_eq!(told, 128 + 39);
        // A second later the last of them.
        let rest = quotas.poll_untold(MonoTime::from_nanos(11_000_000_000));
        assert_eq!(counted + rest.map_or(0, |(_, events)| events), 10_000 - told);
    }
}
