use super::*;

const NEAR: NodeId = NodeId::from_bytes([1; 16]);
const FAR: NodeId = NodeId::from_bytes([2; 16]);
const RELAY: NodeId = NodeId::from_bytes([3; 16]);

fn at(millis: u64) -> MonoTime {
    MonoTime::from_nanos(millis * 1_000_000)
}

/// The messages `first..end` go to `to` over a path in a generation.
fn send(log: &mut SentLog, millis: u64, to: NodeId, first: u64, end: u64, way: (u32, u64)) {
    note(log, millis, to, (first, end), way, true);
}

fn note(
    log: &mut SentLog,
    millis: u64,
    to: NodeId,
    (first, end): (u64, u64),
    (path, generation): (u32, u64),
    may_grow: bool,
) {
    let (path, nodes) = (PathId(path), [RELAY, to].into());
    let messages = (StreamOffset(first), StreamOffset(end));
    let way = || Some(WayTaken { path, generation, lsdb_digest: generation * 7, nodes });
    log.set_may_grow(may_grow);
    log.note_sent(at(millis), to, messages, (path, generation), way);
}

/// Path, generation, whether it was sent again, and when at the earliest, of each sending.
fn known(log: &SentLog, to: NodeId, offset: u64) -> Vec<(u32, u64, bool, u64)> {
    match log.find(to, StreamOffset(offset)) {
        Sendings::Known(runs) => runs
            .iter()
            .map(|run| {
                let millis = run.first_at.saturating_since(MonoTime::ZERO).as_millis();
                let (way, millis) = (&run.way, u64::try_from(millis).unwrap());
                (way.path.0, way.generation, run.again, millis)
            })
            .collect(),
        other => panic!("{offset}: {other:?}"),
    }
}

#[test]
fn messages_that_go_one_way_within_a_second_are_one_run() {
    let mut log = SentLog::default();
    for offset in 0..1000 {
        send(&mut log, offset, NEAR, offset, offset + 1, (1, 5));
        send(&mut log, offset, FAR, offset, offset + 1, (2, 5));
    }
    assert_eq!(log.len(), 2);
    send(&mut log, 1000, NEAR, 1000, 1003, (1, 5));
    send(&mut log, 1001, NEAR, 1003, 1004, (1, 6));
    send(&mut log, 1002, NEAR, 1004, 1005, (4, 6));
    assert_eq!(known(&log, NEAR, 999), [(1, 5, false, 0)]);
    assert_eq!(known(&log, NEAR, 1002), [(1, 5, false, 1000)]);
    assert_eq!(known(&log, NEAR, 1003), [(1, 6, false, 1001)]);
    assert_eq!(known(&log, NEAR, 1004), [(4, 6, false, 1002)]);
    assert_eq!(known(&log, FAR, 7), [(2, 5, false, 0)]);
    assert!(matches!(log.find(FAR, StreamOffset(1000)), Sendings::None));
    assert!(matches!(log.find(RELAY, StreamOffset(0)), Sendings::None));
}

#[test]
fn what_is_sent_again_is_shown_each_time() {
    let mut log = SentLog::default();
    send(&mut log, 0, NEAR, 0, 10, (1, 5));
    send(&mut log, 1, NEAR, 10, 20, (1, 5));
    // From the first that is missing on, over another path, and new ones behind them.
    send(&mut log, 30, NEAR, 10, 20, (2, 5));
    send(&mut log, 31, NEAR, 20, 30, (2, 5));
    assert_eq!(known(&log, NEAR, 5), [(1, 5, false, 0)]);
    assert_eq!(known(&log, NEAR, 15), [(1, 5, false, 0), (2, 5, true, 30)]);
    assert_eq!(known(&log, NEAR, 25), [(2, 5, false, 31)]);
}

#[test]
fn a_detour_is_that_of_messages_under_way() {
    let mut log = SentLog::default();
    send(&mut log, 0, NEAR, 0, 10, (1, 5));
    send(&mut log, 1, FAR, 0, 10, (1, 5));
    log.note_detour(at(3), (NEAR, PathId(1)), RELAY, StreamOffset(6));
    send(&mut log, 4, NEAR, 10, 20, (1, 5));
    let detour = |log: &SentLog, to, offset| match log.find(to, StreamOffset(offset)) {
        Sendings::Known(runs) => {
            runs[0].detour_of(StreamOffset(offset)).map(|d| (d.at, d.heard_at))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(detour(&log, NEAR, 5), None, "it had arrived");
    assert_eq!(detour(&log, NEAR, 6), Some((RELAY, at(3))));
    assert_eq!(detour(&log, NEAR, 10), None, "it was sent after that");
    assert_eq!(detour(&log, FAR, 6), None);
    // The relay says so again, while more is under way.
    log.note_detour(at(60), (NEAR, PathId(1)), RELAY, StreamOffset(12));
    assert_eq!(detour(&log, NEAR, 19), Some((RELAY, at(3))));
    log.note_detour(at(70), (NEAR, PathId(9)), FAR, StreamOffset(0));
    assert_eq!(detour(&log, NEAR, 19), Some((RELAY, at(3))), "of another path");
}

#[test]
fn the_oldest_are_forgotten_and_known_to_be() {
    let mut log = SentLog::default();
    let count = u64::try_from(RUNS_MAX).unwrap() + 10;
    for offset in 0..count {
        send(&mut log, offset * 2000, NEAR, offset, offset + 1, (1, 5));
    }
    assert_eq!(log.len(), RUNS_MAX);
    let forgotten = log.find(NEAR, StreamOffset(9));
    let known_from = Some(StreamOffset(10));
    assert!(matches!(forgotten, Sendings::Forgotten { known_from: k } if k == known_from));
    assert_eq!(known(&log, NEAR, 10), [(1, 5, false, 20_000)]);
    assert!(matches!(log.find(NEAR, StreamOffset(count)), Sendings::None));
    // Without room one goes for each that comes, and the last one stays.
    let last = count - 1;
    for offset in count..count + 3 {
        note(&mut log, offset * 2000, NEAR, (offset, offset + 1), (1, 5), false);
    }
    assert_eq!(log.len(), RUNS_MAX);
    assert_eq!(known(&log, NEAR, last).len(), 1);
    let mut short = SentLog::default();
    for offset in 0..5 {
        note(&mut short, offset * 2000, NEAR, (offset, offset + 1), (1, 5), false);
    }
    assert_eq!((short.len(), known(&short, NEAR, 4).len()), (1, 1));
}
