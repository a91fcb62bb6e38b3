//! The link-state database: the newest advertisement of each origin.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{MonoTime, NodeId};

use crate::aged_out::AgedOut;
use crate::delta::LsaDelta;
use crate::life::Life;
use crate::piece_table::PieceTable;
use crate::shared_map::SharedMap;
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
///
/// What has aged out is remembered by its version, so that a replay of it is known for one.
///
/// A clone shares with the database that it was made of what neither has changed since.
#[derive(Clone, Debug, Default)]
pub struct Lsdb {
    entries: SharedMap<NodeId, Entry>,
    /// Until when each entry is kept; without those that are kept for good.
    lives: SharedMap<NodeId, Life>,
    /// When each entry ends, soonest first; without those that do not.
    ends: BTreeSet<(MonoTime, NodeId)>,
    aged_out: AgedOut,
    encoded_bytes: usize,
    digest: u64,
}

/// An advertisement as a database has it, to be [adopted](crate::Flooding::adopt) by others in the
/// same process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoredLsa {
    stored: Arc<Stored>,
    delta: Option<Arc<[u8]>>,
}

/// An advertisement as it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// What is left of its life.
    pub(crate) lifetime: Duration,
    pub(crate) encoding: &'a [u8],
    /// The way to it from the version before, if that is shorter.
    pub(crate) delta: Option<&'a [u8]>,
}

/// What a database had at one time, to see later what has changed since. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LsdbState(SharedMap<NodeId, Entry>);

#[derive(Debug)]
struct Stored {
    lsa: Lsa,
    version: LsaVersion,
    encoding: Bytes,
}

#[derive(Clone, Debug)]
struct Entry {
    stored: Arc<Stored>,
    /// The way here from the version before, if it is shorter than the whole.
    delta: Option<Arc<[u8]>>,
}

/// Pieces of the databases of one process: those that are equal are there once, however the databases
/// have come to them. Advertisements are equal here if they are [shared](crate::Flooding::adopt).
#[derive(Debug, Default)]
pub struct LsdbPieces(PieceTable<Vec<(NodeId, Entry)>>);

/// Whether both share the advertisement.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stored, &other.stored) && self.delta == other.delta
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.stored).hash(state);
        self.delta.as_ref().map(|delta| delta.len()).hash(state);
    }
}

impl Lsdb {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an advertisement in if it is newer, for good: this node's own, which it renews itself.
    /// Its signature is the caller's business.
    pub fn insert(&mut self, mut lsa: Lsa) -> Inserted {
        lsa.normalize();
        let mut encoding = Vec::new();
        lsa.encode(&mut encoding);
        let version = lsa.version_of(&encoding);
        let verdict = self.judge(lsa.origin, version, encoding.len());
        if verdict == Inserted::Newest {
            self.store(lsa, version, encoding.into(), Life::ENDLESS);
        }
        verdict
    }

    /// What [`Lsdb::insert`] would say of an advertisement with this version and length.
    pub(crate) fn judge(&self, origin: NodeId, version: LsaVersion, len: usize) -> Inserted {
        let old = self.entries.get(&origin);
        match old.map(|entry| version.cmp(&entry.stored.version)) {
            Some(std::cmp::Ordering::Equal) => return Inserted::Same,
            Some(std::cmp::Ordering::Less) => return Inserted::Older,
            None if self.entries.len() >= ORIGINS_MAX => return Inserted::Full,
            None | Some(std::cmp::Ordering::Greater) => {}
        }
        let freed = old.map_or(0, |entry| entry.stored.encoding.len());
        if self.encoded_bytes.saturating_sub(freed).saturating_add(len) > LSDB_BYTES_MAX {
            return Inserted::Full;
        }
        Inserted::Newest
    }

    /// Whether this version of `origin` has ended here for good, or is older than one that has ended.
    pub(crate) fn is_over(&self, now: MonoTime, origin: NodeId, version: LsaVersion) -> bool {
        self.aged_out.is_over(now, origin, version)
    }

    /// The life of what is to be stored, of which a copy with so much time left came: it counts from the
    /// first copy, also if that has ended meanwhile.
    pub(crate) fn life_of(
        &self,
        now: MonoTime,
        origin: NodeId,
        version: LsaVersion,
        left: Duration,
    ) -> Life {
        let ended = self.aged_out.life(origin, version);
        ended.map_or_else(|| Life::new(now, left), |ended| ended.again(now, left))
    }

    /// Stores what [`Lsdb::judge`] found to be the newest.
    pub(crate) fn store(&mut self, lsa: Lsa, version: LsaVersion, encoding: Bytes, life: Life) {
        let origin = lsa.origin;
        let old = self.entries.get(&origin).map(|old| Arc::clone(&old.stored));
        let delta = old.as_ref().and_then(|old| {
            let mut delta = Vec::new();
            LsaDelta::between((&old.lsa, old.version), (&lsa, version))?.encode(&mut delta);
            // What saves less than half is not worth asking for the whole now and then.
            (delta.len() <= encoding.len() / 2).then(|| delta.into())
        });
        if let Some(old) = old {
            self.discount(&old);
        }
        self.encoded_bytes = self.encoded_bytes.saturating_add(encoding.len());
        self.digest = self.digest.wrapping_add(spread(version.hash));
        if let Some(end) = life.end() {
            self.ends.insert((end, origin));
            self.lives.insert(origin, life);
        }
        self.aged_out.remove(origin);
        let stored = Arc::new(Stored { lsa, version, encoding });
        self.entries.insert(origin, Entry { stored, delta });
    }

    /// The newest advertisement of `origin`, to be shared.
    #[must_use]
    pub fn stored(&self, origin: NodeId) -> Option<StoredLsa> {
        let Entry { stored, delta, .. } = self.entries.get(&origin)?;
        Some(StoredLsa { stored: Arc::clone(stored), delta: delta.clone() })
    }

    /// Keeps what `other` has in the place of its equal; false if there is none.
    pub(crate) fn adopt(&mut self, other: &StoredLsa) -> bool {
        let Some(entry) = self.entries.get_mut(&other.stored.lsa.origin) else { return false };
        let equal = entry.stored.encoding == other.stored.encoding;
        if equal {
            entry.stored = Arc::clone(&other.stored);
            // Those who had another version before have another way here.
            if entry.delta == other.delta {
                entry.delta.clone_from(&other.delta);
            }
        }
        equal
    }

    /// The advertisement of `origin` ends only with a newer one.
    pub(crate) fn keep_for_good(&mut self, origin: NodeId) {
        if let Some(end) = self.lives.remove(&origin).and_then(Life::end) {
            self.ends.remove(&(end, origin));
        }
    }

    /// What is left to the entry of `origin`, which there is.
    fn life(&self, origin: NodeId) -> Life {
        self.lives.get(&origin).copied().unwrap_or(Life::ENDLESS)
    }

    /// Has pieces in common with the other databases of which that is said with these `pieces`.
    pub(crate) fn share(&mut self, pieces: &mut LsdbPieces) {
        self.entries.share(&mut pieces.0);
    }

    /// A copy of the advertisement of `origin` came, with so much time left; whether that makes its
    /// life longer.
    pub(crate) fn extend(&mut self, now: MonoTime, origin: NodeId, left: Duration) -> bool {
        let mut life = self.life(origin);
        let before = life.end();
        if !life.extend(now, left) {
            return false;
        }
        self.lives.insert(origin, life);
        self.ends.extend(life.end().map(|end| (end, origin)));
        before.is_some_and(|end| self.ends.remove(&(end, origin)))
    }

    /// Whether the advertisement of `origin` has much more time left than a copy of it.
    pub(crate) fn outlasts(&self, now: MonoTime, origin: NodeId, left: Duration) -> bool {
        self.entries.get(&origin).is_some() && self.life(origin).outlasts(now, left)
    }

    /// An advertisement that was stored is so no more.
    fn discount(&mut self, old: &Stored) {
        self.encoded_bytes = self.encoded_bytes.saturating_sub(old.encoding.len());
        self.digest = self.digest.wrapping_sub(spread(old.version.hash));
        self.keep_for_good(old.lsa.origin);
    }

    /// Forgets the advertisement of `origin`, and that there was one; true if there was.
    pub(crate) fn forget(&mut self, origin: NodeId) -> bool {
        self.aged_out.remove(origin);
        let old = self.entries.remove(&origin);
        if let Some(old) = &old {
            self.discount(&old.stored);
        }
        old.is_some()
    }

    /// Forgets what has ended; answers whose it was.
    pub(crate) fn expire(&mut self, now: MonoTime) -> Vec<NodeId> {
        let mut expired = Vec::new();
        while let Some(&(end, origin)) = self.ends.first()
            && end <= now
        {
            let (version, life) = (self.version(origin), self.life(origin));
            self.forget(origin);
            if let Some(version) = version {
                self.aged_out.insert(origin, version, life);
            }
            expired.push(origin);
        }
        expired
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Links that one end says it has, and the other one does not: they count for no path. Some are
    /// there for a moment when links come and go.
    #[must_use]
    pub fn one_sided_links(&self) -> usize {
        let said =
            self.iter().flat_map(|lsa| lsa.adjacencies.iter().map(|near| (lsa.origin, near)));
        let one_sided = said.filter(|(origin, near)| {
            self.get(near.neighbour).is_none_or(|far| far.adjacency(*origin).is_none())
        });
        one_sided.count()
    }

    /// The newest advertisement of `origin` as it is sent, unless it ends within a second.
    pub(crate) fn outgoing(&self, now: MonoTime, origin: NodeId) -> Option<Outgoing<'_>> {
        let Entry { stored, delta } = self.entries.get(&origin)?;
        let lifetime = self.life(origin).left(now);
        let (encoding, delta) = (&stored.encoding[..], delta.as_deref());
        (lifetime.as_secs() > 0).then_some(Outgoing { lifetime, encoding, delta })
    }

    /// The newest advertisement of `origin`.
    #[must_use]
    pub fn get(&self, origin: NodeId) -> Option<&Lsa> {
        self.entries.get(&origin).map(|entry| &entry.stored.lsa)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self, origin: NodeId) -> Option<LsaVersion> {
        self.entries.get(&origin).map(|entry| entry.stored.version)
    }

    /// Its version, if it has this very encoding.
    pub(crate) fn version_with(&self, origin: NodeId, encoding: &[u8]) -> Option<LsaVersion> {
        let stored = &self.entries.get(&origin)?.stored;
        (stored.encoding == encoding).then_some(stored.version)
    }

    /// Versions of the origins in `range`, in their order.
    pub(crate) fn versions(
        &self,
        range: impl RangeBounds<NodeId>,
    ) -> impl Iterator<Item = (NodeId, LsaVersion)> + '_ {
        self.entries.range(range).map(|(origin, entry)| (*origin, entry.stored.version))
    }

    /// Every advertisement, in the order of the origins' ids.
    pub fn iter(&self) -> impl Iterator<Item = &Lsa> + '_ {
        self.entries.values().map(|entry| &entry.stored.lsa)
    }

    /// What it has now.
    #[must_use]
    pub fn state(&self) -> LsdbState {
        LsdbState(self.entries.clone())
    }

    /// The origins whose advertisements are not those of `old`: what they were and what they are.
    pub fn changes_since<'a>(
        &'a self,
        LsdbState(old): &'a LsdbState,
    ) -> impl Iterator<Item = (NodeId, Option<&'a Lsa>, Option<&'a Lsa>)> {
        let differ = old.differences(&self.entries).filter(|(_, was, is)| match (was, is) {
            (Some(was), Some(is)) => !Arc::ptr_eq(&was.stored, &is.stored),
            _ => true,
        });
        differ.map(|(origin, was, is)| {
            let lsa = |entry: &'a Entry| &entry.stored.lsa;
            (origin, was.map(lsa), is.map(lsa))
        })
    }

    /// Origins.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.len() == 0
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
