use std::io;

use tokio::net::TcpStream;

use crate::connection::Deadline;
use crate::http::response_status;
use crate::{AdmissionError, Fault, Stage};

/// Asks an HTTP proxy for a tunnel (RFC 9110 §9.3.6). The address was checked by the caller.
///
/// The answer is read byte by byte: what stands behind it is the tunnel's.
pub(crate) async fn open_tunnel(
    socket: &TcpStream,
    proxy: &str,
    address: &str,
    deadline: Deadline,
    head_bytes_max: usize,
) -> Result<(), AdmissionError> {
    let refuse = |why: String| AdmissionError::Proxy {
        proxy: proxy.to_owned(),
        address: address.to_owned(),
        why,
    };
    let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let head = exchange(socket, request.as_bytes(), deadline, head_bytes_max)
        .await
        .map_err(|fault| refuse(fault.to_string()))?;
    match response_status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(refuse("it demands a login, which is not supported".to_owned())),
        Some(status) => Err(refuse(format!("it answered HTTP {status}"))),
        None => Err(refuse("its answer is not HTTP/1.1".to_owned())),
    }
}

/// Sends the request; the answer's head.
async fn exchange(
    socket: &TcpStream,
    request: &[u8],
    deadline: Deadline,
    head_bytes_max: usize,
) -> Result<Vec<u8>, Fault> {
    let stage = Stage::Proxy;
    let failed = |error| Fault::of_io(stage, error);
    let mut rest = request;
    while !rest.is_empty() {
        deadline.limit(stage, socket.writable()).await?.map_err(failed)?;
        match socket.try_write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= head_bytes_max {
            return Err(Fault::TooLarge { stage, max_bytes: head_bytes_max });
        }
        deadline.limit(stage, socket.readable()).await?.map_err(failed)?;
        let mut byte = [0_u8];
        match socket.try_read(&mut byte) {
            Ok(0) => return Err(Fault::Closed { stage }),
            Ok(_) => head.extend_from_slice(&byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(head)
}
