use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hawser_session::LaneSession;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::row::{Case, Rows};
use crate::timing::nanos_per_call;

const UNITS: &[&str] = &["ns/batch", "MB/s"];
const NAME: &str = "node.hawser.internal";

/// One batch through one lane, from plaintext frames to ciphertext and back, without a socket.
pub(crate) fn measure(rows: &mut Rows, sample: Duration) -> Result<()> {
    for bytes in [64, 1 << 10, 64 << 10] {
        let mut cases = [
            Case::new("dialler to acceptor, masked", bytes, UNITS, || {
                let (mut dialler, mut acceptor) = lane()?;
                pass(sample, bytes, &mut dialler, &mut acceptor)
            }),
            Case::new("acceptor to dialler, unmasked", bytes, UNITS, || {
                let (mut dialler, mut acceptor) = lane()?;
                pass(sample, bytes, &mut acceptor, &mut dialler)
            }),
        ];
        rows.alternate("lane", &mut cases)?;
    }
    Ok(())
}

fn pass(
    sample: Duration,
    bytes: usize,
    from: &mut LaneSession,
    to: &mut LaneSession,
) -> Result<Vec<f64>> {
    let batch = vec![0x5a; bytes];
    let nanos = nanos_per_call(sample, || {
        from.send_message(&batch)?;
        carry(from, to)?;
        let mut inbox = to.take_inbox();
        let message = inbox.next_message(to.role())?.context("no message")?;
        let arrived = black_box(&message).len();
        inbox.recycle(message);
        to.put_inbox(inbox)?;
        if arrived != bytes {
            bail!("{arrived} bytes arrived of {bytes}");
        }
        Ok(())
    })?;
    Ok(vec![nanos, bytes as f64 * 1000.0 / nanos])
}

/// What one side has to write, the other has read.
fn carry(from: &mut LaneSession, to: &mut LaneSession) -> Result<()> {
    let written = from.take_unsent();
    to.read_buffer().extend_from_slice(&written);
    from.recycle(written);
    to.process()?;
    Ok(())
}

/// Both ends of a lane whose handshake is done.
fn lane() -> Result<(LaneSession, LaneSession)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    server.send_tls13_tickets = 0;
    let mut dialler = LaneSession::client(Arc::new(client), ServerName::try_from(NAME)?)?;
    let mut acceptor = LaneSession::server(Arc::new(server))?;
    let mut progress = dialler.process()?;
    for _ in 0..8 {
        carry(&mut dialler, &mut acceptor)?;
        let accepted = acceptor.process()?;
        carry(&mut acceptor, &mut dialler)?;
        if !progress.handshaking && !accepted.handshaking {
            return Ok((dialler, acceptor));
        }
        progress = dialler.process()?;
    }
    None.context("the handshake does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_passes_in_both_directions() {
        let (mut dialler, mut acceptor) = lane().unwrap();
        let sample = Duration::from_millis(1);
        assert!(pass(sample, 1000, &mut dialler, &mut acceptor).unwrap()[0] > 0.0);
        assert!(pass(sample, 1000, &mut acceptor, &mut dialler).unwrap()[0] > 0.0);
    }
}
