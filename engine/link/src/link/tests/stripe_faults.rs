//! Striped streams when shares, lanes, sessions or the peer change under them.

use std::time::Duration;

use hawser_wire::{
    BatchWriter, CloseReason, FrameFlags, FrameHeader, FrameIter, FrameKind, LaneAck, LaneAckEntry,
    LaneFragment, LaneId, LinkSequence, STRIPE_WINDOW_FRAMES, StripeStamp, TrafficClass,
};

use super::pair::{Pair, class_of};
use super::stripes::{STREAM, put, saturate};
use crate::striping::Striping;
use crate::*;
use TrafficClass::{Bulk, Control};

const fn stamp(channel: u8, epoch: u32, sequence: u64) -> StripeStamp {
    StripeStamp { channel, epoch, sequence }
}

/// Fills the queues of `plain` and `striped` streams of others for a while; what each kind had of the
/// link's one bulk lane, in bytes.
fn share(pair: &mut Pair, plain: &[u64], striped: &[u64], steps: usize) -> [usize; 2] {
    let mut taken = [0, 0];
    for _ in 0..steps {
        for &stream in plain {
            while pair.push(0, Bulk, Origin::Foreign, stream, 4000).is_ok() {
                taken[0] += 4000;
            }
        }
        for &stream in striped {
            while pair.push_striped(0, Origin::Foreign, stream, 4000).is_ok() {
                taken[1] += 4000;
            }
        }
        pair.step(true);
    }
    taken
}

#[test]
fn nobody_waits_for_others_to_catch_up_when_there_are_more_of_them() {
    let config = LinkConfig { data_bytes_max: 400_000, ..LinkConfig::default() };
    for more_striped in [false, true] {
        let mut pair = Pair::with_lanes(config, 3);
        let key = pair.key_of(2);
        pair.wires.get_mut(&key).unwrap().bytes_per_ms = 2000;
        share(&mut pair, &[1], &[100], 2000);
        let many: Vec<u64> =
            (0..3).map(|stream| 1 + 99 * u64::from(more_striped) + stream).collect();
        let [plain, striped] = if more_striped {
            share(&mut pair, &[1], &many, 1000)
        } else {
            share(&mut pair, &many, &[100], 1000)
        };
        let few = if more_striped { plain } else { striped };
        // A fourth is its share.
        assert!(few * 6 > plain + striped, "{plain} plain, {striped} striped");
    }
}

#[test]
fn an_idle_striped_stream_goes_on_after_only_one_end_has_ended_the_session() {
    for forgetful in 0..2 {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        pair.redials = false;
        saturate(&mut pair, 3000, 100);
        pair.settle(5);
        assert_eq!(pair.ends[0].status().striped_streams, 1);
        let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
        for key in keys {
            let mut tell = [Some(500); 2];
            tell[forgetful] = Some(0);
            pair.cut(key, tell);
        }
        while !pair.saw(forgetful, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
            pair.step(true);
        }
        let remembers = |event: &LinkEvent| !matches!(event, LinkEvent::SessionEnded { .. });
        assert!(pair.events[1 - forgetful].iter().all(remembers));
        for lane in 0..6 {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        for _ in 0..5 {
            pair.push_striped(0, Origin::Own, STREAM, 3000).unwrap();
            pair.settle(1);
        }
        saturate(&mut pair, 3000, 100);
        pair.settle(1);
        assert_eq!(pair.violations, []);
    }
}

#[test]
fn what_was_refused_comes_over_another_lane() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let ahead = stamp(0, 1, STRIPE_WINDOW_FRAMES);
    assert!(put(&mut pair, 2, 1, ahead, 10).is_err());
    assert_eq!(put(&mut pair, 3, 2, stamp(0, 1, 0), 10), Ok(Handled::Striped));
    assert_eq!(put(&mut pair, 3, 1, ahead, 10), Ok(Handled::Consumed), "nothing was taken");
    assert_eq!(put(&mut pair, 2, 1, ahead, 10), Ok(Handled::Duplicate));
}

/// Who sends more before its turn than may wait loses the lane over which it came: whatever was under way
/// over it comes once, and in its order, over another.
#[test]
fn what_a_lane_that_flooded_with_early_frames_had_not_brought_comes_over_another() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    // One end keeps to no window.
    pair.ends[0].striping = Striping::new(u64::MAX, u64::MAX);
    pair.ends[0].striping.is_supported = true;
    saturate(&mut pair, 20_000, 200);
    let silent = pair.key_of(2);
    pair.wires.get_mut(&silent).unwrap().is_silent = true;
    let mut steps = 0;
    while pair.violations.is_empty() {
        for (end, stream) in [(0, 20), (0, 21), (0, 22), (1, 20), (1, 21), (1, 22)] {
            for class in TrafficClass::ALL {
                pair.push(end, class, Origin::Own, stream, 300).unwrap();
            }
        }
        saturate(&mut pair, 20_000, 1);
        steps += 1;
        assert!(steps < 200, "before the lane counts as silent");
    }
    pair.wires.get_mut(&silent).unwrap().is_silent = false;
    pair.settle(20);
    let is_requeued = |event: &LinkEvent| {
        matches!(event, LinkEvent::Requeued { from: ConnectionId { lane: LaneId(3), .. }, .. })
    };
    assert!(pair.saw(0, is_requeued));
    let is_other_down =
        |event: &LinkEvent| matches!(event, LinkEvent::LaneDown { id, .. } if id.lane != LaneId(3));
    assert!(!(0..2).any(|end| pair.saw(end, is_other_down)), "the other lanes go on");
    let found: Vec<CloseReason> = pair.violations.iter().map(LinkViolation::close_reason).collect();
    assert_eq!(found, [CloseReason::ReorderOverrun], "{:?}", pair.violations);
    assert_eq!(pair.ends[1].status().reorder_bytes, 0);
}

#[test]
fn a_batch_that_came_in_pieces_and_was_refused_is_not_acknowledged() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let key = pair.key_of(2);
    let (now, end) = (pair.now, &mut pair.ends[1]);
    let mut batch = Vec::new();
    for (link_sequence, sequence) in [(1, 0), (2, STRIPE_WINDOW_FRAMES + 1), (3, 1)] {
        let (kind, stamp) = (FrameKind::StripedRecord, stamp(0, 1, sequence).encode());
        BatchWriter::new(&mut batch)
            .frame(kind, Bulk, LinkSequence(link_sequence), &[&stamp, &[7; 30]])
            .unwrap();
    }
    let mut handled = Vec::new();
    for (first, piece) in [(true, &batch[..40]), (false, &batch[40..])] {
        let fragment = LaneFragment { first, last: !first, piece };
        let mut message = Vec::new();
        BatchWriter::new(&mut message)
            .frame(FrameKind::LaneFragment, Bulk, LinkSequence(0), &[&fragment.flags(), piece])
            .unwrap();
        let frame = FrameIter::new(&message).next().unwrap().unwrap();
        handled.push(end.handle_frame(now, key, &frame).unwrap());
    }
    assert_eq!(handled, [Handled::Consumed, Handled::Assembled]);
    let whole = end.take_assembled(key);
    let mut frames = FrameIter::new(&whole).map(Result::unwrap);
    let mut next = || end.handle_assembled(now, key, &frames.next().unwrap());
    assert_eq!(next(), Ok(Handled::Striped));
    assert!(next().is_err());
    pair.ends[1].handle_lane_down(now, key, "violation");
    // The first piece: the batch comes again, as a whole.
    assert_eq!(pair.ends[1].departed[0].entry().count, 1);
    assert_eq!(put(&mut pair, 3, 1, stamp(0, 1, 0), 30), Ok(Handled::Duplicate));
    assert_eq!(put(&mut pair, 3, 3, stamp(0, 1, 1), 30), Ok(Handled::Striped));
}

#[test]
fn striped_bulk_goes_on_when_more_may_be_in_flight() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    for _ in 0..20 {
        pair.push_striped(0, Origin::Own, STREAM, 300).unwrap();
    }
    let bulk: Vec<LaneKey> = (2..6).map(|lane| pair.key_of(lane)).collect();
    let end = &mut pair.ends[0];
    // As while a round trip is measured.
    end.in_flight_bound = 1;
    while end.poll_wanted().is_some() {}
    end.update_bound();
    let mut wanted: Vec<LaneKey> = std::iter::from_fn(|| end.poll_wanted()).collect();
    wanted.sort();
    assert_eq!(wanted, bulk);
}

#[test]
fn a_stream_is_striped_once_what_it_sent_over_a_lane_that_was_lost_has_arrived() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    // It travels as others do, and its order is not kept when lanes change.
    pair.may_repeat = true;
    pair.ends[0].striping.is_supported = false;
    for _ in 0..50 {
        pair.push_striped(0, Origin::Own, STREAM, 20_000).unwrap();
    }
    pair.step(true);
    let at = pair.lane_of(0, STREAM).unwrap();
    let key = pair.ends[0].lanes[at].key;
    pair.cut(key, [Some(0), Some(100)]);
    pair.step(true);
    assert!(pair.ends[0].status().unsettled_frames > 0);
    pair.ends[0].striping.is_supported = true;
    pair.push_striped(0, Origin::Own, STREAM, 100).unwrap();
    assert_eq!(pair.ends[0].status().striped_streams, 0);
    pair.settle(5);
    pair.run(Duration::from_millis(200));
    pair.push_striped(0, Origin::Own, STREAM, 100).unwrap();
    assert_eq!(pair.ends[0].status().striped_streams, 1);
    pair.settle(5);
}

#[test]
fn nobody_waits_for_a_lane_that_cannot_send() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let (x, y) = (pair.key_of(2), pair.key_of(3));
    let now = pair.now;
    // One lane is out of frames, and everything that it has sent has arrived.
    let plain = (0..).find(|&stream| {
        let at = pair.lane_of(0, stream).unwrap();
        pair.ends[0].lanes[at].key == x
    });
    let mut sequence = pair.ends[0].ack_seen;
    loop {
        pair.push(0, Bulk, Origin::Own, plain.unwrap(), 10).unwrap();
        if pair.ends[0].poll_transmit(now, x).is_none() {
            break;
        }
        sequence += 1;
        let lane = pair.ends[0].lanes().find(|lane| lane.key == x).unwrap();
        let entry = LaneAckEntry {
            lane: lane.id.lane,
            epoch: lane.id.epoch,
            dialled: !lane.id.dialled,
            is_final: false,
            settled: false,
            count: lane.sent_frames,
            credit_frames: hawser_wire::LANE_CREDIT_FRAMES_INITIAL,
            credit_bytes: 1 << 30,
        };
        let (mut body, mut message) = (Vec::new(), Vec::new());
        LaneAck { sequence, entries: vec![entry] }.encode(&mut body);
        BatchWriter::new(&mut message)
            .frame(FrameKind::LaneAck, Control, LinkSequence(0), &[&body])
            .unwrap();
        pair.handle_message(0, pair.key_of(0), &message);
        assert_eq!(pair.violations, []);
    }
    pair.ends[0].in_flight_bound = 1 << 20;
    let stream = (0..).find(|&stream| pair.lane_of(0, stream) == pair.ends[0].position(y));
    for _ in 0..3 {
        pair.push_striped(0, Origin::Own, stream.unwrap(), 300).unwrap();
        assert!(pair.ends[0].poll_transmit(now, y).is_some());
    }
}

#[test]
fn what_the_end_of_a_session_excuses_is_no_excuse_later() {
    for is_over in [false, true] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        pair.may_repeat = true;
        pair.redials = false;
        saturate(&mut pair, 3000, 100);
        let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
        for key in keys {
            pair.cut(key, [Some(9000), Some(0)]);
        }
        while !pair.saw(1, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
            pair.step(true);
        }
        for lane in 0..6 {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        saturate(&mut pair, 3000, 100);
        pair.settle(5);
        let ahead = stamp(7, 1000, STRIPE_WINDOW_FRAMES);
        let mut next = pair.ends[0].next_sequence;
        if is_over {
            pair.run(Duration::from_secs(20));
            let refused = put(&mut pair, 2, next, ahead, 100).unwrap_err();
            assert_eq!(refused.close_reason(), CloseReason::ReorderOverrun);
        } else {
            assert_eq!(put(&mut pair, 2, next, ahead, 100), Ok(Handled::Striped));
        }
        next += 1;
        let old = put(&mut pair, 2, next, stamp(0, 1, 5), 100);
        assert_eq!(old, Ok(Handled::Striped), "what is left of the session that was forgotten");
    }
}

#[test]
fn tenants_share_the_channels_of_a_relay() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    let streams = |pair: &Pair| pair.ends[0].status().striped_streams;
    // All of one tenant, then one of another.
    for stream in (0..30).step_by(3) {
        pair.push_striped(0, Origin::Foreign, stream, 3000).unwrap();
    }
    assert_eq!(streams(&pair), 4);
    pair.push_striped(0, Origin::Foreign, 1, 3000).unwrap();
    assert_eq!(streams(&pair), 5);
    pair.settle(5);
}

#[test]
fn a_tenant_has_one_quota_for_striped_streams_and_others() {
    let config = LinkConfig { data_bytes_max: 400_000, ..LinkConfig::default() };
    // Of one tenant; which of them are striped.
    for striped in [&[][..], &[0, 3], &[0, 3, 6, 9]] {
        let mut pair = Pair::with_lanes(config, 6);
        let flags = |stream: u64| {
            let is_striped = striped.contains(&stream);
            if is_striped { FrameFlags::STRIPED } else { FrameFlags::default() }
        };
        for &stream in striped {
            pair.push_striped(0, Origin::Foreign, stream, 100).unwrap();
        }
        pair.settle(1);
        // Nothing of this is sent.
        let mut push =
            |stream, len| pair.push_flagged(0, Bulk, Origin::Foreign, stream, flags(stream), len);
        let mut taken = 0;
        for stream in [0, 3, 6, 9, 12, 15] {
            while push(stream, 2000).is_ok() {
                taken += 2000;
            }
        }
        assert!((180_000..=200_000).contains(&taken), "{taken} with {striped:?} striped");
        for stream in [0, 15] {
            assert_eq!(push(stream, 30_000).unwrap_err().limit, RefusedLimit::Tenant);
        }
        push(1, 60_000).unwrap();
        pair.settle(5);
    }
}

/// The peer takes a part of a batch and refuses the next frame; what is left of the batch goes over a lane
/// that falls silent, and a copy of that over another one.
#[test]
fn a_channel_knows_the_copy_of_what_was_left_of_its_batch() {
    let config = LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 5);
    pair.run(Duration::from_millis(300));
    pair.push_striped(0, Origin::Own, STREAM, 300).unwrap();
    pair.settle(1);
    for _ in 0..10 {
        pair.push_striped(0, Origin::Own, STREAM, 300).unwrap();
    }
    let key = pair.key_of(2);
    let message = pair.ends[0].poll_transmit(pair.now, key).unwrap().frames.concat();
    let frames: Vec<_> = FrameIter::new(&message).map(Result::unwrap).collect();
    assert_eq!(frames.len(), 10);
    let taken: usize = frames[..5].iter().map(|f| f.body.len() + FrameHeader::LEN).sum();
    let mut refused = message[..taken].to_vec();
    let ahead = stamp(0, 1, 2 * STRIPE_WINDOW_FRAMES).encode();
    let (kind, sequence) = (FrameKind::StripedRecord, LinkSequence(1000));
    BatchWriter::new(&mut refused).frame(kind, Bulk, sequence, &[&ahead, &[7; 30]]).unwrap();
    pair.handle_message(1, key, &refused);
    let found: Vec<CloseReason> = pair.violations.iter().map(LinkViolation::close_reason).collect();
    assert_eq!(found, [CloseReason::ReorderOverrun]);
    let is_down = |event: &LinkEvent| matches!(event, LinkEvent::Requeued { frames: 5, .. });
    while !pair.saw(0, is_down) {
        pair.step(true);
    }
    let heir = pair.ends[0].lanes().find(|lane| lane.class == Bulk && lane.unacked_frames == 5);
    pair.wires.get_mut(&heir.unwrap().key).unwrap().is_silent = true;
    pair.run(Duration::from_millis(400));
    assert!(pair.saw(0, |event| matches!(event, LinkEvent::Hedged { frames: 5, .. })));
    pair.settle(1);
    // A stream that sends nothing has no channel, once all that it has sent is acknowledged.
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.ends[0].status().striped_streams, 0);
}

/// However many tenants wait, each has its own quota, over all lanes and stripes.
#[test]
fn a_tenant_has_one_quota_however_many_others_there_are() {
    let config = LinkConfig { data_bytes_max: 8_000_000, ..LinkConfig::default() };
    for striped in [false, true] {
        let mut pair = Pair::with_lanes(config, 6);
        let link = &mut pair.ends[0];
        // Nothing of this is sent.
        let mut push = |tenant: u64, stream: u64, is_striped: bool| {
            let flags = if is_striped { FrameFlags::STRIPED } else { FrameFlags::default() };
            let flow = Flow { tenant, stream: tenant * 1000 + stream };
            let body = FrameParts::of(&[&[0; 1980]]);
            link.push(FrameKind::Record, Bulk, Origin::Foreign, flow, flags, body)
        };
        // Each of those has something on each lane.
        for tenant in 1..40 {
            for stream in 0..16 {
                push(tenant, stream, false).unwrap();
            }
        }
        let others = 39 * 16 * (2000 + fair_queue::STREAM_QUEUE_BYTES);
        let mut taken = 0;
        for stream in 0..16 {
            while push(40, stream, striped && stream == 15).is_ok() {
                taken += 2000;
            }
        }
        // As much as is still free then.
        let half = (8_000_000 - others) / 2;
        assert!((half * 9 / 10..=half).contains(&taken), "{taken}, striped: {striped}");
        let refusal = push(40, 15, striped).unwrap_err();
        assert_eq!(refusal.limit, RefusedLimit::Tenant, "{refusal}");
        push(1, 15, false).unwrap();
    }
}

/// A queue for each of many streams takes memory however short its frames are.
#[test]
fn streams_that_wait_count_with_their_queues() {
    let config = LinkConfig { data_bytes_max: 200_000, ..LinkConfig::default() };
    for class in [Bulk, TrafficClass::Priority] {
        let mut pair = Pair::with_lanes(config, 6);
        let link = &mut pair.ends[0];
        let mut push = |number: u64, len: usize| {
            let flow = Flow { tenant: number, stream: number };
            let (kind, parts) = (FrameKind::Record, [&[0; 2000][..len]]);
            let body = FrameParts::of(&parts);
            link.push(kind, class, Origin::Foreign, flow, FrameFlags::default(), body)
        };
        let taken = (0..1000).take_while(|&number| push(number, 30).is_ok()).count();
        assert!((47..=49).contains(&taken), "{taken} of {class:?}");
        let refusal = push(1000, 30).unwrap_err();
        assert_eq!((refusal.limit, refusal.max_bytes), (RefusedLimit::Class, 200_000));
    }
}

/// A tenant's quota counts its queues: short frames of many streams leave as much to others as long ones.
#[test]
fn a_tenant_of_many_streams_with_little_each_has_half_of_the_queue() {
    const MAX: usize = 4_000_000;
    let config = LinkConfig { data_bytes_max: MAX, ..LinkConfig::default() };
    for (class, lanes) in [(Bulk, 3), (Bulk, 6), (TrafficClass::Priority, 6)] {
        let mut pair = Pair::with_lanes(config, lanes);
        let link = &mut pair.ends[0];
        let mut push = |tenant: u64, stream: u64, len: usize| {
            let flow = Flow { tenant, stream: flow_table::mix(tenant, stream) };
            let (kind, parts) = (FrameKind::Record, [&[0; 2000][..len]]);
            let body = FrameParts::of(&parts);
            link.push(kind, class, Origin::Foreign, flow, FrameFlags::default(), body)
        };
        let queues = (0..100_000).take_while(|&stream| push(1, stream, 10).is_ok()).count();
        let held = queues * (30 + fair_queue::STREAM_QUEUE_BYTES);
        // On each lane the first one may begin a queue with what is left.
        let most = MAX / 2 + 4 * fair_queue::STREAM_QUEUE_BYTES;
        assert!((MAX * 49 / 100..=most).contains(&held), "{held} of {class:?}");
        let refusal = push(1, 100_000, 10).unwrap_err();
        assert_eq!(refusal.limit, RefusedLimit::Tenant, "{refusal}");
        // Half of the other half is for the next one.
        let records = (MAX / 4 - 16 * fair_queue::STREAM_QUEUE_BYTES) / 2020 / 16 * 16;
        for record in 0..records {
            push(2, u64::try_from(record % 16).unwrap(), 2000).unwrap();
        }
        push(3, 0, 2000).unwrap();
        assert_eq!(push(1, 100_001, 10).unwrap_err().limit, RefusedLimit::Tenant);
    }
}

/// While their lane was silent another one had its bulk: what still waits there is nobody else's to send,
/// however much striped streams have to send over the lane that is heard again.
#[test]
fn bulk_that_waits_for_a_lane_which_others_leave_goes_out_beside_striped_streams() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 100;
    // Of two that may send the older one is asked first.
    for lane in [0, 2, 1] {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    saturate(&mut pair, 4000, 500);
    let key = pair.key_of(2);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    let ids: Vec<u64> = (0..20)
        .map(|_| {
            saturate(&mut pair, 4000, 25);
            pair.push(0, Bulk, Origin::Own, 1, 4000).unwrap()
        })
        .collect();
    pair.wires.get_mut(&key).unwrap().is_silent = false;
    let stays = |lane: LaneStatus| lane.class == TrafficClass::Priority && lane.queued_bytes > 0;
    assert!(pair.ends[0].lanes().any(stays), "{:?}", pair.ends[0].lanes().collect::<Vec<_>>());
    saturate(&mut pair, 4000, 3000);
    let late: Vec<&u64> = ids.iter().filter(|id| !pair.arrived[1].contains(id)).collect();
    assert!(late.is_empty(), "{late:?} {:?}", pair.ends[0].lanes().collect::<Vec<_>>());
    assert_eq!(pair.violations, []);
}
