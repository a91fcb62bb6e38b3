use hawser_exchange::LaneSerial;
use hawser_wire::{Incarnation, LinkMode};

use super::*;
use crate::links::{Connection, LinkChange, Verdict};

const LOCAL: NodeId = NodeId::from_bytes([1; 16]);
const PEER: NodeId = NodeId::from_bytes([2; 16]);
const CONTROL: LaneId = LaneId(0);
const PRIORITY: LaneId = LaneId(1);
const BULK: LaneId = LaneId(2);
const EXTRA: LaneId = LaneId(3);

const NO_ROUTE: Failure<'_> = Failure { why: "no route", is_refused: false };

fn at(millis: u64) -> MonoTime {
    MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
}

/// Of the hand-over of a connection: no two of a test have one epoch.
const fn serial_of(epoch: LinkEpoch) -> LaneSerial {
    LaneSerial(epoch.0)
}

fn connection(lane: LaneId, epoch: LinkEpoch, dialled: bool) -> Connection {
    let (incarnation, class) = (Incarnation(1), LanePlan::class_on_wire(lane));
    let serial = serial_of(epoch);
    Connection { peer: PEER, incarnation, life: None, lane, class, epoch, dialled, serial }
}

/// Serves what `request` asked for and reports it up.
fn serve(dialler: &mut Dialler, links: &mut Links, now: MonoTime, request: &DialRequest) {
    let verdict = links.offer(&connection(request.lane, request.epoch, true));
    assert!(matches!(verdict, Verdict::Serve { .. }));
    dialler.handle_dialled(now, &request.address, request.lane, PEER);
    links.handle_lane_up(PEER, request.lane, serial_of(request.epoch));
    dialler.handle_lane_up(now, PEER, request.lane);
}

fn fixture() -> (Dialler, Links) {
    let mut dialler = Dialler::new(LOCAL, LanePlan::default());
    dialler.add(at(0), "b:7480");
    (dialler, Links::new(LOCAL))
}

#[test]
fn control_comes_first_then_the_others_then_nothing() {
    let (mut dialler, mut links) = fixture();
    let first = dialler.poll_dial(at(0), &links).expect("due");
    assert_eq!((first.lane, first.class, first.expect), (CONTROL, TrafficClass::Control, None));
    assert_eq!(dialler.poll_dial(at(0), &links), None, "one attempt at a time");
    serve(&mut dialler, &mut links, at(1), &first);
    let others: Vec<_> = std::iter::from_fn(|| dialler.poll_dial(at(1), &links)).collect();
    let seen: Vec<_> = others.iter().map(|dial| (dial.lane, dial.class, dial.expect)).collect();
    let expected = [(PRIORITY, TrafficClass::Priority), (BULK, TrafficClass::Bulk)];
    assert_eq!(seen, expected.map(|(lane, class)| (lane, class, Some(PEER))));
    assert!(first.epoch < others[0].epoch && others[0].epoch < others[1].epoch);
    for request in &others {
        serve(&mut dialler, &mut links, at(2), request);
    }
    assert_eq!(dialler.poll_dial(at(999_999), &links), None);
    assert_eq!(dialler.poll_timeout(&links), None);
}

#[test]
fn a_collapsed_link_has_one_lane() {
    let mut dialler = Dialler::new(LOCAL, LanePlan { collapsed: true, ..LanePlan::default() });
    let mut links = Links::new(LOCAL);
    dialler.add(at(0), "b:7480");
    let only = dialler.poll_dial(at(0), &links).expect("due");
    serve(&mut dialler, &mut links, at(0), &only);
    assert_eq!(dialler.poll_timeout(&links), None);
}

#[test]
fn failures_back_off_and_a_stable_lane_is_redialled_at_once() {
    let (mut dialler, mut links) = fixture();
    let mut now = at(0);
    for _ in 0..5 {
        let request = dialler.poll_dial(now, &links).expect("due");
        let failed = dialler.handle_failed(now, &request, NO_ROUTE, u64::MAX, &links);
        let Failed { pause, is_news } = failed.expect("known address");
        assert_eq!(is_news, now == at(0), "the same failure is no news");
        assert!(!pause.is_zero());
        assert_eq!(dialler.poll_timeout(&links), Some(now.saturating_add(pause)));
        assert_eq!(dialler.poll_dial(now, &links), None);
        now = now.saturating_add(pause);
    }
    let request = dialler.poll_dial(now, &links).expect("due");
    serve(&mut dialler, &mut links, now, &request);
    now = now.saturating_add(STABLE_AFTER);
    links.handle_lane_down(PEER, CONTROL, serial_of(request.epoch));
    dialler.handle_lane_down(now, PEER, CONTROL, LaneEnd::Lost, u64::MAX);
    assert_eq!(dialler.poll_timeout(&links), Some(now));
    assert_eq!(dialler.poll_dial(now, &links).expect("due").lane, CONTROL);
}

#[test]
fn a_lane_that_dies_young_waits() {
    let (mut dialler, mut links) = fixture();
    let request = dialler.poll_dial(at(0), &links).expect("due");
    serve(&mut dialler, &mut links, at(0), &request);
    links.handle_lane_down(PEER, CONTROL, serial_of(request.epoch));
    dialler.handle_lane_down(at(10), PEER, CONTROL, LaneEnd::Lost, u64::MAX);
    assert_eq!(dialler.poll_dial(at(10), &links), None);
    assert!(dialler.poll_timeout(&links) > Some(at(10)));
}

/// When a lane is dialled again that lived for so long, after attempts that failed.
fn redialled_after(lived: Duration, end: LaneEnd, change: LinkChange) -> Duration {
    let (mut dialler, mut links) = fixture();
    let mut now = at(0);
    for _ in 0..5 {
        let request = dialler.poll_dial(now, &links).expect("due");
        dialler.handle_failed(now, &request, NO_ROUTE, u64::MAX, &links).expect("known");
        now = dialler.poll_timeout(&links).expect("tried again");
    }
    let request = dialler.poll_dial(now, &links).expect("due");
    serve(&mut dialler, &mut links, now, &request);
    now = now.saturating_add(lived);
    links.handle_lane_down(PEER, CONTROL, serial_of(request.epoch));
    dialler.handle_lane_down(now, PEER, CONTROL, end, u64::MAX);
    if change == LinkChange::Link {
        dialler.handle_link_down(now, PEER, u64::MAX);
    }
    dialler.poll_timeout(&links).expect("tried again").saturating_since(now)
}

#[test]
fn one_that_is_lost_over_and_over_waits_longer_in_the_end() {
    let (mut dialler, mut links) = fixture();
    let mut now = at(0);
    let mut live = |lived: Duration| {
        let request = dialler.poll_dial(now, &links).expect("due");
        serve(&mut dialler, &mut links, now, &request);
        now = now.saturating_add(lived);
        links.handle_lane_down(PEER, CONTROL, serial_of(request.epoch));
        dialler.handle_lane_down(now, PEER, CONTROL, LaneEnd::Lost, u64::MAX);
        dialler.handle_link_down(now, PEER, u64::MAX);
        let due = dialler.poll_timeout(&links).expect("tried again");
        let pause = due.saturating_since(now);
        now = due;
        pause
    };
    for _ in 0..SHORT_LIVES_MAX {
        assert!(live(USED_AFTER) <= Duration::from_millis(100));
    }
    let pauses: Vec<Duration> = (0..5).map(|_| live(USED_AFTER)).collect();
    assert!(pauses.last() > Some(&Duration::from_secs(2)), "{pauses:?}");
    // One that lives for long begins anew.
    assert_eq!(live(STABLE_AFTER), Duration::ZERO);
    assert!(live(USED_AFTER) <= Duration::from_millis(100));
}

#[test]
fn one_that_was_lost_waits_little_and_one_that_was_closed_as_if_it_had_failed() {
    let shortly = |pause: Duration| (90..=100).contains(&pause.as_millis());
    let (first, last) = (USED_AFTER, Duration::from_millis(999));
    for lived in [first, last] {
        assert!(shortly(redialled_after(lived, LaneEnd::Lost, LinkChange::Link)));
    }
    let long = Duration::from_secs(3);
    for (lived, end, change) in [
        (Duration::from_millis(99), LaneEnd::Lost, LinkChange::Link),
        (last, LaneEnd::Closed, LinkChange::Link),
        // Something lets no more lanes through than there are.
        (last, LaneEnd::Lost, LinkChange::Lane),
    ] {
        let pause = redialled_after(lived, end, change);
        assert!(pause > long, "{pause:?} after {lived:?}, {end:?}, {change:?}");
    }
    for end in [LaneEnd::Lost, LaneEnd::Closed] {
        assert_eq!(redialled_after(STABLE_AFTER, end, LinkChange::Link), Duration::ZERO);
    }
}

#[test]
fn an_address_where_nobody_listens_is_tried_more_often() {
    let pauses = |is_refused| {
        let (mut dialler, links) = fixture();
        let mut now = at(0);
        let failure = Failure { is_refused, ..NO_ROUTE };
        for _ in 0..5 {
            let request = dialler.poll_dial(now, &links).expect("due");
            dialler.handle_failed(now, &request, failure, u64::MAX, &links).expect("known");
            now = dialler.poll_timeout(&links).expect("tried again");
        }
        now.saturating_since(at(0)).as_millis()
    };
    assert!((800..=821).contains(&pauses(true)), "{}", pauses(true));
    assert!((3_090..=3_100).contains(&pauses(false)), "{}", pauses(false));
}

#[test]
fn a_lane_that_the_peer_dialled_is_not_dialled() {
    let (mut dialler, mut links) = fixture();
    let request = dialler.poll_dial(at(0), &links).expect("due");
    links.offer(&connection(CONTROL, LinkEpoch(1), false));
    links.handle_lane_up(PEER, CONTROL, LaneSerial(1));
    // The attempt crossed it and was refused, but showed who lives at the address.
    dialler.handle_dialled(at(5), &request.address, CONTROL, PEER);
    let next = dialler.poll_dial(at(5), &links).expect("the other lane");
    assert_eq!(next.lane, PRIORITY);
}

#[test]
fn epochs_of_two_nodes_differ() {
    let (mut ours, links) = fixture();
    let mut theirs = Dialler::new(PEER, LanePlan::default());
    theirs.add(at(0), "a:7480");
    let mine = ours.poll_dial(at(0), &links).expect("due").epoch;
    let other = theirs.poll_dial(at(0), &Links::new(PEER)).expect("due").epoch;
    assert_ne!(mine, other);
}

/// A link with all the lanes that it always has, dialled by this node a good while ago.
fn link() -> (Dialler, Links) {
    let (mut dialler, mut links) = fixture();
    while let Some(request) = dialler.poll_dial(at(0), &links) {
        serve(&mut dialler, &mut links, at(0), &request);
    }
    (dialler, links)
}

fn wanted(lane: LaneId, until: MonoTime) -> WantedLane {
    WantedLane { peer: PEER, lane, class: TrafficClass::Bulk, until }
}

/// The lane's connection ends.
fn lose(dialler: &mut Dialler, links: &mut Links, now: MonoTime, request: &DialRequest) {
    links.handle_lane_down(PEER, request.lane, serial_of(request.epoch));
    dialler.handle_lane_down(now, PEER, request.lane, LaneEnd::Lost, u64::MAX);
}

#[test]
fn a_further_lane_is_dialled_when_it_is_wanted_and_not_after_it_was_closed() {
    let (mut dialler, mut links) = link();
    assert!(dialler.want(at(5_000), &wanted(EXTRA, at(15_000))));
    let request = dialler.poll_dial(at(5_000), &links).expect("at once");
    assert_eq!((request.lane, request.expect), (EXTRA, Some(PEER)));
    assert_eq!(dialler.poll_dial(at(5_000), &links), None, "and no other");
    serve(&mut dialler, &mut links, at(5_010), &request);
    // Closed by policy: nobody wants it back.
    lose(&mut dialler, &mut links, at(9_000), &request);
    assert_eq!(dialler.poll_dial(at(9_000), &links), None);
    assert_eq!(dialler.poll_timeout(&links), None);
    // Wanted again, in either order with the end of the one before.
    dialler.want(at(10_000), &wanted(EXTRA, at(20_000)));
    let request = dialler.poll_dial(at(10_000), &links).expect("at once");
    serve(&mut dialler, &mut links, at(10_010), &request);
    dialler.want(at(12_000), &wanted(EXTRA, at(22_000)));
    assert_eq!(dialler.poll_dial(at(12_000), &links), None, "it is served");
    lose(&mut dialler, &mut links, at(12_000), &request);
    assert_eq!(dialler.poll_dial(at(12_000), &links).map(|dial| dial.lane), Some(EXTRA));
}

#[test]
fn a_wanted_lane_that_dies_young_waits_however_often_it_is_wanted() {
    let (mut dialler, mut links) = link();
    let mut now = at(5_000);
    let mut dials = 0;
    while now < at(65_000) {
        dialler.want(now, &wanted(EXTRA, now.saturating_add(Duration::from_secs(10))));
        if let Some(request) = dialler.poll_dial(now, &links) {
            dials += 1;
            serve(&mut dialler, &mut links, now, &request);
            lose(&mut dialler, &mut links, now, &request);
        }
        now = now.saturating_add(Duration::from_millis(1));
    }
    assert!((5..15).contains(&dials), "{dials} in a minute");
}

#[test]
fn a_wish_that_is_not_fulfilled_ends() {
    let (mut dialler, links) = link();
    dialler.want(at(5_000), &wanted(EXTRA, at(6_000)));
    let request = dialler.poll_dial(at(5_000), &links).expect("at once");
    let failed = dialler.handle_failed(at(5_950), &request, NO_ROUTE, u64::MAX, &links);
    assert!(failed.is_some());
    let due = dialler.poll_timeout(&links).expect("once more");
    assert_eq!(dialler.poll_dial(due, &links), None, "too late");
    assert_eq!(dialler.poll_timeout(&links), None);
}

#[test]
fn who_is_not_known_is_not_dialled_unless_an_address_is_lent() {
    let (mut dialler, links) = (Dialler::new(LOCAL, LanePlan::default()), Links::new(LOCAL));
    let lane = wanted(BULK, at(10_000));
    assert!(!dialler.want(at(0), &lane));
    assert!(dialler.lend(at(0), "c:7480", &lane));
    assert!(dialler.knows(PEER));
    let request = dialler.poll_dial(at(0), &links).expect("at once, without the first lane");
    assert_eq!((request.lane, request.expect), (BULK, Some(PEER)));
    dialler.handle_failed(at(1), &request, NO_ROUTE, u64::MAX, &links).expect("known");
    assert!(dialler.knows(PEER), "still lent");
    assert_eq!(dialler.unreached(&links).count(), 0, "of those that are always dialled");
    assert_eq!(dialler.poll_dial(at(10_000), &links), None);
    assert!(!dialler.knows(PEER), "forgotten");
}

#[test]
fn a_lent_address_stays_for_as_long_as_its_link() {
    let (mut dialler, mut links) = (Dialler::new(LOCAL, LanePlan::default()), Links::new(LOCAL));
    dialler.lend(at(0), "c:7480", &wanted(BULK, at(10_000)));
    let request = dialler.poll_dial(at(0), &links).expect("due");
    serve(&mut dialler, &mut links, at(1), &request);
    assert_eq!(dialler.poll_dial(at(60_000), &links), None);
    assert!(dialler.want(at(60_000), &wanted(BULK, at(70_000))));
    lose(&mut dialler, &mut links, at(60_000), &request);
    assert_eq!(dialler.poll_dial(at(60_000), &links).map(|dial| dial.lane), Some(BULK));
}

#[test]
fn an_address_of_somebody_else_is_not_lent() {
    let (mut dialler, _links) = link();
    let stranger = WantedLane { peer: NodeId::from_bytes([3; 16]), ..wanted(BULK, at(10_000)) };
    assert!(!dialler.lend(at(0), "b:7480", &stranger));
    assert!(!dialler.knows(stranger.peer));
}

#[test]
fn lent_addresses_are_bounded() {
    let (mut dialler, links) = (Dialler::new(LOCAL, LanePlan::default()), Links::new(LOCAL));
    for port in 0..100_u64 {
        let lane = wanted(BULK, at(10_000 + port));
        assert!(dialler.lend(at(0), &format!("c:{port}"), &lane));
    }
    let kept: Vec<_> = dialler.addresses.keys().cloned().collect();
    assert_eq!(kept, ["c:96", "c:97", "c:98", "c:99"]);
    dialler.poll_dial(at(0), &links).expect("due");
    assert_eq!(dialler.poll_dial(at(0), &links), None, "one attempt at a time per lane");
}

#[test]
fn what_a_collapsed_link_does_not_need_is_not_dialled() {
    let (mut dialler, mut links) = link();
    let lost = DialRequest {
        address: "b:7480".into(),
        lane: BULK,
        class: TrafficClass::Bulk,
        epoch: links.epoch(PEER, BULK).expect("served"),
        expect: Some(PEER),
    };
    links.handle_mode(PEER, LinkMode::Collapsed);
    lose(&mut dialler, &mut links, at(5_000), &lost);
    assert_eq!(dialler.poll_dial(at(5_000), &links), None);
    assert_eq!(dialler.poll_timeout(&links), None);
    links.handle_mode(PEER, LinkMode::Separate);
    assert_eq!(dialler.poll_dial(at(5_000), &links).map(|dial| dial.lane), Some(BULK));
}

#[test]
fn others_are_dialled_while_the_first_lane_cannot_be() {
    let (mut dialler, mut links) = link();
    for lane in [CONTROL, PRIORITY] {
        let epoch = links.epoch(PEER, lane).expect("served");
        links.handle_lane_down(PEER, lane, serial_of(epoch));
        dialler.handle_lane_down(at(5_000), PEER, lane, LaneEnd::Lost, u64::MAX);
    }
    let first = dialler.poll_dial(at(5_000), &links).expect("due");
    assert_eq!(first.lane, CONTROL);
    dialler.handle_failed(at(5_001), &first, NO_ROUTE, u64::MAX, &links).expect("known");
    assert_eq!(dialler.poll_dial(at(5_001), &links).map(|dial| dial.lane), Some(PRIORITY));
}
