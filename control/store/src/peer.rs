use redb::{ReadableTable, TableDefinition};

use crate::database::Outcome;
use crate::{Store, StoreError};

pub(crate) const PEERS: TableDefinition<'_, &str, ()> = TableDefinition::new("peers");

impl Store {
    /// Keeps an address to dial.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_peer(&self, address: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            let old = transaction.open_table(PEERS)?.insert(address, ())?.is_some();
            Ok(if old { Outcome::Unchanged(()) } else { Outcome::Changed(()) })
        })
    }

    /// Forgets an address; true if it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_peer(&self, address: &str) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let old = transaction.open_table(PEERS)?.remove(address)?.is_some();
            Ok(if old { Outcome::Changed(true) } else { Outcome::Unchanged(false) })
        })
    }

    /// Addresses to dial, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peers(&self) -> Result<Vec<String>, StoreError> {
        self.read(|transaction| {
            let mut peers = Vec::new();
            for row in transaction.open_table(PEERS)?.iter()? {
                let (address, _) = row?;
                peers.push(address.value().to_owned());
            }
            Ok(peers)
        })
    }
}
