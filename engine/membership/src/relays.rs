//! Pings on behalf of others (SWIM's ping-req), and the nacks that Lifeguard adds.

use std::collections::VecDeque;

use hawser_wire::{MonoTime, NodeId};

/// Most pings that are relayed at a time, for all members together: one has some ten at most, as it
/// may ask only so often.
pub(crate) const RELAYS_MAX: usize = 1024;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    /// Of this node's ping.
    pub(crate) sequence: u32,
    pub(crate) target: NodeId,
    pub(crate) requester: NodeId,
    /// Of the request.
    pub(crate) request: u32,
    /// Without an ack by then the requester gets a nack.
    pub(crate) nack_due: MonoTime,
    /// An ack is passed on until then.
    pub(crate) end: MonoTime,
}

/// In the order in which they were asked for, and so in that of their timers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays {
    /// Their nack is not due yet.
    fresh: VecDeque<Relay>,
    /// Their nack was sent.
    late: VecDeque<Relay>,
}

impl Relays {
    /// False if there are too many; it is not taken then.
    pub(crate) fn push(&mut self, relay: Relay) -> bool {
        if self.fresh.len().saturating_add(self.late.len()) >= RELAYS_MAX {
            return false;
        }
        self.fresh.push_back(relay);
        true
    }

    /// The one whose target answered.
    pub(crate) fn take(&mut self, sequence: u32, target: NodeId) -> Option<Relay> {
        for list in [&mut self.fresh, &mut self.late] {
            let at =
                list.iter().position(|relay| (relay.sequence, relay.target) == (sequence, target));
            if let Some(at) = at {
                return list.remove(at);
            }
        }
        None
    }

    /// The next whose time is over.
    pub(crate) fn take_over(&mut self, now: MonoTime) -> Option<Relay> {
        self.late.pop_front_if(|relay| relay.end <= now)
    }

    /// The next whose nack is due.
    pub(crate) fn take_nack(&mut self, now: MonoTime) -> Option<Relay> {
        let relay = self.fresh.pop_front_if(|relay| relay.nack_due <= now)?;
        self.late.push_back(relay);
        Some(relay)
    }

    /// When something is due. What is only to be forgotten waits for other work.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.fresh.front().map(|relay| relay.nack_due)
    }
}
