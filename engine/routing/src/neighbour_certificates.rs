//! Certificates that one neighbour and this node ask each other for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hawser_wire::MonoTime;

use crate::CertificateHash;
use crate::message::{CERTIFICATES_MAX, Message};

/// Certificates that wait to be sent to a neighbour, or to be asked of it; what is beyond is asked
/// for again. So are its requests that wait for the driver.
const WAITING_MAX: usize = 1024;

/// What waits to be asked, answered or looked at. Bounded, whatever the neighbour says.
#[derive(Debug)]
pub(crate) struct NeighbourCertificates {
    /// To ask for.
    wanted: BTreeSet<CertificateHash>,
    /// To send, as it asked for them.
    outgoing: BTreeMap<CertificateHash, Bytes>,
    /// It asked for these; the driver has not looked for them yet.
    requests: BTreeSet<CertificateHash>,
    /// These came; the driver has not looked at them yet.
    received: BTreeMap<CertificateHash, Bytes>,
    received_bytes: usize,
    /// When it sent a good one last.
    delivered: Option<MonoTime>,
}

impl NeighbourCertificates {
    pub(crate) const fn new() -> Self {
        Self {
            wanted: BTreeSet::new(),
            outgoing: BTreeMap::new(),
            requests: BTreeSet::new(),
            received: BTreeMap::new(),
            received_bytes: 0,
            delivered: None,
        }
    }

    /// The next request or certificate for the neighbour.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if !self.wanted.is_empty() {
            let rest = self.wanted.iter().nth(CERTIFICATES_MAX).copied();
            let rest = rest.map(|hash| self.wanted.split_off(&hash));
            let now = std::mem::replace(&mut self.wanted, rest.unwrap_or_default());
            return Some(Message::encode_certificate_request(&now.into_iter().collect::<Vec<_>>()));
        }
        let (hash, der) = self.outgoing.pop_first()?;
        Some(Message::encode_certificate(hash, &der))
    }

    /// The neighbour must have this certificate: it is asked for it.
    pub(crate) fn want(&mut self, hash: CertificateHash) {
        if self.wanted.len() < WAITING_MAX {
            self.wanted.insert(hash);
        }
    }

    /// The neighbour is to get the certificate that it asked for.
    pub(crate) fn send(&mut self, hash: CertificateHash, der: Bytes) {
        if self.outgoing.len() < WAITING_MAX {
            self.outgoing.insert(hash, der);
        }
    }

    /// The neighbour asks for a certificate.
    pub(crate) fn handle_request(&mut self, hash: CertificateHash) {
        if self.requests.len() < WAITING_MAX {
            self.requests.insert(hash);
        }
    }

    /// Whether certificates that it asked for are to be looked for.
    pub(crate) fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The next certificate to look for.
    pub(crate) fn next_request(&mut self) -> Option<CertificateHash> {
        self.requests.pop_first()
    }

    /// The neighbour sent a certificate that it was asked for. One for which there is no room, in so
    /// many bytes, is asked for again.
    pub(crate) fn receive(&mut self, hash: CertificateHash, der: Bytes, bytes_max: usize) {
        let bytes = self.received_bytes.saturating_add(der.len());
        if bytes <= bytes_max && !self.received.contains_key(&hash) {
            self.received_bytes = bytes;
            self.received.insert(hash, der);
        }
    }

    /// Whether certificates wait to be looked at.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// The next certificate to look at.
    pub(crate) fn next_received(&mut self) -> Option<(CertificateHash, Bytes)> {
        let (hash, der) = self.received.pop_first()?;
        self.received_bytes = self.received_bytes.saturating_sub(der.len());
        Some((hash, der))
    }

    /// A certificate that the neighbour sent was good.
    pub(crate) fn handle_delivered(&mut self, now: MonoTime) {
        self.delivered = Some(now);
    }

    /// Whether it has sent a good one since then.
    pub(crate) fn delivered_since(&self, time: MonoTime) -> bool {
        self.delivered.is_some_and(|delivered| delivered >= time)
    }
}
