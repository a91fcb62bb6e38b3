/// Whether bulk lanes are opened and closed by need.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LanePolicyMode {
    /// Yes.
    #[default]
    On,
    /// Decisions are made and told, and not acted on.
    DryRun,
    /// No decision is made.
    Off,
}

impl LanePolicyMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::On, Self::DryRun, Self::Off];

    /// As in configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::DryRun => "dry-run",
            Self::Off => "off",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// How many bulk lanes a link has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneRule {
    /// At most so many, 1 to 4.
    pub bulk_lanes_max: u8,
    /// Whether they are opened and closed by need.
    pub policy: LanePolicyMode,
}
