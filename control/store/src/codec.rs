//! Records as they are stored: a version byte, then the fields, little-endian.

use hawser_wire::{ByteReader, DecodeError, NodeId, TrafficClass};
use zeroize::Zeroizing;

use crate::error::Fault;

/// The version of every record so far.
const RECORD_VERSION: u8 = 1;

/// Writes a record. The buffer is wiped when it is dropped, since some records hold keys.
pub(crate) struct RecordWriter(Zeroizing<Vec<u8>>);

impl RecordWriter {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(vec![RECORD_VERSION]))
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn id(mut self, id: &[u8; 16]) -> Self {
        self.0.extend_from_slice(id);
        self
    }

    /// Bytes behind their length. No record comes near 4 GiB.
    pub(crate) fn blob(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // Grown by hand, so that no old copy of a key is left behind in freed memory.
        let mut grown = Zeroizing::new(Vec::with_capacity(self.0.len() + 4 + bytes.len()));
        grown.extend_from_slice(&self.0);
        grown.extend_from_slice(&len.to_le_bytes());
        grown.extend_from_slice(bytes);
        self.0 = grown;
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.blob(text.as_bytes())
    }

    pub(crate) fn node_option(self, node: Option<NodeId>) -> Self {
        match node {
            Some(node) => self.u8(1).id(node.as_bytes()),
            None => self.u8(0),
        }
    }

    pub(crate) fn nodes(mut self, nodes: &[NodeId]) -> Self {
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&count.to_le_bytes());
        nodes.iter().fold(self, |writer, node| writer.id(node.as_bytes()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a record; a failure says which.
pub(crate) struct RecordReader<'a> {
    reader: ByteReader<'a>,
    what: &'static str,
}

impl<'a> RecordReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Result<Self, Fault> {
        let mut reader = Self { reader: ByteReader::new(bytes, what), what };
        let version = reader.u8()?;
        if version == RECORD_VERSION { Ok(reader) } else { Err(reader.invalid(version)) }
    }

    fn fault(&self, error: DecodeError) -> Fault {
        Fault::Record { what: self.what, error }
    }

    /// A byte that means nothing.
    pub(crate) fn invalid(&self, value: u8) -> Fault {
        self.fault(DecodeError::Invalid { what: self.what, value: u64::from(value) })
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.reader.u8().map_err(|error| self.fault(error))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.invalid(other)),
        }
    }

    /// A flag that records of an earlier release end before; they mean false.
    pub(crate) fn later_flag(&mut self) -> Result<bool, Fault> {
        if self.reader.rest().is_empty() { Ok(false) } else { self.flag() }
    }

    /// A class of traffic that records of an earlier release end before; they mean bulk.
    pub(crate) fn later_class(&mut self) -> Result<TrafficClass, Fault> {
        if self.reader.rest().is_empty() {
            return Ok(TrafficClass::Bulk);
        }
        TrafficClass::from_wire(self.u8()?).map_err(|error| self.fault(error))
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.reader.u32().map_err(|error| self.fault(error))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.reader.u64().map_err(|error| self.fault(error))
    }

    pub(crate) fn id(&mut self) -> Result<[u8; 16], Fault> {
        self.reader.array().map_err(|error| self.fault(error))
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, Fault> {
        self.id().map(NodeId::from_bytes)
    }

    pub(crate) fn blob(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u32()?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.reader.bytes(len).map_err(|error| self.fault(error))
    }

    pub(crate) fn text(&mut self) -> Result<String, Fault> {
        let text = std::str::from_utf8(self.blob()?).map_err(|error| {
            let value = u64::try_from(error.valid_up_to()).unwrap_or(u64::MAX);
            self.fault(DecodeError::Invalid { what: self.what, value })
        })?;
        Ok(text.to_owned())
    }

    pub(crate) fn node_option(&mut self) -> Result<Option<NodeId>, Fault> {
        Ok(if self.flag()? { Some(self.node()?) } else { None })
    }

    pub(crate) fn nodes(&mut self) -> Result<Vec<NodeId>, Fault> {
        let count = self.u32()?;
        // Not reserved by the count: a corrupt one must not ask for memory.
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.node()?);
        }
        Ok(nodes)
    }

    /// The record must end here.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        let Self { reader, what } = self;
        reader.finish().map_err(|error| Fault::Record { what, error })
    }
}
