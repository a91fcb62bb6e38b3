//! A TCP relay between two nodes that can do to each connection what networks do: forward, delay,
//! fall silent, reset; and take no new ones.
//!
//! It runs on a thread of its own, so that whatever else the harness does costs the lanes nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::connection::{Connection, Treatment, reset};
use crate::machine::now_ns;

/// How the relay works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelaySpec {
    /// Where connections are to go.
    pub(crate) upstream: SocketAddr,
    /// What every byte waits, in each direction.
    pub(crate) delay: Duration,
    /// Of the messages by which a connection in use is told from an idle one.
    pub(crate) payload_bytes: usize,
}

/// A relayed connection as the harness sees it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// The port that the listening node sees: `remote_address` of its lane.
    pub(crate) port: u16,
    pub(crate) tap: Arc<Tap>,
    pub(crate) treatment: watch::Sender<Treatment>,
}

/// What a connection tells of its traffic.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// Records from the dialling node that carry messages.
    carried: AtomicU64,
    /// Something was done to the connection: what it carries from now on is no other lane's.
    is_victim: AtomicBool,
    ended: AtomicBool,
}

impl Tap {
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    pub(crate) fn is_victim(&self) -> bool {
        self.is_victim.load(Ordering::Acquire)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// What the relay's thread and the harness share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    connections: Mutex<Vec<Handle>>,
    refuses: AtomicBool,
    /// The next record with messages on a connection that is no victim is to be noted.
    armed: AtomicBool,
    /// When that record was whole; 0: not yet.
    resumed_ns: AtomicU64,
}

impl Shared {
    /// Takes note of records that carry messages.
    pub(super) fn handle_carried(&self, tap: &Tap, records: u64) {
        tap.carried.fetch_add(records, Ordering::Relaxed);
        if self.armed.load(Ordering::Acquire)
            && !tap.is_victim()
            && self.armed.swap(false, Ordering::AcqRel)
        {
            self.resumed_ns.store(now_ns(), Ordering::Release);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Handle>> {
        // Nothing is left half done under this lock.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running relay. Dropping it resets whatever goes through it.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on a port of loopback.
    pub(crate) fn start(spec: RelaySpec) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("relay")?;
        listener.set_nonblocking(true).context("relay")?;
        let address = listener.local_addr().context("relay")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, spec, serving) => {}
                }
            });
        })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The connections that there are.
    pub(crate) fn connections(&self) -> Vec<Handle> {
        let mut connections = self.shared.connections();
        connections.retain(|connection| !connection.tap.has_ended());
        connections.clone()
    }

    /// Waits from now on for messages on a connection that is none of `victims`. Returns the time.
    pub(crate) fn arm(&self, victims: &[Handle]) -> u64 {
        for victim in victims {
            victim.tap.is_victim.store(true, Ordering::Release);
        }
        self.shared.resumed_ns.store(0, Ordering::Release);
        self.shared.armed.store(true, Ordering::Release);
        now_ns()
    }

    /// When messages came through, since [`Self::arm`].
    pub(crate) fn resumed_ns(&self) -> Option<u64> {
        Some(self.shared.resumed_ns.load(Ordering::Acquire)).filter(|&at| at > 0)
    }

    /// True: new connections are reset at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Release);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It can have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, spec: RelaySpec, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // An error here is one of the connection, which is gone then.
        let Ok((downstream, _)) = listener.accept().await else { continue };
        if shared.refuses.load(Ordering::Acquire) {
            reset(downstream);
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            match TcpStream::connect(spec.upstream).await {
                Ok(upstream) => {
                    // Its end is told by the tap.
                    let _ = relay(downstream, upstream, spec, shared).await;
                }
                Err(_nobody) => reset(downstream),
            }
        });
    }
}

async fn relay(
    downstream: TcpStream,
    upstream: TcpStream,
    spec: RelaySpec,
    shared: Arc<Shared>,
) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (treatment, treated) = watch::channel(Treatment::Forward);
    let tap = Arc::new(Tap::default());
    let port = upstream.local_addr()?.port();
    shared.connections().push(Handle { port, tap: Arc::clone(&tap), treatment });
    Connection::new(downstream, upstream, spec, treated).run(&tap, &shared).await;
    tap.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;

    const PAYLOAD: usize = 2048;

    fn pair(delay: Duration) -> (Relay, TcpStream, TcpStream) {
        let far = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let upstream = far.local_addr().unwrap();
        let relay = Relay::start(RelaySpec { upstream, delay, payload_bytes: PAYLOAD }).unwrap();
        let near = TcpStream::connect(relay.address).unwrap();
        let (far, _) = far.accept().unwrap();
        for end in [&near, &far] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (relay, near, far)
    }

    fn record() -> Vec<u8> {
        let mut record = vec![23, 3, 3, 8, 0];
        record.resize(5 + PAYLOAD, 1);
        record
    }

    #[test]
    fn bytes_and_the_end_pass_both_ways_and_records_are_counted() {
        let (relay, mut near, mut far) = pair(Duration::ZERO);
        let armed_ns = relay.arm(&[]);
        near.write_all(&record()).unwrap();
        let mut received = vec![0; 5 + PAYLOAD];
        far.read_exact(&mut received).unwrap();
        assert_eq!(received, record());
        assert_eq!(relay.connections()[0].tap.carried(), 1);
        assert!(relay.resumed_ns().unwrap() >= armed_ns);
        far.write_all(b"back").unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        near.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"back");
        assert_eq!(far.peer_addr().unwrap().port(), relay.connections()[0].port);
    }

    #[test]
    fn a_reset_reaches_both_ends_and_the_victim_is_no_resumption() {
        let (relay, mut near, mut far) = pair(Duration::ZERO);
        near.write_all(&record()).unwrap();
        far.read_exact(&mut vec![0; 5 + PAYLOAD]).unwrap();
        let victim = relay.connections().remove(0);
        relay.arm(std::slice::from_ref(&victim));
        near.write_all(&record()).unwrap();
        far.read_exact(&mut vec![0; 5 + PAYLOAD]).unwrap();
        assert_eq!(relay.resumed_ns(), None);
        victim.treatment.send(Treatment::Reset).unwrap();
        for end in [&mut near, &mut far] {
            assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        while !victim.tap.has_ended() {
            std::thread::yield_now();
        }
        assert!(relay.connections().is_empty());
    }

    #[test]
    fn silence_keeps_bytes_and_ends_back_until_it_is_over() {
        let (relay, mut near, mut far) = pair(Duration::ZERO);
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        let connection = relay.connections().remove(0);
        connection.treatment.send(Treatment::Hold).unwrap();
        near.write_all(b"late").unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        far.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let silence = far.read(&mut [0; 8]).unwrap_err().kind();
        assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence:?}");
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection.treatment.send(Treatment::Forward).unwrap();
        let mut late = Vec::new();
        far.read_to_end(&mut late).unwrap();
        assert_eq!(late, b"late");
    }

    #[test]
    fn delay_is_kept_and_refusal_is_a_reset() {
        let delay = Duration::from_millis(30);
        let (relay, mut near, mut far) = pair(delay);
        let sent = Instant::now();
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        assert!(sent.elapsed() >= delay, "{:?}", sent.elapsed());
        relay.refuse(true);
        let mut refused = TcpStream::connect(relay.address).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
