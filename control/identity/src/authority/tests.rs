use super::*;
use crate::{NodeKey, fingerprint, peer_identity};

/// 2026-01-01T00:00:00Z.
const NOW_UNIX_S: u64 = 1_767_225_600;
const DAY: Duration = Duration::from_secs(86_400);

fn authority() -> MeshAuthority {
    MeshAuthority::generate(MeshId::from_bytes([9; 16]), "test mesh", NOW_UNIX_S).unwrap()
}

#[test]
fn certificate_says_who_the_node_is() {
    let key = NodeKey::generate().unwrap();
    let (node, der) =
        authority().sign_csr(&key.csr("wish").unwrap(), "granted", NOW_UNIX_S, DAY).unwrap();
    assert_eq!(node, key.node_id());
    let peer = peer_identity(&[CertificateDer::from(der)]).unwrap();
    assert_eq!(peer.node, key.node_id());
    assert_eq!(peer.name, "granted");
    assert_eq!(peer.not_after_unix_s, NOW_UNIX_S + 86_400);
}

#[test]
fn authority_survives_storage_and_signs_the_same_chain() {
    let one = authority();
    let again = MeshAuthority::from_parts(one.certificate_der(), one.key_pkcs8()).unwrap();
    assert_eq!(fingerprint(again.certificate_der()), fingerprint(one.certificate_der()));
    let key = NodeKey::generate().unwrap();
    let (_, der) = again.sign_csr(&key.csr("a").unwrap(), "a", NOW_UNIX_S, DAY).unwrap();
    let leaf = parse(&der).unwrap();
    let root = parse(one.certificate_der()).unwrap();
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    leaf.verify_signature(Some(root.public_key())).unwrap();
}

#[test]
fn decisions_are_the_authoritys_alone() {
    let (one, other) = (authority(), authority());
    let signature = one.sign(b"decision");
    let verify = crate::verify_by_authority;
    assert!(verify(one.certificate_der(), b"decision", &signature));
    assert!(!verify(one.certificate_der(), b"decisions", &signature));
    assert!(!verify(other.certificate_der(), b"decision", &signature));
    assert!(!verify(b"no certificate", b"decision", &signature));
}

#[test]
fn parts_of_two_authorities_do_not_fit() {
    let (one, other) = (authority(), authority());
    let error = MeshAuthority::from_parts(one.certificate_der(), other.key_pkcs8()).unwrap_err();
    assert!(matches!(error, IdentityError::KeyMismatch { .. }), "{error}");
    let error = MeshAuthority::from_parts(b"junk", one.key_pkcs8()).unwrap_err();
    assert!(matches!(error, IdentityError::Certificate { .. }), "{error}");
    let key = NodeKey::generate().unwrap();
    let (_, leaf) = one.sign_csr(&key.csr("a").unwrap(), "a", NOW_UNIX_S, DAY).unwrap();
    let error = MeshAuthority::from_parts(&leaf, key.pkcs8()).unwrap_err();
    assert!(error.to_string().contains("not an authority's"), "{error}");
}

#[test]
fn request_cannot_ask_for_the_right_to_sign() {
    let key = NodeKey::generate().unwrap();
    let pair = KeyPair::from_pkcs8(key.pkcs8(), "test").unwrap();
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let csr = params.serialize_request(&pair).unwrap();
    let (_, der) = authority().sign_csr(csr.der(), "a", NOW_UNIX_S, DAY).unwrap();
    let leaf = parse(&der).unwrap();
    assert!(!leaf.is_ca());
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 2);
    assert!(!String::from_utf8_lossy(&der).contains("evil"));
}

#[test]
fn names_and_requests_are_checked() {
    let one = authority();
    let csr = NodeKey::generate().unwrap().csr("a").unwrap();
    let error = one.sign_csr(&csr, "a b", NOW_UNIX_S, DAY).unwrap_err();
    assert!(matches!(error, IdentityError::Name { .. }), "{error}");
    let error = one.sign_csr(b"junk", "a", NOW_UNIX_S, DAY).unwrap_err();
    assert!(matches!(error, IdentityError::Request { .. }), "{error}");
    let error = MeshAuthority::generate(MeshId::default(), "", NOW_UNIX_S).unwrap_err();
    assert!(matches!(error, IdentityError::Name { .. }), "{error}");
}

#[test]
fn validity_stays_within_what_a_certificate_can_say() {
    let csr = NodeKey::generate().unwrap().csr("a").unwrap();
    for (now, validity) in
        [(0, Duration::ZERO), (u64::MAX, Duration::MAX), (NOW_UNIX_S, Duration::MAX)]
    {
        let one = MeshAuthority::generate(MeshId::default(), "m", now).unwrap();
        let (_, der) = one.sign_csr(&csr, "a", now, validity).unwrap();
        let peer = peer_identity(&[CertificateDer::from(der)]).unwrap();
        assert!(peer.not_after_unix_s <= one.not_after_unix_s);
    }
}

#[test]
fn certificate_of_another_key_than_its_names_is_refused() {
    let one = authority();
    let key = NodeKey::generate().unwrap();
    let pair = KeyPair::from_pkcs8(key.pkcs8(), "test").unwrap();
    let other = node_dns_name(NodeId::from_bytes([1; 16]));
    let mut params = CertificateParams::new([LANE_SERVER_NAME.to_owned(), other]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a");
    let der = params.signed_by(&pair, &one.issuer).unwrap();
    let error = peer_identity(&[der.der().clone()]).unwrap_err();
    assert!(matches!(error, IdentityError::CertificateOfOther { .. }), "{error}");
}

#[test]
fn certificates_that_name_no_node_are_refused() {
    let one = authority();
    for (chain, part) in [
        (vec![], "there is none"),
        (vec![CertificateDer::from(b"junk".as_slice())], "malformed"),
        (vec![CertificateDer::from(one.certificate_der())], "an authority's"),
    ] {
        let text = peer_identity(&chain).unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} has no {part:?}");
    }
}

#[test]
fn debug_output_keeps_the_secret() {
    let one = authority();
    let shown = format!("{one:?} {:?}", one.issuer.key());
    for window in one.key_pkcs8().windows(4) {
        assert!(!shown.contains(&format!("{window:?}")[1..]));
        assert!(!shown.contains(&data_encoding::HEXLOWER.encode(window)));
    }
}
