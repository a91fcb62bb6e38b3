//! `hawser-bench reroute`: five nodes in a ring with a chord carry messages while the way that they
//! take breaks, again and again; how long the subscriber waits, and whether anything is lost.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::sleep;

use self::ring::{A, B, C, Ring, Wall};
use crate::chaos::{Account, Watcher, quantile};
use crate::machine::now_ns;
use crate::publisher;
use crate::report::{Report, Rows, decimals, progress};
use crate::worker::{Event, Order, Worker};

mod ring;

/// How long anything may take that is to come by itself. Dialling waits up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The longest pause is looked for so long after a fault: past the death of all lanes, and past what
/// all nodes then do about it.
const WATCHED: Duration = Duration::from_millis(1_800);

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The first link of the way: both ends get a RST for whatever they send, also to dial again
    Rst,
    /// The same link, silently
    Blackhole,
    /// The node in the middle of the way is killed
    RelayKill,
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Rst => "rst",
            Self::Blackhole => "blackhole",
            Self::RelayKill => "relay-kill",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RerouteSpec<'a> {
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    pub(crate) fault: Fault,
    pub(crate) rounds: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) rate_per_s: f64,
}

/// The row that is printed; docs/cli.md says what each field means.
#[derive(Debug, Serialize)]
pub(crate) struct RerouteRow {
    fault: &'static str,
    rounds: usize,
    reroute_ms_p50: f64,
    reroute_ms_p99: f64,
    reroute_ms_max: f64,
    /// The longest pause in the time that is watched after each fault.
    after_ms_p50: f64,
    after_ms_p99: f64,
    /// The longest pause in as long a time before each fault.
    idle_ms_p50: f64,
    idle_ms_p99: f64,
    messages: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    profile: String,
}

impl Report for RerouteRow {
    fn has_loss(&self) -> bool {
        self.lost + self.duplicated + self.reordered > 0
    }

    fn rows(&self) -> Rows {
        let wrong = format!("{}, {}, {}", self.lost, self.duplicated, self.reordered);
        let millis = |p50: f64, p99: f64| format!("p50 {p50:.2} ms, p99 {p99:.2} ms");
        vec![
            ("fault, rounds", format!("{}, {}", self.fault, self.rounds)),
            ("messages", self.messages.to_string()),
            ("lost, duplicated, reordered", wrong),
            ("pause of the fault", millis(self.reroute_ms_p50, self.reroute_ms_p99)),
            ("longest pause after it", millis(self.after_ms_p50, self.after_ms_p99)),
            ("without a fault", millis(self.idle_ms_p50, self.idle_ms_p99)),
        ]
    }
}

/// Pauses in milliseconds: without a fault, until messages went on after it, and in the time that is
/// watched from there on.
#[derive(Debug, Default)]
struct Pauses {
    idle: Vec<f64>,
    rerouted: Vec<f64>,
    after: Vec<f64>,
}

/// Does so many faults, one after the other.
pub(crate) async fn measure(spec: &RerouteSpec<'_>) -> Result<RerouteRow> {
    let mut ring = Ring::start(spec.hawser, spec.profile).await?;
    let outcome = run(&mut ring, spec).await;
    let (pauses, account) = ring.explain(outcome)?;
    ring.stop().await?;
    let of = |pauses: &[f64], share| {
        let mut sorted = pauses.to_vec();
        sorted.sort_by(f64::total_cmp);
        decimals(quantile(&sorted, share).unwrap_or_default(), 2)
    };
    Ok(RerouteRow {
        fault: spec.fault.as_str(),
        rounds: pauses.rerouted.len(),
        reroute_ms_p50: of(&pauses.rerouted, 0.5),
        reroute_ms_p99: of(&pauses.rerouted, 0.99),
        reroute_ms_max: of(&pauses.rerouted, 1.0),
        after_ms_p50: of(&pauses.after, 0.5),
        after_ms_p99: of(&pauses.after, 0.99),
        idle_ms_p50: of(&pauses.idle, 0.5),
        idle_ms_p99: of(&pauses.idle, 0.99),
        messages: account.published,
        lost: account.lost,
        duplicated: account.duplicated,
        reordered: account.reordered,
        profile: spec.profile.unwrap_or("balanced").to_owned(),
    })
}

async fn run(ring: &mut Ring, spec: &RerouteSpec<'_>) -> Result<(Pauses, Account)> {
    let stream_id = ring.open_stream("steady", A, C).await?;
    let payload_bytes = spec.payload_bytes;
    let mut watcher = Watcher::start(&ring.node(C)?.socket, &stream_id, payload_bytes)?;
    let from = publisher::Spec {
        socket: ring.node(A)?.socket.clone(),
        stream_id,
        payload_bytes,
        rate_per_s: Some(spec.rate_per_s),
    };
    let mut publisher = Worker::spawn("__publisher", &from, &[])?;
    publisher.expect(&Event::Ready, PATIENCE).await?;
    publisher.order(Order::Start).await?;
    let mut pauses = Pauses::default();
    for round in 1..=spec.rounds {
        progress(&format!("{} {round}", spec.fault.as_str()));
        let of_round = async {
            await_way(ring, &mut watcher, payload_bytes).await?;
            pauses.idle.push(longest_pause_ms(&mut watcher).await?);
            // What was measured in the meantime may have moved the stream.
            await_way(ring, &mut watcher, payload_bytes).await?;
            watcher.arm(u64::MAX);
            strike(ring, spec.fault).await?;
            watcher.wait_from(now_ns());
            let rerouted_ms = pause_ms(&mut watcher).await?;
            pauses.rerouted.push(rerouted_ms);
            pauses.after.push(longest_pause_ms(&mut watcher).await?.max(rerouted_ms));
            mend(ring, spec.fault).await
        };
        of_round.await.with_context(|| format!("round {round}"))?;
    }
    publisher.order(Order::Stop).await?;
    let published = match publisher.event(PATIENCE).await? {
        Event::Published { messages } => messages,
        event => bail!("the publisher said {event:?} at its end"),
    };
    Ok((pauses, watcher.finish(published).await?))
}

/// Waits until the way over B is there and carries the messages.
async fn await_way(ring: &Ring, watcher: &mut Watcher, payload_bytes: usize) -> Result<()> {
    ring.await_whole().await?;
    let deadline = Instant::now() + PATIENCE;
    let mut before = (ring.sent_bytes(A, B).await?, watcher.received());
    loop {
        sleep(LOOK_INTERVAL * 10).await;
        watcher.ensure_running()?;
        let seen = (ring.sent_bytes(A, B).await?, watcher.received());
        let (sent_bytes, messages) = (seen.0.saturating_sub(before.0), seen.1 - before.1);
        if carries(sent_bytes, messages, payload_bytes) {
            return Ok(());
        }
        before = seen;
        if Instant::now() > deadline {
            bail!("messages do not go over B");
        }
    }
}

/// So many messages came while a link sent so much: they go over it. What nodes say to each other is
/// less, but may be all that a link has to send.
fn carries(sent_bytes: u64, messages: u64, payload_bytes: usize) -> bool {
    let payload_bytes = messages.saturating_mul(payload_bytes as u64);
    messages > 0 && sent_bytes >= payload_bytes / 2
}

/// The longest pause between two arrivals from now on, in the time that is watched.
async fn longest_pause_ms(watcher: &mut Watcher) -> Result<f64> {
    watcher.arm(now_ns());
    sleep(WATCHED).await;
    pause_ms(watcher).await
}

/// The longest pause since the watcher was armed, once the message that it waits for has come.
async fn pause_ms(watcher: &mut Watcher) -> Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    // A pause that has not ended yet counts once it has.
    while watcher.arrived_ns().is_none() {
        watcher.ensure_running()?;
        if Instant::now() > deadline {
            bail!("no message came for {} s", PATIENCE.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(watcher.longest_pause_ns() as f64 / 1e6)
}

async fn strike(ring: &mut Ring, fault: Fault) -> Result<()> {
    match fault {
        Fault::Rst => ring.wall(A, B, Wall::Reset).await,
        Fault::Blackhole => ring.wall(A, B, Wall::Silent).await,
        Fault::RelayKill => ring.kill(B),
    }
}

async fn mend(ring: &mut Ring, fault: Fault) -> Result<()> {
    match fault {
        Fault::Rst | Fault::Blackhole => ring.mend().await,
        Fault::RelayKill => ring.revive(B).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_messages_if_some_came_and_it_sent_as_much() {
        assert!(carries(110_000, 100, 1024));
        assert!(!carries(20_000, 100, 1024), "they went another way");
        assert!(!carries(200_000, 0, 1024), "nothing of it has come yet");
    }
}
