use std::time::Duration;

use hawser_delivery::{DeliveryLimits, PathWindowLimits};
use hawser_link::LinkConfig;
use hawser_wire::{MonoTime, TrafficClass};

use crate::network::PathShape;

/// Nodes, what lies between them, what they send to each other, and what goes wrong.
///
/// A world is data; a seed makes it a history.
#[derive(Clone, Debug)]
pub struct World {
    /// Names it on the command line.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// How many nodes there are; they are numbered from 0.
    pub nodes: u16,
    /// Which of them are neighbours.
    pub links: Vec<LinkShape>,
    /// The streams.
    pub flows: Vec<FlowShape>,
    /// What every link keeps to.
    pub link: LinkConfig,
    /// Bounds of each stream at its two nodes.
    pub delivery: DeliveryLimits,
    /// What the streams that end at a node may be granted together, in bytes.
    pub memory_bytes: u64,
    /// Bounds of what sources have under way on each path.
    pub path_window: PathWindowLimits,
    /// What goes wrong.
    pub faults: FaultProfile,
    /// When flows that fill links do not.
    pub rests: Rests,
    /// What is asked of it beyond what always holds.
    pub expect: Expectation,
}

/// Two neighbours and what lies between them, alike in both directions.
#[derive(Clone, Copy, Debug)]
pub struct LinkShape {
    /// The one of the two that dials.
    pub a: u16,
    /// The other.
    pub b: u16,
    /// Bulk lanes beside control and priority; 0 means that one lane carries all classes.
    pub bulk_lanes: u16,
    /// Speed of the bottleneck.
    pub bytes_per_second: u64,
    /// Lanes share one bottleneck, or each has its own.
    pub shared: bool,
    /// Delay, jitter and buffers of each lane.
    pub path: PathShape,
}

/// A stream from one node to another, over nodes in between.
#[derive(Clone, Debug)]
pub struct FlowShape {
    /// Source, relays, destination.
    pub path: Vec<u16>,
    /// How much is published.
    pub pace: Pace,
    /// Size of a message in bytes, from and to.
    pub message_bytes: (u32, u32),
    /// The consumer takes one record in this time; as fast as they come, if zero.
    pub consume_every: Duration,
    /// Its records take all bulk lanes.
    pub striped: bool,
    /// Of its records.
    pub class: TrafficClass,
    /// Whose it is, by a number.
    pub tenant: u8,
}

/// How much a flow publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// So many publishes a second on average, at irregular times.
    PerSecond(u32),
    /// Whenever there is room.
    Saturating,
}

/// Flows that fill links do so for a while and then publish nothing for a while, all at once, in turn.
///
/// A link that has been full for a minute does in the next what it did in this one. What fills and empties
/// meets faults while it grows, too, and costs less to simulate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rests {
    /// How long links are filled at a time.
    pub full: Duration,
    /// How long they are not. Zero: they always are.
    pub rest: Duration,
}

impl Rests {
    /// Links are being filled at `now`.
    pub(crate) fn is_full(&self, now: MonoTime) -> bool {
        self.rest.is_zero() || self.within(now) < self.full.as_nanos()
    }

    /// From `now`, while links are not filled, to when they are again.
    pub(crate) fn left(&self, now: MonoTime) -> Duration {
        let all = self.full.saturating_add(self.rest).as_nanos();
        let nanos = all.saturating_sub(self.within(now));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The part of all time in which links are filled, in percent.
    pub(crate) fn full_percent(&self) -> u64 {
        let all = self.full.saturating_add(self.rest).as_nanos();
        let percent = self.full.as_nanos().saturating_mul(100).checked_div(all);
        percent
            .filter(|_| !self.rest.is_zero())
            .map_or(100, |percent| percent.try_into().unwrap_or(100))
    }

    /// Since links began to be filled last. The world begins in the middle of that, so that whole minutes
    /// end there, too, and with them the load.
    fn within(&self, now: MonoTime) -> u128 {
        let all = self.full.saturating_add(self.rest).as_nanos();
        let since = u128::from(now.as_nanos()).saturating_add(self.full.as_nanos() >> 1);
        since.checked_rem(all).unwrap_or(0)
    }
}

/// How often something goes wrong, and what; and what nodes do about it.
#[derive(Clone, Debug)]
pub struct FaultProfile {
    /// Mean time from fault to fault; they come at irregular times. Zero: never.
    pub every: Duration,
    /// What may happen, each with its weight.
    pub kinds: Vec<(FaultKind, u32)>,
    /// Nodes dial each lane of a link as long as they run, as that of an address in their configuration.
    /// Otherwise they dial all as a session begins, and then those that the link's machine asks for.
    pub dials_always: bool,
    /// Frames that a link cannot bring on go another way, some of them, if there is one.
    pub reroutes: bool,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// One lane is reset: what is under way is lost.
    LaneReset,
    /// One lane ends in good order, as when a proxy closes it.
    LaneFinish,
    /// One lane falls silent in both directions, for a while.
    LaneSilence,
    /// One lane falls silent in one direction, for a while.
    LaneHalfSilence,
    /// All lanes of a link are reset at once.
    LinkReset,
    /// All lanes of a link fall silent for a while, and none can be opened.
    LinkSilence,
    /// All lanes of a link are reset and none can be opened for about the session time.
    LinkOutage,
    /// A node does nothing for a while.
    NodeStall,
    /// A node does nothing for a while that is too short for its lanes to be given up.
    NodePause,
    /// Other processes have the core of a node for a moment.
    NodePreempted,
    /// A node loses its memory and begins a new life, within the session time or after it.
    NodeRestart,
    /// A node asks its neighbour to change between separate lanes and one for all classes.
    ModeSwitch,
    /// A node lets go of a lane that it does not need, and dials it again.
    LaneRetire,
}

impl FaultKind {
    /// Something breaks. What is left is what hosts and operators do all day.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::NodePreempted | Self::ModeSwitch | Self::LaneRetire)
    }

    /// A peer that lives may pass for silent.
    pub(crate) const fn is_silent(self) -> bool {
        !matches!(
            self,
            Self::LaneReset
                | Self::LaneFinish
                | Self::LinkReset
                | Self::ModeSwitch
                | Self::NodePause
                | Self::NodePreempted
                | Self::LaneRetire
        )
    }

    /// Lower-case name for the trace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LaneReset => "lane reset",
            Self::LaneFinish => "lane finish",
            Self::LaneSilence => "lane silence",
            Self::LaneHalfSilence => "lane half silence",
            Self::LinkReset => "link reset",
            Self::LinkSilence => "link silence",
            Self::LinkOutage => "link outage",
            Self::NodeStall => "node stall",
            Self::NodePause => "node pause",
            Self::NodePreempted => "node preempted",
            Self::NodeRestart => "node restart",
            Self::ModeSwitch => "mode switch",
            Self::LaneRetire => "lane retire",
        }
    }
}

/// What a world asks for beyond what always holds. What flows deliver counts while links are filled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation {
    /// Each minute consumers get at least 1,000 messages, and something breaks.
    pub load: bool,
    /// Sources send no record a second time: the links make good what they lose.
    pub no_resend: bool,
    /// 99 of 100 control frames pass a link within this time; not asked if zero. For worlds whose
    /// faults are rare.
    pub control_within: Duration,
    /// 999 of 1,000 messages are consumed so soon after they were published; not asked if zero.
    pub age_within: Duration,
    /// 999 of 1,000 messages of class priority likewise.
    pub priority_within: Duration,
    /// Of the bytes that saturating flows of a path deliver, those of class priority have at least this
    /// many percent; not asked if zero.
    pub priority_percent: u64,
    /// Bytes that saturating flows deliver differ from their mean by at most this many percent; not
    /// asked if zero.
    pub fair_percent: u64,
    /// Bytes that the saturating flows of a tenant deliver together differ from the tenants' mean by at
    /// most this many percent; not asked if zero.
    pub tenants_fair_percent: u64,
    /// Each saturating flow delivers at least this many percent of their mean.
    pub at_least_percent: u64,
    /// Each saturating flow delivers at least this many percent of what the slowest link of its path
    /// carries; not asked if zero.
    pub carries_percent: u64,
    /// Priority and bulk in flight stay within the bottleneck's rate times (1.5 round trips + 5 ms), and what
    /// any link may have.
    pub in_flight: bool,
    /// One flow's way is slow; the others keep nine tenths of what they deliver while it is not, together
    /// and each, or of an equal part where one had more.
    pub isolate: Option<Slowness>,
}

/// What makes one flow slow.
#[derive(Clone, Copy, Debug)]
pub struct Slowness {
    /// The flow.
    pub flow: usize,
    /// A link, by its number, and its speed; none if only the consumer is slow.
    pub link: Option<(usize, u64)>,
    /// The consumer takes one record in this time.
    pub consume_every: Duration,
}

impl World {
    /// The same with one flow slow, as [`Expectation::isolate`] says; nothing else is asked of it.
    pub(crate) fn slowed(mut self, slowness: Slowness) -> Self {
        if let Some((link, speed)) = slowness.link
            && let Some(link) = self.links.get_mut(link)
        {
            link.bytes_per_second = speed;
        }
        if let Some(flow) = self.flows.get_mut(slowness.flow) {
            flow.consume_every = slowness.consume_every;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_filled_and_rest_in_turn() {
        let seconds = Duration::from_secs;
        let at = |millis: u64| MonoTime::from_nanos(millis.saturating_mul(1_000_000));
        let rests = Rests { full: seconds(12), rest: seconds(8) };
        for round in [0, 20_000, 580_000] {
            assert!(rests.is_full(at(round)) && rests.is_full(at(round + 5_999)));
            assert!(!rests.is_full(at(round + 6_000)) && !rests.is_full(at(round + 13_999)));
            assert!(rests.is_full(at(round + 14_000)) && rests.is_full(at(round + 19_999)));
            assert_eq!(rests.left(at(round + 6_000)), seconds(8));
            assert_eq!(rests.left(at(round + 13_000)), seconds(1));
        }
        assert_eq!(rests.full_percent(), 60);
        let none = Rests::default();
        assert!(none.is_full(at(0)) && none.is_full(at(123_456)));
        assert_eq!(none.full_percent(), 100);
    }
}
