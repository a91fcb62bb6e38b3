//! Connections that get no lane and are told why, each for a second at most. Pure.

use std::collections::BTreeMap;

use hawser_wire::NodeId;

/// At a time, of one peer: more than a link has lanes at first.
const OF_PEER_MAX: usize = 8;
/// At a time, in all.
const IN_ALL_MAX: usize = 64;

/// Who is being told that it gets no lane. Handshakes are over by then and hold none of their slots any
/// more: this bounds what they leave behind.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    by_peer: BTreeMap<NodeId, usize>,
    in_all: usize,
}

impl Farewells {
    /// Whether one more may be told; [`Self::end`] has to follow then.
    pub(crate) fn begin(&mut self, peer: NodeId) -> bool {
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= OF_PEER_MAX || self.in_all >= IN_ALL_MAX {
            return false;
        }
        self.by_peer.insert(peer, of_peer.saturating_add(1));
        self.in_all = self.in_all.saturating_add(1);
        true
    }

    /// One of them has been told, or could not be.
    pub(crate) fn end(&mut self, peer: NodeId) {
        let Some(of_peer) = self.by_peer.get_mut(&peer) else { return };
        *of_peer = of_peer.saturating_sub(1);
        if *of_peer == 0 {
            self.by_peer.remove(&peer);
        }
        self.in_all = self.in_all.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn peer(tag: u8) -> NodeId {
        NodeId::from_bytes([tag; 16])
    }

    #[test]
    fn one_peer_has_its_share_and_all_have_theirs() {
        let mut farewells = Farewells::default();
        let mut begun = [0; 10];
        for tag in 0..10 {
            while farewells.begin(peer(tag)) {
                begun[usize::from(tag)] += 1;
            }
        }
        assert_eq!(begun, [8, 8, 8, 8, 8, 8, 8, 8, 0, 0]);
        farewells.end(peer(3));
        assert!(farewells.begin(peer(9)) && !farewells.begin(peer(9)));
    }

    #[test]
    fn nobody_is_remembered_who_was_told() {
        let mut farewells = Farewells::default();
        for _ in 0..3 {
            assert!(farewells.begin(peer(1)));
            farewells.end(peer(1));
        }
        farewells.end(peer(1));
        assert!(farewells.by_peer.is_empty() && farewells.in_all == 0);
    }
}
