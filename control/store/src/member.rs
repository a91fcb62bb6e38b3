use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::error::Fault;
use crate::{Store, StoreError};

pub(crate) const MEMBERS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("members");

/// A node that this node has let into the mesh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberRecord {
    /// The node.
    pub node: NodeId,
    /// Its human name.
    pub name: String,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// When it joined, in seconds since the Unix epoch.
    pub joined_unix_s: u64,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemberPut {
    /// It is kept; an older record of the same node is replaced.
    Inserted,
    /// Another node has the name; nothing changed.
    NameTaken {
        /// That node.
        by: NodeId,
    },
}

impl Store {
    /// Keeps a member, unless another one has its name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_member(&self, member: &MemberRecord) -> Result<MemberPut, StoreError> {
        self.write(|transaction| {
            let put = put(transaction, member)?;
            Ok(match put {
                MemberPut::Inserted => Outcome::Changed(put),
                MemberPut::NameTaken { .. } => Outcome::Unchanged(put),
            })
        })
    }

    /// Every member that was let in here, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(|transaction| {
            let mut members = Vec::new();
            for row in transaction.open_table(MEMBERS)?.iter()? {
                let (node, record) = row?;
                members.push(decode(*node.value(), record.value())?);
            }
            Ok(members)
        })
    }
}

/// Keeps a member within a transaction, unless another one has its name.
pub(crate) fn put(
    transaction: &WriteTransaction,
    member: &MemberRecord,
) -> Result<MemberPut, Fault> {
    let mut members = transaction.open_table(MEMBERS)?;
    for row in members.iter()? {
        let (node, record) = row?;
        let other = decode(*node.value(), record.value())?;
        if other.node != member.node && other.name == member.name {
            return Ok(MemberPut::NameTaken { by: other.node });
        }
    }
    let record =
        RecordWriter::new().text(&member.name).blob(&member.certificate).u64(member.joined_unix_s);
    members.insert(member.node.as_bytes(), record.as_bytes())?;
    Ok(MemberPut::Inserted)
}

fn decode(node: [u8; 16], record: &[u8]) -> Result<MemberRecord, Fault> {
    let mut reader = RecordReader::new(record, "member record")?;
    let member = MemberRecord {
        node: NodeId::from_bytes(node),
        name: reader.text()?,
        certificate: reader.blob()?.to_vec(),
        joined_unix_s: reader.u64()?,
    };
    reader.finish()?;
    Ok(member)
}
