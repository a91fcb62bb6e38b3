use super::*;

const SHAPE: PathShape = PathShape {
    delay: Duration::from_millis(2),
    jitter: Duration::from_millis(5),
    backlog_bytes: 1000,
    buffer_bytes: 4000,
};

struct Pair {
    network: Network,
    queue: EventQueue<NetworkEvent>,
    dialler: End,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut network = Network::new(Random::new(seed));
        let wires = [network.add_wire(1_000_000), network.add_wire(1_000_000)];
        let queue = EventQueue::new(MonoTime::ZERO);
        let connection = network.open(queue.now(), SHAPE, wires);
        Self { network, queue, dialler: End { connection, side: Side::Dialler } }
    }

    fn send(&mut self, from: End, bytes: &[u8]) {
        self.network.write(&mut self.queue, from, [bytes, &[]]);
    }

    /// Lets `millis` pass; the first bytes of what arrives at `end`, how it ended, and whether its
    /// writer was woken.
    fn run(&mut self, end: End, millis: u64) -> (Vec<u8>, Option<Ending>, bool) {
        let until = self.queue.now().saturating_add(Duration::from_millis(millis));
        let (mut got, mut woken) = (Vec::new(), false);
        while let Some(event) = self.queue.pop_before(until) {
            match event {
                NetworkEvent::Arrive(at) => {
                    self.network.handle_arrive(at);
                }
                NetworkEvent::Writable(at) => {
                    self.network.handle_writable(at);
                    woken |= at == end.other();
                }
                NetworkEvent::Down(at, ending) => self.network.handle_down(at, ending),
            }
            while let Some(message) = self.network.read(&mut self.queue, end) {
                got.extend(message.first());
                self.network.recycle(message);
            }
        }
        (got, self.network.ending(end), woken)
    }
}

#[test]
fn a_connection_never_reorders() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        for n in 0..40 {
            pair.send(pair.dialler, &[n; 10]);
        }
        let (got, ending, _) = pair.run(pair.dialler.other(), 100);
        assert_eq!(got, (0..40).collect::<Vec<u8>>(), "seed {seed}");
        assert_eq!(ending, None);
    }
}

#[test]
fn what_was_written_before_a_close_arrives() {
    let mut pair = Pair::new(1);
    pair.send(pair.dialler, &[1]);
    pair.send(pair.dialler.other(), &[9]);
    pair.network.close(&mut pair.queue, pair.dialler);
    let (got, ending, _) = pair.run(pair.dialler.other(), 100);
    assert_eq!((got, ending), (vec![1], Some(Ending::Finished)));
    assert_eq!(pair.run(pair.dialler, 100).0, Vec::<u8>::new(), "whoever closed reads no more");
}

#[test]
fn a_reset_loses_what_is_under_way_and_reaches_both() {
    let mut pair = Pair::new(1);
    pair.send(pair.dialler, &[1]);
    assert_eq!(pair.run(pair.dialler.other(), 20).0, [1]);
    pair.send(pair.dialler, &[2]);
    pair.network.reset(&mut pair.queue, pair.dialler.connection);
    let (got, ending, _) = pair.run(pair.dialler.other(), 20);
    assert_eq!((got, ending), (vec![], Some(Ending::Reset)));
    assert_eq!(pair.network.ending(pair.dialler), Some(Ending::Reset));
    assert!(!pair.network.can_write(&mut pair.queue, pair.dialler));
}

#[test]
fn silence_keeps_everything_in_its_order() {
    let mut pair = Pair::new(3);
    let reader = pair.dialler.other();
    pair.send(pair.dialler, &[1]);
    pair.network.hold(reader);
    pair.send(pair.dialler, &[2]);
    assert_eq!(pair.run(reader, 50).0, Vec::<u8>::new());
    pair.send(pair.dialler, &[3]);
    pair.network.close(&mut pair.queue, pair.dialler);
    assert_eq!(pair.run(reader, 50), (vec![], None, false));
    pair.network.release(&mut pair.queue, reader);
    assert_eq!(pair.run(reader, 50), (vec![1, 2, 3], Some(Ending::Finished), false));
}

#[test]
fn a_writer_waits_for_the_bottleneck_and_is_woken() {
    let mut pair = Pair::new(4);
    let reader = pair.dialler.other();
    let mut written = 0;
    while pair.network.can_write(&mut pair.queue, pair.dialler) {
        pair.send(pair.dialler, &[0; 500]);
        written += 1;
    }
    assert_eq!(written, 3, "one beyond the backlog");
    assert!(pair.run(reader, 50).2);
    assert!(pair.network.can_write(&mut pair.queue, pair.dialler));
}

#[test]
fn a_writer_waits_for_its_reader() {
    let mut pair = Pair::new(5);
    let reader = pair.dialler.other();
    pair.send(pair.dialler, &[7; 4000]);
    // Nobody reads at the other end while this one is looked at.
    pair.run(pair.dialler, 50);
    assert!(!pair.network.can_write(&mut pair.queue, pair.dialler));
    assert_eq!(pair.run(reader, 50).0, Vec::<u8>::new(), "it has arrived before");
    assert_eq!(pair.network.read(&mut pair.queue, reader).map(|m| m.len()), Some(4000));
    assert!(pair.run(reader, 50).2);
    assert!(pair.network.can_write(&mut pair.queue, pair.dialler));
}
