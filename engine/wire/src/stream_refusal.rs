/// Why one end of a stream will have nothing more of it from the other one, which breaks its rules.
///
/// Holds until the end that broke them begins a new life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamRefusal {
    /// The source has sent more than the destination had granted.
    CreditOverrun,
    /// The destination has taken back a grant.
    CreditReturned,
    /// The destination has acknowledged what was not sent.
    AckAhead,
    /// The source has left out more than its credit allows.
    SequenceJump,
    /// More came before its turn than the source had credit for.
    ReorderOverrun,
    /// The source has sent something behind the end that it had named.
    BeyondEnd,
    /// Not known to this version.
    Unknown(u8),
}

impl StreamRefusal {
    const TABLE: [(Self, u8, &'static str, &'static str); 6] = [
        (Self::CreditOverrun, 1, "credit-overrun", "more was sent than was granted"),
        (Self::CreditReturned, 2, "credit-returned", "a grant was taken back"),
        (Self::AckAhead, 3, "ack-ahead", "more was acknowledged than sent"),
        (Self::SequenceJump, 4, "sequence-jump", "more was left out than credit allows"),
        (Self::ReorderOverrun, 5, "reorder-overrun", "more came before its turn than was granted"),
        (Self::BeyondEnd, 6, "beyond-end", "something came behind the end of the stream"),
    ];

    /// One word in kebab case, for counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("unknown", |row| row.2)
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("a reason of a later release", |row| row.3)
    }

    /// The byte on the wire.
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::Unknown(byte) => byte,
            known => Self::TABLE.iter().find(|row| row.0 == known).map_or(0, |row| row.1),
        }
    }

    /// Any byte is a reason.
    pub(crate) fn from_wire(byte: u8) -> Self {
        Self::TABLE.iter().find(|row| row.1 == byte).map_or(Self::Unknown(byte), |row| row.0)
    }
}
