use std::fmt;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme, version};

use crate::certificate::{is_signed_by, peer_identity};
use crate::{IdentityError, NodeKey};

/// The name that every node's certificate carries, so that a dialler can verify a node whose id it
/// does not know yet. Which node it is, the certificate's key says.
pub const LANE_SERVER_NAME: &str = "node.hawser.internal";

/// [`LANE_SERVER_NAME`] as rustls wants it.
///
/// # Errors
/// Never in practice: [`IdentityError::Certificate`] if the name were no DNS name.
pub fn lane_server_name() -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(LANE_SERVER_NAME)
        .map_err(|_invalid| IdentityError::Certificate { why: "the lane server name is invalid" })
}

/// A member's key, certificate and authority, as TLS configurations.
///
/// TLS 1.3 alone, Ed25519 certificates alone, the provider passed explicitly. No session tickets
/// and no resumption: every lane proves both identities anew, and a ticket left unread by a side
/// that only writes would turn its close into a reset.
#[derive(Clone)]
pub struct Credentials {
    lane_client: Arc<ClientConfig>,
    lane_server: Arc<ServerConfig>,
    api_server: Arc<ServerConfig>,
}

impl Credentials {
    /// Checks that the certificate (DER) is the key's own and was signed by the authority (DER).
    ///
    /// A certificate that has expired is taken: the peers refuse it, and say so.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] or [`IdentityError::KeyMismatch`] if the certificate is not
    /// this node's, or not one of this authority; [`IdentityError::Tls`] if no TLS configuration
    /// could be made of them.
    pub fn new(
        key: &NodeKey,
        certificate_der: &[u8],
        authority_der: &[u8],
    ) -> Result<Self, IdentityError> {
        let leaf = CertificateDer::from(certificate_der.to_vec());
        let authority = CertificateDer::from(authority_der.to_vec());
        if peer_identity(std::slice::from_ref(&leaf))?.node != key.node_id() {
            return Err(IdentityError::KeyMismatch { what: "the node's key" });
        }
        if !is_signed_by(&leaf, &authority)? {
            return Err(IdentityError::Certificate { why: "the mesh authority did not sign it" });
        }
        Self::of_chain(key, leaf, authority)
    }

    fn of_chain(
        key: &NodeKey,
        leaf: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let provider = provider()?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let roots = Arc::new(roots);
        // The authority's own certificate goes along: a node that joins knows its fingerprint only.
        let certified = certified_key(key, vec![leaf, authority])?;
        let server_verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| verifier_error(&error))?;
        let optional = client_verifier(&roots, &provider, true)?;
        let demanded = client_verifier(&roots, &provider, false)?;

        let mut lane_client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_webpki_verifier(server_verifier)
            .with_client_cert_resolver(Arc::clone(&certified) as _);
        lane_client.resumption = Resumption::disabled();
        let lane_server = server_config(&provider, optional, &certified)?;
        let mut api_server = server_config(&provider, demanded, &certified)?;
        api_server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            lane_client: Arc::new(lane_client),
            lane_server: Arc::new(lane_server),
            api_server: Arc::new(api_server),
        })
    }

    /// For dialling a lane: shows this node's certificate, demands one of the mesh.
    #[must_use]
    pub fn lane_client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.lane_client)
    }

    /// For accepting lanes and joins. A certificate that is shown must be of the mesh and in its
    /// time, but none need be shown, because a joining node has none: whoever serves a lane must
    /// look.
    #[must_use]
    pub fn lane_server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lane_server)
    }

    /// For the gRPC port: a certificate of the mesh is demanded; HTTP/2 is negotiated.
    #[must_use]
    pub fn api_server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.api_server)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// aws-lc-rs with Ed25519 as the only signature: nothing else stands in a mesh's certificates.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>, IdentityError> {
    let mut provider = aws_lc_rs::default_provider();
    let ed25519 = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == SignatureScheme::ED25519)
        .ok_or_else(|| rustls::Error::General("the provider lacks Ed25519".to_owned()))?;
    provider.signature_verification_algorithms =
        WebPkiSupportedAlgorithms { all: ed25519.1, mapping: std::slice::from_ref(ed25519) };
    Ok(Arc::new(provider))
}

fn certified_key(
    key: &NodeKey,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Arc<SingleCertAndKey>, IdentityError> {
    let signer = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(key.pkcs8()))?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match()?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn client_verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    anonymous_too: bool,
) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
    // Without hints about roots a stranger shows what it has, and is told what is wrong with it.
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .clear_root_hint_subjects();
    let builder = if anonymous_too { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| verifier_error(&error))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    certified: &Arc<SingleCertAndKey>,
) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(certified) as _);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

pub(crate) fn verifier_error(error: &VerifierBuilderError) -> IdentityError {
    IdentityError::Tls(rustls::Error::General(error.to_string()))
}

#[cfg(test)]
mod tests;
