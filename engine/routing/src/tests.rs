#![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]

mod bad_input;
mod certificates;
mod codec;
mod coverage;
mod delta;
mod disjoint;
mod far;
mod flooding;
mod graphs;
mod incremental_spf;
mod k_paths;
mod mesh;
mod mesh_topology;
mod mesh_update;
mod neighbour_floods;
mod operator_routes;
mod path_computer;
mod paths;
mod plan;
mod resync;
mod rib;
mod several;
mod token_bucket;

use hawser_wire::{AdjacencyIndex, Incarnation, MonoTime, NodeId};

use crate::message::Message;
use crate::{
    Adjacency, AdjacencyMetrics, CertificateHash, Flooding, Judgement, Lsa, LsaFlags, RejectReason,
};

/// Nodes are numbered, and ordered by their numbers.
fn node(number: u8) -> NodeId {
    let mut bytes = [0; 16];
    bytes[15] = number;
    NodeId::from_bytes(bytes)
}

fn millis(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

/// An advertisement that [`holds`] accepts. The index of a neighbour is its number.
pub(crate) fn lsa(origin: u8, incarnation: u64, sequence: u64, links: &[(u8, u32)]) -> Lsa {
    let link = |(neighbour, latency_us): &(u8, u32)| Adjacency {
        neighbour: node(*neighbour),
        index: AdjacencyIndex(u32::from(*neighbour)),
        metrics: AdjacencyMetrics { latency_us: *latency_us, ..AdjacencyMetrics::default() },
    };
    seal(Lsa {
        origin: node(origin),
        incarnation: Incarnation(incarnation),
        sequence,
        public_key: [origin; 32],
        certificate: CertificateHash([origin; 32]),
        flags: LsaFlags::default(),
        name: format!("node-{origin}"),
        address: String::new(),
        adjacencies: links.iter().map(link).collect(),
        routes: Vec::new(),
        signature: [0; 64],
    })
}

/// A checksum in the signature's place: real signatures are the driver's, behind the closure.
fn seal(mut lsa: Lsa) -> Lsa {
    lsa.signature = tag(&lsa);
    lsa
}

fn tag(lsa: &Lsa) -> [u8; 64] {
    let mut tag = [0; 64];
    tag[..4].copy_from_slice(&hawser_wire::crc32c(&lsa.signed_bytes()).to_le_bytes());
    tag
}

/// What is found about an advertisement in these tests: key and origin belong together, and so do
/// signature and content.
fn holds(lsa: &Lsa) -> Judgement {
    let good = lsa.origin == node(lsa.public_key[0]) && lsa.signature == tag(lsa);
    if good { Judgement::Accept } else { Judgement::Forged }
}

/// What a message says: itself, or several advertisements.
fn decoded(bytes: &[u8]) -> Vec<Message> {
    match Message::several(bytes) {
        Some(several) => {
            several.unwrap().map(|one| Message::decode(one.unwrap()).unwrap()).collect()
        }
        None => vec![Message::decode(bytes).unwrap()],
    }
}

/// Everything that is to be sent now.
fn drain(flooding: &mut Flooding) -> Vec<(NodeId, Message)> {
    let mut sent = Vec::new();
    while let Some((to, bytes)) = flooding.poll_transmit() {
        sent.extend(decoded(&bytes).into_iter().map(|message| (to, message)));
    }
    sent
}

/// Hands a message to the machine and checks all that there is to check. True if the database
/// changed.
fn hear(
    flooding: &mut Flooding,
    now: MonoTime,
    from: NodeId,
    message: &[u8],
    judge: &mut dyn FnMut(&Lsa) -> Judgement,
) -> Result<bool, RejectReason> {
    flooding.handle_message(now, from, message)?;
    check_all(flooding, now, judge)
}

/// Checks all that there is to check; answers with the last thing that was wrong.
fn check_all(
    flooding: &mut Flooding,
    now: MonoTime,
    judge: &mut dyn FnMut(&Lsa) -> Judgement,
) -> Result<bool, RejectReason> {
    let mut result = Ok(false);
    while let Some(lsa) = flooding.poll_check() {
        let judgement = judge(lsa);
        match (flooding.handle_judgement(now, judgement), result) {
            (Ok(changed), Ok(before)) => result = Ok(changed || before),
            (Ok(_), Err(_)) => {}
            (Err(reason), _) => result = Err(reason),
        }
    }
    result
}

/// `SplitMix64`: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
