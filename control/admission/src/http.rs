//! The HTTP/1.1 upgrade (RFC 6455 §4) of either side, over bytes.

use std::io::{self, Read, Write};

use tungstenite::error::{Error as WsError, ProtocolError};
use tungstenite::handshake::client::{ClientHandshake, Response as ClientResponse, generate_key};
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::{Fault, Stage};

/// The subprotocol of lanes and joins.
pub(crate) const SUBPROTOCOL: &str = "hawser.v1";
/// Where a lane is asked for.
pub(crate) const LANE_PATH: &str = "/lane";
/// Where a node without a certificate asks to be let in.
pub(crate) const JOIN_PATH: &str = "/join";

/// What of a refusing server's text is repeated.
const TEXT_CHARS_MAX: usize = 200;

/// What a request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Lane,
    Join,
}

/// A request that is not served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HttpRefusal {
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

impl HttpRefusal {
    pub(crate) const NO_CERTIFICATE: Self = Self {
        status: StatusCode::FORBIDDEN,
        text: "a lane needs a client certificate of this mesh: join it first",
    };
    pub(crate) const HEAD_TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        text: "the request is too large",
    };

    /// The whole answer, after which the connection closes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let upgrade = match self.status {
            StatusCode::UPGRADE_REQUIRED => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            StatusCode::METHOD_NOT_ALLOWED => "Allow: GET\r\n",
            _ => "",
        };
        let Self { status, text } = self;
        let len = text.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\n{upgrade}Content-Type: text/plain\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n{text}\n"
        )
        .into_bytes()
    }
}

/// Reads a request's head (through its empty line): what it is for, and the answer that upgrades
/// the connection.
pub(crate) fn answer_request(head: &[u8]) -> Result<(Target, Vec<u8>), HttpRefusal> {
    let refuse = |status, text| Err(HttpRefusal { status, text });
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        Err(WsError::Protocol(ProtocolError::WrongHttpMethod)) => {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
        }
        Err(WsError::Protocol(ProtocolError::WrongHttpVersion)) => {
            return refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is needed");
        }
        Ok(None) | Err(_) => return refuse(StatusCode::BAD_REQUEST, "the request is malformed"),
    };
    let target = match request.uri().path() {
        LANE_PATH => Target::Lane,
        JOIN_PATH => Target::Join,
        _ => return refuse(StatusCode::NOT_FOUND, "nothing is served here but /lane and /join"),
    };
    let headers = request.headers();
    // Whatever follows the head is WebSocket; a proxy that took it for a body would disagree.
    if headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING)
    {
        return refuse(StatusCode::BAD_REQUEST, "an upgrade request has no body");
    }
    let Ok(mut response) = create_response(&request) else {
        return refuse(StatusCode::UPGRADE_REQUIRED, "only WebSocket (RFC 6455) is spoken here");
    };
    if !offers_subprotocol(headers) {
        return refuse(StatusCode::BAD_REQUEST, "the WebSocket subprotocol must be hawser.v1");
    }
    response
        .headers_mut()
        .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let mut bytes = Vec::new();
    match write_response(&mut bytes, &response) {
        Ok(()) => Ok((target, bytes)),
        Err(_) => refuse(StatusCode::BAD_REQUEST, "the request is malformed"),
    }
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL)
}

/// The dialling side: the request is made, the answer awaited.
pub(crate) struct Upgrade {
    handshake: MidHandshake<ClientHandshake<Pipe>>,
}

impl Upgrade {
    /// The bytes of the request for `path`, and what judges the answer.
    pub(crate) fn request(host: &str, path: &'static str) -> Result<(Vec<u8>, Self), Fault> {
        let malformed = || protocol("the request could not be made".to_owned());
        let mut request = tungstenite::handshake::client::Request::new(());
        // The authority within the URI is not sent; the Host header is.
        *request.uri_mut() =
            format!("wss://hawser{path}").parse::<Uri>().map_err(|_invalid| malformed())?;
        let headers = request.headers_mut();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_invalid| malformed());
        headers.insert(header::HOST, value(host)?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, value(&generate_key())?);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let handshake = ClientHandshake::start(Pipe::default(), request, None)
            .map_err(|_invalid| malformed())?;
        match handshake.handshake() {
            Err(HandshakeError::Interrupted(mut handshake)) => {
                let bytes = std::mem::take(&mut handshake.get_mut().get_mut().written);
                Ok((bytes, Self { handshake }))
            }
            Ok(_) | Err(HandshakeError::Failure(_)) => Err(malformed()),
        }
    }

    /// Judges the head of the answer.
    pub(crate) fn finish(mut self, head: &[u8]) -> Result<(), Fault> {
        self.handshake.get_mut().get_mut().to_read = head.to_vec();
        match self.handshake.handshake() {
            Ok(_) => Ok(()),
            Err(HandshakeError::Failure(WsError::Http(response))) => {
                Err(Fault::Http { status: response.status().as_u16(), text: String::new() })
            }
            Err(HandshakeError::Failure(error)) => Err(protocol(error.to_string())),
            Err(HandshakeError::Interrupted(_)) => {
                Err(protocol("the answer's head is incomplete".to_owned()))
            }
        }
    }
}

/// The status of a proxy's answer.
pub(crate) fn response_status(head: &[u8]) -> Option<u16> {
    match ClientResponse::try_parse(head) {
        Ok(Some((_, response))) => Some(response.status().as_u16()),
        _ => None,
    }
}

/// The beginning of a refusing server's text, on one line and without control characters.
pub(crate) fn printable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

const fn protocol(what: String) -> Fault {
    Fault::Protocol { stage: Stage::Upgrade, what }
}

/// Memory in place of a stream: it reads what is there and then would block.
#[derive(Debug, Default)]
struct Pipe {
    to_read: Vec<u8>,
    written: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.to_read.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.to_read.as_slice().read(buffer)?;
        self.to_read.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
