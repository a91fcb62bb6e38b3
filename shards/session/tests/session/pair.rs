use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_identity::{Credentials, MeshAuthority, NodeKey, lane_server_name};
use hawser_session::{LaneSession, Progress, SessionError};
use hawser_wire::MeshId;
use rustls::{ClientConfig, ServerConfig};

/// A node key with what a mesh authority says about it.
pub(crate) struct Member {
    pub(crate) key: NodeKey,
    pub(crate) certificate: Vec<u8>,
    pub(crate) authority: Vec<u8>,
}

impl Member {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mesh = MeshId::from_bytes([7; 16]);
        let authority = MeshAuthority::generate(mesh, "test", now).unwrap();
        let key = NodeKey::generate().unwrap();
        let (_, certificate) =
            authority.sign_csr(&key.csr("a").unwrap(), "a", now, Duration::from_secs(600)).unwrap();
        Self { key, certificate, authority: authority.certificate_der().to_vec() }
    }

    /// Both sides as nodes use them.
    pub(crate) fn lane_configs(&self) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let credentials = Credentials::new(&self.key, &self.certificate, &self.authority).unwrap();
        (credentials.lane_client_config(), credentials.lane_server_config())
    }
}

/// A client and a server whose bytes go from one to the other.
pub(crate) struct Pair {
    pub(crate) client: LaneSession,
    pub(crate) server: LaneSession,
}

impl Pair {
    /// Before the handshake.
    pub(crate) fn new((client, server): (Arc<ClientConfig>, Arc<ServerConfig>)) -> Self {
        Self {
            client: LaneSession::client(client, lane_server_name().unwrap()).unwrap(),
            server: LaneSession::server(server).unwrap(),
        }
    }

    /// Behind it.
    pub(crate) fn connected() -> Self {
        let mut pair = Self::new(Member::new().lane_configs());
        pair.handshake(&mut Cuts::whole());
        pair
    }

    pub(crate) fn handshake(&mut self, cuts: &mut Cuts) {
        let mut progress = [self.client.process().unwrap(), self.server.process().unwrap()];
        for _ in 0..8 {
            progress[1] =
                carry(&mut self.client, &mut self.server, cuts, |_| {}).unwrap_or(progress[1]);
            progress[0] =
                carry(&mut self.server, &mut self.client, cuts, |_| {}).unwrap_or(progress[0]);
        }
        assert!(progress.iter().all(|progress| !progress.handshaking), "{progress:?}");
        assert!(self.client.unsent_is_empty() && self.server.unsent_is_empty());
    }
}

/// Sizes of the reads that a stream of bytes arrives in, over and over.
pub(crate) struct Cuts {
    sizes: Vec<usize>,
    next: usize,
}

impl Cuts {
    pub(crate) fn new(sizes: Vec<usize>) -> Self {
        Self { sizes, next: 0 }
    }

    pub(crate) fn whole() -> Self {
        Self::new(vec![usize::MAX])
    }

    fn next(&mut self) -> usize {
        self.next += 1;
        self.sizes[self.next % self.sizes.len()].max(1)
    }
}

/// Brings what `from` has to send to `to`, a cut at a time; `read` is called behind each.
pub(crate) fn carry(
    from: &mut LaneSession,
    to: &mut LaneSession,
    cuts: &mut Cuts,
    read: impl FnMut(&mut LaneSession),
) -> Option<Progress> {
    let sent = from.take_unsent();
    let progress = deliver(&sent, to, cuts, read).expect("nothing is wrong with the bytes");
    from.recycle(sent);
    progress
}

/// Hands `bytes` to `to`, a cut at a time; `read` is called behind each.
pub(crate) fn deliver(
    bytes: &[u8],
    to: &mut LaneSession,
    cuts: &mut Cuts,
    mut read: impl FnMut(&mut LaneSession),
) -> Result<Option<Progress>, SessionError> {
    let (mut rest, mut progress) = (bytes, None);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().min(rest.len()));
        rest = later;
        to.read_buffer().extend_from_slice(now);
        progress = Some(to.process()?);
        read(to);
    }
    Ok(progress)
}

/// Every message that has arrived.
pub(crate) fn messages(session: &mut LaneSession) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(message) = session.next_message().expect("a well-behaved peer") {
        messages.push(message);
    }
    messages
}
