//! What a peer may not send: each names its reason, and the other lanes go on.

use std::time::Duration;

use hawser_wire::{
    AckInterval, BatchWriter, CloseReason, FrameKind, Heartbeat, Incarnation, LINK_SEQUENCE_WINDOW,
    LaneAck, LaneAckEntry, LaneId, LinkEpoch, LinkMode, LinkModeOffer, LinkSequence, TrafficClass,
    TurnDelay,
};

use super::pair::{Pair, Random, class_of};
use crate::link::receive::ACK_JUMP_MAX;
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

/// A message of one frame.
fn message(kind: FrameKind, class: TrafficClass, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    BatchWriter::new(&mut out).frame(kind, class, LinkSequence(sequence), &[body]).unwrap();
    out
}

/// A link with three lanes takes `messages` over `lane` and closes it for `reason`; what was in
/// flight over it, and what comes then, arrives.
fn check(lane: u16, reason: CloseReason, messages: impl FnOnce(&Pair, LaneKey) -> Vec<Vec<u8>>) {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    for stream in 0..20 {
        for end in 0..2 {
            pair.push(end, Bulk, Origin::Own, stream, 30_000).unwrap();
            pair.push(end, Control, Origin::Own, stream, 100).unwrap();
        }
    }
    pair.run(Duration::from_millis(10));
    let key = pair.key_of(lane);
    for message in messages(&pair, key) {
        pair.handle_message(0, key, &message);
    }
    // The true peer goes on behind the forged ones.
    pair.ends[1].ack_sequence = pair.ends[1].ack_sequence.max(pair.ends[0].ack_seen);
    let found: Vec<CloseReason> = pair.violations.iter().map(LinkViolation::close_reason).collect();
    assert_eq!(found, [reason], "{:?}", pair.violations);
    pair.push(1, Bulk, Origin::Own, 1, 10).unwrap();
    pair.settle(5);
    pair.run(Duration::from_millis(300));
    assert_eq!(pair.ends[0].lanes().count(), 3);
}

/// An acknowledgement of what `end` has sent over the lane, changed.
fn ack(pair: &Pair, key: LaneKey, ahead: u64, change: impl FnOnce(&mut LaneAckEntry)) -> Vec<u8> {
    let lane = pair.ends[0].lanes().find(|lane| lane.key == key).unwrap();
    let mut entry = LaneAckEntry {
        lane: lane.id.lane,
        epoch: lane.id.epoch,
        dialled: !lane.id.dialled,
        is_final: false,
        settled: false,
        count: lane.sent_frames,
        credit_frames: 1 << 40,
        credit_bytes: 1 << 40,
    };
    change(&mut entry);
    let sequence = pair.ends[0].ack_seen + 1 + ahead;
    let mut body = Vec::new();
    LaneAck { sequence, entries: vec![entry] }.encode(&mut body);
    message(FrameKind::LaneAck, Control, 0, &body)
}

#[test]
fn acknowledgements_that_cannot_be() {
    check(0, CloseReason::AckAhead, |pair, key| vec![ack(pair, key, 0, |entry| entry.count += 1)]);
    check(0, CloseReason::AckReturned, |pair, key| {
        vec![ack(pair, key, 0, |_| ()), ack(pair, key, 1, |entry| entry.count -= 1)]
    });
    check(0, CloseReason::AckReturned, |pair, key| {
        vec![ack(pair, key, 0, |_| ()), ack(pair, key, 0, |_| ())]
    });
    check(0, CloseReason::CreditReturned, |pair, key| {
        let lower = ack(pair, key, 1, |entry| entry.credit_bytes -= 1);
        vec![ack(pair, key, 0, |_| ()), lower]
    });
    for ahead in [ACK_JUMP_MAX, u64::MAX >> 1, u64::MAX - 1000] {
        check(0, CloseReason::ProtocolViolation, |pair, key| {
            vec![ack(pair, key, 0, |_| ()), ack(pair, key, 1 + ahead, |_| ())]
        });
    }
    check(0, CloseReason::ProtocolViolation, |_, _| {
        vec![message(FrameKind::LaneAck, Control, 0, &[1, 2, 3])]
    });
}

#[test]
fn frames_that_the_lane_does_not_take() {
    check(2, CloseReason::ClassChange, |_, _| {
        vec![message(FrameKind::StreamAck, Control, 500, &[0; 8])]
    });
    check(0, CloseReason::ControlTooLarge, |_, _| {
        vec![message(FrameKind::StreamAck, Control, 500, &[0; 80_000])]
    });
    check(2, CloseReason::SequenceJump, |_, _| {
        vec![message(FrameKind::Record, Bulk, LINK_SEQUENCE_WINDOW + 500, &[0; 8])]
    });
}

#[test]
fn frames_that_are_counted_if_and_only_if_they_are_routed() {
    use FrameKind::{Close, Datagram, LaneAck, LinkControl, Notice, Ping, Record};
    for (kind, class, sequence) in [
        (Record, Bulk, 0),
        (Datagram, Control, 0),
        (Notice, Control, 0),
        (Ping, Control, 500),
        (LaneAck, Control, 500),
        (LinkControl, Control, 500),
        (Close, Control, 500),
    ] {
        let lane = if class == Bulk { 2 } else { 0 };
        check(lane, CloseReason::ProtocolViolation, |_, _| {
            vec![message(kind, class, sequence, &[0; 8])]
        });
    }
}

#[test]
fn a_kind_that_is_not_known_is_counted_as_its_sender_says() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
    let key = pair.key_of(0);
    let mut take = |sequence| {
        let bytes = message(FrameKind::Unknown(0xee), Control, sequence, &[0; 8]);
        let frame = hawser_wire::FrameIter::new(&bytes).next().unwrap().unwrap();
        let handled = pair.ends[0].handle_frame(pair.now, key, &frame).unwrap();
        (handled, pair.ends[0].lanes().next().unwrap().received_frames)
    };
    assert_eq!(take(0), (Handled::Deliver, 0));
    assert_eq!(take(7), (Handled::Deliver, 1));
    assert_eq!(take(7), (Handled::Duplicate, 2));
}

#[test]
fn more_than_the_lane_has_credit_for() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    let key = pair.key_of(2);
    // The granting side never says anything, as no step is taken.
    for sequence in 1.. {
        let len = 1 << 20;
        let body = [&(1_000_000_u64 + sequence).to_le_bytes()[..], &vec![0; len]].concat();
        pair.handle_message(0, key, &message(FrameKind::Record, Bulk, sequence, &body));
        if let [violation] = pair.violations[..] {
            assert_eq!(violation.close_reason(), CloseReason::CreditOverrun, "{violation}");
            assert_eq!(sequence, 8, "seven and some fit into 8 MiB");
            break;
        }
    }
}

/// Who runs over its credit loses that lane: whatever was under way over it, in either direction, comes
/// once over another, and the other lanes notice nothing.
#[test]
fn what_a_lane_that_overran_its_credit_had_not_brought_comes_over_another() {
    let config = LinkConfig { in_flight_floor_bytes: 64 << 20, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 4);
    let key = pair.key_of(2);
    // So slow that what is on its way to the peer is lost with it.
    pair.wires.get_mut(&key).unwrap().bytes_per_ms = 1000;
    let at = pair.ends[1].position(key).unwrap();
    let (over, beside): (Vec<u64>, Vec<u64>) =
        (0..40).partition(|&stream| pair.lane_of(1, stream) == Some(at));
    for &stream in &over {
        pair.push(0, Bulk, Origin::Own, stream, 30_000).unwrap();
    }
    for &stream in &beside {
        for end in 0..2 {
            pair.push(end, Bulk, Origin::Own, stream, 30_000).unwrap();
            pair.push(end, Priority, Origin::Own, stream, 100).unwrap();
            pair.push(end, Control, Origin::Own, stream, 100).unwrap();
        }
    }
    pair.step(true);
    let others = |pair: &Pair, end: usize| -> Vec<LaneKey> {
        let lanes = pair.ends[end].lanes().filter(|lane| lane.id.lane != LaneId(2));
        lanes.map(|lane| lane.key).collect()
    };
    let before = [0, 1].map(|end| others(&pair, end));

    // It goes by more than it was granted, and no step is taken in which it could be told.
    let credit = &mut pair.ends[1].lanes[at].credit;
    credit.grant(LaneId(2), 1 << 40, 1 << 40).unwrap();
    for &stream in over.iter().cycle().take(12) {
        pair.push(1, Bulk, Origin::Own, stream, 1_000_000).unwrap();
    }
    let now = pair.now;
    while pair.violations.is_empty() {
        let message = pair.ends[1].poll_transmit(now, key).unwrap().frames.concat();
        pair.handle_message(0, key, &message);
    }
    pair.settle(5);
    for (end, before) in before.into_iter().enumerate() {
        let is_requeued = |event: &LinkEvent| {
            matches!(event, LinkEvent::Requeued { from: ConnectionId { lane: LaneId(2), .. }, .. })
        };
        assert!(pair.saw(end, is_requeued), "end {end}");
        assert_eq!(others(&pair, end), before);
    }
    pair.run(Duration::from_millis(300));
    assert_eq!(pair.ends[0].lanes().count(), 4, "it may come again");
    let found: Vec<CloseReason> = pair.violations.iter().map(LinkViolation::close_reason).collect();
    assert_eq!(found, [CloseReason::CreditOverrun], "{:?}", pair.violations);
}

#[test]
fn heartbeats_by_the_thousand() {
    check(1, CloseReason::HeartbeatStorm, |_, _| {
        let beat = Heartbeat { sent_nanos: 1 }.encode();
        vec![message(FrameKind::Ping, Control, 0, &beat).repeat(20_000)]
    });
}

#[test]
fn classes_that_come_and_go_by_the_thousand() {
    check(2, CloseReason::HeartbeatStorm, |_, _| {
        let classes = |classes| message(FrameKind::LaneClasses, Control, 0, &[classes]);
        vec![[classes(0), classes(0b100)].concat().repeat(10_000)]
    });
}

#[test]
fn what_needs_no_credit_by_the_thousand() {
    let beat = Heartbeat { sent_nanos: 1 }.encode();
    let delay = TurnDelay::new(Duration::from_millis(2)).encode();
    let interval = AckInterval { bytes: 512 }.encode();
    for (kind, body) in [
        (FrameKind::Pong, &beat[..]),
        (FrameKind::TurnDelay, &delay),
        (FrameKind::AckInterval, &interval),
    ] {
        check(1, CloseReason::HeartbeatStorm, |_, _| {
            vec![message(kind, Control, 0, body).repeat(20_000)]
        });
    }
    check(1, CloseReason::HeartbeatStorm, |_, _| {
        let of_a_newer_version =
            |n: u64| message(FrameKind::Unknown(0xee), Control, 0, &(1_000_000 + n).to_le_bytes());
        vec![(0..20_000).flat_map(of_a_newer_version).collect()]
    });
}

#[test]
fn acknowledgements_that_say_nothing_by_the_thousand() {
    check(1, CloseReason::HeartbeatStorm, |pair, _| {
        let sequence = pair.ends[0].ack_seen;
        let empty = |n: u64| {
            let mut body = Vec::new();
            LaneAck { sequence: sequence + n, entries: Vec::new() }.encode(&mut body);
            message(FrameKind::LaneAck, Control, 0, &body)
        };
        vec![(1..20_000).flat_map(empty).collect()]
    });
    check(0, CloseReason::HeartbeatStorm, |pair, key| {
        vec![(0..20_000).flat_map(|n| ack(pair, key, n, |_| ())).collect()]
    });
    // Nor is a grant that is larger by one.
    check(0, CloseReason::HeartbeatStorm, |pair, key| {
        let grant = |n| ack(pair, key, n, |entry| entry.credit_bytes += n);
        vec![(0..20_000).flat_map(grant).collect()]
    });
}

/// Once is news, and is answered.
#[test]
fn last_counts_that_are_said_over_and_over() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    let (key, lost) = (pair.key_of(0), pair.key_of(2));
    let last = |pair: &Pair, n| {
        ack(pair, lost, n, |entry| (entry.is_final, entry.credit_bytes) = (true, 0))
    };
    let messages: Vec<u8> = (0..20_000).flat_map(|n| last(&pair, n)).collect();
    pair.ends[0].handle_lane_down(pair.now, lost, "lost");
    pair.handle_message(0, key, &messages);
    let found: Vec<CloseReason> = pair.violations.iter().map(LinkViolation::close_reason).collect();
    assert_eq!(found, [CloseReason::HeartbeatStorm], "{:?}", pair.violations);
}

#[test]
fn a_mode_that_changes_over_and_over() {
    check(1, CloseReason::ModeStorm, |_, _| {
        let modes = [LinkMode::Collapsed, LinkMode::Separate];
        let offers = (1..=40).zip(modes.into_iter().cycle()).map(|(generation, mode)| {
            let offer = LinkModeOffer { generation, mode, accepted: true }.encode();
            message(FrameKind::LinkMode, Control, 0, &offer)
        });
        vec![offers.flatten().collect()]
    });
}

/// What was not asked at that time shows no round trip: who answers before it is asked, or with a time of
/// its own, would look nearer or farther than it is.
#[test]
fn echoes_of_heartbeats_that_were_not_sent() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(Duration::from_millis(500));
    let key = pair.key_of(1);
    let trips = |pair: &Pair| {
        let lane = pair.ends[0].lanes().find(|lane| lane.key == key).unwrap();
        (lane.min_rtt, lane.srtt, pair.ends[0].status().min_rtt)
    };
    let before = trips(&pair);
    for sent_nanos in [0, pair.now.as_nanos() - 1, pair.now.as_nanos() + 1_000_000, u64::MAX] {
        let beat = Heartbeat { sent_nanos }.encode();
        pair.handle_message(0, key, &message(FrameKind::Pong, Control, 0, &beat));
    }
    assert_eq!(pair.violations, []);
    assert_eq!(trips(&pair), before);
}

#[test]
fn what_a_peer_asks_for_and_does_not_read_is_bounded() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
    let key = pair.key_of(0);
    let beat = Heartbeat { sent_nanos: 1 }.encode();
    let stale = LinkModeOffer { generation: 0, mode: LinkMode::Separate, accepted: false }.encode();
    pair.handle_message(0, key, &message(FrameKind::Ping, Control, 0, &beat).repeat(2000));
    pair.handle_message(0, key, &message(FrameKind::LinkMode, Control, 0, &stale).repeat(2900));
    assert_eq!(pair.violations, []);
    let transmit = pair.ends[0].poll_transmit(pair.now, key).unwrap();
    let len = transmit.frames.concat().len();
    assert!(len < 70_000, "{len}");
}

#[test]
fn lanes_that_come_again_as_something_else() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    let present = pair.ends[0].lanes().find(|lane| lane.id.lane == LaneId(2)).unwrap();
    let offer = LaneOffer {
        lane: LaneId(2),
        class: Bulk,
        epoch: present.id.epoch,
        dialled: present.id.dialled,
        peer_incarnation: Incarnation(1),
        peer_life: None,
        peer_stripes: true,
        peer_takes_priority: true,
    };
    let refused = |pair: &mut Pair, offer: LaneOffer| {
        let refused = pair.ends[0].handle_lane_up(pair.now, LaneKey(9999), offer);
        assert_eq!(pair.ends[0].lanes().count(), 3);
        refused.unwrap_err().close_reason()
    };
    assert_eq!(refused(&mut pair, offer), CloseReason::DuplicateLane);
    // Nor is one that is gone and not settled yet.
    let key = pair.connect(LaneId(1), class_of(1), 0);
    pair.run(Duration::from_millis(20));
    let gone = pair.ends[0].lanes().find(|lane| lane.key == key).unwrap();
    pair.redials = false;
    pair.push(0, Priority, Origin::Own, 1, 100).unwrap();
    pair.cut(key, [Some(0), None]);
    pair.step(true);
    let ConnectionId { epoch, dialled, .. } = gone.id;
    let again = LaneOffer { lane: LaneId(1), class: Priority, epoch, dialled, ..offer };
    let found = pair.ends[0].handle_lane_up(pair.now, LaneKey(9999), again);
    assert_eq!(found.unwrap_err().close_reason(), CloseReason::DuplicateLane);
    pair.connect(LaneId(1), class_of(1), 0);
    let other = LaneOffer { class: Control, epoch: LinkEpoch(9999), ..offer };
    assert_eq!(refused(&mut pair, other), CloseReason::ClassChange);
    let old = LaneOffer { peer_incarnation: Incarnation(0), epoch: LinkEpoch(9999), ..offer };
    assert_eq!(refused(&mut pair, old), CloseReason::Superseded);
    let mut lanes = 3;
    let last = loop {
        let offer = LaneOffer { lane: LaneId(lanes), epoch: LinkEpoch(1), ..offer };
        match pair.ends[0].handle_lane_up(pair.now, LaneKey(u64::from(lanes) << 32), offer) {
            Ok(()) => lanes += 1,
            Err(violation) => break violation,
        }
    };
    assert_eq!((lanes, last.close_reason()), (16, CloseReason::LinkFlapping));
}

/// The session ends when a connection comes that is one too many; that connection's lane is one of the
/// next session, and missed when it is lost.
#[test]
fn connections_that_are_lost_faster_than_counts_are_exchanged() {
    let mut pair = Pair::new(LinkConfig::default());
    let link = &mut pair.ends[0];
    let wanted = |link: &mut VirtualLink| {
        let mut events = std::iter::from_fn(|| link.poll_event());
        let is_over = |event: &LinkEvent| matches!(event, LinkEvent::SessionEnded { .. });
        (
            events.any(|event| is_over(&event)),
            events.any(|e| matches!(e, LinkEvent::WantLane { .. })),
        )
    };
    let mut over_at = None;
    for epoch in 1..100 {
        let offer = LaneOffer {
            lane: LaneId(0),
            class: Control,
            epoch: LinkEpoch(epoch),
            dialled: false,
            peer_incarnation: Incarnation(1),
            peer_life: None,
            peer_stripes: true,
            peer_takes_priority: true,
        };
        let key = LaneKey(epoch);
        link.handle_lane_up(pair.now, key, offer).unwrap();
        link.handle_lane_down(pair.now, key, "lost");
        let (is_over, is_wanted) = wanted(link);
        if is_over {
            assert!(is_wanted, "the lane of epoch {epoch}");
            over_at = Some(epoch);
            break;
        }
    }
    assert_eq!(over_at, Some(65));
}

#[test]
fn any_frames_of_the_link_itself_are_taken_or_refused() {
    let mut random = Random(1);
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    for round in 0..20_000_u64 {
        let kinds = [0x10, 0x11, 0x12, 0x13, 0x14, 0x40, 0x7f, random.below(256)];
        let kind = FrameKind::from_wire(u8::try_from(kinds[random.below(8) as usize]).unwrap());
        let class = TrafficClass::ALL[random.below(3) as usize];
        // Not counted: a forged frame that counts is one that the true peer never sent.
        let mut body: Vec<u8> = (0..random.below(50)).map(|_| random.below(4) as u8).collect();
        if kind == FrameKind::LaneAck && random.below(2) == 0 {
            body.resize(9 + 35, 0);
            body[8] = 1;
        }
        let keys: Vec<LaneKey> = pair.ends[0].lanes().map(|lane| lane.key).collect();
        if let Some(&key) = keys.get(random.below(3) as usize) {
            let bytes = message(kind, class, 0, &body);
            let frame = hawser_wire::FrameIter::new(&bytes).next().unwrap().unwrap();
            if pair.ends[0].handle_frame(pair.now, key, &frame).is_err() {
                pair.ends[0].handle_lane_down(pair.now, key, "violation");
                pair.close(0, key);
            }
        }
        if round % 100 == 0 {
            pair.step(true);
        }
    }
    assert!(pair.ends[0].lanes().count() <= 3);
}
