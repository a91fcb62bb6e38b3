#![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]

mod claims;
mod codec;
mod faults;
mod intruders;
mod lifeguard;
mod mesh;
mod probes;
mod roster;
mod rounds;

use hawser_wire::{Incarnation, MonoTime, NodeId};

use crate::{Claim, ClaimState, Suspecters, Version};

/// Nodes are numbered. Ids are spread like real ones, so that the ring is not in the order of
/// numbers.
fn node(number: u16) -> NodeId {
    let spread = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn number(id: NodeId) -> u16 {
    u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]])
}

fn millis(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

fn version(incarnation: u64, refutation: u64) -> Version {
    Version { incarnation: Incarnation(incarnation), refutation }
}

fn claim(subject: u16, version: Version, state: ClaimState) -> Claim {
    Claim { subject: node(subject), version, state }
}

fn suspect(by: &[u16]) -> ClaimState {
    let mut suspecters = Suspecters::default();
    for &number in by {
        suspecters.add(node(number));
    }
    ClaimState::Suspect(suspecters)
}
