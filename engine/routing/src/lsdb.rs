//! The link-state database: the newest advertisement of each origin.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use bytes::Bytes;
use hawser_wire::NodeId;

use crate::{Lsa, LsaVersion};

/// Most origins in a database. Further ones are refused, known ones still renewed.
pub const ORIGINS_MAX: usize = 16_384;

/// Most bytes of encoded advertisements in a database.
pub const LSDB_BYTES_MAX: usize = 64 << 20;

/// What became of an advertisement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Inserted {
    /// It is the newest of its origin and stands in the database now.
    Newest,
    /// The very same one is there.
    Same,
    /// A newer one is there.
    Older,
    /// There is no room for it; nothing changed.
    Full,
}

/// The newest advertisement of each origin, by incarnation, then sequence, then hash.
///
/// **Invariant:** the result does not depend on the order of insertion, unless a bound is hit.
#[derive(Clone, Debug, Default)]
pub struct Lsdb {
    entries: BTreeMap<NodeId, Entry>,
    encoded_bytes: usize,
    digest: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    lsa: Lsa,
    version: LsaVersion,
    encoding: Bytes,
}

impl Lsdb {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an advertisement in if it is newer. Its signature is the caller's business.
    pub fn insert(&mut self, mut lsa: Lsa) -> Inserted {
        lsa.adjacencies = lsa.ordered_adjacencies();
        let mut encoding = Vec::new();
        lsa.encode(&mut encoding);
        let version = lsa.version_of(&encoding);
        let verdict = self.judge(lsa.origin, version, encoding.len());
        if verdict == Inserted::Newest {
            self.store(lsa, version, encoding.into());
        }
        verdict
    }

    /// What [`Lsdb::insert`] would say of an advertisement with this version and length.
    pub(crate) fn judge(&self, origin: NodeId, version: LsaVersion, len: usize) -> Inserted {
        let old = self.entries.get(&origin);
        match old.map(|entry| version.cmp(&entry.version)) {
            Some(std::cmp::Ordering::Equal) => return Inserted::Same,
            Some(std::cmp::Ordering::Less) => return Inserted::Older,
            None if self.entries.len() >= ORIGINS_MAX => return Inserted::Full,
            None | Some(std::cmp::Ordering::Greater) => {}
        }
        let freed = old.map_or(0, |entry| entry.encoding.len());
        if self.encoded_bytes.saturating_sub(freed).saturating_add(len) > LSDB_BYTES_MAX {
            return Inserted::Full;
        }
        Inserted::Newest
    }

    /// Stores what [`Lsdb::judge`] found to be the newest.
    pub(crate) fn store(&mut self, lsa: Lsa, version: LsaVersion, encoding: Bytes) {
        self.encoded_bytes = self.encoded_bytes.saturating_add(encoding.len());
        self.digest = self.digest.wrapping_add(spread(version.hash));
        let entry = Entry { lsa, version, encoding };
        if let Some(old) = self.entries.insert(entry.lsa.origin, entry) {
            self.encoded_bytes = self.encoded_bytes.saturating_sub(old.encoding.len());
            self.digest = self.digest.wrapping_sub(spread(old.version.hash));
        }
    }

    /// The newest advertisement of `origin`.
    #[must_use]
    pub fn get(&self, origin: NodeId) -> Option<&Lsa> {
        self.entries.get(&origin).map(|entry| &entry.lsa)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self, origin: NodeId) -> Option<LsaVersion> {
        self.entries.get(&origin).map(|entry| entry.version)
    }

    /// Its encoding.
    pub(crate) fn encoding(&self, origin: NodeId) -> Option<&Bytes> {
        self.entries.get(&origin).map(|entry| &entry.encoding)
    }

    /// Versions of the origins in `range`, in their order.
    pub(crate) fn versions(
        &self,
        range: impl RangeBounds<NodeId>,
    ) -> impl Iterator<Item = (NodeId, LsaVersion)> + '_ {
        self.entries.range(range).map(|(origin, entry)| (*origin, entry.version))
    }

    /// Every advertisement, in the order of the origins' ids.
    pub fn iter(&self) -> impl Iterator<Item = &Lsa> + '_ {
        self.entries.values().map(|entry| &entry.lsa)
    }

    /// Origins.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Equal for equal databases, whatever the order in which they were filled; 0 if empty.
    /// Different ones differ with all likelihood; an origin that means to deceive can make two of
    /// its own advertisements look alike, and thereby nothing worse than it can by lying.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

/// The finaliser of `SplitMix64`: sums of its values collide as rarely as random ones.
const fn spread(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
