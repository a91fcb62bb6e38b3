use zeroize::Zeroizing;

use crate::reader::put_name;
use crate::{ByteReader, DecodeError, MeshId, NAME_BYTES_MAX};

/// Longest blob in a join message, in bytes.
const BLOB_BYTES_MAX: usize = 8 << 10;
/// Its length field, in bytes.
const BLOB_LEN_BYTES: usize = 2;

/// A node that has a token but no certificate asks to be let in.
///
/// Sent over TLS under the authority that the token pins; the asker is anonymous at that point, so
/// the token's secret and the signature of the request are all that speaks for it.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinRequest {
    /// The token's secret; wiped when it is dropped.
    pub secret: Zeroizing<Vec<u8>>,
    /// Certificate signing request, DER (RFC 2986).
    pub csr: Vec<u8>,
    /// Human name wanted.
    pub name: String,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl JoinRequest {
    /// The message. The buffer never grows while it is written, so that the secret is in no memory
    /// but this, and is wiped with it.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if a blob is above 8 KiB.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let name_max = NAME_BYTES_MAX.saturating_add(1);
        let blobs = [self.secret.as_slice(), &self.csr];
        let capacity = blobs.iter().fold(name_max, |sum, blob| {
            sum.saturating_add(BLOB_LEN_BYTES).saturating_add(blob.len())
        });
        let mut out = Zeroizing::new(Vec::with_capacity(capacity));
        for blob in blobs {
            put_blob(&mut out, blob)?;
        }
        put_name(&mut out, &self.name);
        Ok(out)
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off or too long.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "join request");
        let request = Self {
            secret: Zeroizing::new(blob(&mut reader)?),
            csr: blob(&mut reader)?,
            name: reader.name()?.to_owned(),
        };
        reader.finish()?;
        Ok(request)
    }
}

/// The answer to a request that was granted; one that was not gets a [`crate::LaneClose`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinReply {
    /// The mesh.
    pub mesh: MeshId,
    /// Its human name.
    pub mesh_name: String,
    /// The node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The authority's certificate, DER.
    pub authority: Vec<u8>,
}

impl JoinReply {
    /// The message.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if a certificate is above 8 KiB.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let mut out = self.mesh.as_bytes().to_vec();
        put_name(&mut out, &self.mesh_name);
        put_blob(&mut out, &self.certificate)?;
        put_blob(&mut out, &self.authority)?;
        Ok(out)
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off or too long.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "join reply");
        let reply = Self {
            mesh: MeshId::from_bytes(reader.array()?),
            mesh_name: reader.name()?.to_owned(),
            certificate: blob(&mut reader)?,
            authority: blob(&mut reader)?,
        };
        reader.finish()?;
        Ok(reply)
    }
}

fn put_blob(out: &mut Vec<u8>, blob: &[u8]) -> Result<(), DecodeError> {
    check_blob_len(blob.len())?;
    // At most 8 KiB as checked.
    let len = u16::try_from(blob.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(blob);
    Ok(())
}

fn blob(reader: &mut ByteReader<'_>) -> Result<Vec<u8>, DecodeError> {
    let len = usize::from(reader.u16()?);
    check_blob_len(len)?;
    Ok(reader.bytes(len)?.to_vec())
}

fn check_blob_len(len: usize) -> Result<(), DecodeError> {
    let wide = |len| u64::try_from(len).unwrap_or(u64::MAX);
    if len > BLOB_BYTES_MAX {
        let (value, max) = (wide(len), wide(BLOB_BYTES_MAX));
        return Err(DecodeError::TooLarge { what: "join message's blob", value, max });
    }
    Ok(())
}
