//! Tenants that share the window of one path.

use super::*;

const OTHER: TenantId = TenantId::from_bytes([5; 16]);

/// A source whose last stream is of another tenant than the rest, behind a relay that marks.
fn world(seed: u64, messages: &[usize]) -> World {
    let mut world = World::new(seed, &[messages]);
    let last = messages.len() - 1;
    let limits =
        DeliveryLimits { gap_after: Duration::from_millis(20), ..DeliveryLimits::default() };
    let key = stream_key(0, last, OTHER);
    world.sources[0].streams[last] = Stream::new(key, messages[last], limits);
    world.mark_above = 256 * KIB;
    world.rate = 30_000_000;
    world.run(Duration::from_secs(2));
    world
}

/// What the first tenant and the other one got in six seconds.
fn run(world: &mut World) -> (Vec<u64>, u64) {
    let mut got = world.run(Duration::from_secs(6)).concat();
    let other = got.pop().unwrap();
    (got, other)
}

fn assert_like_shares(many: &[u64], other: u64) {
    let sum: u64 = many.iter().sum();
    assert!(sum.abs_diff(other) * 20 <= sum.max(other), "{many:?} and {other}");
}

#[test]
fn tenants_share_a_window_first_however_many_streams_each_has() {
    for (seed, sizes) in [(1, (20_000, 20_000)), (2, (4000, 150_000)), (3, (150_000, 4000))] {
        let mut messages = vec![sizes.0; 10];
        messages.push(sizes.1);
        let mut world = world(seed, &messages);
        let (many, other) = run(&mut world);
        assert_like_shares(&many, other);
        assert_fair(&many, "streams of one tenant");
        let total = many.iter().sum::<u64>() + other;
        assert!(total >= world.rate * 6 * 90 / 100, "the path is used: {total}");
        world.drain(seed);
    }
}

#[test]
fn a_tenant_that_has_nothing_to_send_or_no_credit_leaves_the_window_to_others() {
    for seed in 0..2 {
        let mut world = world(seed, &[20_000; 6]);
        let last = world.sources[0].streams.last_mut().unwrap();
        // Its publisher is silent, or its consumer takes nothing.
        (last.publishing, last.consuming) = (seed > 0, seed == 0);
        world.run(Duration::from_secs(2));
        let (many, other) = run(&mut world);
        assert_eq!(other, 0, "seed {seed}");
        assert_fair(&many, "the other tenant's streams");
        let total: u64 = many.iter().sum();
        assert!(total >= world.rate * 6 * 90 / 100, "the path is used, seed {seed}: {total}");
        // It comes back to its half, and no more.
        let last = world.sources[0].streams.last_mut().unwrap();
        (last.publishing, last.consuming) = (true, true);
        while let Some(record) = last.receiver.poll_deliver(CONSUMER) {
            last.got_bytes += record.payload.len() as u64;
            let next = record.header.stream_end();
            last.receiver.handle_commit(world.now, CONSUMER, next).unwrap();
        }
        world.run(Duration::from_secs(1));
        let (many, other) = run(&mut world);
        assert_like_shares(&many, other);
        world.drain(seed);
    }
}
