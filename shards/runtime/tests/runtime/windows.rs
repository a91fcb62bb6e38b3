//! Consumers that confirm late, in large steps, or go and come back: what their destination holds of the
//! stream, and that it goes on.

use std::thread::JoinHandle;

use hawser_wire::{RECORD_BYTES_TARGET, ShardId, StreamId, StreamOffset};

use crate::application::{Application, messages_of};
use crate::node::{Node, stream_id};
use crate::streams::{neighbours_with, open};

const CONSUMER: &str = "reader";
/// What the destination holds of a stream, at most.
const WINDOW: u64 = 1 << 20;
const MESSAGE_BYTES: usize = 16 << 10;
/// What a record may have beyond the window, its lengths included.
const RECORD_BYTES: u64 = RECORD_BYTES_TARGET as u64 + (1 << 10);
/// Memory for all.
const PLENTY: u64 = 1 << 40;

/// A stream from one node to another, of which the latter has so much memory for what it is sent.
struct World {
    a: Node,
    b: Node,
    publisher: Option<Application>,
    subscriber: Application,
    stream: StreamId,
}

impl World {
    fn start(memory_bytes: u64) -> Self {
        let (mut a, mut b) = neighbours_with(|config| {
            config.delivery.window_bytes = WINDOW;
            config.stream_memory_bytes = memory_bytes;
        });
        let stream = stream_id(0x71, 1);
        open(&mut a, &mut b, stream);
        let (publisher, subscriber) = (Application::of(&mut a), Application::of(&mut b));
        Self { a, b, publisher: Some(publisher), subscriber, stream }
    }

    /// Publishes messages beside whatever else happens, and waits there until they have arrived.
    fn publish(&mut self, messages: &[Vec<u8>]) -> JoinHandle<()> {
        let (stream, messages) = (self.stream, messages.to_vec());
        let mut publisher = self.publisher.take().expect("once");
        std::thread::spawn(move || {
            let mut call = publisher.open_publish(stream, 11);
            for batch in messages.chunks(3) {
                publisher.publish(&mut call, batch);
            }
            publisher.until_acked(&call);
        })
    }

    fn check_held(&mut self, what: &str) {
        let reports = (0..2).map(|shard| self.b.report(ShardId(shard)));
        let streams = reports.flat_map(|report| report.streams);
        let held: u64 = streams.map(|stream| stream.buffered_bytes).sum();
        assert!(held <= WINDOW + RECORD_BYTES, "{held} bytes held, {what}");
    }

    fn stop(self) {
        self.a.stop();
        self.b.stop();
    }
}

/// So many messages, each of which begins with its number.
fn messages(count: u64) -> Vec<Vec<u8>> {
    let message = |number: u64| {
        let mut message = number.to_le_bytes().to_vec();
        message.resize(MESSAGE_BYTES, number as u8);
        message
    };
    (0..count).map(message).collect()
}

#[test]
fn one_that_confirms_in_large_steps_gets_all_of_it() {
    // A quarter of the window, half of it, all of it: what it waits for before it confirms any.
    for (step, memory) in [WINDOW / 4, WINDOW / 2, WINDOW]
        .into_iter()
        .flat_map(|step| [PLENTY, 0].map(|memory| (step, memory)))
    {
        let what = format!("confirmed by {step}, of {memory}");
        let mut world = World::start(memory);
        let sent = messages(8 * WINDOW / MESSAGE_BYTES as u64);
        let publisher = world.publish(&sent);
        let mut call = world.subscriber.subscribe_manually(world.stream, CONSUMER);
        let (mut got, mut unconfirmed) = (Vec::new(), 0);
        while got.len() < sent.len() {
            let record = world.subscriber.take(&mut call);
            unconfirmed += record.charge_bytes();
            got.extend(messages_of(&record));
            if unconfirmed >= step {
                world.check_held(&what);
                world.subscriber.confirm(&call, CONSUMER);
                unconfirmed = 0;
            }
        }
        assert!(got == sent, "messages differ, {what}");
        publisher.join().expect("all of it arrived");
        world.stop();
    }
}

#[test]
fn one_that_goes_and_comes_back_gets_again_what_it_has_not_confirmed() {
    for memory in [PLENTY, 0] {
        let mut world = World::start(memory);
        let sent = messages(6 * WINDOW / MESSAGE_BYTES as u64);
        let publisher = world.publish(&sent);
        let mut confirmed = StreamOffset(0);
        // How much it takes each time, and whether it confirms any of that before it goes.
        let takes = [(WINDOW / 2, false), (WINDOW, false), (WINDOW / 4, true), (WINDOW, true)];
        for (takes, confirms) in takes.into_iter().cycle() {
            let mut call = world.subscriber.subscribe_manually(world.stream, CONSUMER);
            assert_eq!(call.next, confirmed, "what it has not confirmed comes again");
            let mut taken = 0;
            while taken < takes && call.next.0 < sent.len() as u64 {
                let at = call.next.0 as usize;
                let record = world.subscriber.take(&mut call);
                taken += record.charge_bytes();
                let got = messages_of(&record);
                assert!(sent[at..at + got.len()] == got, "messages differ from {at}");
            }
            world.check_held("unconfirmed");
            if confirms {
                world.subscriber.confirm(&call, CONSUMER);
                confirmed = call.next;
            }
            world.subscriber.unsubscribe(&call);
            if confirmed.0 == sent.len() as u64 {
                break;
            }
        }
        publisher.join().expect("all of it arrived");
        world.stop();
    }
}

#[test]
fn what_is_published_while_a_known_reader_is_away_waits_for_it() {
    let mut world = World::start(PLENTY);
    let mut call = world.subscriber.subscribe_manually(world.stream, CONSUMER);
    world.subscriber.unsubscribe(&call);
    // Less than a window, and much more than one begins with.
    let sent = messages(14 * WINDOW / 16 / MESSAGE_BYTES as u64);
    let publisher = world.publish(&sent);
    publisher.join().expect("all of it arrived, and nobody is there");
    world.check_held("for nobody");
    call = world.subscriber.subscribe_manually(world.stream, CONSUMER);
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(messages_of(&world.subscriber.take(&mut call)));
    }
    assert!(got == sent, "messages differ");
    world.stop();
}
