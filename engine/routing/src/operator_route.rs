//! A path that an operator has set for one pair of nodes, announced by the node that was asked.

use hawser_wire::{ByteReader, DecodeError, HOPS_MAX, NodeId};

/// Most operator routes that one node announces.
pub const OPERATOR_ROUTES_MAX: usize = 32;

/// Most nodes between the ends of a path.
pub const VIA_MAX: usize = HOPS_MAX - 1;

/// Traffic of `from` to `to`, of whatever class, takes this path before any that is computed, as long
/// as all its links are there and all nodes between are transit. While they are not it takes those
/// that are computed, as if no route were set.
///
/// **Invariant:** a node steers its own traffic alone: in an advertisement that is taken, `from` is
/// its origin, see [`Lsa::steers_soundly`](crate::Lsa::steers_soundly).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OperatorRoute {
    /// Where the path begins.
    pub from: NodeId,
    /// Where it ends.
    pub to: NodeId,
    /// The nodes between, in order; at most [`VIA_MAX`].
    pub via: Vec<NodeId>,
}

impl OperatorRoute {
    /// Longest encoding, in bytes.
    pub(crate) const BYTES_MAX: usize = 2 * NodeId::LEN + 1 + VIA_MAX * NodeId::LEN;

    /// It is a path of `origin` that leads elsewhere, and names no node twice.
    pub(crate) fn is_sound_at(&self, origin: NodeId) -> bool {
        let mut nodes: Vec<NodeId> = self.via.clone();
        nodes.extend([self.from, self.to]);
        nodes.sort_unstable();
        self.from == origin && !nodes.windows(2).any(|pair| pair.first() == pair.last())
    }

    /// The routes as they are encoded: in ascending order, each once, within the bounds.
    pub(crate) fn ordered(routes: &[Self]) -> Vec<Self> {
        let mut routes: Vec<Self> =
            routes.iter().filter(|route| route.via.len() <= VIA_MAX).cloned().collect();
        routes.sort();
        routes.dedup();
        routes.truncate(OPERATOR_ROUTES_MAX);
        routes
    }

    pub(crate) fn encode_all(routes: &[Self], out: &mut Vec<u8>) {
        out.push(u8::try_from(routes.len()).unwrap_or(0));
        for route in routes {
            out.extend_from_slice(route.from.as_bytes());
            out.extend_from_slice(route.to.as_bytes());
            out.push(u8::try_from(route.via.len()).unwrap_or(0));
            for node in &route.via {
                out.extend_from_slice(node.as_bytes());
            }
        }
    }

    pub(crate) fn decode_all(reader: &mut ByteReader<'_>) -> Result<Vec<Self>, DecodeError> {
        let what = "link-state advertisement's operator routes";
        let count = bounded(reader.u8()?, what, OPERATOR_ROUTES_MAX)?;
        let mut routes: Vec<Self> = Vec::new();
        for position in 0..count {
            let mut route = Self {
                from: NodeId::from_bytes(reader.array()?),
                to: NodeId::from_bytes(reader.array()?),
                via: Vec::new(),
            };
            for _ in 0..bounded(reader.u8()?, "operator route's nodes", VIA_MAX)? {
                route.via.push(NodeId::from_bytes(reader.array()?));
            }
            if routes.last().is_some_and(|before| *before >= route) {
                return Err(DecodeError::Invalid { what, value: u64::from(position) });
            }
            routes.push(route);
        }
        Ok(routes)
    }
}

/// Why a path that an operator has set is not taken at present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// One of its links is not there; the first such one.
    NoLink {
        /// Where the link would begin.
        from: NodeId,
        /// Where it would end.
        to: NodeId,
    },
    /// One of the nodes between carries nothing for others; the first such one.
    NoTransit {
        /// The node.
        node: NodeId,
    },
}

fn bounded(count: u8, what: &'static str, max: usize) -> Result<u8, DecodeError> {
    if usize::from(count) > max {
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        return Err(DecodeError::TooLarge { what, value: u64::from(count), max });
    }
    Ok(count)
}
