use hawser_link::LinkViolation;
use hawser_wire::CloseReason;

/// A peer broke the protocol: its lane is to be closed.
pub(crate) struct Breach {
    pub(crate) reason: CloseReason,
    pub(crate) why: String,
}

impl Breach {
    pub(crate) fn of(why: &impl ToString) -> Self {
        Self { reason: CloseReason::ProtocolViolation, why: why.to_string() }
    }

    pub(crate) fn by(violation: &LinkViolation) -> Self {
        Self { reason: violation.close_reason(), why: violation.to_string() }
    }
}
