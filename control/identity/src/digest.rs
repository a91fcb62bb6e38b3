//! Hashes, each with a prefix of its own so that none can stand in another's place.

use aws_lc_rs::{constant_time, digest};
use hawser_wire::{NodeId, ProducerId, TenantId};

/// SHA-256 (FIPS 180-4) of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_parts(&[bytes])
}

fn sha256_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0_u8; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn first_16(digest: [u8; 32]) -> [u8; 16] {
    let [out @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
    out
}

/// The id of the node that owns this Ed25519 public key (32 bytes, RFC 8032 encoding).
///
/// 128 bits of a hash: making a key whose id is a given node's costs 2¹²⁸ trials.
#[must_use]
pub fn node_id(public_key: &[u8; 32]) -> NodeId {
    NodeId::from_bytes(first_16(sha256_parts(&[b"hawser node id v1", public_key])))
}

/// The id of the tenant with this name.
#[must_use]
pub fn tenant_id(name: &str) -> TenantId {
    TenantId::from_bytes(first_16(sha256_parts(&[b"hawser tenant v1", name.as_bytes()])))
}

/// The id of the producer with this name, within its stream.
#[must_use]
pub fn producer_id(name: &str) -> ProducerId {
    let [a, b, c, d, e, f, g, h, ..] = sha256_parts(&[b"hawser producer v1", name.as_bytes()]);
    ProducerId(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// What the authority keeps of a join token's secret: from a copy of its store no token can be
/// made.
#[must_use]
pub fn token_digest(secret: &[u8]) -> [u8; 32] {
    sha256_parts(&[b"hawser join token v1", secret])
}

/// SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` prints it.
#[must_use]
pub fn fingerprint(cert_der: &[u8]) -> [u8; 32] {
    sha256(cert_der)
}

/// Compares without telling by its time where the two differ. Lengths are not secret.
#[must_use]
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_the_standard_one() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(data_encoding::HEXLOWER.encode(&sha256(b"abc")), expected);
    }

    /// Ids are on disk and on the wire: they must not change between versions.
    #[test]
    fn derived_ids_stay_what_they_are() {
        assert_eq!(
            node_id(&[7; 32]).as_bytes(),
            &sha256(&[&b"hawser node id v1"[..], &[7; 32]].concat())[..16]
        );
        assert_eq!(tenant_id("acme").as_bytes(), &sha256(b"hawser tenant v1acme")[..16],);
        let producer = sha256(b"hawser producer v1p");
        assert_eq!(producer_id("p").0.to_le_bytes(), producer[..8]);
    }

    #[test]
    fn one_name_gives_different_ids_in_different_places() {
        assert_ne!(token_digest(b"x"), sha256(b"x"));
        assert_ne!(tenant_id("x").as_bytes()[..8], producer_id("x").0.to_le_bytes());
    }

    #[test]
    fn comparison_sees_every_byte_and_the_length() {
        assert!(constant_time_eq(b"same", b"same"));
        for other in [&b"sama"[..], b"tame", b"sam", b"same!", b""] {
            assert!(!constant_time_eq(b"same", other));
        }
    }
}
