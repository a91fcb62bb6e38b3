use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use crate::SessionError;
use crate::outgoing::Outgoing;

/// A TLS record carries at most this much plaintext (RFC 8446 §5.1).
pub(crate) const RECORD_PLAINTEXT_MAX: usize = 16 << 10;
/// Content type, version and length before each record (RFC 8446 §5.1).
pub(crate) const RECORD_HEADER_BYTES: usize = 5;
/// Of every AEAD of TLS 1.3.
pub(crate) const TAG_BYTES: usize = 16;
/// The inner content type, behind the plaintext (RFC 8446 §5.2).
const TYPE_BYTES: usize = 1;

/// What a record carries (RFC 8446 §5.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ContentType {
    Alert,
    Handshake,
    ApplicationData,
}

impl ContentType {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// One direction's traffic key, with the sequence number of its next record (RFC 8446 §5.2, §5.3).
pub(crate) struct TrafficKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl TrafficKey {
    /// # Errors
    /// [`SessionError::Tls`] if the secrets are of no AEAD that is known here.
    pub(crate) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, SessionError> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(rustls::Error::General("an AEAD without a name".to_owned()).into()),
        };
        Self::with(algorithm, key.as_ref(), iv.as_ref(), sequence)
    }

    fn with(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Result<Self, SessionError> {
        let unusable = || rustls::Error::General("a traffic key of a wrong length".to_owned());
        let key = UnboundKey::new(algorithm, key).map_err(|_no_detail| unusable())?;
        let iv = iv.try_into().map_err(|_no_detail| unusable())?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// Records that were sealed or opened with it.
    pub(crate) const fn records(&self) -> u64 {
        self.sequence
    }

    /// Of the next record; no two are the same, since the number of records is bounded by 2⁶⁴.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let mut nonce = self.iv;
        let [.., a, b, c, d, e, f, g, h] = &mut nonce;
        for (byte, number) in [a, b, c, d, e, f, g, h].into_iter().zip(self.sequence.to_be_bytes())
        {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends a record of `len_bytes` of plaintext, at most [`RECORD_PLAINTEXT_MAX`], which `fill`
    /// writes where it is encrypted.
    ///
    /// # Errors
    /// [`SessionError::Tls`] if the key is used up; nothing is appended.
    pub(crate) fn seal(
        &mut self,
        content: ContentType,
        len_bytes: usize,
        outgoing: &mut Outgoing,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SessionError> {
        self.seal_with(content, len_bytes, outgoing, |key, nonce, header, plaintext, behind| {
            fill(plaintext);
            let aad = Aad::from(header);
            key.seal_in_place_scatter(nonce, aad, plaintext, &[content.code()], behind)
        })
    }

    /// As [`Self::seal`], of plaintext that lies elsewhere: it is read once, and not copied.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn seal_from(
        &mut self,
        content: ContentType,
        plaintext: &[u8],
        outgoing: &mut Outgoing,
    ) -> Result<(), SessionError> {
        let len_bytes = plaintext.len();
        self.seal_with(content, len_bytes, outgoing, |key, nonce, header, out, behind| {
            let (aad, inner) = (Aad::from(header), &[content.code()]);
            key.seal_out_of_place_scatter(nonce, aad, plaintext, out, inner, behind)
        })
    }

    fn seal_with<E>(
        &mut self,
        content: ContentType,
        len_bytes: usize,
        outgoing: &mut Outgoing,
        encrypt: impl FnOnce(&LessSafeKey, Nonce, [u8; 5], &mut [u8], &mut [u8]) -> Result<(), E>,
    ) -> Result<(), SessionError> {
        debug_assert!(len_bytes <= RECORD_PLAINTEXT_MAX, "{content:?} of {len_bytes} bytes");
        let unable = || SessionError::Tls(rustls::Error::EncryptError);
        let protected_bytes = len_bytes + TYPE_BYTES + TAG_BYTES;
        let header = record_header(protected_bytes).ok_or_else(unable)?;
        let nonce = self.next_nonce().ok_or_else(unable)?;
        let record_bytes = RECORD_HEADER_BYTES + protected_bytes;
        let room = outgoing.room(record_bytes).get_mut(..record_bytes).ok_or_else(unable)?;
        let (front, protected) = room.split_at_mut(RECORD_HEADER_BYTES);
        let (plaintext, behind) = protected.split_at_mut(len_bytes);
        front.copy_from_slice(&header);
        if encrypt(&self.key, nonce, header, plaintext, behind).is_err() {
            room.fill(0);
            return Err(unable());
        }
        outgoing.commit(record_bytes);
        Ok(())
    }

    /// Decrypts a record where it lies; its content, with type and padding behind it. The sequence
    /// number advances.
    ///
    /// # Errors
    /// [`SessionError::Tls`] if it was not made with this key for this place; it cannot go on then.
    pub(crate) fn open<'a>(
        &mut self,
        header: [u8; RECORD_HEADER_BYTES],
        protected: &'a mut [u8],
    ) -> Result<&'a mut [u8], SessionError> {
        let unable = || SessionError::Tls(rustls::Error::DecryptError);
        let nonce = self.next_nonce().ok_or_else(unable)?;
        let opened = self.key.open_in_place(nonce, Aad::from(header), protected);
        opened.map_err(|_no_detail| unable())
    }

    /// As [`Self::open`], to where the content belongs: `opened` is as long as the record without its
    /// tag. After an error what stands there means nothing.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open_to(
        &mut self,
        header: [u8; RECORD_HEADER_BYTES],
        protected: &[u8],
        opened: &mut [u8],
    ) -> Result<(), SessionError> {
        let unable = || SessionError::Tls(rustls::Error::DecryptError);
        let nonce = self.next_nonce().ok_or_else(unable)?;
        let (ciphertext, tag) = protected.split_last_chunk::<TAG_BYTES>().ok_or_else(unable)?;
        let aad = Aad::from(header);
        let gathered = self.key.open_separate_gather(nonce, aad, ciphertext, tag, opened);
        gathered.map_err(|_no_detail| unable())
    }
}

/// Of a protected record (RFC 8446 §5.2): its type and version are always the same.
fn record_header(protected_bytes: usize) -> Option<[u8; RECORD_HEADER_BYTES]> {
    let [high, low] = u16::try_from(protected_bytes).ok()?.to_be_bytes();
    Some([ContentType::ApplicationData.code(), 3, 3, high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's of RFC 8448 §3.
    fn key() -> TrafficKey {
        let key = [
            0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9, 0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f,
            0x50, 0x51,
        ];
        let iv = [0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9];
        TrafficKey::with(&AES_128_GCM, &key, &iv, 0).unwrap()
    }

    /// 50 bytes of application data, then a closure alert, from the same trace.
    const RECORDS: [&[u8]; 2] = [
        &[
            0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf,
            0xfa, 0xfe, 0x82, 0x28, 0xba, 0x55, 0xcb, 0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa,
            0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8, 0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5,
            0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b, 0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2,
            0x97, 0x70, 0x14, 0xbd, 0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49,
            0x15, 0xe4,
        ],
        &[
            0x17, 0x03, 0x03, 0x00, 0x13, 0xc9, 0x87, 0x27, 0x60, 0x65, 0x56, 0x66, 0xb7, 0x4d,
            0x7f, 0xf1, 0x15, 0x3e, 0xfd, 0x6d, 0xb6, 0xd0, 0xb0, 0xe3,
        ],
    ];

    fn data() -> Vec<u8> {
        (0..50).collect()
    }

    #[test]
    fn the_records_of_rfc_8448_are_made() {
        let (mut key, mut outgoing) = (key(), Outgoing::default());
        key.seal_from(ContentType::ApplicationData, &data(), &mut outgoing).unwrap();
        key.seal(ContentType::Alert, 2, &mut outgoing, |alert| alert.copy_from_slice(&[1, 0]))
            .unwrap();
        assert_eq!(outgoing.take(), RECORDS.concat());
        assert_eq!(key.records(), 2);
    }

    #[test]
    fn the_records_of_rfc_8448_are_opened() {
        let mut key = key();
        for (record, inner) in RECORDS.iter().zip([[data(), vec![23]].concat(), vec![1, 0, 21]]) {
            let (header, protected) = record.split_first_chunk().unwrap();
            assert_eq!(key.open(*header, &mut protected.to_vec()).unwrap(), inner);
        }
    }

    #[test]
    fn a_record_in_anothers_place_or_with_another_header_is_not_opened() {
        let (header, protected) = RECORDS[1].split_first_chunk().unwrap();
        key().open(*header, &mut protected.to_vec()).unwrap_err();
        let (&[kind, major, minor, high, low], protected) = RECORDS[0].split_first_chunk().unwrap();
        for header in [[22, major, minor, high, low], [kind, major, 1, high, low]] {
            key().open(header, &mut protected.to_vec()).unwrap_err();
        }
        for len in [0, 15, 16] {
            key().open([kind, major, minor, 0, 0], &mut vec![0; len]).unwrap_err();
        }
    }

    #[test]
    fn plaintext_where_it_lies_and_from_elsewhere_make_the_same_record() {
        for len in [0, 1, 100, RECORD_PLAINTEXT_MAX] {
            let plaintext: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let (mut there, mut elsewhere) = (Outgoing::default(), Outgoing::default());
            let content = ContentType::ApplicationData;
            key().seal_from(content, &plaintext, &mut elsewhere).unwrap();
            let fill = |to: &mut [u8]| to.copy_from_slice(&plaintext);
            key().seal(content, len, &mut there, fill).unwrap();
            assert_eq!(there.take(), elsewhere.take(), "{len} bytes");
        }
    }

    #[test]
    fn a_key_that_is_used_up_seals_nothing() {
        let (mut key, mut outgoing) = (key(), Outgoing::default());
        key.sequence = u64::MAX;
        key.seal_from(ContentType::ApplicationData, b"x", &mut outgoing).unwrap_err();
        assert_eq!(outgoing.len(), 0);
    }
}
