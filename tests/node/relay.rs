//! A TCP relay on loopback between two nodes: each connection through it can be slowed down, delayed
//! and stalled by itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes that go on at once, at most.
const PIECE_BYTES: usize = 8 << 10;
/// Pieces that wait in one direction; beyond it the sender is left waiting.
const PIECES_MAX: usize = 64;

/// How bytes pass, in each direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    /// What each waits.
    pub(crate) delay: Duration,
    pub(crate) bytes_per_s: u32,
    /// None passes, and neither end learns of it.
    pub(crate) held: bool,
}

impl Passage {
    /// How long so many bytes take.
    fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_secs(1) * u32::try_from(bytes).unwrap() / self.bytes_per_s
    }
}

/// How a connection is treated from now on.
#[derive(Debug)]
struct Treatment {
    passage: Mutex<Passage>,
    changed: Condvar,
}

impl Treatment {
    /// Waits until a piece that came at `came` may go on, behind another that is through at `free_at`;
    /// when this one is.
    fn pass(&self, came: Instant, free_at: Instant, bytes: usize) -> Instant {
        let mut passage = self.passage.lock().unwrap();
        loop {
            let (now, due) = (Instant::now(), free_at.max(came + passage.delay));
            if passage.held {
                passage = self.changed.wait(passage).unwrap();
            } else if now < due {
                (passage, _) = self.changed.wait_timeout(passage, due - now).unwrap();
            } else {
                return due.max(now) + passage.time_of(bytes);
            }
        }
    }
}

/// How each is treated, by the port from which the far end is connected.
type Connections = Arc<Mutex<Vec<(u16, Arc<Treatment>)>>>;

/// A running relay, until the end of the test.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: String,
    connections: Connections,
}

impl Relay {
    /// Connections to it go on to `upstream`, treated like that at first.
    pub(crate) fn start(upstream: &str, passage: Passage) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Connections::default();
        let (upstream, known) = (upstream.to_owned(), Arc::clone(&connections));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&upstream) else { continue };
                let port = far.local_addr().unwrap().port();
                let passage = Mutex::new(passage);
                let treatment = Arc::new(Treatment { passage, changed: Condvar::new() });
                known.lock().unwrap().push((port, Arc::clone(&treatment)));
                join(&near, &far, &treatment);
                join(&far, &near, &treatment);
            }
        });
        Self { address, connections }
    }

    /// Treats the connection from this port like that from now on.
    pub(crate) fn treat(&self, port: u16, change: impl FnOnce(&mut Passage)) {
        let connections = self.connections.lock().unwrap();
        let (_, treatment) = connections.iter().find(|(other, _)| *other == port).unwrap();
        change(&mut treatment.passage.lock().unwrap());
        treatment.changed.notify_all();
    }
}

/// One direction of a connection: one thread reads, the other writes.
fn join(from: &TcpStream, to: &TcpStream, treatment: &Arc<Treatment>) {
    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    to.set_nodelay(true).unwrap();
    let (pieces, waiting) = sync_channel(PIECES_MAX);
    let treatment = Arc::clone(treatment);
    std::thread::spawn(move || read(from, &pieces));
    std::thread::spawn(move || write(to, &waiting, &treatment));
}

fn read(mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE_BYTES];
    // An end of either side is the end of the direction.
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now(), buffer[..bytes].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, waiting: &Receiver<(Instant, Vec<u8>)>, treatment: &Treatment) {
    let mut free_at = Instant::now();
    for (came, piece) in waiting {
        free_at = treatment.pass(came, free_at, piece.len());
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // The other end may have gone first.
    let _gone = to.shutdown(Shutdown::Write);
}
