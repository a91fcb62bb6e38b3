//! Ed25519 signatures that all nodes must judge alike: verified by the rules of ZIP 215, which accept
//! the same signatures singly and in a batch.
//!
//! RFC 8032 leaves open what is done with points of small order and with encodings that are not
//! canonical, and implementations differ. ZIP 215 takes them all, demands a canonical S, and multiplies
//! by the cofactor. Whoever signs as RFC 8032 says makes none of these.

use std::convert::Infallible;

use aws_lc_rs::rand;
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rand_core::{TryCryptoRng, TryRng};

/// True if `signature` over `message` is one of the key's owner.
#[must_use]
pub fn verify_zip215(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerificationKey::try_from(*public_key)
        .and_then(|key| key.verify(&Signature::from_bytes(signature), message))
        .is_ok()
}

/// True if [`verify_zip215`] is true for each public key, message and signature; of many, in about three
/// fifths of the time. False if not, or if the operating system gave no random bytes.
pub fn verify_zip215_batch<'a>(
    signed: impl IntoIterator<Item = (&'a [u8; 32], &'a [u8], &'a [u8; 64])>,
) -> bool {
    let mut verifier = batch::Verifier::new();
    for (public_key, message, signature) in signed {
        let key = VerificationKeyBytes::from(*public_key);
        verifier.queue((key, Signature::from_bytes(signature), message));
    }
    let mut coefficients = Coefficients { failed: false };
    verifier.verify(&mut coefficients).is_ok() && !coefficients.failed
}

/// The random coefficients of a batch: who could foresee them could make forged signatures that
/// cancel each other out.
struct Coefficients {
    failed: bool,
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.failed |= rand::fill(bytes).is_err();
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeKey, verify};

    /// The points whose order divides eight, with each encoding that stands for one of them.
    const SMALL_ORDER: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    /// The public key of the seed that is 7 in each byte.
    const KEY: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
    /// Its owner's over `hawser`, with a point of order eight added to R before the hash was made.
    const TORSION: &str = "f975692b6fe624c3c7e5e77050c38ba476430b1ccbacadb07d727d4eaa4c75dd\
        1892a71131fd197bb011092075f1e60af6523ce9df003a3f0e51ae3c3b223603";

    type Signed = ([u8; 32], Vec<u8>, [u8; 64]);

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    fn good(number: u8) -> Signed {
        let (key, message) = (NodeKey::generate().unwrap(), vec![number; 400]);
        let signature = key.sign(&message);
        (key.public_key(), message, signature)
    }

    fn singly((key, message, signature): &Signed) -> bool {
        verify_zip215(key, message, signature)
    }

    fn together(signed: &[Signed]) -> bool {
        verify_zip215_batch(
            signed.iter().map(|(key, message, signature)| (key, &message[..], signature)),
        )
    }

    /// Alone, and at any place among others that are good.
    fn check(signed: &Signed, expected: bool) {
        assert_eq!(singly(signed), expected, "{signed:?}");
        let mut batch: Vec<Signed> = (0..8).map(good).collect();
        for place in [0, 3, 8] {
            batch.insert(place, signed.clone());
            assert_eq!(together(&batch), expected, "{signed:?}");
            batch.remove(place);
        }
        assert!(together(&batch));
    }

    #[test]
    fn a_batch_holds_if_all_do() {
        check(&good(1), true);
        let (key, message, signature) = good(1);
        let other = good(2).0;
        check(&(other, message.clone(), signature), false);
        check(&(key, [&message[..], b"x"].concat(), signature), false);
        for byte in [0, 31, 32, 63] {
            let mut forged = signature;
            forged[byte] ^= 1;
            check(&(key, message.clone(), forged), false);
        }
        check(&([2; 32], message, signature), false);
    }

    #[test]
    fn a_signature_with_torsion_has_one_verdict() {
        let signed = (bytes(KEY), b"hawser".to_vec(), bytes(TORSION));
        check(&signed, true);
        assert!(!verify(&signed.0, &signed.1, &signed.2), "without the cofactor it does not hold");
    }

    #[test]
    fn points_of_small_order_have_one_verdict() {
        let (mut all, mut refused_by_other_rules) = (Vec::new(), 0);
        for key in SMALL_ORDER.map(bytes::<32>) {
            for r in SMALL_ORDER.map(bytes::<32>) {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&r);
                let signed = (key, b"hawser".to_vec(), signature);
                assert!(singly(&signed), "{signed:?}");
                refused_by_other_rules += u32::from(!verify(&key, b"hawser", &signature));
                all.push(signed);
            }
        }
        assert!(together(&all));
        assert!(refused_by_other_rules > 0);
        // S that is not below the order of the group, and another that is.
        for s in ["edd3f55c1a631258d69cf7a2def9de14", "01000000000000000000000000000000"] {
            let mut signed = all[0].clone();
            signed.2[32..48].copy_from_slice(&bytes::<16>(s));
            signed.2[63] = if s.starts_with("ed") { 0x10 } else { 0 };
            check(&signed, false);
        }
    }
}
