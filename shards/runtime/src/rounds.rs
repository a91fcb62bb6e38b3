use hawser_wire::{FRAME_BODY_BYTES_MAX, NodeId, StreamId, TrafficClass};

/// Record bytes that a stream may send over one neighbour in one round; the last record may exceed
/// them, which the next rounds make up for.
const QUANTUM_BYTES: u64 = 64 << 10;

/// Passes over the streams in one turn of the shard, while there is room: what a stream that is
/// alone may send at most before rings and sockets are looked at again.
pub(crate) const PASSES_MAX: u32 = 20;

#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const LARGEST_BYTES: u64 = FRAME_BODY_BYTES_MAX as u64;
const _: () = assert!(
    QUANTUM_BYTES * (PASSES_MAX as u64) > LARGEST_BYTES + 3 * QUANTUM_BYTES,
    "whoever waits for the quanta of a largest record has them within one turn"
);

/// A neighbour and a class of frames for it: each has a queue of its own.
pub(crate) type Egress = (NodeId, TrafficClass);

/// What one stream has sent over each neighbour in the rounds that it takes part in.
#[derive(Debug, Default)]
pub(crate) struct Shares(Vec<Share>);

#[derive(Debug)]
struct Share {
    egress: Egress,
    /// Beyond the quanta that it had.
    spent_bytes: u64,
    /// The visit for which it had its last quantum.
    visit: u64,
    /// The link was full before the quantum was used up: the rest is still good.
    cut_off: bool,
}

impl Shares {
    fn of(&mut self, egress: Egress) -> &mut Share {
        let known = self.0.iter().position(|share| share.egress == egress);
        let at = known.unwrap_or_else(|| {
            self.0.push(Share { egress, spent_bytes: 0, visit: 0, cut_off: false });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// A record of so many bytes was sent.
    pub(crate) fn spend(&mut self, egress: Egress, bytes: u64) {
        let share = self.of(egress);
        share.spent_bytes = share.spent_bytes.saturating_add(bytes);
    }
}

/// Whether a stream may send a record over a neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// Now.
    Now,
    /// Once others had their turn, in a later pass.
    Later,
    /// Once the link has room again.
    WhenRoom,
}

/// Deficit round robin (Shreedhar and Varghese, 1995) of this shard's streams over each neighbour.
///
/// Streams are visited in the order of their ids. A round that a full link has cut off goes on
/// where it was cut off, for each neighbour by itself, so that a slow one changes nothing for the
/// streams of another.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Where the round over a neighbour goes on in this turn: before that stream, others had theirs.
    resume: Vec<(Egress, StreamId)>,
    /// Where it goes on in the next: the first stream that met a full link.
    stopped: Vec<(Egress, StreamId)>,
    first_pass: bool,
    visit: u64,
}

impl Rounds {
    pub(crate) fn begin_turn(&mut self) {
        std::mem::swap(&mut self.resume, &mut self.stopped);
        self.stopped.clear();
        self.first_pass = true;
    }

    pub(crate) const fn begin_pass(&mut self, first: bool) {
        self.first_pass = first;
    }

    /// Another stream is about to be asked for what it has.
    pub(crate) const fn begin_visit(&mut self) {
        self.visit += 1;
    }

    /// May the visited stream send over `egress`, which has room or not?
    pub(crate) fn turn(
        &mut self,
        stream: StreamId,
        shares: &mut Shares,
        egress: Egress,
        has_room: bool,
    ) -> Turn {
        let resume = find(&self.resume, egress).filter(|_| self.first_pass);
        if resume.is_some_and(|first| stream < first) {
            return Turn::Later;
        }
        let share = shares.of(egress);
        let visited = share.visit == self.visit;
        if visited && share.spent_bytes >= QUANTUM_BYTES {
            return Turn::Later;
        }
        if !has_room {
            share.cut_off |= visited;
            if find(&self.stopped, egress).is_none() {
                self.stopped.push((egress, stream));
            }
            return Turn::WhenRoom;
        }
        if !visited {
            share.visit = self.visit;
            if !std::mem::take(&mut share.cut_off) {
                share.spent_bytes = share.spent_bytes.saturating_sub(QUANTUM_BYTES);
            }
        }
        if share.spent_bytes < QUANTUM_BYTES { Turn::Now } else { Turn::Later }
    }
}

fn find(streams: &[(Egress, StreamId)], egress: Egress) -> Option<StreamId> {
    streams.iter().find(|(other, _)| *other == egress).map(|&(_, stream)| stream)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn egress(tag: u8) -> Egress {
        (NodeId::from_bytes([tag; 16]), TrafficClass::Bulk)
    }

    /// Streams that always have records of one size for the neighbours that are listed; each turn
    /// every link but those in `stuck` takes `room` bytes. Sent bytes by stream and neighbour.
    fn run(
        streams: &[(u64, &[u8])],
        room: u64,
        stuck: &[u8],
        turns: u32,
    ) -> BTreeMap<(usize, u8), u64> {
        let mut rounds = Rounds::default();
        let mut shares: Vec<Shares> = streams.iter().map(|_| Shares::default()).collect();
        let mut sent = BTreeMap::new();
        for _ in 0..turns {
            let mut queued: BTreeMap<u8, u64> = stuck.iter().map(|&tag| (tag, room)).collect();
            rounds.begin_turn();
            for pass in 0..PASSES_MAX {
                rounds.begin_pass(pass == 0);
                for (at, (bytes, over)) in streams.iter().enumerate() {
                    let stream = StreamId::from_bytes([at as u8; 16]);
                    rounds.begin_visit();
                    loop {
                        // As a source does: the first destination that can take one.
                        let go = over.iter().find(|&&tag| {
                            let has_room = queued.get(&tag).is_none_or(|&queued| queued < room);
                            let share = &mut shares[at];
                            rounds.turn(stream, share, egress(tag), has_room) == Turn::Now
                        });
                        let Some(&tag) = go else { break };
                        *queued.entry(tag).or_default() += bytes;
                        *sent.entry((at, tag)).or_default() += bytes;
                        shares[at].spend(egress(tag), *bytes);
                    }
                }
            }
        }
        sent
    }

    fn fair(sent: &BTreeMap<(usize, u8), u64>, neighbour: u8, streams: usize) {
        let of = |at| sent.get(&(at, neighbour)).copied().unwrap_or(0);
        let total: u64 = (0..streams).map(of).sum();
        let mean = total / streams as u64;
        for at in 0..streams {
            let (low, high) = (mean * 95 / 100, mean * 105 / 100);
            assert!((low..=high).contains(&of(at)), "stream {at} over {neighbour}: {sent:?}");
        }
    }

    #[test]
    fn streams_share_a_full_link_whatever_the_sizes_of_their_records() {
        const RECORDS: [u64; 5] = [1 << 20, 10_000, 66_000, 300, 65_536];
        let streams = RECORDS.map(|bytes| (bytes, &[1_u8][..]));
        for room in [64 << 10, 100_000, 256 << 10, 700_000] {
            fair(&run(&streams, room, &[], 4000), 1, streams.len());
        }
    }

    #[test]
    fn a_link_that_is_stuck_changes_nothing_for_another() {
        let mut streams = vec![(50_000, &[1_u8][..])];
        streams.extend([(20_000, &[2_u8][..]); 9]);
        streams[4].1 = &[1, 2];
        let sent = run(&streams, 256 << 10, &[1], 1000);
        assert!(sent.keys().all(|&(_, neighbour)| neighbour == 2));
        let others: BTreeMap<_, _> =
            sent.iter().map(|(&(at, tag), &bytes)| ((at - 1, tag), bytes)).collect();
        fair(&others, 2, 9);
    }

    #[test]
    fn a_stream_with_two_neighbours_has_its_share_of_each() {
        let streams = [(20_000, &[1_u8][..]), (20_000, &[1, 2]), (20_000, &[2]), (20_000, &[1])];
        let sent = run(&streams, 256 << 10, &[], 1000);
        for (at, neighbour, of) in [(0, 1, 3), (1, 1, 3), (3, 1, 3), (1, 2, 2), (2, 2, 2)] {
            let all: u64 = (0..4).filter_map(|at| sent.get(&(at, neighbour))).sum();
            let (part, mean) = (sent[&(at, neighbour)], all / of);
            assert!((mean * 95 / 100..=mean * 105 / 100).contains(&part), "{sent:?}");
        }
    }
}
