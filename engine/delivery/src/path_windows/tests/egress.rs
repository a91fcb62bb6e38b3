//! A path whose first link is shared with streams of other paths, and too little for all of them.

use super::*;
use crate::SendRounds;

const OTHER: TenantId = TenantId::from_bytes([5; 16]);
const RECORD: u64 = 20_000;
/// What the link takes in a tick.
const TICK_BYTES: u64 = 20_000;
const QUEUE_BYTES: u64 = 256 * KIB;
/// One way.
const DELAY: Duration = Duration::from_millis(2);

/// A source with one stream of each of two tenants on a path, and more streams of the first on paths
/// that take all they get.
struct Link {
    source: Source,
    rounds: SendRounds<()>,
    fillers: Vec<StreamKey>,
    filled_bytes: u64,
    queue_bytes: u64,
    under_way: VecDeque<(MonoTime, usize, Record)>,
    now: MonoTime,
    visits: u64,
}

impl Link {
    fn new(fillers: usize) -> Self {
        let limits = DeliveryLimits::default();
        let mut source = Source::new(0, &[RECORD as usize; 2], limits);
        source.streams[1] = Stream::new(stream_key(0, 1, OTHER), RECORD as usize, limits);
        Self {
            source,
            rounds: SendRounds::default(),
            fillers: (0..fillers).map(|index| stream_key(1, index, TENANT)).collect(),
            filled_bytes: 0,
            queue_bytes: 0,
            under_way: VecDeque::new(),
            now: MonoTime::from_nanos(1_000_000),
            visits: 0,
        }
    }

    /// One turn of the shard; `begin` is the first with the streams of other paths.
    fn turn(&mut self, begin: bool) {
        self.now = self.now.saturating_add(TICK);
        self.queue_bytes = self.queue_bytes.saturating_sub(TICK_BYTES);
        self.arrive();
        self.rounds.begin_turn();
        for index in 0..if begin { self.fillers.len() } else { 0 } {
            self.fill(self.fillers[index], false);
        }
        loop {
            self.source.wake();
            while let Some(index) = self.source.touched.pop_first() {
                self.visit(index, false);
                self.source.wake();
            }
            let has_room = self.queue_bytes < QUEUE_BYTES;
            let Some((_, who)) = self.rounds.next(|_, _| has_room) else { return };
            match self.source.streams.iter().position(|stream| stream.sender.key() == who) {
                Some(index) => self.visit(index, true),
                None => self.fill(who, true),
            }
        }
    }

    /// Runs until the streams of the path take turns, as if they were alone at the link; who has the
    /// first.
    fn fill_window(&mut self) -> StreamKey {
        loop {
            self.turn(false);
            self.queue_bytes = 0;
            assert!(self.now < MonoTime::from_nanos(20_000_000), "the window is small at first");
            if let Some(turn) = &self.source.windows.paths[&KEY].turn {
                return turn.who;
            }
        }
    }

    fn arrive(&mut self) {
        let now = self.now;
        while let Some((_, index, record)) = self.under_way.pop_front_if(|(at, ..)| *at <= now) {
            self.source.streams[index].take(now, &record, false);
        }
        for (index, stream) in self.source.streams.iter_mut().enumerate() {
            if let Some(ack) = stream.receiver.poll_ack(now, &mut plenty()) {
                stream.answers.push_back((now.saturating_add(DELAY), Answer::Ack(ack)));
            }
            while let Some((_, answer)) = stream.answers.pop_front_if(|(at, _)| *at <= now) {
                let Answer::Ack(ack) = answer else { panic!("nothing is dropped") };
                stream.sender.handle_ack(now, DESTINATION, &ack);
                self.source.windows.settle(now, KEY, &mut stream.sender);
                self.source.touched.insert(index);
            }
            while stream.sender.is_ready() && stream.sender.room_bytes() >= RECORD {
                stream.publish();
                self.source.touched.insert(index);
            }
        }
    }

    fn fill(&mut self, who: StreamKey, is_granted: bool) {
        self.rounds.begin_visit(is_granted.then_some(()));
        while self.rounds.may_send(who, (), self.queue_bytes < QUEUE_BYTES) {
            self.rounds.note_sent(who, (), RECORD);
            self.queue_bytes += RECORD;
            self.filled_bytes += RECORD;
        }
        self.rounds.end_visit(who);
    }

    fn visit(&mut self, index: usize, is_granted: bool) {
        self.visits += 1;
        let Self { source, rounds, .. } = self;
        let Stream { sender, receiver, .. } = &mut source.streams[index];
        let (who, windows) = (sender.key(), &mut source.windows);
        rounds.begin_visit(is_granted.then_some(()));
        loop {
            let has_room = self.queue_bytes < QUEUE_BYTES;
            let transmit = sender.poll_transmit(self.now, |offer| {
                if !windows.may_send(self.now, KEY, who, offer.len_bytes) {
                    return false;
                }
                let may = rounds.may_send(who, (), has_room);
                if !may {
                    windows.handle_no_room(KEY, who);
                }
                may
            });
            let Some(transmit) = transmit else { break };
            match transmit.body {
                TransmitBody::Sync(sync) => receiver.handle_sync(&sync, NONE),
                TransmitBody::Record(record) => {
                    let bytes = record.charge_bytes();
                    rounds.note_sent(who, (), bytes);
                    windows.settle(self.now, KEY, sender);
                    self.queue_bytes += bytes;
                    self.under_way.push_back((self.now.saturating_add(DELAY), index, record));
                }
            }
        }
        rounds.end_visit(who);
        windows.end_visit(KEY, who);
    }
}

#[test]
fn nobody_waits_for_one_that_waits_for_the_link_while_the_path_is_empty() {
    let mut link = Link::new(100);
    // The two have filled the window of their path, and take turns, when the others come.
    link.fill_window();
    link.turn(true);
    let before = link.source.streams[1].got_bytes;
    for _ in 0..20_000 {
        link.turn(false);
    }
    // It is a tenant of two, whatever the other one's streams there wait for.
    let (got, all) = (link.source.streams[1].got_bytes - before, 20_000 * TICK_BYTES);
    assert!(got > all * 4 / 10, "{got} of {all}, {} by the others", link.filled_bytes);
    assert!(link.visits < 40_000, "{} visits in 20,000 turns", link.visits);
}

#[test]
fn turns_go_on_while_the_window_may_be_what_is_too_little() {
    let mut link = Link::new(0);
    let who = link.fill_window();
    let windows = &mut link.source.windows;
    windows.handle_no_room(KEY, who);
    assert_eq!(windows.poll_woken(), None);
    assert_eq!(windows.paths[&KEY].turn.as_ref().map(|turn| turn.who), Some(who));
}
