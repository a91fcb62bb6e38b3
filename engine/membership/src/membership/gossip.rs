//! What is told.

use hawser_wire::NodeId;

use super::{Membership, OUTBOX_MAX};
use crate::members::Slot;
use crate::suspicion::transmissions;
use crate::{CLAIMS_MAX, Claim, Liveness, Message, MessageBody, RejectReason};

/// Bytes of claims that ride on a message which goes out anyway: with everything around it, it
/// still fits into one packet.
const PIGGYBACK_BYTES_MAX: usize = 1200;

/// From so much news on, and from this share of the members on, everything is compared once it has gone
/// round: comparing takes as many bytes for each piece of news as so many claims.
const MUCH_NEWS_MIN: usize = 16;
const MUCH_NEWS_SHARE: usize = 16;

/// Requests to compare everything that are answered at once, of all members together; then one each
/// gossip interval.
const SYNC_BURST: u32 = 16;

impl Membership {
    /// There is news about a member.
    pub(super) fn spread(&mut self, slot: Slot) {
        if self.broadcasts.is_empty() {
            // The first news waits for half an interval on average, for other news and for others'.
            self.gossip_due = self.within(self.config.gossip_interval);
        }
        self.broadcasts.add(&mut self.members, slot);
    }

    /// Sends a message, with news. `about` stands first among it unless it is alive: a member that
    /// is suspected hears so from whoever speaks with it (Lifeguard's buddy system, §IV-C).
    pub(super) fn send(&mut self, to: NodeId, body: MessageBody, about: Option<Slot>) {
        let mut claims = Vec::new();
        let mut bytes = PIGGYBACK_BYTES_MAX;
        let always = matches!(body, MessageBody::Gossip);
        let about = about.and_then(|slot| self.members.get(slot));
        if let Some(member) = about.filter(|m| always || m.liveness != Liveness::Alive) {
            let claim = member.claim();
            bytes = bytes.saturating_sub(claim.encoded_len());
            claims.push(claim);
        }
        let times = transmissions(&self.config, self.members.ring().len());
        self.broadcasts.fill(&mut self.members, times, bytes, &mut claims);
        self.push(to, body, claims);
    }

    /// Sends a message with these claims.
    pub(super) fn push(&mut self, to: NodeId, body: MessageBody, claims: Vec<Claim>) {
        if self.outbox.len() >= OUTBOX_MAX {
            self.rejected.not_sent = self.rejected.not_sent.saturating_add(1);
            return;
        }
        let sender =
            self.members.get(self.members.own()).map(|own| own.version).unwrap_or_default();
        let message = Message { sender, round: self.round, body, claims };
        self.outbox.push_back((to, message.encode()));
    }

    /// Tells some members what is new.
    pub(super) fn gossip(&mut self) {
        self.gossip_due = self.clock.now().saturating_add(self.config.gossip_interval);
        for node in self.draw(self.config.gossip_fanout, None) {
            if self.broadcasts.is_empty() {
                break;
            }
            self.send(node, MessageBody::Gossip, None);
        }
    }

    /// Up to `count` members at random, each once, without this node and `except`.
    pub(super) fn draw(&mut self, count: usize, except: Option<NodeId>) -> Vec<NodeId> {
        let ring = self.members.ring();
        let mut drawn: Vec<NodeId> = Vec::with_capacity(count.min(ring.len()));
        // A few of many are soon found; of few, all are tried.
        let begin = self.random.position(ring.len());
        for attempt in 0..ring.len() {
            if drawn.len() >= count {
                break;
            }
            let at = if ring.len() > count.saturating_mul(4) {
                self.random.position(ring.len())
            } else {
                begin.saturating_add(attempt).checked_rem(ring.len()).unwrap_or(0)
            };
            let node = ring.get(at).and_then(|slot| self.members.get(*slot)).map(|m| m.node);
            let new = node.filter(|node| Some(*node) != except && !drawn.contains(node));
            drawn.extend(new);
        }
        drawn
    }

    /// As much news as comes when a mesh falls apart, or is whole again, does not reach everybody: much of
    /// it goes to members that cannot be reached. Once it has gone round, what is known is compared
    /// with another member's soon.
    pub(super) fn sync_after_much_news(&mut self) {
        let much = self.news_since_sync.saturating_mul(MUCH_NEWS_SHARE) >= self.members.len();
        if self.news_since_sync >= MUCH_NEWS_MIN && much && self.broadcasts.is_empty() {
            let soon = self.within(self.config.probe_interval.saturating_mul(10));
            self.sync_due = self.sync_due.min(soon);
            self.news_since_sync = 0;
        }
    }

    /// Compares everything with one member.
    pub(super) fn sync(&mut self) {
        self.news_since_sync = 0;
        let again =
            if self.synced { self.config.sync_interval } else { self.config.probe_interval };
        self.sync_due = self.clock.now().saturating_add(again);
        let Some(to) = self.draw(1, None).pop() else { return };
        self.send_all(to, MessageBody::SyncRequest);
    }

    pub(super) fn handle_sync_request(&mut self, from: NodeId) -> Result<(), RejectReason> {
        let now = self.clock.now();
        let each = self.config.gossip_interval;
        let too_much = self.sync_answers > now.saturating_add(each.saturating_mul(SYNC_BURST));
        if too_much || !self.sync_limit.take(now, from) {
            return Err(RejectReason::TooMuch { from });
        }
        self.sync_answers = self.sync_answers.max(now).saturating_add(each);
        self.send_all(from, MessageBody::Sync);
        Ok(())
    }

    /// All that this node claims, in as few messages as it fits into; the last one is `last`.
    fn send_all(&mut self, to: NodeId, last: MessageBody) {
        let all: Vec<Claim> = self.members.iter().map(crate::members::Member::claim).collect();
        let mut parts = all.chunks(CLAIMS_MAX).peekable();
        while let Some(part) = parts.next() {
            let body = if parts.peek().is_some() { MessageBody::Sync } else { last };
            self.push(to, body, part.to_vec());
        }
    }
}
