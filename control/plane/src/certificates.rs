//! Certificates of the mesh's members, by their hash: what advertisements are judged by. Pure.
//!
//! They come from neighbours, one for each advertisement that names an unknown one, and are not
//! kept over a restart: whoever sends the advertisement has the certificate.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hawser_admission::check_address;
use hawser_identity::{PeerIdentity, certified_identity, fingerprint, node_id};
use hawser_routing::{
    CertificateFault, CertificateHash, Judgement, Lsa, Lsdb, ORIGINS_MAX, Refusal,
};
use hawser_wire::NodeId;

use crate::verified::Verified;

/// As many as origins, and as many that are about to be.
const CERTIFICATES_MAX: usize = 2 * ORIGINS_MAX;

#[derive(Debug)]
struct Known {
    identity: PeerIdentity,
    der: Bytes,
}

/// Certificates that the mesh's authority has made.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    known: BTreeMap<CertificateHash, Known>,
}

/// The name of a certificate in advertisements.
pub(crate) fn certificate_hash(der: &[u8]) -> CertificateHash {
    CertificateHash(fingerprint(der))
}

impl Certificates {
    /// Takes a certificate in that was asked for as `hash`, if it is good. Where there is no room,
    /// those that no advertisement in `lsdb` names go.
    pub(crate) fn insert(
        &mut self,
        hash: CertificateHash,
        der: &Bytes,
        authority: &[u8],
        lsdb: &Lsdb,
    ) -> Result<(), CertificateFault> {
        if certificate_hash(der) != hash {
            return Err(CertificateFault::OtherHash);
        }
        let identity = certified_identity(der, authority)
            .map_err(|_not_of_this_mesh| CertificateFault::NotOfThisMesh)?;
        if self.known.len() >= CERTIFICATES_MAX {
            let named: BTreeSet<CertificateHash> = lsdb.iter().map(|lsa| lsa.certificate).collect();
            self.known.retain(|hash, _| named.contains(hash));
        }
        self.known.insert(hash, Known { identity, der: der.clone() });
        Ok(())
    }

    /// A certificate, to send it to a neighbour.
    pub(crate) fn der(&self, hash: CertificateHash) -> Option<&Bytes> {
        self.known.get(&hash).map(|known| &known.der)
    }

    /// Forgets all of them: this node leaves the mesh.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// Whether an advertisement is to be believed. `now_unix_s` is the wall clock, for the
    /// certificate alone. What an earlier life of this node has said is believed if it is signed:
    /// it is only overtaken. `evicted`: the mesh has evicted the origin. `verified`: signatures that
    /// are known to hold; others are verified here.
    pub(crate) fn judge(
        &self,
        lsa: &Lsa,
        local: NodeId,
        evicted: bool,
        now_unix_s: u64,
        verified: &Verified,
    ) -> Judgement {
        if let Some(judgement) = self.judge_unverified(lsa, local, evicted) {
            return judgement;
        }
        if !verified.holds(lsa) {
            return Judgement::Forged;
        }
        match self.known.get(&lsa.certificate) {
            Some(known) if lsa.origin != local => judge_member(lsa, &known.identity, now_unix_s),
            _ => Judgement::Accept,
        }
    }

    /// What can be said without a look at the signature, if anything can.
    pub(crate) fn judge_unverified(
        &self,
        lsa: &Lsa,
        local: NodeId,
        evicted: bool,
    ) -> Option<Judgement> {
        if node_id(&lsa.public_key) != lsa.origin {
            return Some(Judgement::Forged);
        }
        if evicted {
            return Some(Judgement::Refuse(Refusal::Evicted));
        }
        let is_known = lsa.origin == local || self.known.contains_key(&lsa.certificate);
        (!is_known).then_some(Judgement::NeedsCertificate)
    }
}

fn judge_member(lsa: &Lsa, identity: &PeerIdentity, now_unix_s: u64) -> Judgement {
    let refusal = if identity.node != lsa.origin {
        Refusal::CertificateOfOther
    } else if identity.not_after_unix_s < now_unix_s {
        Refusal::CertificateExpired
    } else if identity.name != lsa.name {
        Refusal::NameOfOther
    } else if !lsa.address.is_empty() && check_address(&lsa.address).is_err() {
        Refusal::AddressInvalid
    } else if !lsa.steers_soundly() {
        Refusal::RouteInvalid
    } else {
        return Judgement::Accept;
    };
    Judgement::Refuse(refusal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hawser_identity::{MeshAuthority, NodeKey};
    use hawser_routing::{LsaFlags, OperatorRoute};
    use hawser_wire::{Incarnation, MeshId};

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const LOCAL: NodeId = NodeId::from_bytes([0; 16]);

    struct Fixture {
        authority: MeshAuthority,
        certificates: Certificates,
        key: NodeKey,
        hash: CertificateHash,
        evicted: BTreeSet<NodeId>,
    }

    fn issue(authority: &MeshAuthority, key: &NodeKey, name: &str) -> Bytes {
        let csr = key.csr(name).expect("request");
        authority.sign_csr(&csr, name, NOW, Duration::from_secs(1000)).expect("issued").1.into()
    }

    impl Fixture {
        fn new() -> Self {
            let mesh = MeshId::from_bytes([1; 16]);
            let authority = MeshAuthority::generate(mesh, "test", NOW).expect("authority");
            let key = NodeKey::generate().expect("key");
            let mut fixture = Self {
                certificates: Certificates::default(),
                hash: CertificateHash::default(),
                evicted: BTreeSet::new(),
                authority,
                key,
            };
            let der = issue(&fixture.authority, &fixture.key, "b");
            fixture.hash = certificate_hash(&der);
            fixture.insert(fixture.hash, &der).expect("good");
            fixture
        }

        fn insert(&mut self, hash: CertificateHash, der: &Bytes) -> Result<(), CertificateFault> {
            let authority = self.authority.certificate_der();
            self.certificates.insert(hash, der, authority, &Lsdb::new())
        }

        fn word(&self) -> Lsa {
            self.sign(Lsa {
                origin: self.key.node_id(),
                incarnation: Incarnation(1),
                sequence: 1,
                public_key: self.key.public_key(),
                certificate: self.hash,
                flags: LsaFlags::default(),
                name: "b".to_owned(),
                address: String::new(),
                adjacencies: Vec::new(),
                routes: Vec::new(),
                signature: [0; 64],
            })
        }

        fn sign(&self, mut lsa: Lsa) -> Lsa {
            lsa.signature = self.key.sign(&lsa.signed_bytes());
            lsa
        }

        fn check(&self, lsa: &Lsa, now: u64, expected: Judgement) {
            let (evicted, alone) = (self.evicted.contains(&lsa.origin), Verified::default());
            let found = self.certificates.judge(lsa, LOCAL, evicted, now, &alone);
            assert_eq!(found, expected, "{lsa:?}");
        }
    }

    #[test]
    fn a_members_own_word_is_believed_and_nothing_else() {
        let mut fixture = Fixture::new();
        let good = fixture.word();
        fixture.check(&good, NOW, Judgement::Accept);
        let dialled = Lsa { address: "b.example:7480".to_owned(), ..good.clone() };
        fixture.check(&dialled, NOW, Judgement::Forged);
        fixture.check(&fixture.sign(dialled), NOW, Judgement::Accept);
        let other_key = NodeKey::generate().expect("key").public_key();
        fixture.check(&Lsa { public_key: other_key, ..good.clone() }, NOW, Judgement::Forged);
        let unknown = Lsa { certificate: CertificateHash([7; 32]), ..good.clone() };
        fixture.check(&unknown, NOW, Judgement::NeedsCertificate);

        let refuse = |refusal| Judgement::Refuse(refusal);
        fixture.check(&good, NOW + 1001, refuse(Refusal::CertificateExpired));
        let named = fixture.sign(Lsa { name: "c".to_owned(), ..good.clone() });
        fixture.check(&named, NOW, refuse(Refusal::NameOfOther));
        for address in ["b", "b\x1b[31m:7480"] {
            let lsa = fixture.sign(Lsa { address: address.to_owned(), ..good.clone() });
            fixture.check(&lsa, NOW, refuse(Refusal::AddressInvalid));
        }
        let route = OperatorRoute { from: good.origin, to: LOCAL, via: Vec::new() };
        let steered = Lsa { routes: vec![route.clone()], ..good.clone() };
        fixture.check(&fixture.sign(steered), NOW, Judgement::Accept);
        let steers_others = OperatorRoute { from: LOCAL, to: good.origin, ..route };
        let lsa = fixture.sign(Lsa { routes: vec![steers_others], ..good.clone() });
        fixture.check(&lsa, NOW, refuse(Refusal::RouteInvalid));
        let other = NodeKey::generate().expect("key");
        let theirs = issue(&fixture.authority, &other, "c");
        let hash = certificate_hash(&theirs);
        fixture.insert(hash, &theirs).expect("good");
        let borrowed = fixture.sign(Lsa { certificate: hash, ..good.clone() });
        fixture.check(&borrowed, NOW, refuse(Refusal::CertificateOfOther));
        fixture.evicted.insert(good.origin);
        fixture.check(&good, NOW, refuse(Refusal::Evicted));
    }

    #[test]
    fn an_earlier_life_of_this_node_needs_no_certificate() {
        let mut fixture = Fixture::new();
        fixture.certificates.clear();
        let mut own = fixture.sign(Lsa { name: "an earlier name".to_owned(), ..fixture.word() });
        let local = own.origin;
        let judge = |own: &Lsa| {
            fixture.certificates.judge(own, local, false, NOW + 5000, &Verified::default())
        };
        assert_eq!(judge(&own), Judgement::Accept);
        own.sequence += 1;
        assert_eq!(judge(&own), Judgement::Forged);
    }

    #[test]
    fn certificates_of_another_mesh_and_wrong_ones_are_refused() {
        let mut fixture = Fixture::new();
        let foreign = MeshAuthority::generate(MeshId::from_bytes([2; 16]), "test", NOW);
        let theirs = issue(&foreign.expect("authority"), &fixture.key, "b");
        let hash = certificate_hash(&theirs);
        assert_eq!(fixture.insert(hash, &theirs), Err(CertificateFault::NotOfThisMesh));
        assert_eq!(fixture.insert(fixture.hash, &theirs), Err(CertificateFault::OtherHash));
        let noise = Bytes::from_static(b"no certificate");
        let hash = certificate_hash(&noise);
        assert_eq!(fixture.insert(hash, &noise), Err(CertificateFault::NotOfThisMesh));
        let authority = Bytes::copy_from_slice(fixture.authority.certificate_der());
        let hash = certificate_hash(&authority);
        assert_eq!(fixture.insert(hash, &authority), Err(CertificateFault::NotOfThisMesh));
        assert!(fixture.certificates.der(hash).is_none());
    }
}
