use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::database::Outcome;
use crate::error::Fault;
use crate::{Store, StoreError, member};

/// Records of evictions as they are on the wire, by the node that is out. Stores of earlier releases
/// have no such table.
pub(crate) const EVICTIONS: TableDefinition<'_, &[u8; 16], &[u8]> =
    TableDefinition::new("evictions");

impl Store {
    /// Keeps the record of an eviction, unless there is one of that node; the node is no member any
    /// more, and its name is free.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_eviction(&self, node: NodeId, record: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(member::MEMBERS)?.remove(node.as_bytes())?;
            let mut evictions = transaction.open_table(EVICTIONS)?;
            if evictions.get(node.as_bytes())?.is_none() {
                evictions.insert(node.as_bytes(), record)?;
            }
            Ok(Outcome::Changed(()))
        })
    }

    /// Every record of an eviction, in the order of the nodes that are out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn evictions(&self) -> Result<Vec<(NodeId, Vec<u8>)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(EVICTIONS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut evictions = Vec::new();
            for row in table.iter()? {
                let (node, record) = row?;
                evictions.push((NodeId::from_bytes(*node.value()), record.value().to_vec()));
            }
            Ok(evictions)
        })
    }
}

/// Whether the node was evicted, as a transaction sees it.
pub(crate) fn is_evicted(transaction: &WriteTransaction, node: NodeId) -> Result<bool, Fault> {
    Ok(transaction.open_table(EVICTIONS)?.get(node.as_bytes())?.is_some())
}
