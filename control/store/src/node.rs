use std::fmt;

use hawser_wire::{AdjacencyIndex, NodeId};
use redb::{ReadableTable, TableDefinition};
use zeroize::Zeroizing;

use crate::codec::{RecordReader, RecordWriter};
use crate::database::{META, Outcome};
use crate::error::Fault;
use crate::{Store, StoreError};

/// Neighbour to index.
pub(crate) const ADJACENCIES: TableDefinition<'_, &[u8; 16], u32> =
    TableDefinition::new("adjacencies");

const META_NODE: &str = "node";
const META_BOOT: &str = "boot";
const META_DRAINED: &str = "drained";
const META_ADJACENCY_LAST: &str = "adjacency_last";

/// Who this node is.
#[derive(Clone, Eq, PartialEq)]
pub struct NodeRecord {
    /// Its Ed25519 key, PKCS#8.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    /// Its human name.
    pub name: String,
}

impl fmt::Debug for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeRecord").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Store {
    /// This node's identity, if it has one yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn node(&self) -> Result<Option<NodeRecord>, StoreError> {
        self.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let Some(record) = meta.get(META_NODE)? else { return Ok(None) };
            let mut reader = RecordReader::new(record.value(), "node record")?;
            let node = NodeRecord {
                key_pkcs8: Zeroizing::new(reader.blob()?.to_vec()),
                name: reader.text()?,
            };
            reader.finish()?;
            Ok(Some(node))
        })
    }

    /// Whether the operator has drained this node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn drained(&self) -> Result<bool, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(META)?.get(META_DRAINED)?.is_some()))
    }

    /// Keeps that the operator has drained this node, or that it is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_drained(&self, drained: bool) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            if drained {
                meta.insert(META_DRAINED, [].as_slice())?;
            } else {
                meta.remove(META_DRAINED)?;
            }
            Ok(Outcome::Changed(()))
        })
    }

    /// Sets this node's identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_node(&self, node: &NodeRecord) -> Result<(), StoreError> {
        let record = RecordWriter::new().blob(&node.key_pkcs8).text(&node.name);
        self.write(|transaction| {
            transaction.open_table(META)?.insert(META_NODE, record.as_bytes())?;
            Ok(Outcome::Changed(()))
        })
    }

    /// Raises the boot counter and returns it: 1 at the first start. Incarnation and boot epoch
    /// are made of it, so no value is ever given twice.
    ///
    /// # Errors
    /// [`StoreError`]; the counter may have been raised.
    pub fn next_boot(&self) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let last = meta
                .get(META_BOOT)?
                .map(|record| -> Result<u64, Fault> {
                    let mut reader = RecordReader::new(record.value(), "boot counter")?;
                    let last = reader.u64()?;
                    reader.finish()?;
                    Ok(last)
                })
                .transpose()?;
            let next = last.unwrap_or(0).checked_add(1).ok_or(Fault::Exhausted("boot number"))?;
            meta.insert(META_BOOT, RecordWriter::new().u64(next).as_bytes())?;
            Ok(Outcome::Changed(next))
        })
    }

    /// The index that names `neighbour` at this node: the one that it has, else a new one that no
    /// neighbour ever had.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn adjacency_index(&self, neighbour: NodeId) -> Result<AdjacencyIndex, StoreError> {
        let known = self.read(|transaction| {
            let adjacencies = transaction.open_table(ADJACENCIES)?;
            Ok(adjacencies.get(neighbour.as_bytes())?.map(|index| index.value()))
        })?;
        if let Some(index) = known {
            return Ok(AdjacencyIndex(index));
        }
        self.write(|transaction| {
            let mut adjacencies = transaction.open_table(ADJACENCIES)?;
            if let Some(index) = adjacencies.get(neighbour.as_bytes())? {
                return Ok(Outcome::Unchanged(AdjacencyIndex(index.value())));
            }
            // Counted apart from the table, so that a row that goes leaves its number behind.
            let mut meta = transaction.open_table(META)?;
            let last = meta
                .get(META_ADJACENCY_LAST)?
                .map(|record| -> Result<u64, Fault> {
                    let mut reader = RecordReader::new(record.value(), "adjacency counter")?;
                    let last = reader.u64()?;
                    reader.finish()?;
                    Ok(last)
                })
                .transpose()?
                .unwrap_or(0);
            let exhausted = Fault::Exhausted("adjacency index");
            let next = last.saturating_add(1);
            let Ok(index) = u32::try_from(next) else { return Err(exhausted) };
            meta.insert(META_ADJACENCY_LAST, RecordWriter::new().u64(next).as_bytes())?;
            adjacencies.insert(neighbour.as_bytes(), index)?;
            Ok(Outcome::Changed(AdjacencyIndex(index)))
        })
    }

    /// Every index ever given, with its neighbour.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn adjacencies(&self) -> Result<Vec<(AdjacencyIndex, NodeId)>, StoreError> {
        self.read(|transaction| {
            let mut indices = Vec::new();
            for row in transaction.open_table(ADJACENCIES)?.iter()? {
                let (neighbour, index) = row?;
                indices
                    .push((AdjacencyIndex(index.value()), NodeId::from_bytes(*neighbour.value())));
            }
            Ok(indices)
        })
    }
}
