#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::seeded::Seeded;

const MIB: u64 = 1 << 20;

fn key(tenant: u8, stream: u8) -> StreamKey {
    let mut id = [0; 16];
    (id[0], id[1]) = (tenant, stream);
    StreamKey { tenant: TenantId::from_bytes([tenant; 16]), stream: StreamId::from_bytes(id) }
}

fn name(who: StreamKey) -> (u8, u8) {
    let id = who.stream.as_bytes();
    (id[0], id[1])
}

type Sent = BTreeMap<(u8, u8), u64>;

/// Gives turns until `total_bytes` are sent. Each stream sends records of its size, and leaves and comes
/// back after each if `comes_back` says so.
fn serve(
    rounds: &mut TenantRounds,
    streams: &[(u8, u8, u64)],
    comes_back: impl Fn((u8, u8)) -> bool,
    total_bytes: u64,
) -> Sent {
    let sizes: BTreeMap<(u8, u8), u64> = streams.iter().map(|&(t, s, len)| ((t, s), len)).collect();
    let (mut sent, mut total) = (Sent::new(), 0);
    for &(tenant, stream, _) in streams {
        rounds.wait(key(tenant, stream), 0);
    }
    while total < total_bytes {
        let who = rounds.next(|_| true).unwrap();
        assert!(rounds.is_turn_of(who));
        let bytes = sizes[&name(who)];
        rounds.spend(who, bytes);
        *sent.entry(name(who)).or_default() += bytes;
        total += bytes;
        if comes_back(name(who)) {
            rounds.leave(who);
            rounds.wait(who, 0);
        }
    }
    sent
}

fn of_tenant(sent: &Sent, tenant: u8) -> u64 {
    sent.iter().filter(|((of, _), _)| *of == tenant).map(|(_, bytes)| bytes).sum()
}

/// Each has as much as another, within so many hundredths.
fn assert_alike(shares: &[u64], percent: u64) {
    let mean = shares.iter().sum::<u64>() / shares.len() as u64;
    let is_alike = shares.iter().all(|share| share.abs_diff(mean) * 100 <= mean * percent);
    assert!(is_alike && mean > 0, "{shares:?}, mean {mean}");
}

/// A tenant with ten streams and one with one, with records of these sizes.
fn ten_and_one(ten: u64, one: u64) -> Vec<(u8, u8, u64)> {
    let mut streams: Vec<_> = (0..10).map(|stream| (1, stream, ten)).collect();
    streams.push((2, 0, one));
    streams
}

#[test]
fn tenants_have_like_shares_however_many_streams_each_has() {
    for (ten, one) in [(65_000, 65_000), (300, MIB), (MIB, 300), (20_000, 50_000)] {
        let sent =
            serve(&mut TenantRounds::default(), &ten_and_one(ten, one), |_| false, 500 * MIB);
        assert_alike(&[of_tenant(&sent, 1), of_tenant(&sent, 2)], 3);
        let streams: Vec<u64> = (0..10).map(|stream| sent[&(1, stream)]).collect();
        assert_alike(&streams, 6);
    }
}

#[test]
fn streams_of_one_tenant_share_by_bytes() {
    let streams = [(1, 0, MIB), (1, 1, 10_000), (1, 2, 66_000), (1, 3, 300), (1, 4, 65_536)];
    let sent = serve(&mut TenantRounds::default(), &streams, |_| false, 500 * MIB);
    assert_alike(&sent.into_values().collect::<Vec<_>>(), 3);
}

#[test]
fn nothing_is_kept_for_who_does_not_wait() {
    let mut rounds = TenantRounds::default();
    let sent = serve(&mut rounds, &ten_and_one(20_000, 20_000)[..10], |_| false, 100 * MIB);
    assert_eq!(of_tenant(&sent, 2), 0);
    // And who comes has no more than its half for having been away.
    let sent = serve(&mut rounds, &ten_and_one(20_000, 20_000), |_| false, 2 * MIB);
    assert_alike(&[of_tenant(&sent, 1), of_tenant(&sent, 2)], 10);
    rounds.leave(key(2, 0));
    assert_eq!(rounds.next(|_| true).map(|who| name(who).0), Some(1), "its turn goes with it");
}

#[test]
fn what_one_stream_leaves_of_a_turn_is_for_the_others_of_its_tenant() {
    // Ten that want one small record each, and come back for the next.
    let streams = ten_and_one(1000, 65_000);
    let sent = serve(&mut TenantRounds::default(), &streams, |(tenant, _)| tenant == 1, 200 * MIB);
    assert_alike(&[of_tenant(&sent, 1), of_tenant(&sent, 2)], 3);
}

#[test]
fn what_a_stream_leaves_of_its_turn_is_not_there_when_it_comes_back() {
    let mut rounds = TenantRounds::default();
    rounds.wait(key(1, 0), 0);
    rounds.wait(key(1, 1), 0);
    rounds.spend(key(1, 0), 1);
    rounds.leave(key(1, 0));
    rounds.wait(key(1, 0), 0);
    assert_eq!(rounds.next(|_| true), Some(key(1, 1)));
}

#[test]
fn who_leaves_with_a_debt_finds_it_when_it_comes_back() {
    let streams = [(1, 0, MIB), (2, 0, 20_000), (2, 1, 20_000)];
    let sent = serve(&mut TenantRounds::default(), &streams, |(tenant, _)| tenant == 1, 200 * MIB);
    assert_alike(&[of_tenant(&sent, 1), of_tenant(&sent, 2)], 3);
    // So does a stream among those of its tenant.
    let streams = [(1, 0, MIB), (1, 1, 20_000)];
    let sent = serve(&mut TenantRounds::default(), &streams, |(_, stream)| stream == 0, 200 * MIB);
    assert_alike(&[sent[&(1, 0)], sent[&(1, 1)]], 3);
}

#[test]
fn a_debt_of_who_stays_away_is_paid_by_the_rounds_of_others() {
    let mut rounds = TenantRounds::default();
    rounds.wait(key(1, 0), 0);
    rounds.wait(key(2, 0), 0);
    rounds.spend(key(1, 0), 4 * QUANTUM_BYTES);
    rounds.leave(key(1, 0));
    let round = |rounds: &mut TenantRounds| {
        let who = rounds.next(|_| true).unwrap();
        rounds.spend(who, QUANTUM_BYTES);
        name(who).0
    };
    assert!((0..2).all(|_| round(&mut rounds) == 2));
    assert_eq!((rounds.tenants.len(), rounds.places.len()), (2, 2), "it still owes");
    assert!((0..6).all(|_| round(&mut rounds) == 2));
    assert_eq!((rounds.tenants.len(), rounds.places.len()), (1, 1), "who has paid is forgotten");
    rounds.wait(key(1, 0), 0);
    assert_eq!([round(&mut rounds), round(&mut rounds)], [1, 2]);
}

#[test]
fn what_was_sent_before_anybody_waited_counts() {
    let mut rounds = TenantRounds::default();
    rounds.wait(key(1, 0), QUANTUM_BYTES);
    rounds.wait(key(2, 0), 0);
    assert_eq!(rounds.next(|_| true), Some(key(2, 0)));
    // Not of who waits already.
    rounds.wait(key(2, 0), 100 * QUANTUM_BYTES);
    assert!(rounds.is_turn_of(key(2, 0)));
    rounds.spend(key(2, 0), QUANTUM_BYTES - 1);
    assert_eq!(rounds.next(|_| true), Some(key(2, 0)));
    rounds.spend(key(2, 0), 1);
    assert!(!rounds.is_turn_of(key(2, 0)));
    assert_eq!(rounds.next(|_| true), Some(key(1, 0)));
}

#[test]
fn who_is_alone_waits_for_nobody_whatever_it_owes() {
    let mut rounds = TenantRounds::default();
    rounds.wait(key(1, 0), 0);
    rounds.spend(key(1, 0), 100 * MIB);
    assert!(rounds.is_alone());
    assert_eq!(rounds.next(|_| true), Some(key(1, 0)));
    rounds.leave(key(1, 0));
    rounds.leave(key(1, 0));
    assert!(rounds.is_empty() && !rounds.is_alone());
    assert_eq!(rounds.next(|_| true), None);
}

#[test]
fn who_cannot_use_its_turn_keeps_it_and_others_go_on() {
    let mut rounds = TenantRounds::default();
    for who in [key(1, 0), key(1, 1), key(2, 0)] {
        rounds.wait(who, 0);
    }
    let blocked = |rounds: &mut TenantRounds| rounds.next(|stream| stream != key(1, 0).stream);
    assert_eq!(blocked(&mut rounds), Some(key(1, 1)), "another of its tenant");
    rounds.spend(key(1, 1), 2 * QUANTUM_BYTES);
    for _ in 0..3 {
        let who = blocked(&mut rounds).unwrap();
        rounds.spend(who, QUANTUM_BYTES);
    }
    assert_eq!(rounds.next(|stream| stream == key(1, 0).stream), Some(key(1, 0)));
    rounds.spend(key(1, 0), QUANTUM_BYTES - 1);
    assert!(rounds.is_turn_of(key(1, 0)), "all of its quantum was there");
}

#[test]
fn no_debt_is_paid_while_nobody_can_use_a_turn() {
    let mut rounds = TenantRounds::default();
    rounds.wait(key(1, 0), 0);
    rounds.wait(key(2, 0), 0);
    rounds.spend(key(1, 0), 11 * QUANTUM_BYTES);
    for _ in 0..100 {
        assert_eq!(rounds.next(|_| false), None);
    }
    let first = (0..100).take_while(|_| {
        let who = rounds.next(|_| true).unwrap();
        rounds.spend(who, QUANTUM_BYTES);
        who == key(2, 0)
    });
    let first = first.count();
    assert!((10..=12).contains(&first), "{first} quanta before the debtor's next");
}

#[test]
fn whatever_comes_and_goes_a_turn_is_of_one_who_waits_and_can() {
    for seed in 0..200 {
        let mut random = Seeded(seed);
        let (mut rounds, mut waiting) = (TenantRounds::default(), BTreeSet::new());
        for _ in 0..400 {
            let (tenant, stream) = (random.below(4) as u8, random.below(5) as u8);
            let who = key(tenant, stream);
            match random.below(6) {
                0 | 1 => {
                    rounds.wait(who, random.below(2 * QUANTUM_BYTES));
                    waiting.insert((tenant, stream));
                }
                2 => {
                    rounds.leave(who);
                    waiting.remove(&(tenant, stream));
                }
                3 => rounds.spend(who, random.below(20 * QUANTUM_BYTES)),
                _ => {
                    let bits = random.below(1 << 20);
                    let can = |(tenant, stream): (u8, u8)| (bits >> (tenant * 5 + stream)) & 1 == 1;
                    let able: BTreeSet<_> =
                        waiting.iter().copied().filter(|&who| can(who)).collect();
                    let next = rounds.next(|stream| {
                        let id = stream.as_bytes();
                        can((id[0], id[1]))
                    });
                    assert_eq!(next.is_none(), able.is_empty(), "seed {seed}");
                    if let Some(who) = next {
                        assert!(able.contains(&name(who)), "seed {seed}");
                        assert!(rounds.is_turn_of(who), "seed {seed}");
                    }
                }
            }
            assert_eq!(rounds.is_empty(), waiting.is_empty(), "seed {seed}");
            assert_eq!(rounds.is_alone(), waiting.len() == 1, "seed {seed}");
            let held: usize = rounds.tenants.iter().map(|tenant| tenant.ring.len()).sum();
            assert_eq!(held, rounds.places.len(), "seed {seed}");
            assert!(held == 0 || !waiting.is_empty(), "seed {seed}: nothing is kept for nobody");
        }
    }
}
