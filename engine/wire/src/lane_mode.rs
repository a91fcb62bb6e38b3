use crate::{ByteReader, DecodeError, TrafficClass};

/// A set of traffic classes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ClassSet(u8);

impl ClassSet {
    /// Every class.
    pub const ALL: Self = Self(0b111);

    /// No class.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// `class` alone.
    #[must_use]
    pub const fn of(class: TrafficClass) -> Self {
        Self(1 << class.to_wire())
    }

    /// These and `class`.
    #[must_use]
    pub const fn with(self, class: TrafficClass) -> Self {
        Self(self.0 | 1 << class.to_wire())
    }

    /// These but for `class`.
    #[must_use]
    pub const fn without(self, class: TrafficClass) -> Self {
        Self(self.0 & !(1 << class.to_wire()))
    }

    /// True if `class` is among them.
    #[must_use]
    pub const fn contains(self, class: TrafficClass) -> bool {
        self.0 & 1 << class.to_wire() != 0
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The classes that the sender puts on this lane from here on. The lane's order makes it exact: what
/// stood before it is judged by the set before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneClasses {
    /// Bit 0 control, bit 1 priority, bit 2 bulk.
    pub classes: ClassSet,
}

impl LaneClasses {
    /// The message's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 1] {
        [self.classes.0]
    }

    /// # Errors
    /// [`DecodeError`] if it is not one byte or names an unknown class.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "lane classes");
        let mask = reader.u8()?;
        reader.finish()?;
        if mask & !ClassSet::ALL.0 != 0 {
            return Err(DecodeError::Invalid { what: "lane classes", value: u64::from(mask) });
        }
        Ok(Self { classes: ClassSet(mask) })
    }
}

/// How the classes of a link are spread over its lanes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum LinkMode {
    /// Each class has lanes of its own.
    #[default]
    Separate,
    /// One lane carries all of them, control first.
    Collapsed,
}

impl LinkMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Separate, Self::Collapsed];

    /// Lower-case word for people and for the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Collapsed => "collapsed",
        }
    }
}

/// Agrees on a [`LinkMode`]: one side proposes, the other answers with the same generation and mode.
/// Each side sends by the new mode once it has sent or received the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkModeOffer {
    /// One above that of the mode in force.
    pub generation: u32,
    /// The mode.
    pub mode: LinkMode,
    /// It is the answer to a proposal.
    pub accepted: bool,
}

impl LinkModeOffer {
    /// The message's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 6] {
        let [g0, g1, g2, g3] = self.generation.to_le_bytes();
        let mode = match self.mode {
            LinkMode::Separate => 0,
            LinkMode::Collapsed => 1,
        };
        [g0, g1, g2, g3, mode, if self.accepted { 1 } else { 0 }]
    }

    /// # Errors
    /// [`DecodeError`] if it is not six bytes or a field has no meaning.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "link mode");
        let generation = reader.u32()?;
        let mode = match reader.u8()? {
            0 => LinkMode::Separate,
            1 => LinkMode::Collapsed,
            byte => {
                return Err(DecodeError::Invalid { what: "link mode", value: u64::from(byte) });
            }
        };
        let accepted = match reader.u8()? {
            0 => false,
            1 => true,
            byte => {
                let value = u64::from(byte);
                return Err(DecodeError::Invalid { what: "link mode's stage", value });
            }
        };
        reader.finish()?;
        Ok(Self { generation, mode, accepted })
    }
}
