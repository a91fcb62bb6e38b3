//! A member breaks the rules of lanes: what it did has a name, which both ends of the link show to
//! whoever asks, and nobody else's lane is the worse for it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use hawser_admission::{DialOptions, Handover, JoinOptions, LocalNode, dial, join};
use hawser_identity::{Credentials, JoinToken, NodeKey};
use hawser_wire::{
    BatchWriter, CloseReason, FrameIter, FrameKind, Incarnation, LaneAck, LaneAckEntry, LaneClose,
    LaneId, LinkEpoch, LinkSequence, TrafficClass,
};
use serde_json::Value;

use crate::process::{Guarded, Node, Spec, wait_for};

const CONTROL: TrafficClass = TrafficClass::Control;
const LANE: LaneId = LaneId(0);
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
            client: credentials.lane_client_config(),
            server: credentials.lane_server_config(),
            barred: Default::default(),
        };
        Self { local, address: address.to_owned(), runtime }
    }

    /// The control lane, dialled for the `epoch`th time.
    fn dial(&self, epoch: u64) -> RawLane {
        let options = DialOptions {
            lane: LANE,
            class: CONTROL,
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

struct RawLane(Handover);

impl RawLane {
    fn send(&mut self, kind: FrameKind, body: &[u8]) {
        let mut batch = Vec::new();
        BatchWriter::new(&mut batch).frame(kind, CONTROL, LinkSequence(0), &[body]).unwrap();
        self.0.session.send_message(&batch).unwrap();
        let unsent = self.0.session.take_unsent();
        self.0.socket.write_all(&unsent).unwrap();
    }

    /// Reads until the node closes the lane; what it says then.
    fn read_close(mut self) -> LaneClose {
        let mut last = None;
        loop {
            while let Some(message) = self.0.session.next_message().unwrap() {
                for frame in FrameIter::new(&message).map(Result::unwrap) {
                    if frame.header.kind == FrameKind::Close {
                        last = Some(LaneClose::decode(&frame.body).unwrap());
                    }
                }
            }
            let mut chunk = [0; 16 << 10];
            match self.0.socket.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    self.0.session.read_buffer().extend_from_slice(&chunk[..read]);
                    self.0.session.process().unwrap();
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("nothing to read: {error}"),
            }
        }
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

/// `events watch` on the node, once it sees what happens there.
struct Watcher {
    _process: Guarded,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Watcher {
    fn start(node: &Node) -> Self {
        let kinds = ["--kind", "stream_opened", "--kind", "lane_down"];
        let arguments = [&["events", "watch", "--json"][..], &kinds].concat();
        let mut process = node.spawn(&arguments, Stdio::null());
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (seen, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if seen.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        let mut streams = 0;
        wait_for("the watcher to see what happens", || {
            streams += 1;
            node.run(&["stream", "open", &format!("w{streams}"), "--to", "b"]).ok();
            lines.try_recv().ok()
        });
        Self { _process: process, lines }
    }

    /// What it says of the next lane that goes.
    fn lane_down(&self) -> String {
        loop {
            let event = self.lines.recv_timeout(Duration::from_secs(30)).unwrap();
            if event["kind"] == "lane_down" {
                return event["detail"].as_str().unwrap().to_owned();
            }
        }
    }
}

#[test]
fn what_a_member_did_is_named_at_both_ends_of_the_link() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::listening("b");
    let b = Node::start(directory.path(), &spec);
    b.run(&["mesh", "seed", "test"]).ok();
    let member = Member::join(&b, &spec.listen);

    let watcher = Watcher::start(&b);
    let mut lane = member.dial(1);
    lane_event(&b, "the lane", |name, inputs| name == "lane-up" && inputs["epoch"] == "1");
    // More than the node has sent.
    let entry = LaneAckEntry {
        lane: LANE,
        epoch: LinkEpoch(1),
        dialled: true,
        is_final: false,
        settled: false,
        count: 1_000_000,
        credit_frames: 1 << 20,
        credit_bytes: 1 << 30,
    };
    let mut body = Vec::new();
    LaneAck { sequence: 1, entries: vec![entry] }.encode(&mut body);
    lane.send(FrameKind::LaneAck, &body);

    // What the member hears is what its operator would see.
    let close = lane.read_close();
    assert_eq!(close.reason, CloseReason::AckAhead);
    assert!(close.detail.contains("1000000 frames acknowledged"), "{close:?}");
    // And this is what the node's operator sees.
    let named = format!("{}: {}", close.reason.text(), close.detail);
    lane_event(&b, "the name of what the member did", |name, inputs| {
        name == "lane-down" && inputs["epoch"] == "1" && inputs["why"] == named.as_str()
    });
    let watched = watcher.lane_down();
    assert!(watched.contains(NAME) && watched.ends_with(&named), "{watched}");
    let log = b.log();
    assert!(log.contains(&close.detail), "{log}");

    // A node that is told so shows it as its peer's word.
    let mut lane = member.dial(2);
    lane_event(&b, "the next lane", |name, inputs| name == "lane-up" && inputs["epoch"] == "2");
    let mut body = Vec::new();
    let (reason, detail) = (CloseReason::CreditOverrun, "far \x1b[2J too much".to_owned());
    LaneClose { reason, detail }.encode(&mut body);
    lane.send(FrameKind::Close, &body);
    let told = lane_event(&b, "the member's word", |name, inputs| {
        name == "lane-down" && inputs["epoch"] == "2"
    });
    let why = told["inputs"]["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("peer: {}", CloseReason::CreditOverrun.text())), "{why}");
    assert!(why.contains("too much") && !why.contains('\x1b'), "{why}");
}
