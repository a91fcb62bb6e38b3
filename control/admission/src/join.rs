use hawser_identity::{JoinToken, csr_node, fingerprint, join_client_config, peer_identity};
use hawser_wire::{CloseReason, FrameKind, JoinReply, JoinRequest, LaneClose, NodeId};
use rustls::pki_types::CertificateDer;

use crate::connection::{Answer, Connection};
use crate::dial::{Failure, Route, upgrade};
use crate::http::JOIN_PATH;
use crate::{AdmissionError, AdmissionLimits, Fault, SocketOptions, Stage};

/// How to reach the mesh.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// `host:port` of an HTTP CONNECT proxy to go through.
    pub proxy: Option<String>,
    /// The deadline and the bounds of what the peer may send.
    pub limits: AdmissionLimits,
    /// Options of the socket.
    pub sockets: SocketOptions,
}

/// Asks the node at `address` to be let into the token's mesh: sends the token's secret and the
/// certificate signing request (DER), and gets the certificate.
///
/// The secret is sent only after the other side has proved to belong to the mesh whose authority
/// the token names; the answer is believed only if it is of that mesh and for the request's key.
///
/// # Errors
/// [`AdmissionError::Refused`] with [`CloseReason::TokenRefused`] if the token is wrong, used or
/// expired, with [`CloseReason::NameTaken`] if another node has the name;
/// [`AdmissionError`] otherwise. A token whose answer was lost may be used up.
pub async fn join(
    token: &JoinToken,
    address: &str,
    csr: Vec<u8>,
    name: &str,
    options: &JoinOptions,
) -> Result<JoinReply, AdmissionError> {
    let node = csr_node(&csr)?;
    let route = Route {
        address,
        proxy: options.proxy.as_deref(),
        limits: options.limits,
        sockets: options.sockets,
    };
    let config = join_client_config(token.authority_fingerprint)?;
    let mut connection = route.connect(config).await?;
    let request = JoinRequest { secret: token.secret.to_vec().into(), csr, name: name.to_owned() };
    let result = async {
        let reply = ask(&mut connection, address, &request, options.limits).await?;
        check_reply(&reply, token, node)?;
        Ok(reply)
    };
    match result.await {
        Ok(reply) => {
            connection.finish().await;
            Ok(reply)
        }
        Err(failure) => Err(route.give_up(connection, failure).await),
    }
}

async fn ask(
    connection: &mut Connection,
    address: &str,
    request: &JoinRequest,
    limits: AdmissionLimits,
) -> Result<JoinReply, Failure> {
    connection.tls_handshake().await?;
    upgrade(connection, address, JOIN_PATH, limits).await?;
    connection.enter(Stage::Join, limits.request_bytes_max);
    let decode = |source| Fault::Decode { stage: Stage::Join, source };
    let body = request.encode().map_err(decode)?;
    connection.send_frame(FrameKind::JoinRequest, &body).await?;
    match connection.read_frame(FrameKind::JoinReply).await? {
        Answer::Body(body) => Ok(JoinReply::decode(&body).map_err(decode)?),
        Answer::Close(close, evidence) => Err(Failure::Refused(close, evidence)),
    }
}

fn check_reply(reply: &JoinReply, token: &JoinToken, node: NodeId) -> Result<(), LaneClose> {
    let close = |detail: String| LaneClose { reason: CloseReason::ProtocolViolation, detail };
    if reply.mesh != token.mesh {
        let detail = format!("the answer is of mesh {}, the token of {}", reply.mesh, token.mesh);
        return Err(LaneClose { reason: CloseReason::WrongMesh, detail });
    }
    if fingerprint(&reply.authority) != token.authority_fingerprint {
        return Err(close("the answer's authority is not the token's".to_owned()));
    }
    let leaf = CertificateDer::from(reply.certificate.as_slice());
    let identity = peer_identity(&[leaf]).map_err(|error| close(error.to_string()))?;
    if identity.node != node {
        return Err(close(format!("the certificate is node {}'s, not {node}'s", identity.node)));
    }
    Ok(())
}
