//! A TLS record that no TLS library sends: the beginning of a handshake message (RFC 8446 §5.1)
//! after the handshake, where it can neither be handled nor thrown away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hawser_identity::{fingerprint, join_client_config, lane_server_name};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};

use crate::mesh::{Mesh, Running, within};
use crate::raw_peer::request;

/// The type byte of a KeyUpdate (RFC 8446 §4.6.3), whose other four never come.
const FRAGMENT: &[u8] = &[24];
const HANDSHAKE: u8 = 22;

/// One record of TLS 1.3 (RFC 8446 §5.2).
fn seal(secrets: &ConnectionTrafficSecrets, sequence: u64, content: &[u8], kind: u8) -> Vec<u8> {
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("another cipher suite than expected");
    };
    let mut nonce = [0_u8; 12];
    nonce.copy_from_slice(iv.as_ref());
    for (byte, count) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= count;
    }
    let mut sealed = [content, &[kind]].concat();
    let len = u16::try_from(sealed.len() + AES_256_GCM.tag_len()).unwrap().to_be_bytes();
    let header = [23, 3, 3, len[0], len[1]];
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap())
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header),
            &mut sealed,
        )
        .unwrap();
    [&header[..], &sealed].concat()
}

/// Sends the request and the fragment in one segment; returns when the other side has closed.
fn send_fragment(address: SocketAddr, config: Arc<ClientConfig>, path: &str) {
    let mut tls = ClientConnection::new(config, lane_server_name().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    let mut bytes = Vec::new();
    tls.writer().write_all(request(path).as_bytes()).unwrap();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    bytes.extend_from_slice(&seal(&secrets, sequence, FRAGMENT, HANDSHAKE));
    socket.write_all(&bytes).unwrap();
    // A reset is as good an end as any.
    let _end = socket.read_to_end(&mut Vec::new());
}

async fn check(path: &'static str) {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let pin = fingerprint(mesh.authority.certificate_der());
    let mut config = ClientConfig::clone(&join_client_config(pin).unwrap());
    config.enable_secret_extraction = true;
    let address = running.address;
    let peer = tokio::task::spawn_blocking(move || send_fragment(address, Arc::new(config), path));
    running.refused("in pieces").await;
    within(peer).await.unwrap();
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn piece_of_a_handshake_message_before_a_refusal() {
    check("/lane").await;
}

#[tokio::test]
async fn piece_of_a_handshake_message_before_an_upgrade() {
    check("/join").await;
}
