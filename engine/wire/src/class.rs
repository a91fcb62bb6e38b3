use crate::DecodeError;

/// What a frame is for; decides lane and order. Lower is served first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum TrafficClass {
    /// Acknowledgements, credit, link state, heartbeats.
    Control = 0,
    /// System and database updates.
    Priority = 1,
    /// Client data.
    Bulk = 2,
}

impl TrafficClass {
    /// Every class, first served first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Priority, Self::Bulk];

    /// Its byte on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Priority => 1,
            Self::Bulk => 2,
        }
    }

    /// # Errors
    /// [`DecodeError::Invalid`] for a byte that names no class.
    pub const fn from_wire(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Control),
            1 => Ok(Self::Priority),
            2 => Ok(Self::Bulk),
            _ => Err(DecodeError::Invalid { what: "traffic class", value: widen(byte) }),
        }
    }

    /// Lower-case name for people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Priority => "priority",
            Self::Bulk => "bulk",
        }
    }
}

#[expect(clippy::as_conversions, reason = "u64::from is not const")]
const fn widen(byte: u8) -> u64 {
    byte as u64
}
