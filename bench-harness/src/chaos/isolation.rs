//! Whether one who does not take what is sent to it takes something from the others.
//!
//! Of two streams from A one goes to B as fast as the nodes take it. The other one goes at a steady
//! rate to a subscriber at B, or to a node C beyond B, and is obstructed again and again: its
//! subscriber takes nearly nothing, or C stands still. What the first one carries meanwhile is
//! compared with what it carried just before, beside the same second stream.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::ChaosSpec;
use super::flow::{Flow, FlowSpec};
use super::row::{ChaosRow, Measured, Subject};
use super::scenario::Scenario;
use super::watcher::{Account, Watcher};
use crate::cores::Placement;
use crate::machine::now_ns;
use crate::mesh::Mesh;
use crate::node::Node;
use crate::report::progress;

/// Rounds, if none are asked for.
const ROUNDS_DEFAULT: usize = 5;

/// How long the obstructed stream may take to come through again. Dialling waits up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the harness looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What the unobstructed stream carried in one round, in messages a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) before_per_s: f64,
    pub(crate) during_per_s: f64,
}

impl Round {
    /// What the obstruction of the other stream left of it.
    pub(crate) fn ratio(&self) -> f64 {
        self.during_per_s / self.before_per_s
    }
}

/// Runs one of the two scenarios from start to end.
pub(crate) async fn measure(spec: &ChaosSpec<'_>) -> Result<ChaosRow> {
    let hops = if spec.scenario == Scenario::StalledPeer { 2 } else { 1 };
    let placement = Placement::choose(hops, spec.placement)?;
    let mut mesh = Mesh::start(spec.hawser, spec.profile, &placement.nodes).await?;
    let outcome = run(&mesh, spec, &placement.near_client).await;
    let (rounds, account) = mesh.explain(outcome)?;
    mesh.stop().await?;
    let subject = Subject {
        scenario: spec.scenario.as_str(),
        seed: spec.seed,
        profile: spec.profile,
        collapsed: false,
        bulk_lanes: None,
        rate_mbit: None,
    };
    Ok(ChaosRow::new(subject, account, &Measured::Rounds(rounds)))
}

async fn run(mesh: &Mesh, spec: &ChaosSpec<'_>, cores: &[usize]) -> Result<(Vec<Round>, Account)> {
    let (a, b, last) = (mesh.near()?, mesh.hub()?, mesh.far()?);
    let start = async |name: &str, to: &Node, rate_per_s| {
        let stream_id = mesh.open_stream(a, to, name).await?;
        let (from, to) = (&a.socket, &to.socket);
        let payload_bytes = spec.payload_bytes;
        Flow::start(FlowSpec { from, to, stream_id, payload_bytes, rate_per_s, cores }).await
    };
    let mut obstructed = start("obstructed", last, Some(spec.rate_per_s)).await?;
    let mut free = start("free", b, None).await?;
    let window = Duration::from_secs_f64(spec.window_s);
    let mut rounds = Vec::new();
    for number in 1..=spec.faults.unwrap_or(ROUNDS_DEFAULT) {
        progress(&format!("round {number}"));
        sleep(Duration::from_secs_f64(spec.warmup_s)).await;
        let before_per_s = rate(&mut free.watcher, window).await?;
        obstruct(spec.scenario, &obstructed.watcher, last, true)?;
        let during_per_s = rate(&mut free.watcher, window).await;
        obstruct(spec.scenario, &obstructed.watcher, last, false)?;
        await_now(&mut obstructed.watcher).await?;
        rounds.push(Round { before_per_s, during_per_s: during_per_s? });
    }
    let account = free.finish().await?;
    Ok((rounds, account.and(obstructed.finish().await?)))
}

/// Begins or ends what keeps the second stream from being taken. Should this run end in between, the
/// node is killed with the others.
fn obstruct(scenario: Scenario, slow: &Watcher, stalled: &Node, begins: bool) -> Result<()> {
    match scenario {
        Scenario::SlowSubscriber => slow.slow_down(begins),
        Scenario::StalledPeer => {
            let pid = i32::try_from(stalled.process.pid()).ok().and_then(Pid::from_raw);
            let signal = if begins { Signal::STOP } else { Signal::CONT };
            kill_process(pid.context("no pid")?, signal).context("signal")?;
        }
        _ => bail!("nobody is obstructed in this scenario"),
    }
    Ok(())
}

/// Messages a second that come within a window from now on.
async fn rate(watcher: &mut Watcher, window: Duration) -> Result<f64> {
    let (began, before) = (Instant::now(), watcher.received());
    sleep(window).await;
    watcher.ensure_running()?;
    let messages = watcher.received() - before;
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}

/// Waits until a message has come that was due after now: then all that had piled up has come.
async fn await_now(watcher: &mut Watcher) -> Result<()> {
    watcher.arm(now_ns());
    let deadline = Instant::now() + PATIENCE;
    while watcher.arrived_ns().is_none() {
        watcher.ensure_running()?;
        if Instant::now() > deadline {
            bail!("the obstructed stream did not go on within {} s", PATIENCE.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
