//! Which requests to dial back are heeded. Pure.
//!
//! **Invariant:** only a member's own words make this node dial, and no faster than one request a
//! second from each member; what is kept of them is bounded. **Invariant:** who speaks in the name of a
//! member takes nothing of its allowance: that is charged for its own words alone, and before they are
//! known to be its own the neighbour that brings them is.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_identity::verify;
use hawser_routing::TokenBucket;
use hawser_wire::{Incarnation, MonoTime, NodeId};

use crate::dial_back_request::DialBackRequest;

/// Each request of a member costs so much of its allowance...
const INTERVAL: Duration = Duration::from_secs(1);
/// ...of which it has so much: as many requests at once as a link has lanes, and some more.
const ALLOWANCE: Duration = Duration::from_secs(8);
/// Requests that one neighbour brings and whose signatures are looked at: so many at once, and fifty a
/// second.
const BROUGHT: TokenBucket = TokenBucket::new(256, Duration::from_millis(20));
/// Members whose requests are kept in mind.
const MEMBERS_MAX: usize = 4096;

/// Why a request is not heeded.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Ignored {
    /// Its sender is not in the link-state database, or has left the mesh.
    NoMember,
    /// Its sender asks too often, or the neighbour that brings it brings too many.
    RateLimited,
    /// It is not its sender's word.
    Forged,
    /// It comes from an earlier life of its sender, or is not newer than the last one, or its time
    /// is over.
    Stale,
    /// A link of this node has no such lane.
    UnknownLane,
    /// The lane is there.
    Served,
    /// It says no address that could be dialled, and this node knows none.
    NoAddress,
}

impl Ignored {
    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoMember => "no-member",
            Self::RateLimited => "rate-limited",
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::UnknownLane => "unknown-lane",
            Self::Served => "served",
            Self::NoAddress => "no-address",
        }
    }
}

/// What the link-state database says of a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its life.
    pub incarnation: Incarnation,
    /// Its Ed25519 key.
    pub public_key: [u8; 32],
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// When its allowance is whole again (GCRA).
    whole_at: MonoTime,
    incarnation: Incarnation,
    sequence: u64,
}

/// What was heard from whom, and how much of it was ignored.
#[derive(Debug, Default)]
pub(crate) struct DialBackGuard {
    heard: BTreeMap<NodeId, Heard>,
    /// By neighbour.
    brought: BTreeMap<NodeId, TokenBucket>,
    ignored: BTreeMap<Ignored, u64>,
}

impl DialBackGuard {
    /// Judges a request from `from` to this node, `local`, which the neighbour `via` brings; `member` is
    /// what is known of `from`.
    ///
    /// # Errors
    /// [`Ignored`]: why it is not heeded. It costs `from` nothing then.
    pub(crate) fn check(
        &mut self,
        now: MonoTime,
        (from, local): (NodeId, NodeId),
        via: NodeId,
        member: Option<Member>,
        request: &DialBackRequest,
    ) -> Result<(), Ignored> {
        let member = member.ok_or(Ignored::NoMember)?;
        if self.heard.len() >= MEMBERS_MAX && !self.heard.contains_key(&from) {
            self.heard.retain(|_, heard| heard.whole_at > now);
            if self.heard.len() >= MEMBERS_MAX {
                return Err(Ignored::RateLimited);
            }
        }
        let heard = self.heard.get(&from).copied().unwrap_or_default();
        let whole_at = heard.whole_at.max(now).saturating_add(INTERVAL);
        if whole_at.saturating_since(now) > ALLOWANCE {
            return Err(Ignored::RateLimited);
        }
        let Heard { incarnation, sequence, .. } = heard;
        let newer = (incarnation, sequence) < (request.incarnation, request.sequence);
        if request.incarnation < member.incarnation || !newer || request.lifetime.is_zero() {
            return Err(Ignored::Stale);
        }
        // The signature costs the most, and who has sent it is not known before.
        if !self.brought.entry(via).or_insert(BROUGHT).take(now) {
            return Err(Ignored::RateLimited);
        }
        let signed = request.signed_bytes(from, local);
        if !verify(&member.public_key, &signed, &request.signature) {
            return Err(Ignored::Forged);
        }
        let DialBackRequest { incarnation, sequence, .. } = *request;
        self.heard.insert(from, Heard { whole_at, incarnation, sequence });
        Ok(())
    }

    /// This node has no neighbours any more.
    pub(crate) fn clear_neighbours(&mut self) {
        self.brought.clear();
    }

    /// A request is ignored; how many have been for this reason, with this one.
    pub(crate) fn count(&mut self, reason: Ignored) -> u64 {
        let count = self.ignored.entry(reason).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

#[cfg(test)]
mod tests {
    use hawser_identity::NodeKey;

    use super::*;
    use crate::dial_back_request::tests::request;

    const LOCAL: NodeId = NodeId::from_bytes([1; 16]);
    const VIA: NodeId = NodeId::from_bytes([2; 16]);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    struct Sender {
        key: NodeKey,
        guard: DialBackGuard,
    }

    impl Sender {
        fn new() -> Self {
            Self { key: NodeKey::generate().expect("key"), guard: DialBackGuard::default() }
        }

        fn member(&self) -> Member {
            Member { incarnation: Incarnation(3), public_key: self.key.public_key() }
        }

        fn signed(&self, to: NodeId, mut request: DialBackRequest) -> DialBackRequest {
            request.signature = self.key.sign(&request.signed_bytes(self.key.node_id(), to));
            request
        }

        fn check(&mut self, now: MonoTime, request: &DialBackRequest) -> Result<(), Ignored> {
            let ends = (self.key.node_id(), LOCAL);
            let member = self.member();
            self.guard.check(now, ends, VIA, Some(member), request)
        }
    }

    #[test]
    fn a_members_own_word_is_heeded_once() {
        let mut sender = Sender::new();
        let first = sender.signed(LOCAL, request());
        assert_eq!(sender.check(at(0), &first), Ok(()));
        assert_eq!(sender.check(at(0), &first), Err(Ignored::Stale), "repeated");
        let older = sender.signed(LOCAL, DialBackRequest { sequence: 6, ..request() });
        assert_eq!(sender.check(at(0), &older), Err(Ignored::Stale));
        let newer = sender.signed(LOCAL, DialBackRequest { sequence: 8, ..request() });
        assert_eq!(sender.check(at(0), &newer), Ok(()));
        let life = DialBackRequest { incarnation: Incarnation(4), sequence: 1, ..request() };
        let life = sender.signed(LOCAL, life);
        assert_eq!(sender.check(at(0), &life), Ok(()), "a life that is not advertised yet");
        let again = sender.signed(LOCAL, DialBackRequest { sequence: 99, ..request() });
        assert_eq!(sender.check(at(0), &again), Err(Ignored::Stale), "an earlier life");
    }

    #[test]
    fn others_words_and_old_ones_are_not() {
        let mut sender = Sender::new();
        let good = sender.signed(LOCAL, request());
        let ends = (sender.key.node_id(), LOCAL);
        assert_eq!(sender.guard.check(at(0), ends, VIA, None, &good), Err(Ignored::NoMember));
        let DialBackGuard { heard, brought, .. } = &sender.guard;
        assert!(heard.is_empty() && brought.is_empty(), "nothing is kept of strangers");
        let stranger = Sender::new().signed(LOCAL, request());
        assert_eq!(sender.check(at(0), &stranger), Err(Ignored::Forged));
        let for_another = sender.signed(NodeId::from_bytes([5; 16]), request());
        assert_eq!(sender.check(at(0), &for_another), Err(Ignored::Forged));
        let past = DialBackRequest { incarnation: Incarnation(2), ..request() };
        let past = sender.signed(LOCAL, past);
        assert_eq!(sender.check(at(0), &past), Err(Ignored::Stale));
        let over = DialBackRequest { lifetime: Duration::ZERO, ..request() };
        let over = sender.signed(LOCAL, over);
        assert_eq!(sender.check(at(0), &over), Err(Ignored::Stale));
        assert_eq!(sender.check(at(0), &good), Ok(()), "what was forged takes no sequence");
    }

    #[test]
    fn a_member_that_asks_too_often_is_limited_alone() {
        let mut sender = Sender::new();
        let mut sequence = 0;
        let mut ask = |sender: &mut Sender, now| {
            sequence += 1;
            let request = sender.signed(LOCAL, DialBackRequest { sequence, ..request() });
            sender.check(now, &request)
        };
        for _ in 0..8 {
            assert_eq!(ask(&mut sender, at(0)), Ok(()));
        }
        for _ in 0..100 {
            assert_eq!(ask(&mut sender, at(0)), Err(Ignored::RateLimited));
        }
        assert_eq!(ask(&mut sender, at(1_000)), Ok(()), "refusals cost nothing");
        assert_eq!(ask(&mut sender, at(1_999)), Err(Ignored::RateLimited));
        let mut other = Sender::new();
        std::mem::swap(&mut other.guard, &mut sender.guard);
        assert_eq!(ask(&mut other, at(1_999)), Ok(()));
    }

    #[test]
    fn who_forges_uses_up_what_its_neighbour_may_bring_and_nothing_of_the_members() {
        let mut sender = Sender::new();
        let (ends, member) = ((sender.key.node_id(), LOCAL), sender.member());
        let other_way = NodeId::from_bytes([3; 16]);
        for sequence in 100..356 {
            let forged = DialBackRequest { sequence, ..request() };
            assert_eq!(sender.check(at(0), &forged), Err(Ignored::Forged));
        }
        let good = |sender: &Sender, sequence| {
            sender.signed(LOCAL, DialBackRequest { sequence, ..request() })
        };
        let first = good(&sender, 100);
        assert_eq!(sender.check(at(0), &first), Err(Ignored::RateLimited), "over that neighbour");
        for sequence in 100..108 {
            let own = good(&sender, sequence);
            let judged = sender.guard.check(at(0), ends, other_way, Some(member), &own);
            assert_eq!(judged, Ok(()), "{sequence}");
        }
        let next = good(&sender, 108);
        assert_eq!(sender.check(at(1_000), &next), Ok(()), "fifty a second come again");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sender = Sender::new();
        let member = sender.member();
        let mut judge = |now, id: u32| {
            let [a, b, ..] = id.to_le_bytes();
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&[a, b]);
            // Each neighbour brings requests of as many as it may.
            let (from, via) = (NodeId::from_bytes(bytes), NodeId::from_bytes([b; 16]));
            let mut request = request();
            request.signature = sender.key.sign(&request.signed_bytes(from, LOCAL));
            sender.guard.check(now, (from, LOCAL), via, Some(member), &request)
        };
        for id in 0..4096 {
            assert_eq!(judge(at(0), id), Ok(()));
        }
        assert_eq!(judge(at(0), 9_999), Err(Ignored::RateLimited));
        assert_eq!(judge(at(1_000), 9_999), Ok(()), "idle ones are forgotten");
        assert_eq!(sender.guard.heard.len(), 1);
    }

    #[test]
    fn ignored_ones_are_counted_by_reason() {
        let mut guard = DialBackGuard::default();
        assert_eq!(guard.count(Ignored::Stale), 1);
        assert_eq!(guard.count(Ignored::Stale), 2);
        assert_eq!(guard.count(Ignored::Forged), 1);
    }
}
