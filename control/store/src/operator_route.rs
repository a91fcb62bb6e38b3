use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition, TableError};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::{Store, StoreError};

/// Where a path leads, and the nodes between. Stores of earlier releases have no such table.
pub(crate) const OPERATOR_ROUTES: TableDefinition<'_, &[u8; 16], &[u8]> =
    TableDefinition::new("operator_routes");

impl Store {
    /// Keeps the path that an operator has set to `destination`, in place of another one: the nodes
    /// between, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_operator_route(
        &self,
        destination: NodeId,
        via: &[NodeId],
    ) -> Result<(), StoreError> {
        let record = RecordWriter::new().nodes(via);
        self.write(|transaction| {
            let mut routes = transaction.open_table(OPERATOR_ROUTES)?;
            routes.insert(destination.as_bytes(), record.as_bytes())?;
            Ok(Outcome::Changed(()))
        })
    }

    /// Forgets the path to `destination`; true if there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_operator_route(&self, destination: NodeId) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let mut routes = transaction.open_table(OPERATOR_ROUTES)?;
            let old = routes.remove(destination.as_bytes())?.is_some();
            Ok(if old { Outcome::Changed(true) } else { Outcome::Unchanged(false) })
        })
    }

    /// The paths that operators have set: where each leads, and the nodes between; in the order of
    /// the destinations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn operator_routes(&self) -> Result<Vec<(NodeId, Vec<NodeId>)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(OPERATOR_ROUTES) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut routes = Vec::new();
            for row in table.iter()? {
                let (destination, record) = row?;
                let mut reader = RecordReader::new(record.value(), "operator route")?;
                let via = reader.nodes()?;
                reader.finish()?;
                routes.push((NodeId::from_bytes(*destination.value()), via));
            }
            Ok(routes)
        })
    }
}
