use hawser_wire::{NodeId, StreamId, StreamOffset, TrafficClass};
use redb::{ReadableTable, TableDefinition};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::error::Fault;
use crate::{Store, StoreError};

pub(crate) const STREAMS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("streams");
/// Stream and consumer to the first offset that is not confirmed.
pub(crate) const CONSUMERS: TableDefinition<'_, (&[u8; 16], &str), u64> =
    TableDefinition::new("consumers");

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamState {
    /// It takes messages.
    Open,
    /// Its application closed it; what was published is still being delivered.
    Closing,
    /// Everything is delivered.
    Closed,
}

/// A stream that this node is the source or a destination of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamRecord {
    /// The stream.
    pub stream: StreamId,
    /// Its tenant's name.
    pub tenant: String,
    /// Its human name.
    pub name: String,
    /// Its source node.
    pub source: NodeId,
    /// Its destination nodes.
    pub destinations: Vec<NodeId>,
    /// Quality of service, as the API numbers it.
    pub qos: u8,
    /// Where it is in its life.
    pub state: StreamState,
    /// At the source: the destinations that have confirmed it.
    pub confirmed: Vec<NodeId>,
    /// When it was made, in seconds since the Unix epoch.
    pub created_unix_s: u64,
    /// Its records take all bulk lanes of a link.
    pub striped: bool,
    /// Of its records.
    pub class: TrafficClass,
}

impl Store {
    /// Keeps a stream; an older record of it is replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_stream(&self, stream: &StreamRecord) -> Result<(), StoreError> {
        let state = match stream.state {
            StreamState::Open => 0,
            StreamState::Closing => 1,
            StreamState::Closed => 2,
        };
        let record = RecordWriter::new()
            .text(&stream.tenant)
            .text(&stream.name)
            .id(stream.source.as_bytes())
            .nodes(&stream.destinations)
            .u8(stream.qos)
            .u8(state)
            .nodes(&stream.confirmed)
            .u64(stream.created_unix_s)
            .u8(u8::from(stream.striped));
        // An earlier release knows of bulk alone, and reads what is.
        let record = match stream.class {
            TrafficClass::Bulk => record,
            class => record.u8(class.to_wire()),
        };
        self.write(|transaction| {
            transaction.open_table(STREAMS)?.insert(stream.stream.as_bytes(), record.as_bytes())?;
            Ok(Outcome::Changed(()))
        })
    }

    /// Every stream, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn streams(&self) -> Result<Vec<StreamRecord>, StoreError> {
        self.read(|transaction| {
            let mut streams = Vec::new();
            for row in transaction.open_table(STREAMS)?.iter()? {
                let (stream, record) = row?;
                streams.push(decode(*stream.value(), record.value())?);
            }
            Ok(streams)
        })
    }

    /// Forgets a stream and its consumers; true if it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_stream(&self, stream: StreamId) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let old = transaction.open_table(STREAMS)?.remove(stream.as_bytes())?.is_some();
            if !old {
                return Ok(Outcome::Unchanged(false));
            }
            let mut consumers = transaction.open_table(CONSUMERS)?;
            let names = names_of(&consumers, stream)?;
            for (name, _) in &names {
                consumers.remove((stream.as_bytes(), name.as_str()))?;
            }
            Ok(Outcome::Changed(true))
        })
    }

    /// Keeps how far consumers have confirmed: the first offset that each has not. What is
    /// confirmed only grows, so a lower offset than the one kept is left out; so is a consumer of
    /// a stream that is not (or no longer) known.
    ///
    /// # Errors
    /// [`StoreError`]; none of them was kept, or all.
    pub fn put_consumers(
        &self,
        confirmed: &[(StreamId, String, StreamOffset)],
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let streams = transaction.open_table(STREAMS)?;
            let mut consumers = transaction.open_table(CONSUMERS)?;
            let mut changed = false;
            for (stream, name, offset) in confirmed {
                let key = (stream.as_bytes(), name.as_str());
                let kept = consumers.get(key)?.map(|kept| kept.value());
                if kept >= Some(offset.0) || streams.get(stream.as_bytes())?.is_none() {
                    continue;
                }
                consumers.insert(key, offset.0)?;
                changed = true;
            }
            Ok(if changed { Outcome::Changed(()) } else { Outcome::Unchanged(()) })
        })
    }

    /// The consumers of a stream, sorted by name, with the first offset that each has not
    /// confirmed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn consumers(&self, stream: StreamId) -> Result<Vec<(String, StreamOffset)>, StoreError> {
        self.read(|transaction| names_of(&transaction.open_table(CONSUMERS)?, stream))
    }
}

fn names_of(
    consumers: &impl ReadableTable<(&'static [u8; 16], &'static str), u64>,
    stream: StreamId,
) -> Result<Vec<(String, StreamOffset)>, Fault> {
    let mut found = Vec::new();
    for row in consumers.range((stream.as_bytes(), "")..)? {
        let (key, offset) = row?;
        let (of, name) = key.value();
        if of != stream.as_bytes() {
            break;
        }
        found.push((name.to_owned(), StreamOffset(offset.value())));
    }
    Ok(found)
}

fn decode(stream: [u8; 16], record: &[u8]) -> Result<StreamRecord, Fault> {
    let mut reader = RecordReader::new(record, "stream record")?;
    let stream = StreamRecord {
        stream: StreamId::from_bytes(stream),
        tenant: reader.text()?,
        name: reader.text()?,
        source: reader.node()?,
        destinations: reader.nodes()?,
        qos: reader.u8()?,
        state: match reader.u8()? {
            0 => StreamState::Open,
            1 => StreamState::Closing,
            2 => StreamState::Closed,
            other => return Err(reader.invalid(other)),
        },
        confirmed: reader.nodes()?,
        created_unix_s: reader.u64()?,
        striped: reader.later_flag()?,
        class: reader.later_class()?,
    };
    reader.finish()?;
    Ok(stream)
}
