//! The streams that begin or end at this node. Pure.

use std::collections::{BTreeMap, VecDeque};

use hawser_exchange::{DestinationSpec, SourceSpec, StreamSpec};
use hawser_identity::tenant_id;
use hawser_store::{StreamRecord, StreamState};
use hawser_wire::{BootEpoch, NodeId, StreamId, StreamOffset, TrafficClass};

use crate::datagram::{STREAM_NAME_BYTES_MAX, StreamAnnounce};
use crate::directory::nearest;
use crate::{PlaneError, StreamView};

/// Most streams at one node.
pub(crate) const STREAMS_MAX: usize = 16_384;

/// Streams that have ended and are still shown.
const ENDED_SHOWN: usize = 64;

/// Every stream of this node, by id.
#[derive(Debug)]
pub(crate) struct Catalogue {
    local: NodeId,
    streams: BTreeMap<StreamId, StreamRecord>,
    /// Streams that begin here, by tenant and name.
    own: BTreeMap<(String, String), StreamId>,
    /// The last ones that ended in this life, oldest first, and how many messages they had.
    ended: VecDeque<(StreamRecord, StreamOffset)>,
}

impl Catalogue {
    pub(crate) const fn new(local: NodeId) -> Self {
        Self { local, streams: BTreeMap::new(), own: BTreeMap::new(), ended: VecDeque::new() }
    }

    pub(crate) fn insert(&mut self, record: StreamRecord) {
        if record.source == self.local {
            self.own.insert((record.tenant.clone(), record.name.clone()), record.stream);
        }
        self.streams.insert(record.stream, record);
    }

    pub(crate) fn remove(&mut self, stream: StreamId) -> Option<StreamRecord> {
        let record = self.streams.remove(&stream)?;
        if record.source == self.local {
            self.own.remove(&(record.tenant.clone(), record.name.clone()));
        }
        Some(record)
    }

    pub(crate) fn clear(&mut self) {
        self.streams.clear();
        self.own.clear();
        self.ended.clear();
    }

    /// The stream is to be shown as closed, also when it is removed.
    pub(crate) fn note_ended(&mut self, record: StreamRecord, end: StreamOffset) {
        if self.ended.len() >= ENDED_SHOWN {
            self.ended.pop_front();
        }
        self.ended.push_back((record, end));
    }

    /// Streams that have ended and were removed.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (&StreamRecord, StreamOffset)> + '_ {
        self.ended
            .iter()
            .filter(|(record, _)| !self.streams.contains_key(&record.stream))
            .map(|(record, end)| (record, *end))
    }

    pub(crate) fn get(&self, stream: StreamId) -> Option<&StreamRecord> {
        self.streams.get(&stream)
    }

    pub(crate) fn get_mut(&mut self, stream: StreamId) -> Option<&mut StreamRecord> {
        self.streams.get_mut(&stream)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StreamRecord> + '_ {
        self.streams.values()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.streams.len() >= STREAMS_MAX
    }

    /// The stream of this name and tenant that begins here.
    pub(crate) fn own(&self, tenant: &str, name: &str) -> Option<&StreamRecord> {
        let stream = self.own.get(&(tenant.to_owned(), name.to_owned()))?;
        self.streams.get(stream)
    }

    /// The stream that an application calls `text`: an id, or a name that one stream alone has, not
    /// counting those that have ended if another has not.
    ///
    /// # Errors
    /// [`PlaneError::UnknownStream`], [`PlaneError::AmbiguousStream`].
    pub(crate) fn resolve(&self, text: &str) -> Result<&StreamRecord, PlaneError> {
        if let Some(record) = text.parse().ok().and_then(|stream| self.streams.get(&stream)) {
            return Ok(record);
        }
        let mut named: Vec<_> = self.iter().filter(|record| record.name == text).collect();
        if named.iter().any(|record| record.state != StreamState::Closed) {
            named.retain(|record| record.state != StreamState::Closed);
        }
        match named.as_slice() {
            [only] => Ok(only),
            [] => {
                let names = self.iter().map(|record| record.name.as_str());
                let nearest = nearest(text, names);
                Err(PlaneError::UnknownStream { stream: text.to_owned(), nearest })
            }
            several => {
                let candidates = several.iter().map(|record| record.stream).collect();
                Err(PlaneError::AmbiguousStream { name: text.to_owned(), candidates })
            }
        }
    }

    /// What an application is shown of a stream.
    pub(crate) fn view(&self, record: &StreamRecord) -> StreamView {
        StreamView {
            stream: record.stream,
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            source: record.source,
            destinations: record.destinations.clone(),
            qos: record.qos,
            is_source: record.source == self.local,
            is_destination: record.destinations.contains(&self.local),
            state: record.state,
        }
    }

    /// What the shard that hosts the stream is told.
    pub(crate) fn spec(
        &self,
        record: &StreamRecord,
        epoch: BootEpoch,
        fresh: bool,
        consumers: Vec<(String, StreamOffset)>,
    ) -> StreamSpec {
        let source = (record.source == self.local).then(|| SourceSpec {
            destinations: record.destinations.clone(),
            fresh,
            closing: record.state != StreamState::Open,
            striped: record.striped,
            class: record.class,
        });
        let destination = record.destinations.contains(&self.local).then_some(DestinationSpec {
            source: record.source,
            consumers,
            restored: !fresh,
        });
        StreamSpec {
            stream: record.stream,
            tenant: tenant_id(&record.tenant),
            epoch,
            source,
            destination,
        }
    }
}

/// What the destinations of a stream are told.
pub(crate) fn announcement(record: &StreamRecord) -> StreamAnnounce {
    StreamAnnounce {
        stream: record.stream,
        tenant: record.tenant.clone(),
        name: record.name.clone(),
        qos: record.qos,
        closing: record.state != StreamState::Open,
        created_unix_s: record.created_unix_s,
        destinations: record.destinations.clone(),
        striped: record.striped,
        class: record.class,
    }
}

/// The record that a destination keeps.
pub(crate) fn announced_record(source: NodeId, announce: StreamAnnounce) -> StreamRecord {
    StreamRecord {
        stream: announce.stream,
        tenant: announce.tenant,
        name: announce.name,
        source,
        destinations: announce.destinations,
        qos: announce.qos,
        state: if announce.closing { StreamState::Closing } else { StreamState::Open },
        confirmed: Vec::new(),
        created_unix_s: announce.created_unix_s,
        striped: announce.striped,
        class: announce.class,
    }
}

/// The rule for names of streams and tenants.
///
/// # Errors
/// [`PlaneError::NameInvalid`].
pub(crate) fn check_stream_name(what: &'static str, name: &str) -> Result<(), PlaneError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX || !name.chars().all(allowed) {
        let value = name.chars().take(STREAM_NAME_BYTES_MAX).collect();
        let rule = "1 to 128 characters of A-Z, a-z, 0-9, `.`, `_`, `-`";
        return Err(PlaneError::NameInvalid { what, value, rule });
    }
    Ok(())
}

/// Control is of nodes alone, and priority has one lane of a link.
///
/// # Errors
/// [`PlaneError::NameInvalid`].
pub(crate) fn check_class(class: TrafficClass, striped: bool) -> Result<(), PlaneError> {
    let rule = match class {
        TrafficClass::Control => "a stream is of class priority or bulk",
        TrafficClass::Priority if striped => "a stream of class priority is not striped",
        _ => return Ok(()),
    };
    let (what, value) = ("traffic class", class.name().to_owned());
    Err(PlaneError::NameInvalid { what, value, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: NodeId = NodeId::from_bytes([1; 16]);
    const OTHER: NodeId = NodeId::from_bytes([2; 16]);

    fn record(id: u8, name: &str, source: NodeId, destinations: &[NodeId]) -> StreamRecord {
        StreamRecord {
            stream: StreamId::from_bytes([id; 16]),
            tenant: "default".into(),
            name: name.into(),
            source,
            destinations: destinations.to_vec(),
            qos: 0,
            state: StreamState::Open,
            confirmed: Vec::new(),
            created_unix_s: 1,
            striped: true,
            class: TrafficClass::Bulk,
        }
    }

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::new(LOCAL);
        catalogue.insert(record(1, "orders", LOCAL, &[OTHER]));
        catalogue.insert(record(2, "orders", OTHER, &[LOCAL]));
        catalogue.insert(record(3, "invoices", OTHER, &[LOCAL]));
        catalogue
    }

    #[test]
    fn streams_are_found_by_id_and_by_a_name_of_their_own() {
        let catalogue = catalogue();
        let id = StreamId::from_bytes([2; 16]);
        assert_eq!(catalogue.resolve(&id.to_string()).expect("known").stream, id);
        assert_eq!(catalogue.resolve("invoices").expect("known").source, OTHER);
        assert!(matches!(
            catalogue.resolve("orders"),
            Err(PlaneError::AmbiguousStream { candidates, .. }) if candidates.len() == 2
        ));
        assert!(matches!(
            catalogue.resolve("invoice"),
            Err(PlaneError::UnknownStream { nearest: Some(nearest), .. }) if nearest == "invoices"
        ));
        assert_eq!(
            catalogue.own("default", "orders").expect("own").stream,
            StreamId::from_bytes([1; 16])
        );
        assert!(catalogue.own("default", "invoices").is_none());
    }

    #[test]
    fn a_removed_stream_frees_its_name() {
        let mut catalogue = catalogue();
        catalogue.remove(StreamId::from_bytes([1; 16]));
        assert!(catalogue.own("default", "orders").is_none());
        assert_eq!(catalogue.resolve("orders").expect("one left").source, OTHER);
    }

    #[test]
    fn roles_follow_from_the_record() {
        let catalogue = catalogue();
        let spec = |record: &StreamRecord| catalogue.spec(record, BootEpoch(5), true, Vec::new());
        let source = spec(&record(1, "orders", LOCAL, &[OTHER]));
        assert!(source.source.is_some_and(|part| part.striped) && source.destination.is_none());
        let destination = spec(&record(2, "orders", OTHER, &[LOCAL]));
        assert!(destination.source.is_none() && destination.destination.is_some());
        let both = spec(&record(4, "loop", LOCAL, &[LOCAL]));
        assert!(both.source.is_some() && both.destination.is_some());
    }

    #[test]
    fn an_announcement_becomes_the_same_record_elsewhere() {
        let original = record(1, "orders", LOCAL, &[OTHER]);
        assert_eq!(announced_record(LOCAL, announcement(&original)), original);
    }

    #[test]
    fn names_are_checked() {
        assert!(check_stream_name("stream", "a-Z_0.9").is_ok());
        for name in ["", "a b", "ä", "a/b", &"n".repeat(129)] {
            assert!(check_stream_name("stream", name).is_err(), "{name:?}");
        }
    }
}
