use crate::reader::put_name;
use crate::{ByteReader, DecodeError, MeshId};

/// Longest blob in a join message, in bytes.
const BLOB_BYTES_MAX: usize = 8 << 10;

/// A node that has a token but no certificate asks to be let in.
///
/// Sent over TLS under the authority that the token pins; the asker is anonymous at that point, so
/// the token's secret and the signature of the request are all that speaks for it.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinRequest {
    /// The token's secret.
    pub secret: Vec<u8>,
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
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_blob(out, &self.secret);
        put_blob(out, &self.csr);
        put_name(out, &self.name);
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off or too long.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "join request");
        let request = Self {
            secret: blob(&mut reader)?,
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
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.mesh.as_bytes());
        put_name(out, &self.mesh_name);
        put_blob(out, &self.certificate);
        put_blob(out, &self.authority);
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

fn put_blob(out: &mut Vec<u8>, blob: &[u8]) {
    let blob = blob.get(..BLOB_BYTES_MAX).unwrap_or(blob);
    out.extend_from_slice(&u16::try_from(blob.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(blob);
}

fn blob(reader: &mut ByteReader<'_>) -> Result<Vec<u8>, DecodeError> {
    let len = usize::from(reader.u16()?);
    if len > BLOB_BYTES_MAX {
        let (value, max) = (u64::try_from(len).unwrap_or(0), 8 << 10);
        return Err(DecodeError::TooLarge { what: "join message's blob", value, max });
    }
    Ok(reader.bytes(len)?.to_vec())
}
