use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow};
use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};

use crate::row::{Case, Rows};
use crate::timing::nanos_per_call;

const UNITS: &[&str] = &["ns/record", "MB/s"];

/// Sealing and opening of one record in place.
pub(crate) fn measure(rows: &mut Rows, sample: Duration) -> Result<()> {
    for bytes in [64, 1 << 10, 16 << 10, 64 << 10] {
        let mut cases = Vec::new();
        for (name, algorithm) in
            [("aes-256-gcm", &AES_256_GCM), ("chacha20-poly1305", &CHACHA20_POLY1305)]
        {
            cases.push(Case::new(format!("{name} seal"), bytes, UNITS, move || {
                let mut cipher = Cipher::new(algorithm, bytes)?;
                rates(bytes, nanos_per_call(sample, || cipher.seal())?)
            }));
            cases.push(Case::new(format!("{name} open"), bytes, UNITS, move || {
                // What is opened has to be restored: copying is part of the figure.
                let mut cipher = Cipher::new(algorithm, bytes)?;
                cipher.seal_whole()?;
                rates(bytes, nanos_per_call(sample, || cipher.open())?)
            }));
        }
        rows.alternate("aead", &mut cases)?;
    }
    Ok(())
}

fn rates(bytes: usize, nanos: f64) -> Result<Vec<f64>> {
    Ok(vec![nanos, bytes as f64 * 1000.0 / nanos])
}

struct Cipher {
    key: LessSafeKey,
    counter: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    scratch: Vec<u8>,
}

impl Cipher {
    fn new(algorithm: &'static Algorithm, bytes: usize) -> Result<Self> {
        let key =
            UnboundKey::new(algorithm, &[7; 32]).map_err(|_no_detail| anyhow!("key refused"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            counter: 0,
            plain: vec![0x5a; bytes],
            sealed: Vec::new(),
            scratch: Vec::new(),
        })
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        for (byte, counted) in nonce.iter_mut().zip(counter.to_le_bytes()) {
            *byte = counted;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self) -> Result<()> {
        self.counter += 1;
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Self::nonce(self.counter),
                Aad::from(&[1; 32]),
                &mut self.plain,
            )
            .map_err(|_no_detail| anyhow!("seal refused"))?;
        black_box(tag.as_ref());
        Ok(())
    }

    fn seal_whole(&mut self) -> Result<()> {
        self.sealed = self.plain.clone();
        self.key
            .seal_in_place_append_tag(Self::nonce(0), Aad::from(&[1; 32]), &mut self.sealed)
            .map_err(|_no_detail| anyhow!("seal refused"))
    }

    fn open(&mut self) -> Result<()> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.sealed);
        let plain = self
            .key
            .open_in_place(Self::nonce(0), Aad::from(&[1; 32]), &mut self.scratch)
            .map_err(|_no_detail| anyhow!("what was sealed does not open"))?;
        black_box(plain);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_timed_opens_what_was_sealed() {
        for algorithm in [&AES_256_GCM, &CHACHA20_POLY1305] {
            let mut cipher = Cipher::new(algorithm, 100).unwrap();
            cipher.seal_whole().unwrap();
            assert_eq!(cipher.sealed.len(), 116);
            cipher.open().unwrap();
            assert_eq!(cipher.scratch[..100], [0x5a; 100]);
            cipher.seal().unwrap();
            assert_ne!(cipher.plain, [0x5a; 100]);
        }
    }
}
