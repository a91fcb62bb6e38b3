use hawser_wire::{FrameRef, LaneId};

use crate::batch::Batch;
use crate::buffer_pool::BufferPool;
use crate::connection::LaneKey;
use crate::data_queue::DataQueue;
use crate::lane::Lane;
use crate::origin::Origin;

/// A power of two: streams are spread over lanes by so many parts.
const BUCKETS: usize = 256;

/// Streams that keep to one lane together: those whose names have the same hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bucket(u8);

impl Bucket {
    pub(crate) const fn of(stream: u64) -> Self {
        let [bucket, ..] = mix(stream, 0).to_le_bytes();
        Self(bucket)
    }

    /// What its lane is found by.
    pub(crate) fn hash(self) -> u64 {
        u64::from(self.0)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Both hashes stirred (as the finaliser of splitmix64).
pub(crate) const fn mix(one: u64, other: u64) -> u64 {
    let mut hash = one ^ other.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The lane that took a bucket's last frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pin {
    pub(crate) lane: LaneKey,
    /// The frame's link sequence; 0 for none.
    pub(crate) last: u64,
}

/// A bucket on its way from one lane to another.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) bucket: Bucket,
    from: LaneKey,
    pub(crate) from_lane: LaneId,
    /// The last frame that `from` was given.
    last: u64,
    /// Counted frames that `from` had sent when no earlier one of the bucket waited there any more.
    sent: Option<u64>,
    /// Turns of `from` since it was looked at what waits there.
    unseen: usize,
    /// The last frame that waits here; 0 for none.
    pub(crate) newest: u64,
    /// What waits for the next lane.
    pub(crate) bulk: DataQueue,
}

/// Streams that are looked at for a batch that was sent, or an acknowledgement, about.
const STREAMS_SEEN: usize = 64;

impl Move {
    /// The lane has still to send something of the bucket, as far as is known.
    fn waits_for(&self, from: &Lane) -> bool {
        self.from == from.key && self.sent.is_none()
    }
}

/// Which lane the plain bulk of each stream was given to last, and what waits because it is to take
/// another one: the barrier of a stream that changes its lane.
///
/// A stream leaves a lane when all it has sent over it is acknowledged (flowlet switching: Kandula et
/// al., "Dynamic load balancing without packet reordering", 2007, with an empty pipe in place of a
/// pause that is long enough). What it sends until then waits here, so that a stream without pauses
/// moves as well: the lane sends what it had of it, and the next frame is a round trip behind. Of a
/// lane that is lost or silent nobody waits for anything.
///
/// Streams are told apart by [`Bucket`], as in the flowlet tables of switches (Alizadeh et al.,
/// "CONGA", 2014): the table has one size whatever there is of streams, and streams that share a bucket
/// share a lane.
///
/// **Invariant:** while a bucket moves, all that it sends waits in its move.
#[derive(Debug)]
pub(crate) struct FlowTable {
    pins: Vec<Pin>,
    moves: Vec<Move>,
}

impl FlowTable {
    pub(crate) fn new() -> Self {
        Self { pins: vec![Pin::default(); BUCKETS], moves: Vec::new() }
    }

    pub(crate) fn pin(&self, bucket: Bucket) -> Pin {
        self.pins.get(bucket.index()).copied().unwrap_or_default()
    }

    /// A lane has taken a frame of the bucket.
    pub(crate) fn set_pin(&mut self, bucket: Bucket, lane: LaneKey, last: u64) {
        if let Some(pin) = self.pins.get_mut(bucket.index()) {
            *pin = Pin { lane, last };
        }
    }

    /// Nothing waits or is in flight, and sequences are given out anew: nobody waits for an earlier one.
    pub(crate) fn handle_renumbered(&mut self) {
        self.pins.iter_mut().for_each(|pin| pin.last = 0);
        self.moves.iter_mut().for_each(|found| (found.last, found.newest) = (0, 0));
    }

    pub(crate) fn move_of(&self, bucket: Bucket) -> Option<usize> {
        self.moves.iter().position(|other| other.bucket == bucket)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Move> {
        self.moves.get(at)
    }

    /// Where frames of a bucket wait that moves; `last` is the newest of them if there will be one.
    pub(crate) fn bulk_mut(&mut self, at: usize) -> Option<&mut DataQueue> {
        self.moves.get_mut(at).map(|found| &mut found.bulk)
    }

    /// Such a frame waits.
    pub(crate) fn note_waiting(&mut self, at: usize, sequence: u64) {
        if let Some(found) = self.moves.get_mut(at) {
            found.newest = found.newest.max(sequence);
        }
    }

    /// A bucket begins to leave `from`; the place of the move.
    pub(crate) fn begin(&mut self, bucket: Bucket, from: &Lane, last: u64) -> usize {
        let (bulk, newest, unseen) = (DataQueue::default(), 0, 0);
        let (from, from_lane) = (from.key, from.id.lane);
        self.moves.push(Move { bucket, from, from_lane, last, sent: None, unseen, newest, bulk });
        self.moves.len().saturating_sub(1)
    }

    pub(crate) const fn is_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// A lane has sent a batch, or was told what has arrived. Where many streams wait it is not looked at
    /// all of them each time: that would take the square of how many they are.
    pub(crate) fn handle_turn(&mut self, from: &Lane) {
        let (seen, mut is_due) = (from.bulk.foreign_streams() / STREAMS_SEEN, false);
        for found in self.moves.iter_mut().filter(|found| found.waits_for(from)) {
            found.unseen = found.unseen.saturating_add(1);
            is_due |= found.unseen > seen;
        }
        if is_due {
            self.look_at(from);
        }
    }

    /// A lane may have nothing more to send of buckets that leave it. What waits there is looked at once,
    /// however many those are.
    fn look_at(&mut self, from: &Lane) {
        if !self.moves.iter().any(|found| found.waits_for(from)) {
            return;
        }
        let (mut by_bucket, mut of_any) = ([u64::MAX; BUCKETS], u64::MAX);
        for (stream, sequence) in from.waiting() {
            let bucket = stream.and_then(|stream| by_bucket.get_mut(Bucket::of(stream).index()));
            let lowest = bucket.unwrap_or(&mut of_any);
            *lowest = sequence.min(*lowest);
        }
        for found in self.moves.iter_mut().filter(|found| found.waits_for(from)) {
            found.unseen = 0;
            let lowest = by_bucket.get(found.bucket.index()).map_or(of_any, |own| of_any.min(*own));
            if lowest > found.last {
                found.sent = Some(from.unacked.sent());
            }
        }
    }

    /// Takes out the moves that are over: those whose former lane has brought on all that it had of the
    /// bucket, or is lost or silent.
    pub(crate) fn take_over(&mut self, lanes: &[Lane]) -> Vec<Move> {
        for lane in lanes {
            self.handle_turn(lane);
        }
        let is_over = |found: &mut Move| {
            let from = lanes.iter().find(|lane| lane.key == found.from && !lane.quiet);
            from.is_none_or(|from| found.sent.is_some_and(|sent| from.unacked.acked() >= sent))
        };
        self.moves.extract_if(.., is_over).collect()
    }

    /// Takes out all that waits.
    pub(crate) fn take_all(&mut self) -> Vec<Batch> {
        let mut waiting = Vec::new();
        for mut found in self.moves.drain(..) {
            waiting.extend(std::iter::from_fn(|| found.bulk.pop(usize::MAX)));
        }
        waiting
    }

    /// Takes out the waiting frames that `takes` wants.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        for found in &mut self.moves {
            found.bulk.extract(takes, pool, out);
        }
    }

    /// Bytes of `origin` that wait.
    pub(crate) fn bytes_of(&self, origin: Origin) -> usize {
        self.bulk().map(|bulk| bulk.bytes_of(origin)).fold(0, usize::saturating_add)
    }

    /// All that waits.
    pub(crate) fn bulk(&self) -> impl Iterator<Item = &DataQueue> {
        self.moves.iter().map(|found| &found.bulk)
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        self.bulk().map(DataQueue::lowest).min().unwrap_or(u64::MAX)
    }
}
