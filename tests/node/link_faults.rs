//! Links that fail as real ones do, between real nodes: nothing is lost, nothing comes twice or out
//! of order.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::namespaces::{FAR_LANES, Fault, Namespaces};
use crate::process::{Guarded, Node, Spec, wait_for};

/// A black hole of this length outlives every lane, which are dead after ten silent ticks of 100 ms.
const BLACK_HOLE: Duration = Duration::from_secs(3);

/// Lanes that are reset, one after the other.
const RESETS: usize = 3;

/// What is sent through the bottleneck: at 10 Mbit/s it takes six seconds and more.
const FLOOD_LINES: u64 = 8_000;
const FLOOD_LINE_BYTES: usize = 1_000;

/// Two nodes in namespaces of their own; A dials B.
pub(crate) struct World {
    // In this order: processes end before what they run in goes.
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) namespaces: Namespaces,
    _directory: TempDir,
}

impl World {
    /// `None` where there are no namespaces to be had.
    pub(crate) fn start(bottleneck_mbit: Option<u32>, config: &'static str) -> Option<Self> {
        let namespaces = Namespaces::start(bottleneck_mbit)?;
        let directory = tempfile::tempdir().unwrap();
        let start = |end, spec: Spec| {
            let inner = spec.command(directory.path());
            Node::start_with(directory.path(), &spec, namespaces.command(end, &inner))
        };
        let a = start(0, Spec { config, ..Spec::dialling("a") });
        let b = start(1, Spec { config, listen: FAR_LANES.to_owned(), ..Spec::dialling("b") });
        b.run(&["mesh", "seed", "test"]).ok();
        let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
        a.run(&["mesh", "join", &token]).ok();
        let world = Self { a, b, namespaces, _directory: directory };
        wait_for("a path from A to B and back", || {
            (sees(&world.a, "b") && sees(&world.b, "a")).then_some(())
        });
        let opened = world.a.json(&["stream", "open", "s", "--to", "b"]);
        assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
        Some(world)
    }

    /// Class and A's port of each lane, as B sees them.
    pub(crate) fn lanes(&self) -> Vec<(String, u16)> {
        let lanes = self.b.json(&["lane", "ls"]);
        lanes.as_array().unwrap().iter().map(class_and_port).collect()
    }

    /// A's port of the lane of a class that carries most of what B gets.
    pub(crate) fn lane(&self, class: &str) -> u16 {
        wait_for("a lane of the class", || {
            let lanes = self.b.json(&["lane", "ls"]);
            let of_class = lanes.as_array().unwrap().iter().filter(|l| l["lane_class"] == class);
            let busiest = of_class.max_by_key(|lane| lane["received_bytes"].as_u64().unwrap());
            busiest.map(|lane| class_and_port(lane).1)
        })
    }
}

fn class_and_port(lane: &Value) -> (String, u16) {
    let address = lane["remote_address"].as_str().unwrap();
    let (_, port) = address.rsplit_once(':').unwrap();
    (lane["lane_class"].as_str().unwrap().to_owned(), port.parse().unwrap())
}

/// The node answers, and has a direct link to the other one.
pub(crate) fn sees(node: &Node, other: &str) -> bool {
    let status = node.json(&["mesh", "status"]);
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().any(|node| node["name"] == other && node["hops"] == 1)
}

/// Numbered lines from one node to another, over a stream.
pub(crate) struct Traffic {
    stream: String,
    publisher: Guarded,
    subscriber: Guarded,
    stop: Sender<()>,
    /// Returns how many lines there were.
    feeder: JoinHandle<u64>,
    received: Arc<AtomicU64>,
    /// Returns the first line that was not the next one.
    checker: JoinHandle<Option<String>>,
}

impl Traffic {
    /// Lines of `line_bytes` over the stream `s`: `lines_max` of them as fast as they are taken, or,
    /// without a limit, twenty a millisecond until the end.
    pub(crate) fn start(from: &Node, to: &Node, line_bytes: usize, lines_max: Option<u64>) -> Self {
        Self::over("s", from, to, line_bytes, lines_max)
    }

    /// The same over another stream.
    pub(crate) fn over(
        stream: &str,
        from: &Node,
        to: &Node,
        line_bytes: usize,
        lines_max: Option<u64>,
    ) -> Self {
        let mut subscriber = to.spawn(&["stream", "sub", stream], Stdio::null());
        let mut publisher = from.spawn(&["stream", "pub", stream, "--json"], Stdio::piped());
        let stdin = publisher.0.stdin.take().unwrap();
        let (stop, stopped) = channel();
        let feeder = std::thread::spawn(move || {
            let mut feed = Feed { stdin, line_bytes, lines: 0 };
            match lines_max {
                Some(lines) => {
                    while feed.lines < lines {
                        feed.write((lines - feed.lines).min(1000));
                    }
                }
                None => {
                    let pause = Duration::from_millis(1);
                    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                        feed.write(20);
                    }
                }
            }
            feed.lines
        });
        let stdout = BufReader::new(subscriber.0.stdout.take().unwrap());
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let checker = std::thread::spawn(move || {
            for (number, line) in (1..).zip(stdout.lines()) {
                let line = line.unwrap();
                if line.trim_start_matches('0').parse() != Ok(number) {
                    return Some(format!("{line} where {number} was due"));
                }
                counter.store(number, Ordering::Release);
            }
            None
        });
        let stream = stream.to_owned();
        Self { stream, publisher, subscriber, stop, feeder, received, checker }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Waits until so many lines more have come.
    pub(crate) fn await_more(&self, lines: u64) {
        let until = self.received() + lines;
        wait_for("the stream to go on", || {
            assert!(!self.checker.is_finished(), "the subscriber saw its end or a wrong line");
            (self.received() >= until).then_some(())
        });
    }

    /// Ends the stream, and fails the test unless each line came once, in order.
    pub(crate) fn finish(mut self, from: &Node) {
        drop(self.stop);
        let published = self.feeder.join().unwrap();
        let (code, summary) = self.publisher.output();
        let summary = String::from_utf8(summary).unwrap();
        assert_eq!(code, Some(0), "{summary}");
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["published"], published, "{summary}");
        from.run(&["stream", "close", &self.stream]).ok();
        assert_eq!(self.checker.join().unwrap(), None);
        assert_eq!(self.subscriber.wait(), Some(0));
        assert_eq!(self.received.load(Ordering::Acquire), published);
    }
}

struct Feed {
    stdin: ChildStdin,
    line_bytes: usize,
    lines: u64,
}

impl Feed {
    fn write(&mut self, lines: u64) {
        let numbers = self.lines + 1..=self.lines + lines;
        let width = self.line_bytes - 1;
        let text: String = numbers.map(|number| format!("{number:0>width$}\n")).collect();
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.lines += lines;
    }
}

#[test]
fn a_black_hole_of_all_lanes_costs_nothing() {
    let Some(world) = World::start(None, "") else { return };
    let traffic = Traffic::start(&world.a, &world.b, 32, None);
    traffic.await_more(100);
    let before = world.lanes();
    world.namespaces.begin(Fault::BlackHole);
    let began = Instant::now();
    wait_for("the death of every lane, and the end of the black hole", || {
        let survives = |lane| before.contains(lane);
        let dead = began.elapsed() >= BLACK_HOLE && !world.lanes().iter().any(survives);
        dead.then_some(())
    });
    world.namespaces.end();
    traffic.await_more(1_000);
    wait_for("both nodes to see each other", || {
        (sees(&world.a, "b") && sees(&world.b, "a")).then_some(())
    });
    traffic.finish(&world.a);
}

#[test]
fn a_lane_that_is_reset_costs_nothing_and_leaves_the_others_alone() {
    let Some(world) = World::start(None, "") else { return };
    let traffic = Traffic::start(&world.a, &world.b, 32, None);
    let control = world.lane("control");
    for _ in 0..RESETS {
        traffic.await_more(100);
        let port = world.lane("bulk");
        world.namespaces.begin(Fault::Reset { port });
        wait_for("the end of the lane", || {
            (!world.lanes().iter().any(|(_, other)| *other == port)).then_some(())
        });
        world.namespaces.end();
        traffic.await_more(1_000);
        assert_ne!(world.lane("bulk"), port);
        assert_eq!(world.lane("control"), control, "the control lane was not reset");
    }
    traffic.finish(&world.a);
}

#[test]
fn a_control_lane_that_is_reset_costs_nothing_and_is_there_again() {
    let Some(world) = World::start(None, "") else { return };
    let traffic = Traffic::start(&world.a, &world.b, 32, None);
    for n in 0..RESETS {
        traffic.await_more(100);
        let (port, bulk) = (world.lane("control"), world.lane("bulk"));
        world.namespaces.begin(Fault::Reset { port });
        wait_for("the end of the lane", || {
            (!world.lanes().iter().any(|(_, other)| *other == port)).then_some(())
        });
        // Meanwhile another lane carries control.
        let opened = world.a.json(&["stream", "open", &format!("s{n}"), "--to", "b"]);
        assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
        world.namespaces.end();
        traffic.await_more(1_000);
        assert_ne!(world.lane("control"), port);
        assert_eq!(world.lane("bulk"), bulk, "the bulk lane was not reset");
    }
    traffic.finish(&world.a);
}

#[test]
fn lanes_that_are_all_reset_over_and_over_cost_nothing() {
    let Some(world) = World::start(None, "") else { return };
    let traffic = Traffic::start(&world.a, &world.b, 32, None);
    for _ in 0..RESETS {
        traffic.await_more(100);
        let before = world.lanes();
        world.namespaces.begin(Fault::ResetAll);
        wait_for("the end of all lanes", || {
            (!world.lanes().iter().any(|lane| before.contains(lane))).then_some(())
        });
        world.namespaces.end();
        traffic.await_more(1_000);
    }
    traffic.finish(&world.a);
}

#[test]
fn what_a_silent_lane_holds_goes_over_another_one() {
    let Some(world) = World::start(None, "") else { return };
    let traffic = Traffic::start(&world.a, &world.b, 32, None);
    traffic.await_more(100);
    let port = world.lane("bulk");
    world.namespaces.begin(Fault::Silence { port });
    // Another lane carries bulk long before the silent one is dead.
    wait_for("what was under way to go another way", || {
        let events = world.a.json(&["lane", "events", "--peer", "b"]);
        events.as_array().unwrap().iter().any(|event| event["name"] == "hedged").then_some(())
    });
    traffic.await_more(1_000);
    wait_for("the end of the lane", || {
        (!world.lanes().iter().any(|(_, other)| *other == port)).then_some(())
    });
    world.namespaces.end();
    traffic.await_more(1_000);
    traffic.finish(&world.a);
}

#[test]
fn control_lives_beside_bulk_that_fills_a_bottleneck() {
    control_lives_beside_bulk("");
}

#[test]
fn control_lives_within_a_single_lane_that_fills_a_bottleneck() {
    control_lives_beside_bulk("[lanes]\ncollapsed = true\n");
}

fn control_lives_beside_bulk(config: &'static str) {
    let Some(world) = World::start(Some(10), config) else { return };
    let before = world.lane("control");
    let traffic = Traffic::start(&world.a, &world.b, FLOOD_LINE_BYTES, Some(FLOOD_LINES));
    traffic.await_more(1);
    let opened = world.a.json(&["stream", "open", "beside", "--to", "b"]);
    assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
    assert!(traffic.received() < FLOOD_LINES, "the bottleneck was not full while that was asked");
    wait_for("all lines", || {
        assert!(sees(&world.a, "b") && sees(&world.b, "a"), "the link is down");
        assert_eq!(world.lane("control"), before, "the control lane died");
        (traffic.received() == FLOOD_LINES).then_some(())
    });
    traffic.finish(&world.a);
}
