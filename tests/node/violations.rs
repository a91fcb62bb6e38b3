//! A member breaks the rules of lanes: what it did has a name, which both ends of the link show to
//! whoever asks, and nobody else's lane is the worse for it.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use hawser_admission::{DialOptions, Handover, JoinOptions, LocalNode, dial, join};
use hawser_identity::{Credentials, JoinToken, NodeKey};
use hawser_wire::{
    BatchWriter, CloseReason, FrameIter, FrameKind, Heartbeat, Incarnation, LaneAck, LaneAckEntry,
    LaneClose, LaneId, LifeNonce, LinkEpoch, LinkSequence, StripeStamp, TrafficClass,
};
use serde_json::Value;

use crate::process::{Node, Spec, wait_for};
use crate::watcher::Watcher;

const CONTROL: TrafficClass = TrafficClass::Control;
const BULK: TrafficClass = TrafficClass::Bulk;
const CONTROL_LANE: (LaneId, TrafficClass) = (LaneId(0), CONTROL);
const BULK_LANE: (LaneId, TrafficClass) = (LaneId(2), BULK);
const NAME: &str = "mallory";

/// A member that is no node of ours: it has a certificate, and says what a test wants.
struct Member {
    local: LocalNode,
    address: String,
    runtime: tokio::runtime::Runtime,
}

impl Member {
    fn join(node: &Node, address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let token = node.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
        let token = JoinToken::parse(&token).unwrap();
        let key = NodeKey::generate().unwrap();
        let csr = key.csr(NAME).unwrap();
        let options = JoinOptions::default();
        let joined = join(&token, address, csr, NAME, &options);
        let reply = runtime.block_on(joined).unwrap();
        let credentials = Credentials::new(&key, &reply.certificate, &reply.authority).unwrap();
        let local = LocalNode {
            node: key.node_id(),
            name: NAME.to_owned(),
            mesh: reply.mesh,
            incarnation: Incarnation(1),
            life: LifeNonce(1),
            client: credentials.lane_client_config(),
            server: credentials.lane_server_config(),
            barred: Default::default(),
        };
        Self { local, address: address.to_owned(), runtime }
    }

    /// A lane, dialled for the `epoch`th time.
    fn dial(&self, (lane, class): (LaneId, TrafficClass), epoch: u64) -> RawLane {
        let options = DialOptions {
            lane,
            class,
            epoch: LinkEpoch(epoch),
            proxy: None,
            expect: None,
            limits: Default::default(),
            sockets: Default::default(),
        };
        let lane = self.runtime.block_on(dial(&self.local, &self.address, &options)).unwrap();
        lane.socket.set_nonblocking(false).unwrap();
        lane.socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        RawLane(lane)
    }
}

/// A frame as its peer sends it.
fn frame(kind: FrameKind, class: TrafficClass, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    BatchWriter::new(&mut out).frame(kind, class, LinkSequence(sequence), &[body]).unwrap();
    out
}

/// An acknowledgement of what the node has sent over the control lane, changed.
fn ack(epoch: u64, sequence: u64, change: impl FnOnce(&mut LaneAckEntry)) -> Vec<u8> {
    let mut entry = LaneAckEntry {
        lane: CONTROL_LANE.0,
        epoch: LinkEpoch(epoch),
        dialled: true,
        is_final: false,
        settled: false,
        count: 0,
        credit_frames: 1 << 20,
        credit_bytes: 1 << 30,
    };
    change(&mut entry);
    let mut body = Vec::new();
    LaneAck { sequence, entries: vec![entry] }.encode(&mut body);
    frame(FrameKind::LaneAck, CONTROL, 0, &body)
}

/// A striped record without a record.
fn striped(link_sequence: u64, sequence: u64) -> Vec<u8> {
    let stamp = StripeStamp { channel: 0, epoch: 1, sequence }.encode();
    frame(FrameKind::StripedRecord, BULK, link_sequence, &stamp)
}

struct RawLane(Handover);

impl RawLane {
    /// Sends frames, in one batch.
    fn send(&mut self, batch: &[u8]) {
        self.0.session.send_message(batch).unwrap();
        let unsent = self.0.session.take_unsent();
        self.0.socket.write_all(&unsent).unwrap();
    }

    /// The node answers over this lane.
    fn round_trip(&mut self) {
        let beat = Heartbeat { sent_nanos: 77 }.encode();
        self.send(&frame(FrameKind::Ping, CONTROL, 0, &beat));
        let mut answered = false;
        while !answered {
            assert!(self.read(|kind, body| answered |= kind == FrameKind::Pong && body == beat));
        }
    }

    /// Reads once; false if there is nothing more to be read.
    fn read(&mut self, mut take: impl FnMut(FrameKind, &[u8])) -> bool {
        while let Some(message) = self.0.session.next_message().unwrap() {
            for frame in FrameIter::new(&message).map(Result::unwrap) {
                take(frame.header.kind, &frame.body);
            }
        }
        let mut chunk = [0; 16 << 10];
        match self.0.socket.read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => {
                self.0.session.read_buffer().extend_from_slice(&chunk[..read]);
                self.0.session.process().unwrap();
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("nothing to read: {error}"),
        }
        true
    }

    /// Reads until the node closes the lane; what it says then.
    fn read_close(mut self) -> LaneClose {
        let mut last = None;
        let mut take = |kind, body: &[u8]| {
            if kind == FrameKind::Close {
                last = Some(LaneClose::decode(body).unwrap());
            }
        };
        while self.read(&mut take) {}
        last.unwrap()
    }
}

/// Waits for an event of the link to the member whose inputs satisfy `wanted`.
fn lane_event(node: &Node, what: &str, wanted: impl Fn(&str, &Value) -> bool) -> Value {
    wait_for(what, || {
        let events = node.json(&["lane", "events", "--peer", NAME]);
        let found = events
            .as_array()
            .unwrap()
            .iter()
            .find(|event| wanted(event["name"].as_str().unwrap(), &event["inputs"]));
        found.cloned()
    })
}

type Breach = (CloseReason, &'static str, (LaneId, TrafficClass), fn(u64) -> Vec<Vec<u8>>);

/// What a member may not do: the name of it, what the detail says, over which lane, and the batches, by
/// the lane's epoch. The session outlives its lanes: what counts goes on from one to the next.
const BREACHES: [Breach; 11] = [
    (CloseReason::AckAhead, "1000000 frames acknowledged", CONTROL_LANE, |epoch| {
        vec![ack(epoch, epoch * 10, |entry| entry.count = 1_000_000)]
    }),
    (CloseReason::AckReturned, "acknowledgement lowered from", CONTROL_LANE, |epoch| {
        vec![ack(epoch, epoch * 10, |_| ()), ack(epoch, epoch * 10, |_| ())]
    }),
    (CloseReason::CreditReturned, "credit of frames lowered from", CONTROL_LANE, |epoch| {
        vec![ack(epoch, epoch * 10, |entry| entry.credit_frames = 0)]
    }),
    (CloseReason::ClassChange, "bulk frame on lane 0", CONTROL_LANE, |_| {
        vec![frame(FrameKind::Record, BULK, 1, &[0; 8])]
    }),
    (CloseReason::ControlTooLarge, "of 80000 bytes", CONTROL_LANE, |_| {
        vec![frame(FrameKind::StreamAck, CONTROL, 2, &[0; 80_000])]
    }),
    (CloseReason::HeartbeatStorm, "heartbeats a second", CONTROL_LANE, |_| {
        let beat = Heartbeat { sent_nanos: 1 }.encode();
        vec![frame(FrameKind::Ping, CONTROL, 0, &beat).repeat(20_000)]
    }),
    (CloseReason::ProtocolViolation, "heartbeat", CONTROL_LANE, |_| {
        vec![frame(FrameKind::Ping, CONTROL, 0, b"seven b")]
    }),
    (CloseReason::StripeSequence, "stripe sequence 5 came twice", BULK_LANE, |_| {
        vec![striped(10, 5), striped(11, 5)]
    }),
    (CloseReason::ReorderOverrun, "frames or more ahead of", BULK_LANE, |_| {
        vec![striped(12, 1 << 30)]
    }),
    (CloseReason::CreditOverrun, "65537 frames sent, 65536 granted", CONTROL_LANE, |_| {
        // In one batch, so that nothing is granted anew before the last of them.
        let one = |n: u64| frame(FrameKind::Unknown(0xee), CONTROL, 100 + n, &[]);
        vec![(1..=65_537).flat_map(one).collect()]
    }),
    (CloseReason::SequenceJump, "link sequence 1099511627776 behind", CONTROL_LANE, |_| {
        vec![frame(FrameKind::StreamAck, CONTROL, 1 << 40, &[0; 8])]
    }),
];

fn seeded(directory: &std::path::Path) -> (Node, Member) {
    let spec = Spec::listening("b");
    let b = Node::start(directory, &spec);
    b.run(&["mesh", "seed", "test"]).ok();
    let member = Member::join(&b, &spec.listen);
    (b, member)
}

fn await_up(node: &Node, epoch: u64) {
    let epoch = epoch.to_string();
    lane_event(node, "the lane", |name, inputs| {
        name == "lane-up" && inputs["epoch"] == epoch.as_str()
    });
}

#[test]
fn what_a_member_did_is_named_at_both_ends_of_the_link() {
    let directory = tempfile::tempdir().unwrap();
    let (b, member) = seeded(directory.path());
    let watcher = Watcher::start(&b, &["lane_down"]);
    for (epoch, (reason, detail, lane, batches)) in (1..).zip(BREACHES) {
        let mut raw = member.dial(lane, epoch);
        await_up(&b, epoch);
        for batch in batches(epoch) {
            raw.send(&batch);
        }
        // What the member hears is what its operator would see.
        let close = raw.read_close();
        assert_eq!(close.reason, reason, "{close:?}");
        assert!(close.detail.contains(detail), "{close:?}");
        // And this is what the node's operator sees.
        let named = format!("{}: {}", close.reason.text(), close.detail);
        let number = epoch.to_string();
        lane_event(&b, "the name of what the member did", |name, inputs| {
            name == "lane-down"
                && inputs["epoch"] == number.as_str()
                && inputs["why"] == named.as_str()
        });
        let watched = watcher.next(|event| event["kind"] == "lane_down");
        let watched = watched["detail"].as_str().unwrap();
        assert!(watched.contains(NAME) && watched.ends_with(&named), "{watched}");
        assert!(b.log().contains(&close.detail), "{}", b.log());
    }

    // A node that is told so shows it as its peer's word.
    let mut lane = member.dial(CONTROL_LANE, 100);
    await_up(&b, 100);
    let mut body = Vec::new();
    let (reason, detail) = (CloseReason::CreditOverrun, "far \x1b[2J too much".to_owned());
    LaneClose { reason, detail }.encode(&mut body);
    lane.send(&frame(FrameKind::Close, CONTROL, 0, &body));
    let told = lane_event(&b, "the member's word", |name, inputs| {
        name == "lane-down" && inputs["epoch"] == "100"
    });
    let why = told["inputs"]["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("peer: {}", CloseReason::CreditOverrun.text())), "{why}");
    assert!(why.contains("too much") && !why.contains('\x1b'), "{why}");
}

#[test]
fn a_connection_that_gets_no_lane_takes_none_away() {
    let directory = tempfile::tempdir().unwrap();
    let (b, member) = seeded(directory.path());
    let a = Node::start(directory.path(), &Spec::dialling("a"));
    let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    a.run(&["mesh", "join", &token]).ok();
    a.run(&["stream", "open", "s", "--to", "b"]).ok();
    let watcher = Watcher::start(&b, &["refused", "lane_down", "link_down"]);
    let mut good = member.dial(BULK_LANE, 5);
    await_up(&b, 5);
    let others = |node: &Node| -> Vec<Value> {
        let lanes = node.json(&["lane", "ls"]);
        let key =
            |lane: &Value| serde_json::json!([lane["peer_name"], lane["lane_id"], lane["epoch"]]);
        lanes.as_array().unwrap().iter().map(key).collect()
    };
    let before = wait_for("all lanes", || {
        let lanes = others(&b);
        (lanes.len() == 4).then_some(lanes)
    });

    let priority = (BULK_LANE.0, TrafficClass::Priority);
    for (lane, epoch, reason, detail) in [
        // Newer, as if to take the place of the good one.
        (priority, 6, CloseReason::ClassChange, "lane 2 is for bulk, not for priority"),
        (
            BULK_LANE,
            5,
            CloseReason::DuplicateLane,
            "lane 2 has a connection of epoch 5, this one has 5",
        ),
        (
            BULK_LANE,
            4,
            CloseReason::DuplicateLane,
            "lane 2 has a connection of epoch 5, this one has 4",
        ),
    ] {
        let mut refused = member.dial(lane, epoch);
        // As a peer does that believes in its lane: what it says must not cost it the answer.
        refused.send(&frame(FrameKind::Ping, CONTROL, 0, &[0; 8]).repeat(100));
        assert_eq!(refused.read_close(), LaneClose { reason, detail: detail.to_owned() });
        let named = format!("{}: {detail}", reason.text());
        let told = watcher.next(|_| true);
        assert_eq!(told["kind"], "refused", "{told}");
        let told = told["detail"].as_str().unwrap();
        assert!(told.starts_with(NAME) && told.ends_with(&named), "{told}");
        lane_event(&b, "the refusal", |name, inputs| {
            name == "lane-refused" && inputs["why"] == named.as_str()
        });
        good.round_trip();
    }
    let rejects = b.json(&["mesh", "status"])["link_state_rejects"].clone();
    assert_eq!((&rejects["lane-class"], &rejects["duplicate-lane"]), (&1.into(), &2.into()));
    assert_eq!(others(&b), before);
    a.feed(&["stream", "pub", "s"], b"hello\n").ok();
    assert_eq!(b.run(&["stream", "sub", "s", "--count", "1"]).ok().text(), "hello\n");
    // The next connection of the good one's kind takes its place.
    let mut next = member.dial(BULK_LANE, 7);
    await_up(&b, 7);
    next.round_trip();
    assert_eq!(good.read_close().reason, CloseReason::Superseded);
}
