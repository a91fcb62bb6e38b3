//! What goes wrong, and how it is done to two nodes that carry messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use hawser_proto::v1::LaneStatus;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::connection::Treatment;
use super::pair::Pair;
use super::probe::exchange;
use super::random::Random;
use super::relay::{Handle, Relay};
use super::watcher::Watcher;
use crate::machine::now_ns;

/// How long anything may take that is to come back by itself. Dialling waits up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the harness looks; what it looks for carries its own time.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How often the nodes are asked for their lanes, which costs them a little.
const LANES_INTERVAL: Duration = Duration::from_millis(10);

/// Pause between two faults, in milliseconds: from, up to. A lane that lived for less than a second
/// is dialled again like one that could not be had, later and later; that would be measured instead.
const PAUSE_MS: (u64, u64) = (1_100, 1_400);
/// How long a lane falls silent: past the time after which it counts as dead (1 s).
const BLACKHOLE_MS: (u64, u64) = (1_500, 2_500);
/// How long a node stands still: from a hiccup to past the death of all lanes.
const STALL_MS: (u64, u64) = (200, 2_500);
/// How long no lane can be had.
const FLAP_MS: (u64, u64) = (50, 300);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The lane that carries the messages is reset
    LaneKill,
    /// The control lane is reset
    ControlKill,
    /// The lane that carries the messages falls silent for 1.5 to 2.5 s, and then comes back
    Blackhole,
    /// One of the nodes stands still for 0.2 to 2.5 s
    Stall,
    /// All lanes are reset, and none can be had for 50 to 300 ms
    Flap,
    /// Nothing fails: both nodes are in network namespaces of their own with a bottleneck between
    Shaped,
    /// The subscriber of one stream takes nearly nothing, while another stream goes at full speed
    SlowSubscriber,
    /// A node beyond B stands still with a stream on its way to it, while one to B goes at full speed
    StalledPeer,
}

impl Scenario {
    /// As on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LaneKill => "lane-kill",
            Self::ControlKill => "control-kill",
            Self::Blackhole => "blackhole",
            Self::Stall => "stall",
            Self::Flap => "flap",
            Self::Shaped => "shaped",
            Self::SlowSubscriber => "slow-subscriber",
            Self::StalledPeer => "stalled-peer",
        }
    }
}

/// How a fault was got over; milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    /// From the fault to messages on another lane, or, after a stall, from its end to the first
    /// delivery.
    pub(crate) resume_ms: f64,
    /// From the fault to the delivery of a message that was sent after it.
    pub(crate) delivery_ms: f64,
    /// From the fault until each class has a lane again.
    pub(crate) whole_ms: f64,
    /// How long an exchange of the control class took that began with the fault of its lane.
    pub(crate) control_ms: Option<f64>,
}

/// Does one fault after the other.
#[derive(Debug)]
pub(crate) struct Injector<'a> {
    scenario: Scenario,
    pair: &'a Pair,
    relay: &'a Relay,
    watcher: &'a mut Watcher,
    random: Random,
    /// The classes that have a lane while nothing is wrong.
    classes: BTreeSet<String>,
}

impl<'a> Injector<'a> {
    /// # Errors
    /// If the nodes do not say which lanes they have.
    pub(crate) async fn new(
        scenario: Scenario,
        pair: &'a Pair,
        relay: &'a Relay,
        watcher: &'a mut Watcher,
        seed: u64,
    ) -> Result<Self> {
        let classes = classes(pair, relay).await?.context("the nodes do not answer")?;
        Ok(Self { scenario, pair, relay, watcher, random: Random::new(seed), classes })
    }

    /// Waits a little, does the next fault, and waits until it is got over.
    ///
    /// # Errors
    /// If that takes longer than any node should.
    pub(crate) async fn inject(&mut self) -> Result<Recovery> {
        sleep(self.random.millis(PAUSE_MS.0, PAUSE_MS.1)).await;
        match self.scenario {
            Scenario::LaneKill => {
                let victim = self.carrying().await?;
                self.strike(&[victim], Treatment::Reset).await
            }
            Scenario::ControlKill => {
                let victims = [self.control().await?];
                let (opener, name) = (self.pair.opener(), format!("control-kill-{}", now_ns()));
                let strike = self.strike(&victims, Treatment::Reset);
                // It begins when the lane is being reset, and has to find another one.
                let (recovery, exchange) = tokio::join!(strike, exchange(opener, name));
                Ok(Recovery { control_ms: Some(exchange?.as_secs_f64() * 1e3), ..recovery? })
            }
            Scenario::Blackhole => {
                let victim = self.carrying().await?;
                let until = Instant::now() + self.random.millis(BLACKHOLE_MS.0, BLACKHOLE_MS.1);
                let recovery = self.strike(std::slice::from_ref(&victim), Treatment::Hold).await?;
                sleep(until.saturating_duration_since(Instant::now())).await;
                // What was on its way arrives late, as it does after a real black hole.
                victim.treatment.send_replace(Treatment::Forward);
                Ok(recovery)
            }
            Scenario::Stall => self.stall().await,
            Scenario::Flap => {
                // Nothing dialled meanwhile gets through, whatever becomes of this future: the
                // relay ends with it.
                self.relay.refuse(true);
                let victims = self.relay.connections();
                let outage = self.random.millis(FLAP_MS.0, FLAP_MS.1);
                let relay = self.relay;
                let (recovery, ()) = tokio::join!(self.strike(&victims, Treatment::Reset), async {
                    sleep(outage).await;
                    relay.refuse(false);
                });
                recovery
            }
            Scenario::Shaped | Scenario::SlowSubscriber | Scenario::StalledPeer => {
                bail!("no lane fails in this scenario")
            }
        }
    }

    /// Treats `victims`, and waits until messages come through elsewhere and the link is whole.
    async fn strike(&mut self, victims: &[Handle], treatment: Treatment) -> Result<Recovery> {
        let fault_ns = self.relay.arm(victims);
        self.watcher.arm(fault_ns);
        for victim in victims {
            victim.treatment.send_replace(treatment);
        }
        let relay = self.relay;
        let resumed_ns =
            self.await_time("messages on another lane", |_| relay.resumed_ns()).await?;
        let arrived_ns = self.await_arrival().await?;
        let whole_ns = self.await_whole().await?;
        let since_ms = |at_ns: u64| at_ns.saturating_sub(fault_ns) as f64 / 1e6;
        Ok(Recovery {
            resume_ms: since_ms(resumed_ns),
            delivery_ms: since_ms(arrived_ns),
            whole_ms: since_ms(whole_ns),
            control_ms: None,
        })
    }

    /// Stops one of the nodes for a while. Should this future be dropped meanwhile, the node is
    /// killed with the others.
    async fn stall(&mut self) -> Result<Recovery> {
        let node = if self.random.coin() { &self.pair.a } else { &self.pair.b };
        let pid = i32::try_from(node.process.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("no pid")?;
        let fault_ns = now_ns();
        kill_process(pid, Signal::STOP).context("SIGSTOP")?;
        sleep(self.random.millis(STALL_MS.0, STALL_MS.1)).await;
        self.watcher.arm(0);
        let end_ns = now_ns();
        kill_process(pid, Signal::CONT).context("SIGCONT")?;
        let first_ns = self.await_arrival().await?;
        self.watcher.arm(fault_ns);
        let arrived_ns = self.await_arrival().await?;
        let whole_ns = self.await_whole().await?;
        let since_ms = |from_ns: u64, at_ns: u64| at_ns.saturating_sub(from_ns) as f64 / 1e6;
        Ok(Recovery {
            resume_ms: since_ms(end_ns, first_ns),
            delivery_ms: since_ms(fault_ns, arrived_ns),
            whole_ms: since_ms(fault_ns, whole_ns),
            control_ms: None,
        })
    }

    /// The connection that carries the messages now.
    async fn carrying(&mut self) -> Result<Handle> {
        let relay = self.relay;
        let mut before: BTreeMap<u16, u64> = BTreeMap::new();
        self.await_some("messages on a lane", LANES_INTERVAL, |_| {
            let connections = relay.connections();
            let grown = |handle: &Handle| {
                let before = before.get(&handle.port).copied();
                before.map_or(0, |before| handle.tap.carried().saturating_sub(before))
            };
            let busiest = connections
                .iter()
                .filter(|handle| !handle.tap.is_victim())
                .max_by_key(|handle| grown(handle))
                .filter(|handle| grown(handle) > 0)
                .cloned();
            before = connections.iter().map(|handle| (handle.port, handle.tap.carried())).collect();
            busiest
        })
        .await
    }

    /// The connection of the control lane.
    async fn control(&mut self) -> Result<Handle> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lanes = self.pair.lanes().await?.unwrap_or_default();
            let port = lanes.iter().find(|lane| lane.lane_class == "control").and_then(port);
            let connection = self
                .relay
                .connections()
                .into_iter()
                .find(|handle| Some(handle.port) == port && !handle.tap.is_victim());
            match connection {
                Some(connection) => return Ok(connection),
                None if Instant::now() > deadline => bail!("there is no control lane"),
                None => sleep(LANES_INTERVAL).await,
            }
        }
    }

    async fn await_arrival(&mut self) -> Result<u64> {
        self.await_time("a delivery", |watcher| watcher.arrived_ns()).await
    }

    async fn await_time(
        &mut self,
        what: &str,
        look: impl FnMut(&Watcher) -> Option<u64>,
    ) -> Result<u64> {
        self.await_some(what, LOOK_INTERVAL, look).await
    }

    /// Looks until there is something to see.
    async fn await_some<T>(
        &mut self,
        what: &str,
        interval: Duration,
        mut look: impl FnMut(&Watcher) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self.watcher) {
                return Ok(found);
            }
            self.watcher.ensure_running()?;
            if Instant::now() > deadline {
                bail!("waited for {what} for {} s in vain", PATIENCE.as_secs());
            }
            sleep(interval).await;
        }
    }

    /// Waits until each class has a lane again, other than those that something was done to.
    async fn await_whole(&mut self) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = None;
        while Instant::now() < deadline {
            found = classes(self.pair, self.relay).await?;
            if found.as_ref().is_some_and(|found| found.is_superset(&self.classes)) {
                return Ok(now_ns());
            }
            sleep(LANES_INTERVAL).await;
        }
        bail!("there were lanes of {:?} and are lanes of {found:?}", self.classes)
    }
}

/// The port from which B is connected.
fn port(lane: &LaneStatus) -> Option<u16> {
    lane.remote_address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// Classes with a lane that nothing was done to; none while B does not answer.
async fn classes(pair: &Pair, relay: &Relay) -> Result<Option<BTreeSet<String>>> {
    let Some(lanes) = pair.lanes().await? else { return Ok(None) };
    let connections = relay.connections();
    let is_relayed = |lane: &LaneStatus| {
        let port = port(lane);
        connections.iter().any(|handle| Some(handle.port) == port && !handle.tap.is_victim())
    };
    Ok(Some(lanes.into_iter().filter(is_relayed).map(|lane| lane.lane_class).collect()))
}
