use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::error::Fault;
use crate::{Store, StoreError};

/// Digest of the secret to the rest; the secret itself is nowhere.
pub(crate) const TOKENS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("tokens");

/// A join token that was issued here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenRecord {
    /// Seconds since the Unix epoch from which it is void.
    pub expires_unix_s: u64,
    /// The only node that may use it, if it is bound to one.
    pub node: Option<NodeId>,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Redeemed {
    /// It was good; it is used up now.
    Granted,
    /// It was never issued here.
    Unknown,
    /// It was used up before.
    Used,
    /// It is too old.
    Expired,
    /// It is another node's.
    OtherNode,
}

impl Store {
    /// Keeps a token that was issued, by the digest of its secret.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_token(&self, digest: [u8; 32], token: TokenRecord) -> Result<(), StoreError> {
        let record = encode(token, None);
        self.write(|transaction| {
            transaction.open_table(TOKENS)?.insert(&digest, record.as_bytes())?;
            Ok(Outcome::Changed(()))
        })
    }

    /// Uses a token up for `node`, if it is good at `now_unix_s`. Of several attempts at once, one
    /// is granted.
    ///
    /// # Errors
    /// [`StoreError`]; the token may be used up.
    pub fn redeem_token(
        &self,
        digest: [u8; 32],
        node: NodeId,
        now_unix_s: u64,
    ) -> Result<Redeemed, StoreError> {
        self.write(|transaction| {
            let mut tokens = transaction.open_table(TOKENS)?;
            let Some((token, used_by)) =
                tokens.get(&digest)?.map(|record| decode(record.value())).transpose()?
            else {
                return Ok(Outcome::Unchanged(Redeemed::Unknown));
            };
            if used_by.is_some() {
                return Ok(Outcome::Unchanged(Redeemed::Used));
            }
            if now_unix_s >= token.expires_unix_s {
                return Ok(Outcome::Unchanged(Redeemed::Expired));
            }
            if token.node.is_some_and(|bound| bound != node) {
                return Ok(Outcome::Unchanged(Redeemed::OtherNode));
            }
            tokens.insert(&digest, encode(token, Some(node)).as_bytes())?;
            Ok(Outcome::Changed(Redeemed::Granted))
        })
    }
}

fn encode(token: TokenRecord, used_by: Option<NodeId>) -> RecordWriter {
    RecordWriter::new().u64(token.expires_unix_s).node_option(token.node).node_option(used_by)
}

fn decode(record: &[u8]) -> Result<(TokenRecord, Option<NodeId>), Fault> {
    let mut reader = RecordReader::new(record, "token record")?;
    let token = TokenRecord { expires_unix_s: reader.u64()?, node: reader.node_option()? };
    let used_by = reader.node_option()?;
    reader.finish()?;
    Ok((token, used_by))
}
