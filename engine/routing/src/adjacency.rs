//! What a node says of one of its links.

use hawser_wire::{AdjacencyIndex, ByteReader, DecodeError, NodeId};

use crate::LinkMetrics;

/// One direction of a link as its near end sees it. It counts only while the far end lists the
/// near one too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adjacency {
    /// The far end.
    pub neighbour: NodeId,
    /// The origin's durable name for it, as source routes carry it.
    pub index: AdjacencyIndex,
    /// As the origin measures the way to the neighbour.
    pub metrics: AdjacencyMetrics,
}

/// Metrics of one direction of a link, as advertised: integers, so that they are equal everywhere.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AdjacencyMetrics {
    /// One-way latency in microseconds.
    pub latency_us: u32,
    /// What the link was seen to carry, in kilobits a second; 0 if that is not known.
    pub bandwidth_kbps: u32,
    /// Heartbeats that were not answered, in millionths; below [`Self::LOSS_PPM_END`].
    pub loss_ppm: u32,
    /// Share of the bandwidth in use, in thousandths; at most [`Self::UTILIZATION_PERMILLE_MAX`].
    /// Enters no cost.
    pub utilization_permille: u16,
    /// What the operator adds, in hops.
    pub admin: u16,
}

impl AdjacencyMetrics {
    /// Nothing that loses everything is a link.
    pub const LOSS_PPM_END: u32 = 1_000_000;
    /// All of it.
    pub const UTILIZATION_PERMILLE_MAX: u16 = 1000;
}

impl From<AdjacencyMetrics> for LinkMetrics {
    fn from(metrics: AdjacencyMetrics) -> Self {
        let mbps = f64::from(metrics.bandwidth_kbps) / 1e3;
        Self {
            latency_us: metrics.latency_us,
            bandwidth_mbps: (metrics.bandwidth_kbps > 0).then_some(mbps),
            loss: f64::from(metrics.loss_ppm) / 1e6,
            utilization: f64::from(metrics.utilization_permille) / 1e3,
            admin: metrics.admin.into(),
        }
    }
}

impl Adjacency {
    /// Bytes on the wire.
    pub(crate) const LEN: usize = 16 + 4 + 4 + 4 + 4 + 2 + 2;

    /// As it is encoded: what is out of its bounds counts as the bound.
    pub(crate) fn bounded(mut self) -> Self {
        let metrics = &mut self.metrics;
        metrics.loss_ppm = metrics.loss_ppm.min(AdjacencyMetrics::LOSS_PPM_END.saturating_sub(1));
        metrics.utilization_permille =
            metrics.utilization_permille.min(AdjacencyMetrics::UTILIZATION_PERMILLE_MAX);
        self
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.neighbour.as_bytes());
        out.extend_from_slice(&self.index.0.to_le_bytes());
        out.extend_from_slice(&self.metrics.latency_us.to_le_bytes());
        out.extend_from_slice(&self.metrics.bandwidth_kbps.to_le_bytes());
        out.extend_from_slice(&self.metrics.loss_ppm.to_le_bytes());
        out.extend_from_slice(&self.metrics.utilization_permille.to_le_bytes());
        out.extend_from_slice(&self.metrics.admin.to_le_bytes());
    }

    pub(crate) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let link = Self {
            neighbour: NodeId::from_bytes(reader.array()?),
            index: AdjacencyIndex(reader.u32()?),
            metrics: AdjacencyMetrics {
                latency_us: reader.u32()?,
                bandwidth_kbps: reader.u32()?,
                loss_ppm: reader.u32()?,
                utilization_permille: reader.u16()?,
                admin: reader.u16()?,
            },
        };
        if link.bounded() != link {
            let value = u64::from(link.metrics.loss_ppm);
            return Err(DecodeError::Invalid { what: "adjacency's loss or utilisation", value });
        }
        Ok(link)
    }
}

/// Reads adjacencies in strictly ascending order of their neighbours, none to `origin`, at most
/// `max` of them.
pub(crate) fn decode_adjacencies(
    reader: &mut ByteReader<'_>,
    origin: NodeId,
    max: usize,
) -> Result<Vec<Adjacency>, DecodeError> {
    let what = "link-state advertisement's adjacencies";
    let count = reader.u16()?;
    if usize::from(count) > max {
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        return Err(DecodeError::TooLarge { what, value: u64::from(count), max });
    }
    let mut adjacencies: Vec<Adjacency> = Vec::new();
    for position in 0..count {
        let link = Adjacency::decode(reader)?;
        let ascends = adjacencies.last().is_none_or(|before| before.neighbour < link.neighbour);
        if link.neighbour == origin || !ascends {
            return Err(DecodeError::Invalid { what, value: u64::from(position) });
        }
        adjacencies.push(link);
    }
    Ok(adjacencies)
}

/// Appends what [`decode_adjacencies`] reads.
pub(crate) fn encode_adjacencies(adjacencies: &[Adjacency], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(adjacencies.len()).unwrap_or(0).to_le_bytes());
    for link in adjacencies {
        link.encode(out);
    }
}
