use std::fmt;

use hawser_wire::MonoTime;
use thiserror::Error;

use crate::TraceEvent;

/// What must hold whatever happens. Each has a checker.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Property {
    /// A link delivers every frame that it took, or hands it back; a stream delivers every message
    /// that was published.
    NothingLost,
    /// A link delivers no frame twice within a session; a consumer gets no message twice.
    NothingDuplicated,
    /// A consumer gets a stream's messages in the order in which they were published.
    StreamOrder,
    /// A frame arrives as it was sent.
    Content,
    /// No machine accuses a peer that runs the same machine of breaking the protocol.
    NoFalseAccusation,
    /// What a source sends stays within what the destination granted.
    Credit,
    /// Once nothing is added and nothing fails, every queue empties and all credit returns.
    NoDeadlock,
    /// Once everything has arrived, a source may send what its destination has room for, and nothing is
    /// under way on any path. Streams that rest count with the least window and have a whole one when they
    /// go on.
    CreditReturns,
    /// Once everything has arrived, links carry heartbeats and nothing else.
    Rest,
    /// Control passes in time while bulk fills the link.
    ControlLatency,
    /// Messages arrive in time though lanes fall silent.
    MessageAge,
    /// Bulk between two nodes stays near what the link holds: 1.1 times 1.5 round trips and 5 ms, or 1.75
    /// times over one lane for all classes, in 95 of 100 looks.
    InFlight,
    /// Flows that compete for one link have like shares of it.
    Fairness,
    /// Of links that both fill, priority has more than bulk.
    Precedence,
    /// A slow destination costs others next to nothing.
    Isolation,
    /// A flow has of the links on its way what they carry.
    Throughput,
    /// What links make good is not sent again by sources.
    NoResend,
    /// Each minute has enough of messages and faults to say something.
    Load,
    /// Nodes that are connected soon have equal databases and paths that know of the last event.
    Convergence,
    /// Published paths are those of the mesh as it is.
    Paths,
    /// No frame comes to a node twice by one list.
    NoLoop,
    /// Frames arrive where links lead, once the mesh has settled.
    NoBlackHole,
    /// No member that runs is declared dead by one that it is connected with.
    NoFalseVerdict,
    /// Members know in time who is dead, and who is not any more.
    Membership,
}

impl Property {
    /// Lower-case name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing lost",
            Self::NothingDuplicated => "nothing duplicated",
            Self::StreamOrder => "stream order",
            Self::Content => "content",
            Self::NoFalseAccusation => "no false accusation",
            Self::Credit => "credit",
            Self::NoDeadlock => "no deadlock",
            Self::CreditReturns => "credit returns",
            Self::Rest => "rest",
            Self::ControlLatency => "control latency",
            Self::MessageAge => "message age",
            Self::InFlight => "in flight",
            Self::Fairness => "fairness",
            Self::Precedence => "precedence",
            Self::Isolation => "isolation",
            Self::Throughput => "throughput",
            Self::NoResend => "no resend",
            Self::Load => "load",
            Self::Convergence => "convergence",
            Self::Paths => "paths",
            Self::NoLoop => "no loop",
            Self::NoBlackHole => "no black hole",
            Self::NoFalseVerdict => "no false verdict",
            Self::Membership => "membership",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A property did not hold.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{property} violated at {:.6} s: {detail}", seconds(*at))]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// When it was noticed.
    pub at: MonoTime,
    /// With which numbers.
    pub detail: String,
}

fn seconds(at: MonoTime) -> f64 {
    at.saturating_since(MonoTime::ZERO).as_secs_f64()
}

/// A run that ended with a violation, and all that is needed to see it again.
#[derive(Clone, Debug, Error)]
#[error("seed {seed}, world {world}: {violation}")]
pub struct Failure {
    /// Runs the same history again.
    pub seed: u64,
    /// The world's name.
    pub world: &'static str,
    /// The first property that did not hold.
    pub violation: Violation,
    /// The last events before it, oldest first.
    pub recent: Vec<TraceEvent>,
    /// Over all events until then: equal for equal histories.
    pub trace_hash: u64,
}

impl Failure {
    /// Lists that led a frame to a node twice: one, if the run ended with it, as it does with the first.
    /// The list of a repair is another one; a frame that was repaired may come past a node again.
    #[must_use]
    pub fn loops(&self) -> u64 {
        u64::from(self.violation.property == Property::NoLoop)
    }
}
