use std::fmt;
use std::time::Duration;

use hawser_wire::{MeshId, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;

use crate::certificate::{node_dns_name, not_after, parse};
use crate::csr::{ed25519_key, requested_key};
use crate::key_pair::KeyPair;
use crate::name::{check_common_name, check_node_name};
use crate::random::random;
use crate::{IdentityError, LANE_SERVER_NAME, node_id};

/// Clocks of two hosts may differ by this much: a certificate is valid from so long before it was
/// made.
const CLOCK_SKEW_S: u64 = 3600;

/// How long the authority's own certificate is valid: twenty years. A mesh ends before.
const AUTHORITY_VALIDITY_S: u64 = 20 * 365 * 86_400;

/// 9999-12-31T23:59:59Z, the last time that a certificate can say (RFC 5280 §4.1.2.5).
const UNIX_S_MAX: u64 = 253_402_300_799;

/// The certificate authority of one mesh. Whoever holds it admits nodes.
pub struct MeshAuthority {
    certificate_der: Vec<u8>,
    not_after_unix_s: u64,
    issuer: Issuer<'static, KeyPair>,
}

impl MeshAuthority {
    /// A new mesh's authority. `name` is the mesh's human name, `now_unix_s` the wall-clock time
    /// in Unix seconds; it is valid for twenty years.
    ///
    /// # Errors
    /// [`IdentityError::Name`] for a name that cannot stand in a certificate,
    /// [`IdentityError::Random`] or [`IdentityError::Issue`] if none could be made.
    pub fn generate(mesh: MeshId, name: &str, now_unix_s: u64) -> Result<Self, IdentityError> {
        check_common_name(name)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, format!("hawser mesh {mesh}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial_number()?);
        let not_after = now_unix_s.saturating_add(AUTHORITY_VALIDITY_S);
        set_validity(&mut params, now_unix_s, not_after);
        let certificate = params.self_signed(&key)?;
        Self::new(certificate.der().to_vec(), key)
    }

    /// The authority that [`certificate_der`](Self::certificate_der) and
    /// [`key_pkcs8`](Self::key_pkcs8) gave.
    ///
    /// # Errors
    /// [`IdentityError::PrivateKey`], [`IdentityError::Certificate`] or
    /// [`IdentityError::KeyMismatch`] if they are not an authority's, or not of one authority.
    pub fn from_parts(certificate_der: &[u8], key_pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pkcs8(key_pkcs8, "the mesh authority's key")?;
        Self::new(certificate_der.to_vec(), key)
    }

    fn new(certificate_der: Vec<u8>, key: KeyPair) -> Result<Self, IdentityError> {
        let certificate = parse(&certificate_der)?;
        if !certificate.is_ca() {
            let why = "it is a node's, not an authority's";
            return Err(IdentityError::Certificate { why });
        }
        if ed25519_key(certificate.public_key()).as_ref() != Some(key.public_key()) {
            return Err(IdentityError::KeyMismatch { what: "the mesh authority's key" });
        }
        let not_after_unix_s = not_after(&certificate);
        let der = CertificateDer::from(certificate_der.as_slice());
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { certificate_der, not_after_unix_s, issuer })
    }

    /// The authority's own certificate, DER. Every node of the mesh has it.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// The authority's private key in PKCS#8, to be kept where nobody else reads it.
    #[must_use]
    pub fn key_pkcs8(&self) -> &[u8] {
        self.issuer.key().pkcs8()
    }

    /// Signs a decision about the mesh (Ed25519, RFC 8032), for [`verify_by_authority`]. `message`
    /// begins with what it is, so that it cannot be taken for a certificate.
    ///
    /// [`verify_by_authority`]: crate::verify_by_authority
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.issuer.key().sign(message)
    }

    /// Makes the certificate (DER) of the node whose key the request carries.
    ///
    /// Of the request only the key is taken: `name` is what the authority grants, and nothing that
    /// the request asks for (other names, the right to sign) finds its way into the certificate.
    /// It is valid from an hour before `now_unix_s` for `validity` from then on, not beyond the
    /// authority's own end.
    ///
    /// # Errors
    /// [`IdentityError::Request`] if the request is malformed, not Ed25519, or not signed by its
    /// key; [`IdentityError::Name`] if the name cannot be a node's.
    pub fn sign_csr(
        &self,
        csr_der: &[u8],
        name: &str,
        now_unix_s: u64,
        validity: Duration,
    ) -> Result<(NodeId, Vec<u8>), IdentityError> {
        check_node_name(name)?;
        let key = requested_key(csr_der)?;
        let node = node_id(&key);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![
            SanType::DnsName(LANE_SERVER_NAME.try_into()?),
            SanType::DnsName(node_dns_name(node).try_into()?),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number()?);
        let not_after = now_unix_s.saturating_add(validity.as_secs()).min(self.not_after_unix_s);
        set_validity(&mut params, now_unix_s, not_after);
        let certificate = params.signed_by(&RequestedKey(key), &self.issuer)?;
        Ok((node, certificate.der().to_vec()))
    }
}

impl fmt::Debug for MeshAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshAuthority")
            .field("not_after_unix_s", &self.not_after_unix_s)
            .finish_non_exhaustive()
    }
}

struct RequestedKey([u8; 32]);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

fn set_validity(params: &mut CertificateParams, now_unix_s: u64, not_after_unix_s: u64) {
    let not_after = not_after_unix_s.min(UNIX_S_MAX);
    let not_before = now_unix_s.saturating_sub(CLOCK_SKEW_S).min(not_after);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
}

/// Random, positive, of constant length (RFC 5280 §4.1.2.2).
fn serial_number() -> Result<SerialNumber, IdentityError> {
    let mut bytes: [u8; 16] = random()?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests;
