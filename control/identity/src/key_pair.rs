use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rcgen::SignatureAlgorithm;
use zeroize::Zeroizing;

use crate::IdentityError;

/// An Ed25519 key pair (RFC 8032) with its PKCS#8 form (RFC 8410), which is wiped when dropped.
pub(crate) struct KeyPair {
    pair: Ed25519KeyPair,
    public_key: [u8; 32],
    pkcs8: Zeroizing<Vec<u8>>,
}

impl KeyPair {
    pub(crate) fn generate() -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::generate().map_err(|_unspecified| IdentityError::Random)?;
        let document = pair.to_pkcs8().map_err(|_unspecified| IdentityError::Random)?;
        Self::from_pkcs8(document.as_ref(), "the new key")
    }

    /// `what` names the key in the error.
    pub(crate) fn from_pkcs8(pkcs8: &[u8], what: &'static str) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|_rejected| IdentityError::PrivateKey { what })?;
        let public_key = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_length| IdentityError::PrivateKey { what })?;
        Ok(Self { pair, public_key, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    pub(crate) const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0_u8; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

impl rcgen::PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message).to_vec())
    }
}
