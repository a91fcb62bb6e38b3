//! `hawser-bench chaos`: two nodes carry messages while something goes wrong between them, again
//! and again; nothing may be lost, come twice or out of order.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use self::flow::{Flow, FlowSpec};
use self::namespaces::Namespaces;
pub(crate) use self::namespaces::{hold, run as run_command};
use self::pair::{Opener, Pair, PairSpec};
pub(crate) use self::probe::ControlLatency;
pub(crate) use self::probe::quantile;
use self::relay::{Relay, RelaySpec};
pub(crate) use self::row::ChaosRow;
use self::row::{Measured, Subject};
pub(crate) use self::scenario::Scenario;
use self::scenario::{Injector, Recovery};
pub(crate) use self::watcher::{Account, Watcher};
use crate::cores::Placement;
use crate::machine::free_address;
use crate::report::progress;

mod connection;
pub(crate) mod flow;
mod isolation;
pub(crate) mod namespaces;
pub(crate) mod pair;
mod probe;
mod random;
mod record_meter;
mod relay;
mod row;
mod scenario;
pub(crate) mod watcher;

/// Payload that is sent towards a bottleneck, by what passes through it, headers included.
const OVERLOAD: f64 = 1.1;

/// Faults, if neither their number nor the time is given.
const FAULTS_DEFAULT: usize = 20;

/// How long the nodes may take to open a second lane for a striped stream, and how often the harness
/// looks.
const LANES_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChaosSpec<'a> {
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    pub(crate) placement: Option<&'a Placement>,
    pub(crate) scenario: Scenario,
    /// So many faults, at most.
    pub(crate) faults: Option<usize>,
    /// No fault begins later than this, in seconds.
    pub(crate) seconds: Option<f64>,
    pub(crate) seed: u64,
    pub(crate) payload_bytes: usize,
    /// Messages a second while faults happen.
    pub(crate) rate_per_s: f64,
    /// How long the control class is measured, idle and loaded each, in seconds.
    pub(crate) control_s: f64,
    /// From the first message at full speed to the first exchange that counts, in seconds.
    pub(crate) warmup_s: f64,
    /// What every byte between the nodes waits, each way.
    pub(crate) delay: Duration,
    pub(crate) collapsed: bool,
    /// The streams of the messages are striped.
    pub(crate) stripe: bool,
    /// Of the bottleneck in [`Scenario::Shaped`].
    pub(crate) rate_mbit: u32,
    /// How long throughput is measured, before an obstruction and during it, in seconds.
    pub(crate) window_s: f64,
}

/// Two nodes and what stands between them.
#[derive(Debug)]
struct Setting {
    // In this order: the nodes end before what is between them does.
    pair: Pair,
    /// Absent: there are namespaces.
    relay: Option<Relay>,
    _namespaces: Option<Namespaces>,
    /// Of the publisher.
    publisher_cores: Vec<usize>,
}

/// Runs a scenario from start to end.
pub(crate) async fn measure(spec: &ChaosSpec<'_>) -> Result<ChaosRow> {
    if matches!(spec.scenario, Scenario::SlowSubscriber | Scenario::StalledPeer) {
        return isolation::measure(spec).await;
    }
    let mut setting = Setting::start(spec).await?;
    let outcome = setting.run(spec).await;
    let row = setting.pair.explain(outcome)?;
    setting.pair.stop().await?;
    Ok(row)
}

impl Setting {
    async fn start(spec: &ChaosSpec<'_>) -> Result<Self> {
        let placement = Placement::choose(1, spec.placement)?;
        let [a, b] = placement.nodes.as_slice() else { bail!("two nodes have to be placed") };
        let shaped = spec.scenario == Scenario::Shaped;
        let (relay, namespaces, listen) = if shaped {
            (None, Some(Namespaces::start(spec.rate_mbit).await?), Namespaces::address())
        } else {
            let upstream = free_address()?;
            let (delay, payload_bytes) = (spec.delay, spec.payload_bytes);
            let relay = Relay::start(RelaySpec { upstream, delay, payload_bytes })?;
            (Some(relay), None, upstream)
        };
        let prefixes = namespaces.as_ref().map(Namespaces::prefixes).unwrap_or_default();
        let pair = PairSpec {
            hawser: spec.hawser,
            profile: spec.profile,
            collapsed: spec.collapsed,
            cores: [a, b],
            listen,
            advertise: relay.as_ref().map_or(listen, |relay| relay.address),
            prefixes: prefixes.each_ref().map(Vec::<OsString>::as_slice),
        };
        let pair = Pair::start(&pair).await?;
        let publisher_cores = placement.near_client;
        Ok(Self { pair, relay, _namespaces: namespaces, publisher_cores })
    }

    async fn run(&self, spec: &ChaosSpec<'_>) -> Result<ChaosRow> {
        let window = Duration::from_secs_f64(spec.control_s);
        progress("control class, idle");
        let idle = ControlLatency::measure(self.pair.opener(), "idle", window).await?;
        progress("control class, loaded");
        let (loaded, bulk_lanes, flood) = self.load(spec, window).await?;
        let (recoveries, faulted) = match &self.relay {
            Some(relay) => self.fault(spec, relay).await?,
            None => (Vec::new(), Account::default()),
        };
        let subject = Subject {
            scenario: spec.scenario.as_str(),
            seed: spec.seed,
            profile: spec.profile,
            collapsed: spec.collapsed,
            bulk_lanes,
            rate_mbit: self.relay.is_none().then_some(spec.rate_mbit),
        };
        let measured = Measured::Recoveries { recoveries, control: [idle, loaded] };
        Ok(ChaosRow::new(subject, flood.and(faulted), &measured))
    }

    /// The control class while messages go as fast as the nodes take them, or a little faster than
    /// the bottleneck does: at full speed the buffers of both nodes would hold more than passes
    /// through it in the time that a publisher waits for its last acknowledgement.
    async fn load(
        &self,
        spec: &ChaosSpec<'_>,
        window: Duration,
    ) -> Result<(ControlLatency, Option<[usize; 2]>, Account)> {
        let bottleneck_per_s = f64::from(spec.rate_mbit) * 1e6 / 8.0 / spec.payload_bytes as f64;
        let flood_per_s = self.relay.is_none().then_some(OVERLOAD * bottleneck_per_s);
        let mut flow = self.publish("flood", spec, flood_per_s).await?;
        sleep(Duration::from_secs_f64(spec.warmup_s)).await;
        let before = if spec.stripe { Some(self.await_lanes(&mut flow).await?) } else { None };
        let loaded = ControlLatency::measure(self.pair.opener(), "loaded", window).await?;
        let after = if spec.stripe { Some(self.pair.bulk_lanes().await?) } else { None };
        Ok((loaded, before.zip(after).map(<[usize; 2]>::from), flow.finish().await?))
    }

    /// Waits until a striped stream has more than one lane; how many.
    async fn await_lanes(&self, flow: &mut Flow) -> Result<usize> {
        let deadline = Instant::now() + LANES_PATIENCE;
        loop {
            let lanes = self.pair.bulk_lanes().await?;
            if lanes > 1 {
                return Ok(lanes);
            }
            flow.watcher.ensure_running()?;
            if Instant::now() > deadline {
                bail!("no second bulk lane within {} s", LANES_PATIENCE.as_secs());
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Faults while messages go at a steady rate.
    async fn fault(&self, spec: &ChaosSpec<'_>, relay: &Relay) -> Result<(Vec<Recovery>, Account)> {
        let mut flow = self.publish("steady", spec, Some(spec.rate_per_s)).await?;
        let faults_max = match (spec.faults, spec.seconds) {
            (Some(faults), _) => faults,
            (None, None) => FAULTS_DEFAULT,
            (None, Some(_)) => usize::MAX,
        };
        let deadline = spec.seconds.map(|s| Instant::now() + Duration::from_secs_f64(s));
        let watcher = &mut flow.watcher;
        let mut injector =
            Injector::new(spec.scenario, &self.pair, relay, watcher, spec.seed).await?;
        let mut recoveries = Vec::new();
        while recoveries.len() < faults_max && deadline.is_none_or(|at| Instant::now() < at) {
            let number = recoveries.len() + 1;
            progress(&format!("fault {number}"));
            let recovery = injector.inject().await;
            let seed = spec.seed;
            recoveries.push(recovery.with_context(|| format!("fault {number} of seed {seed}"))?);
        }
        Ok((recoveries, flow.finish().await?))
    }

    /// A new stream from A to B in use.
    async fn publish(
        &self,
        name: &str,
        spec: &ChaosSpec<'_>,
        rate_per_s: Option<f64>,
    ) -> Result<Flow> {
        let opener = Opener { stripe: spec.stripe, ..self.pair.opener() };
        let stream = opener.open_stream(name).await?;
        if !stream.pending_dst_nodes.is_empty() {
            bail!("{} did not confirm stream {name}", self.pair.b.name);
        }
        let (from, to) = (&self.pair.a.socket, &self.pair.b.socket);
        let (stream_id, payload_bytes) = (stream.stream_id, spec.payload_bytes);
        let cores = &self.publisher_cores;
        Flow::start(FlowSpec { from, to, stream_id, payload_bytes, rate_per_s, cores }).await
    }
}
