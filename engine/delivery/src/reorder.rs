use std::collections::BTreeMap;

use hawser_wire::{Record, StreamOffset};

/// Records that came before their turn. Bounded by the stream's credit, as the records in order are.
#[derive(Debug, Default)]
pub(crate) struct Reorder {
    early: BTreeMap<StreamOffset, Record>,
    bytes: u64,
}

impl Reorder {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn insert(&mut self, record: Record) {
        let bytes = record.charge_bytes();
        if self.early.insert(record.header.stream_base, record).is_none() {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    pub(crate) fn contains(&self, base: StreamOffset) -> bool {
        self.early.contains_key(&base)
    }

    /// Where the last record begins, and what it counts for.
    pub(crate) fn last(&self) -> Option<(StreamOffset, u64)> {
        self.early.last_key_value().map(|(&base, record)| (base, record.charge_bytes()))
    }

    /// The first record that begins at or below `frontier`.
    pub(crate) fn pop_due(&mut self, frontier: StreamOffset) -> Option<Record> {
        let entry = self.early.first_entry().filter(|entry| *entry.key() <= frontier)?;
        let record = entry.remove();
        let bytes = record.charge_bytes();
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(record)
    }

    pub(crate) fn clear(&mut self) {
        self.early.clear();
        self.bytes = 0;
    }
}
