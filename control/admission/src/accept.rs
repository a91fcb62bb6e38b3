use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use hawser_wire::{JoinReply, JoinRequest, LaneClose, LaneId, MonoTime, NodeId, TrafficClass};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::address::check_address;
use crate::rate_limit::{RateLimiter, Verdict};
use crate::serve::{Caller, serve};
use crate::slots::{NoSlot, Slots};
use crate::{AdmissionError, AdmissionLimits, Handover, LocalNode, SocketOptions};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// Pause after an error of accept that would come again at once: no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What came of an accepted connection.
#[derive(Debug)]
pub enum Accepted {
    /// A member's lane.
    Lane(Box<Handover>),
    /// A node that asks to be let in.
    Join(JoinAttempt),
    /// Nothing; it is closed already. Dropped instead when the receiver is behind.
    Refused {
        /// The peer's address.
        remote: SocketAddr,
        /// Who it is, if TLS has checked a certificate that says so.
        peer: Option<NodeId>,
        /// What it asked for, if it came so far, with the class as it has it.
        lane: Option<(LaneId, TrafficClass)>,
        /// What and where, for people.
        reason: String,
    },
}

/// A node that asks to be let in, and waits.
#[derive(Debug)]
pub struct JoinAttempt {
    /// Its address.
    pub remote: SocketAddr,
    /// What it sent. The signature of the signing request is checked, the secret is not.
    pub request: JoinRequest,
    /// The node that the request's key makes.
    pub node: NodeId,
    /// The decision. Dropping it closes the connection as if this node stopped; so does the
    /// deadline of the handshake.
    pub answer: oneshot::Sender<Result<JoinReply, LaneClose>>,
}

/// Accepts connections for one address.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    local_addr: SocketAddr,
    local: Arc<LocalNode>,
    limits: AdmissionLimits,
}

impl Acceptor {
    /// Listens on `address` (`host:port`; port 0 lets the system choose). A host name is resolved
    /// here, which blocks; listen addresses are numbers as a rule. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`AdmissionError::Address`] or [`AdmissionError::Bind`], which say what to do.
    pub fn bind(
        address: &str,
        local: Arc<LocalNode>,
        limits: AdmissionLimits,
        sockets: SocketOptions,
    ) -> Result<Self, AdmissionError> {
        check_address(address)?;
        let failed = |source| AdmissionError::Bind { address: address.to_owned(), source };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in address.to_socket_addrs().map_err(failed)? {
            match listen(candidate, sockets) {
                Ok((listener, local_addr)) => {
                    return Ok(Self { listener, local_addr, local, limits });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts until the receiver of `sink` is gone. Each connection is served by a task of its
    /// own, so that none waits for another; dropping this ends them all.
    pub async fn run(self, sink: mpsc::Sender<Accepted>) {
        let began = Instant::now();
        let mut rates = RateLimiter::new(self.limits.accepts_per_second_per_address);
        let mut slots = Slots::new(self.limits.handshakes_max);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = sink.closed() => return,
                Some(ended) = tasks.join_next_with_id() => {
                    slots.free(task_id(ended));
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, remote)) => {
                        while let Some(ended) = tasks.try_join_next_with_id() {
                            slots.free(task_id(ended));
                        }
                        let now = nanos_since(began);
                        if let Err(refusal) = admit(&mut rates, &slots, now, remote.ip()) {
                            drop(socket);
                            if let Some(reason) = refusal {
                                Caller::stranger(remote).report(&sink, reason);
                            }
                            continue;
                        }
                        let task = serve(
                            socket,
                            remote,
                            Arc::clone(&self.local),
                            self.limits,
                            sink.clone(),
                        );
                        slots.take(tasks.spawn(task).id(), remote.ip());
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        tracing::warn!(address = %self.local_addr, %error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

fn task_id(ended: Result<(task::Id, ()), task::JoinError>) -> task::Id {
    match ended {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "a handshake ended by a bug");
            error.id()
        }
    }
}

/// A refusal without a text was reported already.
fn admit(
    rates: &mut RateLimiter,
    slots: &Slots,
    now: MonoTime,
    address: IpAddr,
) -> Result<(), Option<String>> {
    match rates.admit(now, address) {
        Verdict::Admit => {}
        Verdict::Refuse { first } => {
            return Err(first.then(|| {
                let limit = rates.per_second();
                format!("rate limited: more than {limit} connections per second from {address}")
            }));
        }
    }
    slots.check(address).map_err(|refusal| {
        Some(match refusal {
            NoSlot::InAll { max } => format!("{max} handshakes are under way already"),
            NoSlot::OfAddress { max } => {
                format!("{max} handshakes from {address} are under way already")
            }
        })
    })
}

fn nanos_since(began: Instant) -> MonoTime {
    MonoTime::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

fn listen(address: SocketAddr, sockets: SocketOptions) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = sockets.socket(address)?;
    // A node that was restarted listens again at once, whatever TIME_WAIT is left of its past.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}
