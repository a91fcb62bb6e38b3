use rustls::crypto::SecureRandom;

use crate::SessionError;

/// Draws the masks of client frames, which must be unpredictable (RFC 6455 §5.3), many at a time.
#[derive(Debug)]
pub(crate) struct MaskSource {
    random: &'static dyn SecureRandom,
    pool: [u8; 256],
    used: usize,
}

impl MaskSource {
    pub(crate) const fn new(random: &'static dyn SecureRandom) -> Self {
        Self { random, pool: [0; 256], used: 256 }
    }

    pub(crate) fn next(&mut self) -> Result<[u8; 4], SessionError> {
        if self.used >= self.pool.len() {
            self.random.fill(&mut self.pool).map_err(|_no_detail| SessionError::NoRandomness)?;
            self.used = 0;
        }
        let mask = self.pool.get(self.used..).and_then(|rest| rest.first_chunk()).copied();
        self.used += 4;
        mask.ok_or(SessionError::NoRandomness)
    }
}

/// The key twice.
const fn wide_key([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

/// Copies `from` into `to`, which is as long, masked as by [`apply_mask`]: one pass instead of two.
pub(crate) fn copy_masked(to: &mut [u8], from: &[u8], key: [u8; 4]) {
    let wide = wide_key(key);
    let (to_chunks, to_tail) = to.as_chunks_mut::<8>();
    let (from_chunks, from_tail) = from.as_chunks::<8>();
    for (to, from) in to_chunks.iter_mut().zip(from_chunks) {
        *to = (u64::from_ne_bytes(*from) ^ wide).to_ne_bytes();
    }
    for ((to, from), key) in to_tail.iter_mut().zip(from_tail).zip(key.iter().cycle()) {
        *to = from ^ key;
    }
}

/// Masks or unmasks in place (RFC 6455 §5.3): each byte with the key's byte in its turn.
pub(crate) fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = wide_key(key);
    let (chunks, tail) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_5_7() {
        let mut hello = *b"Hello";
        apply_mask(&mut hello, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(hello, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn every_length_is_masked_bytewise() {
        let key = [1, 2, 3, 4];
        for len in 0..64_usize {
            let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut copy = vec![0xff; len];
            copy_masked(&mut copy, &bytes, key);
            assert_eq!(copy, expected, "length {len}");
            apply_mask(&mut bytes, key);
            assert_eq!(bytes, expected, "length {len}");
        }
    }
}
