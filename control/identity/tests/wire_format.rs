//! The signed advertisements of `docs/wire-format.md`: their origins are their keys', their signatures
//! hold.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use hawser_identity::{node_id, verify_zip215};

#[expect(dead_code, reason = "other tests ask for the labels")]
#[path = "../../../engine/wire/tests/wire/vectors.rs"]
mod vectors;

#[test]
fn the_documented_advertisements_are_signed_by_their_origins() {
    check(vectors::vector("lsa"));
    let (&kind, mut several) = vectors::vector("lsa-several").split_first().unwrap();
    assert_eq!(kind, 9);
    let mut count = 0;
    while let Some((len, rest)) = several.split_first_chunk() {
        let (message, rest) = rest.split_at(u16::from_le_bytes(*len).into());
        // Behind its kind and its lifetime.
        check(&message[3..]);
        (several, count) = (rest, count + 1);
    }
    assert_eq!(count, 2);
}

fn check(bytes: &[u8]) {
    let public_key = bytes[33..65].try_into().unwrap();
    assert_eq!(node_id(public_key).as_bytes(), &bytes[1..17]);

    let (unsigned, signature) = bytes.split_last_chunk::<64>().unwrap();
    let mut signed = [b"hawser lsa v2\0", unsigned].concat();
    assert!(verify_zip215(public_key, &signed, signature));
    signed[20] ^= 1;
    assert!(!verify_zip215(public_key, &signed, signature));
}
