//! What shards say of each neighbour's link, in its order; neighbours take turns.
//!
//! What a neighbour says to the control thread takes no credit and has no rate, and what it costs is
//! here. So a turn of the loop handles a bounded amount of it, by deficit round robin (Shreedhar and
//! Varghese, 1995): whatever one neighbour sends, another one's next message, or the word that its lane
//! came or went, waits for a share of each of the others and no longer. What waits here is bounded by
//! the shards, which count a frame towards its neighbour's share until its body is let go of.

use std::collections::{BTreeMap, VecDeque};

use hawser_exchange::ShardToControl;
use hawser_wire::{NodeId, ShardId};

/// What a neighbour's messages may cost before the next has its turn.
const SHARE_COST: usize = 32 << 10;
/// And those of all in one turn of the loop.
const TURN_COST: usize = 256 << 10;
/// What a message costs beside its bytes.
const MESSAGE_COST: usize = 1 << 10;
/// Places that a neighbour's queue keeps when it is empty.
const PLACES_KEPT: usize = 64;

/// A message and the shard that says it.
type Said = (ShardId, ShardToControl);

/// Of all neighbours.
///
/// **Invariant:** those in `active` are those whose queues hold something, each once.
#[derive(Debug, Default)]
pub(crate) struct NeighbourTurns {
    queues: BTreeMap<NodeId, Queue>,
    active: VecDeque<NodeId>,
    /// What was handled in this turn of the loop.
    spent: usize,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Said>,
    /// What they may cost yet.
    credit: usize,
}

fn cost_of((_, message): &Said) -> usize {
    match message {
        ShardToControl::LinkControl { body, .. } | ShardToControl::Datagram { body, .. } => {
            MESSAGE_COST.saturating_add(body.len())
        }
        _ => MESSAGE_COST,
    }
}

impl NeighbourTurns {
    /// Something about the link to `neighbour`, behind what else there is about it.
    pub(crate) fn push(&mut self, neighbour: NodeId, message: Said) {
        let queue = self.queues.entry(neighbour).or_default();
        if queue.messages.is_empty() {
            queue.credit = SHARE_COST;
            self.active.push_back(neighbour);
        }
        queue.messages.push_back(message);
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// A turn of the loop begins.
    pub(crate) const fn begin(&mut self) {
        self.spent = 0;
    }

    /// The next message to handle in this turn of the loop.
    pub(crate) fn poll(&mut self) -> Option<Said> {
        if self.spent >= TURN_COST {
            return None;
        }
        loop {
            let queue = self.queues.get_mut(self.active.front()?)?;
            let cost = cost_of(queue.messages.front()?);
            let Some(left) = queue.credit.checked_sub(cost) else {
                queue.credit = queue.credit.saturating_add(SHARE_COST);
                self.active.rotate_left(1);
                continue;
            };
            queue.credit = left;
            self.spent = self.spent.saturating_add(cost);
            let message = queue.messages.pop_front();
            if queue.messages.is_empty() {
                queue.messages.shrink_to(PLACES_KEPT);
                self.active.pop_front();
            }
            return message;
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_exchange::LaneSerial;
    use hawser_exchange::ShardToControl::{LaneDown, LinkControl};
    use hawser_wire::LaneId;

    use super::*;

    fn node(tag: u8) -> NodeId {
        NodeId::from_bytes([tag; 16])
    }

    fn say(turns: &mut NeighbourTurns, from: NodeId, bytes: usize) {
        let message = LinkControl { from, body: vec![0; bytes].into() };
        turns.push(from, (ShardId(0), message));
    }

    fn say_down(turns: &mut NeighbourTurns, peer: NodeId) {
        let (reason, told, closed) = ("".into(), None, None);
        let (lane, serial) = (LaneId(0), LaneSerial(1));
        let message = LaneDown { peer, lane, serial, reason, told, closed };
        turns.push(peer, (ShardId(0), message));
    }

    /// One turn of the loop: whose messages, whether a lane went, and what they cost.
    fn turn(turns: &mut NeighbourTurns) -> Vec<(NodeId, bool, usize)> {
        turns.begin();
        let shown = |said: Said| {
            let peer = said.1.neighbour().expect("of a link");
            (peer, matches!(said.1, LaneDown { .. }), cost_of(&said))
        };
        std::iter::from_fn(|| turns.poll()).map(shown).collect()
    }

    #[test]
    fn each_neighbour_has_its_turn_and_its_order() {
        let (noisy, quiet) = (node(1), node(2));
        let mut turns = NeighbourTurns::default();
        for _ in 0..40 {
            say(&mut turns, noisy, 8 << 10);
        }
        say_down(&mut turns, noisy);
        say(&mut turns, quiet, 100);
        say_down(&mut turns, quiet);
        let mut order = turn(&mut turns);
        let at = |order: &[(NodeId, bool, usize)], peer, down| {
            order.iter().position(|&(p, d, _)| (p, d) == (peer, down))
        };
        // Three of the noisy one's cost what one has before the other's turn.
        assert_eq!((at(&order, quiet, false), at(&order, quiet, true)), (Some(3), Some(4)));
        // A turn of the loop ends all the same, and the next goes on.
        assert_eq!(at(&order, noisy, true), None);
        while !turns.is_empty() {
            order.extend(turn(&mut turns));
        }
        assert_eq!((order.len(), at(&order, noisy, true)), (43, Some(42)));
        assert_eq!(turn(&mut turns), []);
    }

    #[test]
    fn who_sends_large_ones_has_no_more_than_who_sends_small_ones() {
        let (large, small) = (node(1), node(2));
        let mut turns = NeighbourTurns::default();
        for _ in 0..8 {
            say(&mut turns, large, 512 << 10);
        }
        for _ in 0..8_000 {
            say(&mut turns, small, 0);
        }
        let handled: Vec<_> = (0..20).flat_map(|_| turn(&mut turns)).collect();
        let cost = |peer| -> usize {
            handled.iter().filter(|&&(p, _, _)| p == peer).map(|&(_, _, cost)| cost).sum()
        };
        let (large, small) = (cost(large), cost(small));
        assert!(large.abs_diff(small) <= (512 << 10) + 2 * SHARE_COST, "{large} {small}");
        assert!(large.min(small) > 0);
    }
}
