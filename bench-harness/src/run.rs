//! One run: daemons, two applications, a window, and what all of it cost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cores::Placement;
use crate::intake::{Quantiles, Received};
use crate::machine::{Consumption, Usage, rss_peak_bytes};
use crate::mesh::Mesh;
use crate::nats::install::NatsServer;
use crate::nats::servers::NatsMesh;
use crate::worker::{Event, Order, Worker};
use crate::{nats, publisher, round_trip, subscriber};

/// How long workers may take beyond what they were asked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before a probe is repeated.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side<'a> {
    Ours { hawser: &'a Path, profile: Option<&'a str> },
    Peer { nats: &'a NatsServer },
}

impl Side<'_> {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Ours { .. } => "hawser",
            Self::Peer { .. } => "nats-server",
        }
    }
}

/// The load of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) hops: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
    /// Messages per second; none: full speed. Ours alone can.
    pub(crate) rate_per_s: Option<f64>,
}

/// What a run of a load came to.
#[derive(Clone, Debug)]
pub(crate) struct LoadRun {
    pub(crate) received: Received,
    pub(crate) published: u64,
    /// Within the window; processes are the daemons in the order of the row, publisher, subscriber.
    pub(crate) consumption: Consumption,
    /// Largest of the daemons.
    pub(crate) rss_peak_bytes: u64,
}

impl LoadRun {
    /// CPU seconds of all processes for a million messages.
    pub(crate) fn cpu_s_per_million(&self) -> f64 {
        self.consumption.total_s() * 1e6 / (self.received.window_messages.max(1)) as f64
    }
}

/// What a run of lone messages came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneRun {
    pub(crate) rounds: u64,
    pub(crate) round_trip: Quantiles,
    pub(crate) steal: f64,
    pub(crate) foreign_cpu: f64,
}

/// Runs a load from start to end.
pub(crate) async fn load(side: Side<'_>, load: &Load, placement: &Placement) -> Result<LoadRun> {
    match side {
        Side::Ours { hawser, profile } => {
            let mut mesh = Mesh::start(hawser, profile, &placement.nodes).await?;
            let outcome = load_ours(&mesh, load, placement).await;
            let run = mesh.explain(outcome)?;
            mesh.stop().await?;
            Ok(run)
        }
        Side::Peer { nats } => {
            let servers = NatsMesh::start(nats, load.hops).await?;
            let run = servers.explain(load_peer(&servers, load, placement).await)?;
            servers.stop().await?;
            Ok(run)
        }
    }
}

async fn load_ours(mesh: &Mesh, load: &Load, placement: &Placement) -> Result<LoadRun> {
    let (near, far) = (mesh.near()?, mesh.far()?);
    let stream_id = mesh.open_stream(near, far, "load").await?;
    let to = subscriber::Spec {
        socket: far.socket.clone(),
        stream_id: stream_id.clone(),
        payload_bytes: load.payload_bytes,
        warmup_s: load.warmup_s,
        window_s: load.window_s,
    };
    let from = publisher::Spec {
        socket: near.socket.clone(),
        stream_id,
        payload_bytes: load.payload_bytes,
        rate_per_s: load.rate_per_s,
    };
    let mut subscriber = Worker::spawn("__subscriber", &to, &placement.far_client)?;
    subscriber.expect(&Event::Ready, PATIENCE).await?;
    let mut publisher = Worker::spawn("__publisher", &from, &placement.near_client)?;
    publisher.expect(&Event::Ready, PATIENCE).await?;
    drive(publisher, subscriber, &mesh.pids(), load).await
}

async fn load_peer(servers: &NatsMesh, load: &Load, placement: &Placement) -> Result<LoadRun> {
    if load.rate_per_s.is_some() {
        bail!("the peer is measured at full speed alone");
    }
    let to = nats::subscriber::Spec {
        server: servers.far()?,
        payload_bytes: load.payload_bytes,
        warmup_s: load.warmup_s,
        window_s: load.window_s,
    };
    let from = nats::publisher::Spec { server: servers.near()?, payload_bytes: load.payload_bytes };
    let mut subscriber = Worker::spawn("__nats-subscriber", &to, &placement.far_client)?;
    subscriber.expect(&Event::Ready, PATIENCE).await?;
    let mut publisher = Worker::spawn("__nats-publisher", &from, &placement.near_client)?;
    publisher.expect(&Event::Ready, PATIENCE).await?;
    // The servers tell each other of subscriptions in their own time.
    let probes = PATIENCE.as_millis() / PROBE_INTERVAL.as_millis();
    let mut probed = false;
    for _ in 0..probes {
        publisher.order(Order::Probe).await?;
        if let Some(event) = subscriber.event_within(PROBE_INTERVAL).await? {
            probed = matches!(event, Event::Probed);
            break;
        }
    }
    if !probed {
        bail!("no probe came through within {} s", PATIENCE.as_secs());
    }
    drive(publisher, subscriber, &servers.pids(), load).await
}

/// Takes two workers that are ready through a load.
async fn drive(
    mut publisher: Worker,
    mut subscriber: Worker,
    daemons: &[u32],
    load: &Load,
) -> Result<LoadRun> {
    let pids = [daemons, &[publisher.pid(), subscriber.pid()]].concat();
    let patience = PATIENCE + Duration::from_secs_f64(load.warmup_s + load.window_s);
    publisher.order(Order::Start).await?;
    await_turn(&mut publisher, &mut subscriber, &Event::Opened, patience).await?;
    let opened = Usage::read(&pids)?;
    await_turn(&mut publisher, &mut subscriber, &Event::Closed, patience).await?;
    let closed = Usage::read(&pids)?;
    publisher.order(Order::Stop).await?;
    let published = match publisher.event(PATIENCE).await? {
        Event::Published { messages } => messages,
        event => bail!("the publisher said {event:?} at its end"),
    };
    subscriber.order(Order::Finish { published }).await?;
    let received = match subscriber.event(PATIENCE).await? {
        Event::Received(received) => received,
        event => bail!("the subscriber said {event:?} at its end"),
    };
    let rss = daemons.iter().map(|&pid| rss_peak_bytes(pid)).collect::<Result<Vec<_>>>()?;
    Ok(LoadRun {
        received,
        published,
        consumption: closed.since(&opened),
        rss_peak_bytes: rss.into_iter().max().unwrap_or(0),
    })
}

/// Waits for the subscriber's next event, which must be `turn`, while the publisher says nothing.
async fn await_turn(
    publisher: &mut Worker,
    subscriber: &mut Worker,
    turn: &Event,
    patience: Duration,
) -> Result<()> {
    tokio::select! {
        biased;
        event = publisher.event(patience * 2) => bail!("the publisher ended early: {:?}", event?),
        outcome = subscriber.expect(turn, patience) => outcome,
    }
}

/// Measures the round trip of lone messages.
pub(crate) async fn lone(side: Side<'_>, load: &Load, placement: &Placement) -> Result<LoneRun> {
    match side {
        Side::Ours { hawser, profile } => {
            let mut mesh = Mesh::start(hawser, profile, &placement.nodes).await?;
            let outcome = lone_ours(&mesh, load, placement).await;
            let run = mesh.explain(outcome)?;
            mesh.stop().await?;
            Ok(run)
        }
        Side::Peer { nats } => {
            let servers = NatsMesh::start(nats, load.hops).await?;
            let run = servers.explain(lone_peer(&servers, load, placement).await)?;
            servers.stop().await?;
            Ok(run)
        }
    }
}

async fn lone_ours(mesh: &Mesh, load: &Load, placement: &Placement) -> Result<LoneRun> {
    let (near, far) = (mesh.near()?, mesh.far()?);
    let there = mesh.open_stream(near, far, "there").await?;
    let back = mesh.open_stream(far, near, "back").await?;
    let ping = round_trip::Spec {
        socket: near.socket.clone(),
        out_stream_id: there.clone(),
        in_stream_id: back.clone(),
        payload_bytes: load.payload_bytes,
        warmup_s: load.warmup_s,
        window_s: load.window_s,
    };
    let echo = round_trip::Spec {
        socket: far.socket.clone(),
        out_stream_id: back,
        in_stream_id: there,
        ..ping.clone()
    };
    let mut echo = Worker::spawn("__echo", &echo, &placement.far_client)?;
    echo.expect(&Event::Ready, PATIENCE).await?;
    let pinger = Worker::spawn("__pinger", &ping, &placement.near_client)?;
    drive_lone(pinger, echo, &mesh.pids(), load).await
}

async fn lone_peer(servers: &NatsMesh, load: &Load, placement: &Placement) -> Result<LoneRun> {
    let ping = nats::round_trip::Spec {
        server: servers.near()?,
        payload_bytes: load.payload_bytes,
        warmup_s: load.warmup_s,
        window_s: load.window_s,
    };
    let echo = nats::round_trip::Spec { server: servers.far()?, ..ping };
    let mut echo = Worker::spawn("__nats-echo", &echo, &placement.far_client)?;
    echo.expect(&Event::Ready, PATIENCE).await?;
    let pinger = Worker::spawn("__nats-pinger", &ping, &placement.near_client)?;
    drive_lone(pinger, echo, &servers.pids(), load).await
}

async fn drive_lone(
    mut pinger: Worker,
    mut echo: Worker,
    daemons: &[u32],
    load: &Load,
) -> Result<LoneRun> {
    pinger.expect(&Event::Ready, PATIENCE).await?;
    let pids = [daemons, &[pinger.pid(), echo.pid()]].concat();
    let patience = PATIENCE + Duration::from_secs_f64(load.warmup_s + load.window_s);
    let began = Usage::read(&pids)?;
    pinger.order(Order::Start).await?;
    let event = tokio::select! {
        biased;
        event = echo.event(patience * 2) => bail!("the echo ended early: {:?}", event?),
        event = pinger.event(patience) => event?,
    };
    let used = Usage::read(&pids)?.since(&began);
    match event {
        Event::RoundTrips { rounds, round_trip } => {
            Ok(LoneRun { rounds, round_trip, steal: used.steal, foreign_cpu: used.foreign_cpu })
        }
        event => bail!("the pinger said {event:?} at its end"),
    }
}

/// The middle of `values`; the mean of the two middle ones if their number is even.
///
/// # Errors
/// If there are none.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).context("no value")?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).context("no value")?;
    Ok(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in
            [(vec![7.0], 7.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 100.0], 3.0)]
        {
            let found = median(&values).unwrap();
            assert!((found - expected).abs() < 1e-9, "{values:?}: {found}");
        }
        assert!(median(&[]).is_err());
    }
}
