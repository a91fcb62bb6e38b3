use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use hawser_wire::{ByteReader, DecodeError, MeshId, NodeId};
use zeroize::Zeroizing;

use crate::random::random;
use crate::{IdentityError, TokenFault, sha256};

const PREFIX: &str = "hawser-";
const FORMAT: u8 = 1;
/// Finds mistakes of typing and copying; an attacker who changes the text gains nothing by
/// making it right, because the secret in it is what counts.
const CHECKSUM_BYTES: usize = 4;
/// Longest text that is looked at, in characters; the longest token has 593.
const TEXT_CHARS_MAX: usize = 1024;

/// Lets one node join a mesh, once, until it expires.
///
/// It carries all that the joining node must know: whom to dial, which authority to believe, and
/// the secret that speaks for it. Only a digest of the secret is kept at the authority.
#[derive(Clone)]
pub struct JoinToken {
    /// The mesh.
    pub mesh: MeshId,
    /// SHA-256 of the authority's certificate: the only one that the joining node believes.
    pub authority_fingerprint: [u8; 32],
    /// What proves that the token was issued. Wiped when dropped.
    pub secret: Zeroizing<[u8; 32]>,
    /// Where to dial, `host:port`; at most 255 bytes.
    pub address: String,
    /// End of its life in Unix seconds, for people; the authority judges.
    pub expires_unix_s: u64,
    /// If set, the only node that may use it.
    pub node: Option<NodeId>,
}

impl JoinToken {
    /// A new secret.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the operating system gave no random bytes.
    pub fn new_secret() -> Result<Zeroizing<[u8; 32]>, IdentityError> {
        random().map(Zeroizing::new)
    }

    /// The token as text: `hawser-` and lower-case base32. Whoever reads it can use it.
    ///
    /// An address of more than 255 bytes is left out: the joining node must then be told where to
    /// dial.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Zeroizing::new(Vec::with_capacity(384));
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.mesh.as_bytes());
        bytes.extend_from_slice(&self.authority_fingerprint);
        bytes.extend_from_slice(self.secret.as_slice());
        bytes.extend_from_slice(&self.expires_unix_s.to_le_bytes());
        let node = self.node.as_ref().map_or(&[][..], |node| node.as_bytes());
        bytes.push(u8::from(self.node.is_some()));
        bytes.extend_from_slice(node);
        let (len, address) = match u8::try_from(self.address.len()) {
            Ok(len) => (len, self.address.as_str()),
            Err(_too_long) => (0, ""),
        };
        bytes.push(len);
        bytes.extend_from_slice(address.as_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 8 / 5 + 1);
        text.push_str(PREFIX);
        BASE32_NOPAD.encode_append(&bytes, &mut text);
        text.make_ascii_lowercase();
        text
    }

    /// Reads what [`encode`](Self::encode) wrote, in either case; spaces and line ends around or
    /// within it, as terminals and mails add them, are skipped.
    ///
    /// # Errors
    /// [`TokenFault`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let mut compact = Zeroizing::new(String::with_capacity(TEXT_CHARS_MAX * 4));
        compact.extend(text.chars().filter(|c| !c.is_whitespace()).take(TEXT_CHARS_MAX));
        compact.make_ascii_lowercase();
        let body = compact.strip_prefix(PREFIX).ok_or(TokenFault::Prefix)?;
        if !body.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) {
            return Err(TokenFault::Characters.into());
        }
        let bytes = BASE32_NOPAD_NOCASE
            .decode(body.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_length| TokenFault::Checksum)?;
        let (fields, announced) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenFault::Checksum)?;
        if checksum(fields) != *announced {
            return Err(TokenFault::Checksum.into());
        }
        match fields.first() {
            Some(&FORMAT) => Ok(read_fields(fields).map_err(|_error| TokenFault::Malformed)?),
            Some(&format) => Err(TokenFault::Format(format).into()),
            None => Err(TokenFault::Malformed.into()),
        }
    }
}

fn read_fields(fields: &[u8]) -> Result<JoinToken, DecodeError> {
    let mut reader = ByteReader::new(fields, "join token");
    let _format = reader.u8()?;
    let token = JoinToken {
        mesh: MeshId::from_bytes(reader.array()?),
        authority_fingerprint: reader.array()?,
        secret: Zeroizing::new(reader.array()?),
        expires_unix_s: reader.u64()?,
        node: match reader.u8()? {
            0 => None,
            1 => Some(NodeId::from_bytes(reader.array()?)),
            value => {
                let value = u64::from(value);
                return Err(DecodeError::Invalid { what: "join token's node", value });
            }
        },
        address: reader.name()?.to_owned(),
    };
    reader.finish()?;
    Ok(token)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = sha256(bytes);
    [a, b, c, d]
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("mesh", &self.mesh)
            .field("address", &self.address)
            .field("expires_unix_s", &self.expires_unix_s)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
