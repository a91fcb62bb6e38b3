use std::fmt;
use std::time::Duration;

use hawser_wire::MonoTime;

/// Bulk lanes of one link, at most, whatever a peer allows.
pub const BULK_LANES_MAX: u8 = 4;

/// When bulk lanes are opened and closed.
///
/// Each quantity has a threshold to become high and a lower one to stop being so, so that a value
/// near one of them changes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LanePolicyLimits {
    /// Decisions are made and reported; none is acted on.
    pub dry_run: bool,
    /// Bulk lanes of this link, 1 to [`BULK_LANES_MAX`]: what is configured for this peer. What the peer
    /// allows is learned from the lanes that it lets go of.
    pub bulk_lanes_max: u8,
    /// What the link is to carry, in bytes per second; `None` for as much as it can.
    pub goodput_target: Option<u64>,
    /// A send buffer filled to this many thousandths is high...
    pub occupancy_high_permille: u32,
    /// ...until it falls below this.
    pub occupancy_low_permille: u32,
    /// A round trip of this many thousandths of the shortest one is inflated...
    pub inflation_high_permille: u32,
    /// ...until it falls below this.
    pub inflation_low_permille: u32,
    /// A send buffer filled to fewer thousandths is empty.
    pub occupancy_empty_permille: u32,
    /// High buffer, inflated round trip and missed target for so long open a lane.
    pub occupied_for: Duration,
    /// For so long while a stream is striped, which is to take what lanes there can be; then there is no
    /// cool-down before it either.
    pub occupied_striped_for: Duration,
    /// An empty buffer, and a goodput that fewer lanes carried too, for so long close one.
    pub empty_for: Duration,
    /// At least so long between two changes of the number of lanes.
    pub cool_down: Duration,
    /// A lane that was asked for has so long to come up.
    pub open_within: Duration,
    /// A new lane has so long to reach its speed before it is judged...
    pub trial_settle: Duration,
    /// ...by the goodput over this time...
    pub trial_for: Duration,
    /// ...which must have grown by this many thousandths.
    pub gain_min_permille: u32,
    /// A link on which a lane brought less opens none for so long.
    pub barred_for: Duration,
    /// A peer that lets go of a lane which this side fills is asked for no other for so long; twice as
    /// long the next time...
    pub refused_for: Duration,
    /// ...up to this.
    pub refused_for_max: Duration,
    /// Without a better measure, a link that carries fewer bytes per second than this is idle.
    pub idle_goodput: u64,
}

impl Default for LanePolicyLimits {
    fn default() -> Self {
        Self {
            dry_run: false,
            bulk_lanes_max: BULK_LANES_MAX,
            goodput_target: None,
            occupancy_high_permille: 700,
            occupancy_low_permille: 400,
            inflation_high_permille: 1250,
            inflation_low_permille: 1100,
            occupancy_empty_permille: 50,
            occupied_for: Duration::from_secs(5),
            occupied_striped_for: Duration::from_secs(1),
            empty_for: Duration::from_secs(60),
            cool_down: Duration::from_secs(30),
            open_within: Duration::from_secs(10),
            trial_settle: Duration::from_secs(2),
            trial_for: Duration::from_secs(5),
            gain_min_permille: 100,
            barred_for: Duration::from_secs(600),
            refused_for: Duration::from_secs(600),
            refused_for_max: Duration::from_secs(3600),
            idle_goodput: 64 << 10,
        }
    }
}

/// What was measured of a link's bulk lanes since the sample before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneSample {
    /// Bulk lanes that are up and that neither end lets go of.
    pub bulk_lanes: u8,
    /// How full the send buffers of bulk were on average, in thousandths, at most 1000.
    pub occupancy_permille: u32,
    /// Smoothed round trip of the bulk lanes; zero if unknown.
    pub srtt: Duration,
    /// Shortest round trip seen lately; zero if unknown.
    pub min_rtt: Duration,
    /// Bytes of bulk acknowledged per second.
    pub goodput: u64,
    /// Bytes received over the bulk lanes per second. What they are needed for is the peer's to say, but
    /// that they are used shows here.
    pub received: u64,
    /// The peer has let go of one of them, and this side had not.
    pub is_let_go: bool,
    /// A stream takes all bulk lanes.
    pub is_striped: bool,
    /// Heartbeats of the link that were not answered in time, in thousandths. Shown with a decision, none
    /// follows from it.
    pub loss_permille: u32,
    /// How long both ends wait for their cores, on average. Shown with a decision, none follows from it.
    pub turn_delay: Duration,
}

/// What is to be done with the lanes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneAction {
    /// Open one bulk lane more.
    Open,
    /// Close the bulk lane that was opened last, once it is drained.
    Close,
}

/// What was decided, or why a wish was not followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneVerdict {
    /// A lane is opened.
    Open,
    /// A lane is closed: fewer carried as much.
    Close,
    /// The lane that was asked for has not come up.
    OpenFailed,
    /// The new lane stays: it brought enough.
    Confirmed {
        /// Goodput that it added, in thousandths of that before.
        gain_permille: i64,
    },
    /// The new lane stays for now: too little waited to judge it.
    Inconclusive,
    /// The new lane is closed: it brought too little. No other is opened for a while.
    Undone {
        /// As for [`Self::Confirmed`].
        gain_permille: i64,
        /// Until then none is opened.
        barred_until: MonoTime,
    },
    /// The peer has let go of a lane that this side filled, or was to fill: it takes no more than `lanes`.
    Refused {
        /// Bulk lanes that are left.
        lanes: u8,
        /// Until then no more are asked for.
        until: MonoTime,
    },
    /// A lane is wanted and not opened: there are as many as there may be.
    HeldAtCap,
    /// A lane is wanted and not opened: the number of lanes changed too lately.
    HeldCoolDown {
        /// Until then.
        until: MonoTime,
    },
    /// A lane is wanted and not opened: the last one brought too little.
    HeldBarred {
        /// Until then.
        until: MonoTime,
    },
    /// A lane is wanted and not opened: the peer has let go of one like it.
    HeldRefused {
        /// Until then.
        until: MonoTime,
    },
}

impl LaneVerdict {
    /// Lower-case name for people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::OpenFailed => "open_failed",
            Self::Confirmed { .. } => "confirmed",
            Self::Inconclusive => "inconclusive",
            Self::Undone { .. } => "undone",
            Self::Refused { .. } => "refused",
            Self::HeldAtCap => "held_at_cap",
            Self::HeldCoolDown { .. } => "held_cool_down",
            Self::HeldBarred { .. } => "held_barred",
            Self::HeldRefused { .. } => "held_refused",
        }
    }
}

/// A decision with everything that it was made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneDecision {
    /// When.
    pub at: MonoTime,
    /// What.
    pub verdict: LaneVerdict,
    /// The sample that brought it about.
    pub sample: LaneSample,
    /// Occupancy as smoothed over the last samples, in thousandths.
    pub occupancy_permille: u32,
    /// Round trip in thousandths of the shortest; 0 if unknown.
    pub inflation_permille: u32,
    /// For how long buffer, round trip and goodput had called for a lane.
    pub occupied_for: Duration,
    /// For how long there had been a lane too many.
    pub empty_for: Duration,
    /// No change is due before so much more time has passed since the last one.
    pub cool_down_left: Duration,
    /// No lane is opened for so much longer, as the last one brought too little.
    pub barred_left: Duration,
    /// Bulk lanes that the peer takes, as far as is known, and for how long that is taken for true.
    pub peer_lanes_max: Option<(u8, Duration)>,
    /// Goodput that the present one is compared with: that of one lane fewer under full load; 0 if
    /// it was never measured.
    pub baseline_goodput: u64,
    /// Mean goodput over the trial; 0 outside of one.
    pub trial_goodput: u64,
    /// The thresholds.
    pub limits: LanePolicyLimits,
}

impl LaneDecision {
    /// What is to be done; nothing in a dry run.
    #[must_use]
    pub const fn action(&self) -> Option<LaneAction> {
        match self.verdict {
            _ if self.limits.dry_run => None,
            LaneVerdict::Open => Some(LaneAction::Open),
            LaneVerdict::Close | LaneVerdict::Undone { .. } => Some(LaneAction::Close),
            _ => None,
        }
    }
}

impl fmt::Display for LaneDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sample, limits, .. } = self;
        write!(
            f,
            "{}{}: {} of {} bulk lanes, buffer {}‰ (high at {}‰, now {}‰), round trip {:?} of \
             {:?} ({}‰, high at {}‰), received {} B/s, goodput {} B/s",
            self.verdict.name(),
            if limits.dry_run { " (dry run)" } else { "" },
            sample.bulk_lanes,
            limits.bulk_lanes_max,
            self.occupancy_permille,
            limits.occupancy_high_permille,
            sample.occupancy_permille,
            sample.srtt,
            sample.min_rtt,
            self.inflation_permille,
            limits.inflation_high_permille,
            sample.received,
            sample.goodput,
        )?;
        if let Some(target) = limits.goodput_target {
            write!(f, " of {target} B/s")?;
        }
        write!(
            f,
            ", occupied for {:?} of {:?}, empty for {:?} of {:?}, one lane fewer carried {} B/s",
            self.occupied_for,
            limits.occupied_for,
            self.empty_for,
            limits.empty_for,
            self.baseline_goodput,
        )?;
        match self.verdict {
            LaneVerdict::Confirmed { gain_permille }
            | LaneVerdict::Undone { gain_permille, .. } => write!(
                f,
                ", trial {} B/s, gain {gain_permille}‰ of at least {}‰",
                self.trial_goodput, limits.gain_min_permille
            ),
            LaneVerdict::Refused { lanes, until } => write!(
                f,
                ", the peer has left {lanes}: no more for another {:?}",
                until.saturating_since(self.at)
            ),
            LaneVerdict::HeldCoolDown { until }
            | LaneVerdict::HeldBarred { until }
            | LaneVerdict::HeldRefused { until } => {
                write!(f, ", for another {:?}", until.saturating_since(self.at))
            }
            _ => Ok(()),
        }
    }
}
