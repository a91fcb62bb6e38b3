use std::time::{Duration, Instant};

use hawser_exchange::{ControlToShard, LanePolicyMode, LaneRule, LaneSerial, ShardToControl};
use hawser_link::LinkConfig;
use hawser_runtime::IoDriver;
use hawser_session::Role;
use hawser_wire::{
    CloseReason, FrameKind, Heartbeat, Incarnation, LaneClose, LaneId, LinkEpoch, NodeId, ShardId,
    TrafficClass,
};
use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};

use crate::application::Application;
use crate::cable::Cable;
use crate::node::{Node, node_id, serial_of, stream_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, connect, connect_over, frame, handed_over};
use crate::recovery::dropped;
use crate::streams::{messages, open_as};
use crate::wait::PATIENCE;

const CONTROL: TrafficClass = TrafficClass::Control;

fn local() -> NodeId {
    node_id(1, 0)
}

fn peer() -> NodeId {
    node_id(2, 0)
}

/// What the neighbour's control thread sent to this one's.
fn hear_link_control(node: &mut Node, from: NodeId) -> Vec<u8> {
    node.hear("link control", |message| match message {
        ShardToControl::LinkControl { from: f, body } if *f == from => Some(body.to_vec()),
        _ => None,
    })
}

/// A heartbeat is echoed, and link control crosses both ways.
fn a_lane_works(node: &mut Node, peer: &mut Peer) {
    let beat = Heartbeat { sent_nanos: 0x0123_4567_89ab_cdef }.encode();
    peer.send(FrameKind::Ping, CONTROL, &[&beat]);
    assert_eq!(peer.expect(FrameKind::Pong).body, beat);
    peer.send(FrameKind::LinkControl, CONTROL, &[b"to ", b"you"]);
    assert_eq!(hear_link_control(node, peer.id), b"to you");
    let body = b"from us".to_vec().into();
    node.tell_link(peer.id, ControlToShard::LinkControl { peer: peer.id, body });
    let frame = peer.expect(FrameKind::LinkControl);
    assert_eq!((frame.body.as_slice(), frame.header.class), (&b"from us"[..], CONTROL));
}

#[test]
fn heartbeats_are_echoed_in_either_role() {
    for near in [Role::Client, Role::Server] {
        let mut node = Node::start(local(), 1);
        let mut peer = Peer::open(&mut node, peer(), LaneSpec { near, ..COLLAPSED });
        a_lane_works(&mut node, &mut peer);
        // The shard asks, too, and makes a round trip of the answer.
        peer.expect(FrameKind::Ping);
        peer.round_trip();
        let report = node.report(ShardId(0));
        let [lane] = report.lanes.as_slice() else { panic!("one lane") };
        assert_eq!((lane.peer, lane.dialled), (peer.id, near == Role::Client));
        assert!(lane.rtt > Duration::ZERO);
        node.stop();
    }
}

#[test]
fn which_end_has_closed_a_lane_is_told() {
    let mut node = Node::start(local(), 1);
    let end = |node: &mut Node| {
        node.hear("the end of the lane", |message| match message {
            ShardToControl::LaneDown { told, closed, .. } => Some((*told, *closed)),
            _ => None,
        })
    };
    let mut broken = Peer::open(&mut node, peer(), COLLAPSED);
    broken.send(FrameKind::Hello, CONTROL, &[]);
    assert_eq!(end(&mut node), (None, Some(CloseReason::ProtocolViolation)));
    let mut closed = Peer::open(&mut node, peer(), LaneSpec { epoch: LinkEpoch(2), ..COLLAPSED });
    let mut body = Vec::new();
    LaneClose { reason: CloseReason::DuplicateNode, detail: String::new() }.encode(&mut body);
    closed.send(FrameKind::Close, CONTROL, &[&body]);
    assert_eq!(end(&mut node), (Some(CloseReason::DuplicateNode), None));
    drop(Peer::open(&mut node, peer(), LaneSpec { epoch: LinkEpoch(3), ..COLLAPSED }));
    assert_eq!(end(&mut node), (None, None));
    node.stop();
}

#[test]
fn what_comes_right_behind_the_hello_is_told_behind_the_lane() {
    let mut node = Node::start(local(), 1);
    let (_peer, handover) = Peer::make(peer(), COLLAPSED, |near, far| {
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"early"])).unwrap();
        near.read_buffer().extend(far.take_unsent());
    });
    node.tell_link(peer(), handed_over(handover));
    let mut next = || {
        node.hear("the lane, and what came over it", |message| match message {
            ShardToControl::LaneUp { .. } => Some("up"),
            ShardToControl::LinkControl { .. } => Some("said"),
            _ => None,
        })
    };
    assert_eq!([next(), next()], ["up", "said"]);
    node.stop();
}

#[test]
fn epoll_carries_lanes_too() {
    let mut node = Node::start_with(local(), 1, |config| config.driver = IoDriver::Epoll);
    assert_eq!(node.threads[0].io_driver, "epoll");
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut peer);
    drop(peer);
    node.hear_down(self::peer(), LaneId(0), LinkEpoch(1));
    node.stop();
}

#[test]
fn frames_sent_are_counted_and_not_batches() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    const FRAMES: u64 = 100;
    for number in 0..FRAMES {
        let body = number.to_le_bytes().to_vec().into();
        let message = ControlToShard::LinkControl { peer: peer.id, body };
        node.control.shards[0].to.try_send(message).unwrap();
    }
    // All at once, so that they share batches.
    node.control.shards[0].to.ring();
    for number in 0..FRAMES {
        assert_eq!(peer.expect(FrameKind::LinkControl).body, number.to_le_bytes());
    }
    let before = node.report(ShardId(0)).lanes[0].sent_frames;
    // Heartbeats and acknowledgements beside them.
    assert!((FRAMES..FRAMES * 2).contains(&before), "{before} frames");
    // Echoes count as well.
    peer.round_trip();
    let after = node.report(ShardId(0)).lanes[0].sent_frames;
    assert!(after > before);
    node.stop();
}

#[test]
fn what_came_in_behind_the_hello_is_not_lost() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open_after(&mut node, peer(), COLLAPSED, |near, far| {
        // A whole message that is decrypted already, a whole one that is not, and half of one.
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"one"])).unwrap();
        near.read_buffer().extend(far.take_unsent());
        near.process().unwrap();
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"two"])).unwrap();
        let two = far.take_unsent();
        near.read_buffer().extend(two);
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"three"])).unwrap();
        // And this side still has something to say.
        near.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"unsent"])).unwrap();
    });
    peer.flush();
    for expected in [&b"one"[..], b"two", b"three"] {
        assert_eq!(hear_link_control(&mut node, peer.id), expected);
    }
    assert_eq!(peer.expect(FrameKind::LinkControl).body, b"unsent");
    node.stop();
}

#[test]
fn unknown_kinds_of_frames_are_skipped() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    let unknown = frame(FrameKind::Unknown(0xee), CONTROL, &[&[1; 1000]]);
    let known = frame(FrameKind::LinkControl, CONTROL, &[b"known"]);
    peer.send_batch(&[unknown.as_slice(), &known, &unknown].concat());
    assert_eq!(hear_link_control(&mut node, peer.id), b"known");
    a_lane_works(&mut node, &mut peer);
    node.stop();
}

#[test]
fn a_silent_peer_loses_its_lane() {
    let mut node = Node::start_with(local(), 1, |config| {
        let tick = Duration::from_millis(10);
        config.link = LinkConfig { tick, dead_after_ticks: 5, ..LinkConfig::default() };
    });
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    let why = node.hear_down(peer.id, LaneId(0), LinkEpoch(1));
    assert_eq!(why, CloseReason::Silent.text());
    let frames = peer.until_over();
    // What it puts on the lane and what it takes; that again when it hears nothing; why it goes.
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.header.kind).collect();
    let beats = kinds.iter().filter(|&&kind| kind == FrameKind::Ping).count();
    assert!((4..=6).contains(&beats), "{beats} heartbeats");
    // A busy host is late for its ticks, and says so.
    let is_said = |kind: &FrameKind| !matches!(kind, FrameKind::Ping | FrameKind::TurnDelay);
    let others: Vec<_> = kinds.into_iter().filter(is_said).collect();
    let ack = FrameKind::LaneAck;
    assert_eq!(others, [ack, FrameKind::LaneClasses, ack, FrameKind::Close]);
    node.stop();
}

#[test]
fn a_peer_that_only_answers_keeps_its_lane() {
    let mut node = Node::start_with(local(), 1, |config| {
        let tick = Duration::from_millis(50);
        config.link = LinkConfig { tick, dead_after_ticks: 20, ..LinkConfig::default() };
    });
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    for _ in 0..30 {
        peer.expect(FrameKind::Ping);
    }
    peer.round_trip();
    assert!(node.unasked().is_empty(), "{:?}", node.unasked());
    node.stop();
}

/// The policy lets go of a lane above its cap under load: what was under way over it comes over it, both
/// ends count it as gone in good order, and nobody misses it.
#[test]
fn a_lane_that_the_policy_closes_is_emptied_and_not_missed() {
    let start = |id, lane_policy| {
        Node::start_with(id, 1, |config| {
            config.lane_rule = LaneRule { bulk_lanes_max: 1, policy: lane_policy };
            // Silence makes nobody suspicious: a busy machine makes some.
            (config.link.quiet_after_ticks, config.link.hedge_after_ticks) = (600, 600);
            // A lane that is to be closed waits for the peer to say so, too, and not for its patience.
            config.link.session_timeout = Duration::from_secs(600);
        })
    };
    let mut a = start(local(), LanePolicyMode::On);
    let mut b = start(peer(), LanePolicyMode::Off);
    let (id_a, id_b) = (a.local, b.local);
    let spec = |lane, class| LaneSpec { lane: LaneId(lane), class, ..COLLAPSED };
    connect(&mut a, &mut b, spec(0, CONTROL));
    connect(&mut a, &mut b, spec(2, TrafficClass::Bulk));
    a.route(&[(id_b, &[5])], &[(5, id_b)]);
    b.route(&[(id_a, &[6])], &[(6, id_a)]);
    // Some of them keep to the lane that is closed.
    let (mut at_a, mut at_b) = (Application::of(&mut a), Application::of(&mut b));
    let mut flows: Vec<_> = (0..16)
        .map(|tag| {
            let (stream, is_there) = (stream_id(0x90 + tag, 0), tag % 2 == 0);
            let ends = if is_there { (&mut a, &mut b) } else { (&mut b, &mut a) };
            open_as(ends.0, ends.1, stream, false);
            let apps = if is_there { (&mut at_a, &mut at_b) } else { (&mut at_b, &mut at_a) };
            (is_there, apps.0.open_publish(stream, 11), apps.1.subscribe(stream, "reader"))
        })
        .collect();
    let mut publish = |at_a: &mut Application, at_b: &mut Application| {
        for (is_there, publishing, _) in &mut flows {
            let from = if *is_there { &mut *at_a } else { &mut *at_b };
            for batch in messages(publishing.next_seq, 300).chunks(10) {
                from.publish(publishing, batch);
            }
        }
    };
    publish(&mut at_a, &mut at_b);
    connect(&mut a, &mut b, spec(3, TrafficClass::Bulk));
    publish(&mut at_a, &mut at_b);
    let decided = a.hear_event(id_b, "lane-policy");
    assert!(decided.contains(&("verdict", "close".to_owned())), "{decided:?}");
    publish(&mut at_a, &mut at_b);
    for (is_there, publishing, subscribed) in &mut flows {
        let (from, to) = if *is_there { (&mut at_a, &mut at_b) } else { (&mut at_b, &mut at_a) };
        assert!(to.receive(subscribed, 900) == messages(1, 900), "messages differ");
        from.until_acked(publishing);
    }
    let reason = CloseReason::NotNeeded.text();
    assert_eq!(a.hear_down(id_b, LaneId(3), LinkEpoch(1)), reason);
    // It learns that from the peer's good-bye, or from its count over another lane.
    b.hear_down(id_a, LaneId(3), LinkEpoch(1));
    for (node, peer) in [(&mut a, id_b), (&mut b, id_a)] {
        let lanes: Vec<u16> = node.report(ShardId(0)).lanes.iter().map(|l| l.lane.0).collect();
        assert_eq!(lanes, [0, 2]);
        // What a lane's end leads to is said before the report.
        assert!(!node.misses_lane(), "nobody misses it");
        assert!(node.events(peer, "requeued").is_empty(), "nothing was lost with it");
        assert_eq!(dropped(node), 0);
    }
    a.stop();
    b.stop();
}

/// An operator bounds a link that is up, with decisions that are told alone at first.
#[test]
fn a_cap_and_a_dry_run_are_set_while_the_link_is_up() {
    let (mut a, mut b) = (Node::start(local(), 1), Node::start(peer(), 1));
    let (id_a, id_b) = (a.local, b.local);
    for (lane, class) in [(0, CONTROL), (2, TrafficClass::Bulk), (3, TrafficClass::Bulk)] {
        connect(&mut a, &mut b, LaneSpec { lane: LaneId(lane), class, ..COLLAPSED });
    }
    let set = |node: &mut Node, bulk_lanes_max, policy| {
        let rule = Some(LaneRule { bulk_lanes_max, policy });
        node.tell_link(id_b, ControlToShard::SetLaneRule { peer: id_b, rule });
    };
    let input = |inputs: &[(&'static str, String)], name: &str| {
        inputs.iter().find(|(input, _)| *input == name).map(|(_, value)| value.clone())
    };
    let lanes = |node: &mut Node| {
        let lanes = node.report(ShardId(0)).lanes;
        lanes.iter().map(|lane| lane.lane.0).collect::<Vec<u16>>()
    };
    set(&mut a, 1, LanePolicyMode::DryRun);
    let told = a.hear_event(id_b, "lane-policy");
    for (name, value) in [
        ("verdict", "close"),
        ("dry_run", "true"),
        ("bulk_lanes", "2"),
        ("bulk_lanes_max", "1"),
        ("cool_down_left_ms", "0"),
        ("lane_queued_bytes", "2:0,3:0"),
    ] {
        assert_eq!(input(&told, name).as_deref(), Some(value), "{name} of {told:?}");
    }
    assert_eq!(lanes(&mut a), [0, 2, 3]);
    set(&mut a, 1, LanePolicyMode::On);
    let told = a.hear_event(id_b, "lane-policy");
    assert_eq!(input(&told, "dry_run").as_deref(), Some("false"), "{told:?}");
    a.hear_down(id_b, LaneId(3), LinkEpoch(1));
    b.hear_down(id_a, LaneId(3), LinkEpoch(1));
    assert_eq!(lanes(&mut a), [0, 2]);
    a.stop();
    b.stop();
}

#[test]
fn a_newer_connection_supersedes_the_lane() {
    let mut node = Node::start(local(), 1);
    let mut old = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut old);
    let epoch = LinkEpoch(2);
    let mut new = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    assert_eq!(old.expect_close().reason, CloseReason::Superseded);
    let why = node.hear_down(old.id, LaneId(0), LinkEpoch(1));
    assert_eq!(why, CloseReason::Superseded.text());
    a_lane_works(&mut node, &mut new);
    let report = node.report(ShardId(0));
    assert_eq!(report.lanes.iter().map(|lane| lane.epoch).collect::<Vec<_>>(), [epoch]);
    node.stop();
}

#[test]
fn only_the_connection_that_is_meant_is_closed() {
    let mut node = Node::start(local(), 1);
    let epoch = LinkEpoch(7);
    let mut peer = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    let close = |epoch| ControlToShard::CloseLane {
        peer: self::peer(),
        lane: LaneId(0),
        serial: serial_of(epoch),
        reason: CloseReason::RateLimited,
    };
    node.tell_link(peer.id, close(LinkEpoch(6)));
    a_lane_works(&mut node, &mut peer);
    node.tell_link(peer.id, close(epoch));
    assert_eq!(peer.expect_close().reason, CloseReason::RateLimited);
    assert_eq!(node.hear_down(peer.id, LaneId(0), epoch), CloseReason::RateLimited.text());
    node.stop();
}

#[test]
fn lives_of_a_neighbour_may_count_their_connections_alike() {
    let mut node = Node::start(local(), 1);
    let mut old = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut old);
    let (mut new, mut handover) = Peer::make(peer(), COLLAPSED, |_near, _far| {});
    handover.peer_incarnation = Incarnation(2);
    let (before, serial) = (serial_of(COLLAPSED.epoch), LaneSerial(9));
    let close = |serial| ControlToShard::CloseLane {
        peer: peer(),
        lane: LaneId(0),
        serial,
        reason: CloseReason::Barred,
    };
    node.tell_link(peer(), close(before));
    node.tell_link(peer(), ControlToShard::LaneArrived { serial, handover });
    assert_eq!(node.hear_up(peer(), LaneId(0)), serial);
    assert_eq!(old.expect_close().reason, CloseReason::Barred);
    node.hear_down(peer(), LaneId(0), COLLAPSED.epoch);
    // What comes late for the older one does not touch the other.
    node.tell_link(peer(), close(before));
    a_lane_works(&mut node, &mut new);
    node.tell_link(peer(), close(serial));
    assert_eq!(new.expect_close().reason, CloseReason::Barred);
    node.stop();
}

#[test]
fn a_peer_that_goes_is_noticed_however_it_goes() {
    let mut node = Node::start(local(), 1);
    let mut check = |epoch: u64, expected: &str, go: &dyn Fn(&mut Peer)| {
        let epoch = LinkEpoch(epoch);
        let mut peer = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
        a_lane_works(&mut node, &mut peer);
        go(&mut peer);
        let why = node.hear_down(peer.id, LaneId(0), epoch);
        assert!(why.starts_with(expected), "{why:?} is not {expected:?}");
        peer.until_over();
    };
    check(1, "peer: shutdown: for tea", &|peer| {
        let close = LaneClose { reason: CloseReason::Shutdown, detail: "for tea".to_owned() };
        let mut body = Vec::new();
        close.encode(&mut body);
        peer.send(FrameKind::Close, CONTROL, &[&body]);
    });
    // Both layers at once; only the outer one; only the inner one; none.
    check(2, "closed by the peer", &|peer| {
        peer.session.send_close();
        peer.flush();
    });
    check(3, "closed by the peer", &|peer| peer.send_plaintext(&[0x88, 0x80, 0, 0, 0, 0]));
    check(4, "closed by the peer", &|peer| {
        peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
    });
    node.stop();
}

#[test]
fn link_control_for_a_neighbour_without_a_lane_is_not_kept_for_the_next_one() {
    let mut node = Node::start(local(), 1);
    let mut first = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut first);
    drop(first);
    node.hear_down(peer(), LaneId(0), LinkEpoch(1));
    let body = b"stale".to_vec().into();
    node.tell_link(peer(), ControlToShard::LinkControl { peer: peer(), body });
    let epoch = LinkEpoch(2);
    let mut second = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    let body = b"fresh".to_vec().into();
    node.tell_link(peer(), ControlToShard::LinkControl { peer: peer(), body });
    assert_eq!(second.expect(FrameKind::LinkControl).body, b"fresh");
    node.stop();
}

#[test]
fn a_lane_that_leads_far_gets_the_congestion_control_for_it() {
    let start = |tag| {
        Node::start_with(node_id(tag, 0), 1, |config| config.far_control = Some("reno".into()))
    };
    let (mut a, mut b) = (start(1), start(2));
    let (_cable, sockets) = Cable::long(Duration::from_millis(2));
    let ends = [&sockets.0, &sockets.1].map(|socket| socket.try_clone().unwrap());
    for end in &ends {
        set_tcp_congestion(end, "cubic").unwrap();
    }
    connect_over(&mut a, &mut b, COLLAPSED, sockets);
    let until = Instant::now() + PATIENCE;
    for end in &ends {
        while tcp_congestion(end).unwrap() != "reno" {
            assert!(Instant::now() < until, "the lane keeps its congestion control");
            std::thread::yield_now();
        }
    }
    a.stop();
    b.stop();
}
