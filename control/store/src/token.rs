use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::error::Fault;
use crate::{MemberPut, MemberRecord, Store, StoreError, eviction, member};

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

/// What became of a node that came with a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admitted {
    /// The token is used up, the node is a member.
    Granted,
    /// The token was never issued here. As with all that follow, nothing changed.
    TokenUnknown,
    /// The token was used up before.
    TokenUsed,
    /// The token is too old.
    TokenExpired,
    /// The token is another node's.
    TokenOfOther,
    /// The token is good, but the mesh has evicted the node.
    Evicted,
    /// The token is good, but another member has the name.
    NameTaken {
        /// That member.
        by: NodeId,
    },
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

    /// Lets `member` in, if the token with this digest is good for it at `now_unix_s`: uses the
    /// token up and keeps the member, both or neither. Of several attempts at once, one is granted.
    ///
    /// The name is only looked at if the token is good: a stranger learns no names.
    ///
    /// # Errors
    /// [`StoreError`]; the node may have been let in.
    pub fn admit(
        &self,
        digest: [u8; 32],
        now_unix_s: u64,
        member: &MemberRecord,
    ) -> Result<Admitted, StoreError> {
        self.write(|transaction| {
            let mut tokens = transaction.open_table(TOKENS)?;
            let Some((token, used_by)) =
                tokens.get(&digest)?.map(|record| decode(record.value())).transpose()?
            else {
                return Ok(Outcome::Unchanged(Admitted::TokenUnknown));
            };
            if used_by.is_some() {
                return Ok(Outcome::Unchanged(Admitted::TokenUsed));
            }
            if now_unix_s >= token.expires_unix_s {
                return Ok(Outcome::Unchanged(Admitted::TokenExpired));
            }
            if token.node.is_some_and(|bound| bound != member.node) {
                return Ok(Outcome::Unchanged(Admitted::TokenOfOther));
            }
            if eviction::is_evicted(transaction, member.node)? {
                return Ok(Outcome::Unchanged(Admitted::Evicted));
            }
            if let MemberPut::NameTaken { by } = member::put(transaction, member)? {
                return Ok(Outcome::Unchanged(Admitted::NameTaken { by }));
            }
            tokens.insert(&digest, encode(token, Some(member.node)).as_bytes())?;
            Ok(Outcome::Changed(Admitted::Granted))
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
