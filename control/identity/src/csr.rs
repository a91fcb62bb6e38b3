use hawser_wire::NodeId;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{IdentityError, node_id, verify};

/// Reads a certificate signing request (RFC 2986, DER) and checks that its sender holds the key:
/// the node that the key makes.
///
/// # Errors
/// [`IdentityError::Request`] if it is malformed, the key is not Ed25519, or its signature is
/// wrong.
pub fn csr_node(csr_der: &[u8]) -> Result<NodeId, IdentityError> {
    requested_key(csr_der).map(|key| node_id(&key))
}

/// The key of a request whose signature holds. Everything else that the request asks for (names,
/// extensions) is its sender's wish and is not read.
pub(crate) fn requested_key(csr_der: &[u8]) -> Result<[u8; 32], IdentityError> {
    let refuse = |why| IdentityError::Request { why };
    let (rest, csr) = X509CertificationRequest::from_der(csr_der)
        .map_err(|_malformed| refuse("it is malformed"))?;
    if !rest.is_empty() {
        return Err(refuse("bytes stand behind it"));
    }
    let info = &csr.certification_request_info;
    let key = ed25519_key(&info.subject_pki).ok_or_else(|| refuse("its key is not Ed25519"))?;
    if csr.signature_algorithm.algorithm != OID_SIG_ED25519 {
        return Err(refuse("its signature is not Ed25519"));
    }
    let signature: &[u8] = &csr.signature_value.data;
    let signed =
        signature.try_into().is_ok_and(|signature: &[u8; 64]| verify(&key, info.raw, signature));
    if !signed {
        return Err(refuse("its signature is not its key's"));
    }
    Ok(key)
}

/// The Ed25519 key within (RFC 8410 §4: no parameters, 32 bytes), or nothing.
pub(crate) fn ed25519_key(info: &SubjectPublicKeyInfo<'_>) -> Option<[u8; 32]> {
    if info.algorithm.algorithm != OID_SIG_ED25519 || info.algorithm.parameters.is_some() {
        return None;
    }
    let bytes: &[u8] = &info.subject_public_key.data;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    fn check(csr: &[u8], part: &str) {
        let text = csr_node(csr).unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} has no {part:?}");
    }

    #[test]
    fn request_names_its_node() {
        let key = NodeKey::generate().unwrap();
        assert_eq!(csr_node(&key.csr("a").unwrap()).unwrap(), key.node_id());
    }

    #[test]
    fn request_signed_by_another_key_is_refused() {
        let (a, b) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let mut csr = a.csr("a").unwrap();
        let at = csr.windows(32).position(|window| window == a.public_key()).unwrap();
        csr[at..at + 32].copy_from_slice(&b.public_key());
        check(&csr, "signature is not its key's");
    }

    #[test]
    fn every_changed_byte_is_refused_or_leaves_the_key_alone() {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr("a").unwrap();
        for at in 0..csr.len() {
            let mut broken = csr.clone();
            broken[at] ^= 0x20;
            if let Ok(node) = csr_node(&broken) {
                assert_eq!(node, key.node_id(), "byte {at}");
            }
        }
        for end in 0..csr.len() {
            assert!(csr_node(&csr[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn other_requests_are_refused() {
        check(b"", "malformed");
        check(b"GET / HTTP/1.1\r\n\r\n", "malformed");
        let mut longer = NodeKey::generate().unwrap().csr("a").unwrap();
        longer.push(0);
        check(&longer, "behind it");
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        check(csr.der(), "key is not Ed25519");
    }
}
