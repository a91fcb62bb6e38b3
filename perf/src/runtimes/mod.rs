//! The same work on each runtime that could carry a shard: TCP over loopback, a thread and a core
//! for each side.

mod blocking;
#[cfg(feature = "glommio")]
mod glommio;
mod monoio;
mod tokio;

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::net::sockopt::set_tcp_congestion;

use crate::cores;
use crate::row::{Case, Rows};

/// Size of the receiver's reads and of a lane's batch, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Size of a message that goes back and forth, in bytes.
const TRIP_BYTES: usize = 64;

/// A runtime, as four pieces of work. Each runs on a thread of its own and builds the runtime there;
/// the sockets are blocking and have `TCP_NODELAY`.
struct Contestant {
    name: &'static str,
    /// Writes so many bytes at a time until the deadline, then closes.
    send: fn(TcpStream, usize, Instant) -> Result<()>,
    /// Reads to the end.
    receive: fn(TcpStream) -> Result<Received>,
    /// Sends a message, waits for the answer, and so on until the deadline; how long each took,
    /// in nanoseconds.
    ask: fn(TcpStream, Instant) -> Result<Vec<u64>>,
    /// Sends each message back, to the end.
    answer: fn(TcpStream) -> Result<()>,
}

/// What a receiver saw.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    bytes: u64,
    /// From the first byte to the end.
    elapsed: Duration,
}

/// Counts what a receiver reads.
#[derive(Debug, Default)]
struct Meter {
    begin: Option<Instant>,
    bytes: u64,
}

impl Meter {
    /// So many bytes came.
    fn count(&mut self, bytes: usize) {
        self.begin.get_or_insert_with(Instant::now);
        self.bytes += bytes as u64;
    }

    fn finish(self) -> Received {
        let elapsed = self.begin.map_or(Duration::ZERO, |begin| begin.elapsed());
        Received { bytes: self.bytes, elapsed }
    }
}

const CONTESTANTS: &[&Contestant] = &[
    &blocking::BLOCKING,
    &tokio::TOKIO,
    &monoio::EPOLL,
    &monoio::IO_URING,
    #[cfg(feature = "glommio")]
    &glommio::GLOMMIO,
];

/// Those that poll for a while before they sleep.
const SPINNING: &[&Contestant] = &[
    &blocking::SPINNING,
    &monoio::SPINNING,
    #[cfg(feature = "glommio")]
    &glommio::SPINNING,
];

/// Throughput with the CPU time that it took on each side, and round trips.
pub(crate) fn measure(rows: &mut Rows, sample: Duration) -> Result<()> {
    const FLOW: &[&str] = &["MB/s", "receive ns/KiB", "send ns/KiB"];
    const TRIP: &[&str] = &["us p50", "us p99"];
    for bytes in [64 << 10, 1 << 10, 64] {
        let flow = |contestant: &'static Contestant| {
            Case::new(format!("flow, {}", contestant.name), bytes, FLOW, move || {
                flow(contestant, bytes, sample)
            })
        };
        let mut cases: Vec<_> = CONTESTANTS.iter().map(|contestant| flow(contestant)).collect();
        rows.alternate("runtimes", &mut cases)?;
    }
    let trip = |contestant: &'static Contestant| {
        Case::new(format!("round trip, {}", contestant.name), TRIP_BYTES, TRIP, move || {
            trip(contestant, sample)
        })
    };
    let mut cases: Vec<_> =
        CONTESTANTS.iter().chain(SPINNING).map(|contestant| trip(contestant)).collect();
    rows.alternate("runtimes", &mut cases)
}

/// Two connected sockets.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connect")?;
    let (far, _) = listener.accept().context("accept")?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
        // Some machines pace by default (bbr): a busy neighbour makes it see a slow path, and then
        // the pacing is measured. Every kernel has this one, which does not.
        set_tcp_congestion(socket, "reno").context("TCP_CONGESTION")?;
    }
    Ok((near, far))
}

/// Runs both sides, each on its core; what they say, and the CPU time that each took.
fn on_two_cores<A: Send, B: Send>(
    near: impl FnOnce() -> Result<A> + Send,
    far: impl FnOnce() -> Result<B> + Send,
) -> Result<((A, Duration), (B, Duration))> {
    fn measured<T>(core: usize, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        cores::pin(core)?;
        let before = cores::thread_cpu();
        let said = work()?;
        Ok((said, cores::thread_cpu().saturating_sub(before)))
    }
    let (first, second) = cores::pair()?;
    thread::scope(|scope| {
        let near = scope.spawn(move || measured(first, near));
        let far = scope.spawn(move || measured(second, far));
        let died = || anyhow!("a thread died");
        Ok((near.join().map_err(|_no_detail| died())??, far.join().map_err(|_no_detail| died())??))
    })
}

fn flow(contestant: &Contestant, bytes: usize, sample: Duration) -> Result<Vec<f64>> {
    let (near, far) = connection()?;
    let deadline = Instant::now() + sample;
    let (((), sending), (received, receiving)) =
        on_two_cores(|| (contestant.send)(near, bytes, deadline), || (contestant.receive)(far))?;
    if received.bytes == 0 {
        bail!("nothing arrived");
    }
    let per_kib = |cpu: Duration| cpu.as_nanos() as f64 * 1024.0 / received.bytes as f64;
    let rate = received.bytes as f64 / received.elapsed.as_secs_f64() / 1e6;
    Ok(vec![rate, per_kib(receiving), per_kib(sending)])
}

fn trip(contestant: &Contestant, sample: Duration) -> Result<Vec<f64>> {
    let (near, far) = connection()?;
    let deadline = Instant::now() + sample;
    let ((mut nanos, _), _) =
        on_two_cores(|| (contestant.ask)(near, deadline), || (contestant.answer)(far))?;
    nanos.sort_unstable();
    let at = |share: usize| nanos.get(nanos.len() * share / 100).copied();
    let (Some(p50), Some(p99)) = (at(50), at(99)) else { bail!("nothing came back") };
    Ok(vec![p50 as f64 / 1e3, p99 as f64 / 1e3])
}

/// Takes the time from one call to the next.
#[derive(Debug)]
struct Laps {
    deadline: Instant,
    last: Instant,
    nanos: Vec<u64>,
}

impl Laps {
    fn until(deadline: Instant) -> Self {
        Self { deadline, last: Instant::now(), nanos: Vec::new() }
    }

    /// A round trip ended; false if it was the last one.
    fn lap(&mut self) -> bool {
        let now = Instant::now();
        self.nanos.push(u64::try_from((now - self.last).as_nanos()).unwrap_or(u64::MAX));
        self.last = now;
        now < self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_moves_bytes_and_answers() {
        let sample = Duration::from_millis(20);
        for contestant in CONTESTANTS {
            let name = contestant.name;
            let figures = flow(contestant, 1024, sample).expect(name);
            assert!(figures.iter().all(|figure| *figure > 0.0), "{name}: {figures:?}");
        }
        for contestant in CONTESTANTS.iter().chain(SPINNING) {
            let name = contestant.name;
            let figures = trip(contestant, sample).expect(name);
            assert!(figures.iter().all(|figure| *figure > 0.0), "{name}: {figures:?}");
        }
    }
}
