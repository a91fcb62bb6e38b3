use crate::IdentityError;

/// 16 random bytes of the operating system's generator, for an id that nothing else has.
///
/// # Errors
/// [`IdentityError::Random`] if there are none.
pub fn random_id() -> Result<[u8; 16], IdentityError> {
    random()
}

/// A random number, for jitter and the like.
///
/// # Errors
/// [`IdentityError::Random`] if there is none.
pub fn random_u64() -> Result<u64, IdentityError> {
    random().map(u64::from_le_bytes)
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut out = [0_u8; N];
    aws_lc_rs::rand::fill(&mut out).map_err(|_unspecified| IdentityError::Random)?;
    Ok(out)
}
