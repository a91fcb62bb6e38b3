use hawser_wire::NodeId;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;

use crate::csr::ed25519_key;
use crate::name::check_node_name;
use crate::{IdentityError, LANE_SERVER_NAME, node_id, verify};

/// Who stands at the other end, from its certificate alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerIdentity {
    /// The node that the certificate's key makes.
    pub node: NodeId,
    /// The human name that the authority granted.
    pub name: String,
    /// When the certificate ends, in Unix seconds.
    pub not_after_unix_s: u64,
}

/// The name within a certificate that says which node it is for.
pub(crate) fn node_dns_name(node: NodeId) -> String {
    format!("{node}.{LANE_SERVER_NAME}")
}

/// Reads the identity out of the first certificate of a chain that TLS has verified.
///
/// This verifies nothing by itself: neither the chain, nor the time, nor possession of the key.
///
/// # Errors
/// [`IdentityError::Certificate`] if there is no certificate, or it is malformed, or not a node's;
/// [`IdentityError::CertificateOfOther`] if its names are another node's than its key;
/// [`IdentityError::Name`] if its human name is none, see [`check_node_name`].
pub fn peer_identity(certificates: &[CertificateDer<'_>]) -> Result<PeerIdentity, IdentityError> {
    let refuse = |why| IdentityError::Certificate { why };
    let leaf = certificates.first().ok_or_else(|| refuse("there is none"))?;
    let certificate = parse(leaf)?;
    let key =
        ed25519_key(certificate.public_key()).ok_or_else(|| refuse("its key is not Ed25519"))?;
    let node = node_id(&key);
    if certificate.is_ca() {
        return Err(refuse("it is an authority's, not a node's"));
    }
    let expected = node_dns_name(node);
    let names = certificate
        .subject_alternative_name()
        .map_err(|_malformed| refuse("its names are malformed"))?
        .ok_or_else(|| refuse("it has no names"))?;
    let has_own = names
        .value
        .general_names
        .iter()
        .any(|name| matches!(name, GeneralName::DNSName(name) if *name == expected));
    if !has_own {
        return Err(IdentityError::CertificateOfOther { key: node });
    }
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or_else(|| refuse("it has no common name"))?
        .to_owned();
    check_node_name(&name)?;
    Ok(PeerIdentity { node, name, not_after_unix_s: not_after(&certificate) })
}

/// Reads the identity out of a node's certificate that came by another way than TLS, if `authority`,
/// the mesh's own certificate, has made it.
///
/// The time is not looked at, and nobody's possession of the key is shown.
///
/// # Errors
/// As [`peer_identity`]; [`IdentityError::Certificate`] also if the authority has not signed it.
pub fn certified_identity(leaf: &[u8], authority: &[u8]) -> Result<PeerIdentity, IdentityError> {
    let identity = peer_identity(&[CertificateDer::from(leaf)])?;
    if !is_signed_by(leaf, authority)? {
        return Err(IdentityError::Certificate { why: "another authority has made it" });
    }
    Ok(identity)
}

/// True if `signature` over `message` was made with the key of `authority`, a certificate (DER): see
/// [`MeshAuthority::sign`](crate::MeshAuthority::sign). False if that is malformed.
#[must_use]
pub fn verify_by_authority(authority: &[u8], message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(authority) = parse(authority) else { return false };
    ed25519_key(authority.public_key()).is_some_and(|key| verify(&key, message, signature))
}

/// True if the authority's key signed the certificate (RFC 5280 §4.1.1.3; Ed25519 alone).
///
/// # Errors
/// [`IdentityError::Certificate`] if either is malformed.
pub(crate) fn is_signed_by(leaf: &[u8], authority: &[u8]) -> Result<bool, IdentityError> {
    let (leaf, authority) = (parse(leaf)?, parse(authority)?);
    let Some(key) = ed25519_key(authority.public_key()) else { return Ok(false) };
    let signature: &[u8] = &leaf.signature_value.data;
    Ok(leaf.signature_algorithm.algorithm == OID_SIG_ED25519
        && authority.is_ca()
        && leaf.issuer().as_raw() == authority.subject().as_raw()
        && signature
            .try_into()
            .is_ok_and(|signature| verify(&key, leaf.tbs_certificate.as_ref(), signature)))
}

/// Reads one certificate, with nothing behind it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(IdentityError::Certificate { why: "bytes stand behind it" }),
        Err(_malformed) => Err(IdentityError::Certificate { why: "it is malformed" }),
    }
}

/// Unix seconds; 0 for a time before 1970.
pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> u64 {
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
}
