//! Lanes that shards miss: who dials them, and who asks whom for them.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_exchange::ShardToControl;
use hawser_identity::NodeKey;
use hawser_plane::{LaneEventView, LaneView};
use hawser_wire::{LaneId, NodeId, TrafficClass};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::link_state::Member;
use crate::node::{Node, PATIENCE, Setup, chain, free_port, start};

const EXTRA: LaneId = LaneId(3);

pub(crate) fn miss(node: &Node, peer: NodeId, lane: LaneId, class: TrafficClass) {
    node.say_of_link(peer, ShardToControl::WantLane { peer, lane, class });
}

pub(crate) async fn lanes_to(node: &Node, peer: NodeId) -> Vec<LaneView> {
    let lanes = node.handle.lanes().await.expect("lanes");
    lanes.into_iter().filter(|lane| lane.peer.node == peer).collect()
}

/// Waits until the link from `node` to `peer` has just these lanes.
pub(crate) async fn until_lanes(node: &Node, peer: NodeId, wanted: &[u16]) -> Vec<LaneView> {
    let mut events = node.handle.events();
    let waiting = async {
        loop {
            let lanes = lanes_to(node, peer).await;
            if lanes.iter().map(|lane| lane.lane.0).eq(wanted.iter().copied()) {
                return lanes;
            }
            let _lagged = events.recv().await;
        }
    };
    match timeout(PATIENCE, waiting).await {
        Ok(lanes) => lanes,
        Err(_elapsed) => panic!("no lanes {wanted:?}: {:#?}", lanes_to(node, peer).await),
    }
}

/// Waits for an event of a link, past ones included.
async fn lane_event(
    node: &Node,
    what: &str,
    wanted: impl Fn(&LaneEventView) -> bool,
) -> LaneEventView {
    let mut events = node.handle.lane_events(None).await.expect("events");
    if let Some(event) = events.kept.iter().find(|event| wanted(event)) {
        return event.clone();
    }
    let waiting = async {
        loop {
            let event = events.live.recv().await.expect("the plane runs");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_elapsed| panic!("no event {what}"))
}

fn input<'a>(event: &'a LaneEventView, name: &str) -> &'a str {
    let found = event.inputs.iter().find(|(input, _)| *input == name);
    found.map_or_else(|| panic!("no {name} in {event:?}"), |(_, value)| value.as_str())
}

/// B accepts, A dials; all lanes that a link always has are up at both ends.
pub(crate) async fn pair() -> (Node, Node) {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    b.admit(&a).await;
    until_lanes(&a, b.id(), &[0, 1, 2]).await;
    until_lanes(&b, a.id(), &[0, 1, 2]).await;
    (a, b)
}

async fn lose(node: &Node, lane: &LaneView) {
    let mut events = node.handle.events();
    node.lose_lane((lane.peer.node, lane.lane), "closed", None);
    crate::node::event(&mut events, hawser_plane::EventKind::LaneDown).await;
}

#[tokio::test]
async fn a_link_has_a_lane_per_class_and_further_ones_while_they_are_wanted() {
    let (a, b) = pair().await;
    let classes: Vec<_> = lanes_to(&a, b.id()).await.iter().map(|lane| lane.class).collect();
    assert_eq!(classes, TrafficClass::ALL);
    miss(&a, b.id(), EXTRA, TrafficClass::Bulk);
    let four = until_lanes(&a, b.id(), &[0, 1, 2, 3]).await;
    assert!(four.iter().all(|lane| lane.dialled));
    assert_eq!(four[3].class, TrafficClass::Bulk);
    until_lanes(&b, a.id(), &[0, 1, 2, 3]).await;
    // Of two that go, the one that a link always has comes back.
    lose(&a, &four[3]).await;
    lose(&a, &four[2]).await;
    let three = until_lanes(&a, b.id(), &[0, 1, 2]).await;
    assert!(three[2].epoch > four[3].epoch);
    until_lanes(&b, a.id(), &[0, 1, 2]).await;
    // None that the plan does not know, nor one of another class.
    miss(&a, b.id(), LaneId(6), TrafficClass::Bulk);
    miss(&a, b.id(), EXTRA, TrafficClass::Control);
    miss(&a, b.id(), LaneId(4), TrafficClass::Bulk);
    until_lanes(&a, b.id(), &[0, 1, 2, 4]).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_neighbour_that_cannot_be_dialled_is_asked_over_the_link() {
    let (a, b) = pair().await;
    miss(&b, a.id(), EXTRA, TrafficClass::Bulk);
    let four = until_lanes(&b, a.id(), &[0, 1, 2, 3]).await;
    assert!(!four[3].dialled, "A dials");
    let asked = lane_event(&b, "asked", |event| event.name == "dial-back-asked").await;
    assert_eq!((asked.peer.node, asked.peer.name.as_str()), (a.id(), "a"));
    assert_eq!((input(&asked, "lane"), input(&asked, "via")), ("3", "link"));
    let heeded = lane_event(&a, "heeded", |event| event.name == "dial-back-heeded").await;
    assert_eq!((heeded.peer.node, input(&heeded, "class")), (b.id(), "bulk"));
    assert_eq!(input(&heeded, "addresses"), b.listening().await.to_string());
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_dialled_is_asked_over_the_mesh() {
    let hub = start(Setup::listens("hub")).await;
    hub.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    let b = start(Setup::listens("b")).await;
    hub.admit(&a).await;
    hub.admit(&b).await;
    a.until_reaches(2).await;
    b.until_reaches(2).await;
    assert_eq!(lanes_to(&a, b.id()).await.len(), 0);
    for (lane, class) in [(LaneId(0), TrafficClass::Control), (LaneId(2), TrafficClass::Bulk)] {
        miss(&b, a.id(), lane, class);
    }
    let at_b = until_lanes(&b, a.id(), &[0, 2]).await;
    assert!(at_b.iter().all(|lane| !lane.dialled), "{at_b:?}");
    let at_a = until_lanes(&a, b.id(), &[0, 2]).await;
    assert!(at_a.iter().zip(&at_b).all(|(ours, theirs)| ours.epoch == theirs.epoch));
    let asked = lane_event(&b, "asked", |event| event.name == "dial-back-asked").await;
    assert_eq!(input(&asked, "via"), "mesh");
    for node in [a, b, hub] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_says_where_it_listens_is_dialled_there() {
    let hub = start(Setup::listens("hub")).await;
    hub.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    let b = start(Setup::listens("b")).await;
    hub.admit(&a).await;
    hub.admit(&b).await;
    a.until_reaches(2).await;
    for lane in [2, 3] {
        miss(&a, b.id(), LaneId(lane), TrafficClass::Bulk);
    }
    let dialled = until_lanes(&a, b.id(), &[2, 3]).await;
    assert!(dialled.iter().all(|lane| lane.dialled), "{dialled:?}");
    assert_eq!(dialled[0].remote, b.listening().await);
    let events = a.handle.lane_events(Some("b".into())).await.expect("events");
    assert!(events.kept.iter().all(|event| event.name != "dial-back-asked"), "{events:?}");
    for node in [a, b, hub] {
        node.stop().await;
    }
}

/// What `key`'s owner says to `to`: dial me at `address`.
fn dial_back(key: &NodeKey, to: NodeId, sequence: u64, lane: u16, address: &str) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&1_u64.to_le_bytes());
    request.extend_from_slice(&sequence.to_le_bytes());
    request.extend_from_slice(&lane.to_le_bytes());
    request.push(TrafficClass::Control.to_wire());
    request.extend_from_slice(&10_000_u32.to_le_bytes());
    request.push(1);
    request.push(u8::try_from(address.len()).expect("short"));
    request.extend_from_slice(address.as_bytes());
    let ends = [key.node_id(), to];
    let context = &b"hawser dial-back v1\0"[..];
    let signed = [context, ends[0].as_bytes(), ends[1].as_bytes(), &request[..]];
    let signature = key.sign(&signed.concat());
    [&[5], &request[..], &signature].concat()
}

#[tokio::test]
async fn only_a_members_own_fresh_word_is_heeded() {
    let (a, b, c) = chain().await;
    let stranger = NodeKey::generate().expect("key");
    let member = Member::admit(&b, "m").await;
    for body in member.flooded("m", "") {
        let body = body.into();
        a.say_of_link(b.id(), ShardToControl::LinkControl { from: b.id(), body });
    }
    let member = member.key;
    a.until("knowing the member", |status| {
        status.nodes.iter().any(|node| node.node == member.node_id())
    })
    .await;
    let hear = |from: NodeId, body: Vec<u8>| {
        let body = body.into();
        let via = b.id();
        a.say_of_link(via, ShardToControl::Datagram { from, via, body });
    };
    let ignored = async |reason: &str| {
        let event = lane_event(&a, reason, |event| {
            event.name == "dial-back-ignored" && input(event, "reason") == reason
        })
        .await;
        assert_eq!(input(&event, "ignored_for_it"), "1");
        event.peer.node
    };
    let (from, to) = (member.node_id(), a.id());
    hear(stranger.node_id(), dial_back(&stranger, to, 1, 0, "127.0.0.1:1"));
    assert_eq!(ignored("no-member").await, stranger.node_id());
    hear(from, dial_back(&stranger, to, 1, 0, "127.0.0.1:1"));
    assert_eq!(ignored("forged").await, from);
    hear(from, dial_back(&member, to, 1, 0, "evil\x1b[2J"));
    let event = lane_event(&a, "address", |event| event.name == "dial-back-ignored").await;
    assert!(!format!("{:?}", event.inputs).contains('\x1b'));
    assert_eq!(ignored("no-address").await, from);
    hear(from, dial_back(&member, to, 2, 9, "127.0.0.1:1"));
    assert_eq!(ignored("unknown-lane").await, from);
    hear(from, dial_back(&member, to, 3, 0, "127.0.0.1:1"));
    let heeded = lane_event(&a, "heeded", |event| event.name == "dial-back-heeded").await;
    assert_eq!(input(&heeded, "addresses"), "127.0.0.1:1");
    hear(from, dial_back(&member, to, 3, 0, "127.0.0.1:1"));
    assert_eq!(ignored("stale").await, from);
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn events_of_links_are_kept_and_found_by_peer() {
    let (a, b) = pair().await;
    let mut events = a.handle.events();
    let inputs = vec![("silent_ticks", "3".to_owned()), ("why", "\x1b[2J".to_owned())];
    let report = hawser_exchange::LinkEventReport { peer: b.id(), name: "hedged", inputs };
    a.say_of_link(b.id(), ShardToControl::LinkEvent(Box::new(report)));
    let told = crate::node::event(&mut events, hawser_plane::EventKind::LinkEvent).await;
    assert_eq!(told.detail, "hedged on the link to b silent_ticks=3 why=\\u{1b}[2J");
    for peer in [None, Some("b".to_owned()), Some(b.id().to_string())] {
        let view = a.handle.lane_events(peer).await.expect("events");
        let hedged = view.kept.iter().find(|event| event.name == "hedged").expect("kept");
        assert_eq!(hedged.inputs[1].1, "\\u{1b}[2J");
    }
    let error = a.handle.lane_events(Some("bb".into())).await.expect_err("unknown");
    assert!(error.to_string().contains("did you mean \"b\""), "{error}");
    // A node that has left may still be asked about.
    b.handle.leave_mesh().await.expect("leaves");
    a.until("alone", |status| status.nodes.len() == 1).await;
    assert_eq!(a.handle.lane_events(Some("b".into())).await.expect("events").peer, Some(b.id()));
    a.stop().await;
    b.stop().await;
}

/// Passes on what comes to an address that others know, while it is open.
struct Gate {
    address: SocketAddr,
    to: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Gate {
    async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("bound");
        let to = self.to;
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await.expect("connects");
                    let _either = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        }));
    }

    /// Connections that are there stay.
    async fn close(&mut self) {
        let accepting = self.accepting.take().expect("open");
        accepting.abort();
        assert!(accepting.await.is_err());
    }
}

/// The link was made at an address that is lent, and that nobody can dial for longer than a link without
/// lanes lives.
#[tokio::test]
async fn a_lane_that_cannot_be_dialled_for_long_comes_back() {
    let hub = start(Setup::listens("hub")).await;
    hub.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    let (listen, advertise) = (free_port(), free_port());
    let mut gate = Gate { address: advertise, to: listen, accepting: None };
    gate.open().await;
    let setup = Setup { listen: Some(listen.to_string()), ..Setup::dials_only("b") };
    let b = start(Setup { advertise: Some(advertise.to_string()), ..setup }).await;
    hub.admit(&a).await;
    hub.admit(&b).await;
    a.until_reaches(2).await;
    for (lane, class) in (0..).map(LaneId).zip(TrafficClass::ALL) {
        miss(&a, b.id(), lane, class);
    }
    let lanes = until_lanes(&a, b.id(), &[0, 1, 2]).await;
    assert!(lanes.iter().all(|lane| lane.remote == advertise), "{lanes:?}");
    gate.close().await;
    lose(&a, &lanes[1]).await;
    miss(&a, b.id(), LaneId(1), TrafficClass::Priority);
    // So long as what a shard has said once is heeded.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(lanes_to(&a, b.id()).await.len(), 2);
    gate.open().await;
    until_lanes(&a, b.id(), &[0, 1, 2]).await;
    for node in [a, b, hub] {
        node.stop().await;
    }
}
