//! Signatures of advertisements, verified together where many wait. Pure but for the random
//! coefficients of the batch.

use hawser_identity::{verify_zip215, verify_zip215_batch};
use hawser_routing::Lsa;

/// Of fewer than these each is verified when it is judged.
pub(crate) const BATCH_MIN: usize = 4;

/// Signatures that were found to hold, with the bytes that they are over, the key among them.
#[derive(Debug, Default)]
pub(crate) struct Verified(Vec<([u8; 64], Vec<u8>)>);

impl Verified {
    /// Verifies the signatures of these in one batch, if they are enough. If one of them does not hold
    /// nothing is known of any: each is verified when it is judged, so that the forger is found.
    pub(crate) fn together(lsas: &[&Lsa]) -> Self {
        if lsas.len() < BATCH_MIN {
            return Self::default();
        }
        let signed: Vec<_> = lsas.iter().map(|lsa| (lsa.signature, lsa.signed_bytes())).collect();
        let of_keys = lsas.iter().zip(&signed);
        let all_hold = verify_zip215_batch(
            of_keys.map(|(lsa, (signature, bytes))| (&lsa.public_key, &bytes[..], signature)),
        );
        if all_hold { Self(signed) } else { Self::default() }
    }

    /// Whether the owner of its key has signed it.
    pub(crate) fn holds(&self, lsa: &Lsa) -> bool {
        let bytes = lsa.signed_bytes();
        let is_known = |(signature, signed): &([u8; 64], Vec<u8>)| {
            *signature == lsa.signature && *signed == bytes
        };
        self.0.iter().any(is_known) || verify_zip215(&lsa.public_key, &bytes, &lsa.signature)
    }
}

#[cfg(test)]
mod tests {
    use hawser_identity::NodeKey;
    use hawser_routing::{CertificateHash, LsaFlags};
    use hawser_wire::Incarnation;

    use super::*;

    /// What so many nodes say.
    fn said(count: usize) -> Vec<Lsa> {
        let said = |key: &NodeKey| {
            let mut lsa = Lsa {
                origin: key.node_id(),
                incarnation: Incarnation(1),
                sequence: 1,
                public_key: key.public_key(),
                certificate: CertificateHash::default(),
                flags: LsaFlags::default(),
                name: String::new(),
                address: String::new(),
                adjacencies: Vec::new(),
                routes: Vec::new(),
                signature: [0; 64],
            };
            lsa.signature = key.sign(&lsa.signed_bytes());
            lsa
        };
        (0..count).map(|_| said(&NodeKey::generate().expect("key"))).collect()
    }

    fn together(lsas: &[Lsa]) -> Verified {
        Verified::together(&lsas.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_batch_of_good_ones_leaves_no_signature_to_verify() {
        for (count, expected) in [(0, 0), (BATCH_MIN - 1, 0), (BATCH_MIN, BATCH_MIN), (16, 16)] {
            let lsas = said(count);
            let verified = together(&lsas);
            assert_eq!(verified.0.len(), expected);
            assert!(lsas.iter().all(|lsa| verified.holds(lsa)));
        }
    }

    #[test]
    fn a_forged_one_in_a_batch_is_found_and_harms_no_other() {
        let good = said(16);
        for forged in [0, 7, 15] {
            let mut lsas = good.clone();
            lsas[forged].sequence += 1;
            let verified = together(&lsas);
            for (number, lsa) in lsas.iter().enumerate() {
                assert_eq!(verified.holds(lsa), number != forged, "{number} of {forged}");
            }
        }
    }

    #[test]
    fn what_was_verified_is_believed_to_the_last_bit_alone() {
        let lsas = said(16);
        let verified = together(&lsas);
        let (first, second) = (&lsas[0], &lsas[1]);
        for forged in [
            Lsa { sequence: 2, ..first.clone() },
            Lsa { public_key: second.public_key, ..first.clone() },
            Lsa { signature: second.signature, ..first.clone() },
        ] {
            assert!(!verified.holds(&forged), "{forged:?}");
        }
    }
}
