use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::peer::sockets;

/// How soon a cable notices that it is cut.
const NOTICED_WITHIN: Duration = Duration::from_millis(5);

const PASSING: u8 = 0;
const FROZEN: u8 = 1;
const CUT: u8 = 2;

/// A connection between two nodes that runs through the hands of a test.
pub(crate) struct Cable {
    state: Arc<AtomicU8>,
    /// Held by whoever passes bytes on, so that nothing passes any more once it is frozen.
    passes: Arc<Mutex<()>>,
    directions: Vec<JoinHandle<()>>,
}

impl Cable {
    /// The cable, and the sockets of both nodes.
    pub(crate) fn new() -> (Self, (TcpStream, TcpStream)) {
        Self::long(Duration::ZERO)
    }

    /// One on which bytes take at least so long, each way.
    pub(crate) fn long(delay: Duration) -> (Self, (TcpStream, TcpStream)) {
        let (at_a, from_a) = sockets();
        let (at_b, from_b) = sockets();
        let (state, passes) = (Arc::new(AtomicU8::new(PASSING)), Arc::new(Mutex::new(())));
        let clone = |socket: &TcpStream| socket.try_clone().unwrap();
        let ends = [(clone(&from_a), clone(&from_b)), (from_b, from_a)];
        let directions = ends
            .into_iter()
            .map(|(from, to)| {
                let (state, passes) = (Arc::clone(&state), Arc::clone(&passes));
                std::thread::spawn(move || pass(&from, &to, &state, &passes, delay))
            })
            .collect();
        (Self { state, passes, directions }, (at_a, at_b))
    }

    /// Nothing passes any more, either way; both ends may still send.
    pub(crate) fn freeze(&self) {
        let _nobody_passes = self.passes.lock().unwrap();
        self.state.store(FROZEN, Ordering::Relaxed);
    }

    /// What is under way is lost, and both ends get a reset.
    pub(crate) fn cut(self) {
        self.state.store(CUT, Ordering::Relaxed);
        for direction in self.directions {
            direction.join().expect("no panic");
        }
    }
}

/// Carries bytes until one side ends, or the cable is cut.
fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    state: &AtomicU8,
    passes: &Mutex<()>,
    delay: Duration,
) {
    let is_cut = || state.load(Ordering::Relaxed) == CUT;
    // The last one to let go of a socket resets it.
    rustix::net::sockopt::set_socket_linger(from, Some(Duration::ZERO)).unwrap();
    from.set_read_timeout(Some(NOTICED_WITHIN)).unwrap();
    to.set_write_timeout(Some(NOTICED_WITHIN)).unwrap();
    let mut chunk = [0; 16 << 10];
    while !is_cut() {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if is_timeout(error.kind()) => continue,
            Err(_) => break,
        };
        // How long the cable is: nobody waits for anything here.
        std::thread::sleep(delay);
        let mut rest = &chunk[..read];
        while !rest.is_empty() && !is_cut() {
            let passing = passes.lock().unwrap();
            if state.load(Ordering::Relaxed) != PASSING {
                drop(passing);
                std::thread::park_timeout(NOTICED_WITHIN);
                continue;
            }
            match to.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if is_timeout(error.kind()) => {}
                Err(_) => return,
            }
        }
    }
    if !is_cut() {
        let _gone = to.shutdown(Shutdown::Write);
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
