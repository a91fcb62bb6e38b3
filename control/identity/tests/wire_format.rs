//! The signed advertisement of `docs/wire-format.md`: its origin is its key's, its signature holds.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use hawser_identity::{node_id, verify};

#[expect(dead_code, reason = "other tests ask for the labels")]
#[path = "../../../engine/wire/tests/wire/vectors.rs"]
mod vectors;

#[test]
fn the_documented_advertisement_is_signed_by_its_origin() {
    let bytes = vectors::vector("lsa");
    let public_key = bytes[33..65].try_into().unwrap();
    assert_eq!(node_id(public_key).as_bytes(), &bytes[1..17]);

    let (unsigned, signature) = bytes.split_last_chunk::<64>().unwrap();
    let mut signed = [b"hawser lsa v2\0", unsigned].concat();
    assert!(verify(public_key, &signed, signature));
    signed[20] ^= 1;
    assert!(!verify(public_key, &signed, signature));
}
