//! Whole worlds: each over some seeds, the same again for the same seed, and each checker against
//! something broken on purpose.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use std::time::Duration;

use hawser_wire::TrafficClass;

use super::*;

fn run(world: World, seed: u64) -> Summary {
    match Simulation::new(world, seed).run(1) {
        Ok(summary) => summary,
        Err(failure) => {
            let events: Vec<String> = failure.recent.iter().map(ToString::to_string).collect();
            panic!("{failure}\n{}", events.join("\n"));
        }
    }
}

fn check_holds(world: &World, seeds: u64) {
    for seed in 0..seeds {
        let summary = run(world.clone(), seed);
        assert!(summary.messages >= 1000, "{}: {summary:?}", world.name);
        assert!(summary.faults >= 1, "{}: {summary:?}", world.name);
    }
}

// There are many more seeds where all is run that must hold before a change is taken.
#[test]
fn every_world_holds() {
    for world in worlds().iter().filter(|world| !fills_links(world)) {
        check_holds(world, if world.faults.reroutes { 1 } else { 3 });
    }
}

#[test]
fn every_world_that_fills_links_holds() {
    for world in worlds().iter().filter(|world| fills_links(world)) {
        check_holds(world, 1);
    }
}

fn fills_links(world: &World) -> bool {
    world.flows.iter().any(|flow| flow.pace == Pace::Saturating)
}

#[test]
fn a_seed_is_a_history() {
    let few_events = |world: &World| !fills_links(world) || world.name == "thin-link";
    for world in worlds().into_iter().filter(few_events) {
        // One that ends with a violation comes again, too.
        let history = |seed| {
            let result = Simulation::new(world.clone(), seed).run(1);
            result.map_err(|failure| (failure.violation, failure.recent, failure.trace_hash))
        };
        let first = history(7);
        assert_eq!(first, history(7), "{}", world.name);
        assert_ne!(first, history(8), "{}", world.name);
    }
}

/// Breaks one thing in `world`; a checker must see it, for some seed, and name nothing else.
fn check_mutation(world: &World, mutation: Mutation, after: u64, expected: &[Property]) {
    let mut seen = 0;
    for seed in 0..3 {
        let simulation = Simulation::new(world.clone(), seed).with_mutation(mutation, after);
        if let Err(failure) = simulation.run(1) {
            let property = failure.violation.property;
            assert!(expected.contains(&property), "{mutation:?}: {failure}");
            seen += 1;
        }
    }
    assert_eq!(seen, 3, "{mutation:?} is seen in every history");
}

#[test]
fn a_lost_frame_is_noticed() {
    check_mutation(&pair(), Mutation::LoseFrame, 100, &[Property::NothingLost]);
}

#[test]
fn a_repeated_frame_is_noticed() {
    check_mutation(&pair(), Mutation::RepeatFrame, 100, &[Property::NothingDuplicated]);
}

#[test]
fn a_record_that_comes_too_late_is_noticed() {
    let mut world = quiet();
    world.flows.truncate(1);
    check_mutation(&world, Mutation::DelayRecord, 100, &[Property::StreamOrder]);
}

#[test]
fn a_striped_record_that_comes_too_late_is_noticed_long_after_links_failed() {
    let mut world = striped_relay();
    world.flows.truncate(1);
    for after in [100, 400, 700] {
        check_mutation(&world, Mutation::DelayRecord, after, &[Property::StreamOrder]);
    }
}

#[test]
fn plain_streams_keep_their_order_while_lanes_come_and_go() {
    for seed in 10..14 {
        run(lane_changes(), seed);
    }
}

#[test]
fn frames_that_leave_their_links_arrive_once_and_in_order() {
    for seed in 10..13 {
        run(detours(), seed);
    }
}

#[test]
fn an_altered_frame_is_noticed() {
    check_mutation(&pair(), Mutation::AlterFrame, 100, &[Property::Content]);
}

#[test]
fn a_message_that_vanishes_on_a_living_lane_is_noticed() {
    let expected = [Property::NothingLost, Property::NoDeadlock];
    check_mutation(&quiet(), Mutation::LoseMessage, 100, &expected);
}

#[test]
fn a_message_that_comes_twice_is_noticed() {
    check_mutation(&quiet(), Mutation::RepeatMessage, 100, &[Property::NoFalseAccusation]);
}

#[test]
fn credit_that_does_not_return_is_noticed() {
    check_mutation(&pair(), Mutation::WithholdCredit, 1, &[Property::CreditReturns]);
}

#[test]
fn a_window_that_is_not_given_back_is_noticed() {
    check_mutation(&quiet(), Mutation::LeakWindow, 100, &[Property::CreditReturns]);
}

#[test]
fn a_window_that_does_not_become_whole_again_is_noticed() {
    let mut world = quiet();
    world.memory_bytes = 0;
    check_world(world, Property::CreditReturns);
}

#[test]
fn a_skipped_record_is_noticed() {
    check_mutation(&pair(), Mutation::SkipRecord, 100, &[Property::StreamOrder]);
}

#[test]
fn a_repeated_record_is_noticed() {
    let expected = [Property::NothingDuplicated, Property::StreamOrder];
    check_mutation(&pair(), Mutation::RepeatRecord, 100, &expected);
}

#[test]
fn credit_that_was_not_granted_is_noticed() {
    let mut world = slow_consumer();
    world.expect = Expectation::default();
    world.faults.every = Duration::ZERO;
    for flow in &mut world.flows {
        flow.consume_every = Duration::from_secs(3600);
    }
    world.delivery.outbox_bytes = 8 << 20;
    // Who notices first: the destination, or the source as what it is told next is less.
    let expected = [Property::Credit, Property::NoFalseAccusation];
    check_mutation(&world, Mutation::InflateCredit, 10, &expected);
}

#[test]
fn a_link_that_never_comes_back_is_noticed() {
    let mut world = restarts();
    world.flows.clear();
    world.faults.kinds = vec![(FaultKind::LinkOutage, 1)];
    check_mutation(&world, Mutation::NeverHeal, 1, &[Property::NoDeadlock]);
}

#[test]
fn a_link_that_asks_for_no_lane_is_noticed() {
    // One that has none ...
    check_mutation(&all_lanes(), Mutation::IgnoreWishes, 1, &[Property::NoDeadlock]);
    // ... and one that has others.
    let mut world = pair();
    world.faults.kinds = vec![(FaultKind::LaneReset, 1)];
    check_mutation(&world, Mutation::IgnoreWishes, 14, &[Property::NoDeadlock]);
}

#[test]
fn a_frame_that_leaves_its_link_and_is_not_handed_out_is_noticed() {
    check_mutation(&detours(), Mutation::LoseRerouted, 50, &[Property::NothingLost]);
}

#[test]
fn an_unfair_link_is_noticed() {
    let mut world = fair_ring();
    world.links[0].bytes_per_second /= 3;
    check_world(world, Property::Fairness);
}

#[test]
fn a_flow_that_starves_in_a_ring_is_noticed() {
    let mut world = saturated_ring();
    world.flows[0].consume_every = Duration::from_secs(20);
    check_world(world, Property::Fairness);
}

#[test]
fn what_goes_on_while_links_rest_counts_for_no_share() {
    let mut simulation = Simulation::new(saturated_ring(), 1);
    simulation.load(1);
    assert!(simulation.violation.is_none());
    for flow in simulation.flows.iter() {
        // Half of the time, and the source's outbox behind it.
        let (filled, all) = (flow.filled_bytes, flow.sink.bytes());
        assert!(filled > all / 4 && filled < all * 3 / 4, "{filled} of {all} bytes");
    }
}

#[test]
fn a_tenant_that_has_less_than_another_is_noticed() {
    let mut world = tenants();
    world.flows[0].consume_every = Duration::from_secs(5);
    check_world(world, Property::Fairness);
}

#[test]
fn priority_that_has_no_precedence_is_noticed() {
    let mut world = saturated_priority();
    world.expect.at_least_percent = 0;
    world.flows[0].consume_every = Duration::from_secs(5);
    check_world(world, Property::Precedence);
}

#[test]
fn bulk_that_starves_beside_priority_is_noticed() {
    let mut world = saturated_priority();
    world.flows[1].consume_every = Duration::from_secs(5);
    check_world(world, Property::Fairness);
}

#[test]
fn priority_that_waits_for_bulk_is_noticed() {
    let mut world = priority_relay();
    // It has no precedence before its like.
    for flow in &mut world.flows {
        flow.class = TrafficClass::Priority;
    }
    check_world(world, Property::MessageAge);
}

#[test]
fn a_slow_link_that_all_share_is_noticed() {
    let mut world = slow_link();
    if let Some(slowness) = &mut world.expect.isolate {
        slowness.link = Some((0, 25_000));
    }
    check_world(world, Property::Isolation);
}

#[test]
fn a_flow_that_gets_less_than_its_links_carry_is_noticed() {
    let mut world = busy_hosts();
    world.delivery.window_bytes = 32 << 10;
    check_world(world, Property::Throughput);
}

#[test]
fn a_link_that_takes_all_bulk_at_once_is_noticed() {
    let mut world = saturated_pair();
    world.link.in_flight_floor_bytes = 1 << 20;
    check_world(world.clone(), Property::ControlLatency);
    world.expect.control_within = Duration::ZERO;
    world.links[0].path.backlog_bytes = 1 << 20;
    check_world(world, Property::InFlight);
}

#[test]
fn a_relay_that_drops_makes_sources_send_again() {
    let mut world = lane_loss();
    world.link.data_bytes_max = 64 << 10;
    world.links[1].bytes_per_second /= 4;
    check_world(world, Property::NoResend);
}

#[test]
fn a_minute_without_load_is_noticed() {
    let mut world = quiet();
    world.expect.load = true;
    check_world(world.clone(), Property::Load);
    world = pair();
    world.expect.load = true;
    world.flows.truncate(1);
    check_world(world, Property::Load);
}

#[test]
fn a_link_that_never_hedges_is_noticed() {
    let mut world = silence();
    world.faults.every = Duration::from_secs(1);
    world.link.hedge_after_ticks = 1000;
    world.link.dead_after_ticks = 1000;
    let aged = |seed: &u64| {
        let result = Simulation::new(world.clone(), *seed).run(1);
        result.is_err_and(|failure| failure.violation.property == Property::MessageAge)
    };
    assert!((0..6).filter(aged).count() >= 2, "silence is long enough to be noticed");
}

#[test]
fn a_link_that_talks_without_need_is_noticed() {
    let mut simulation = Simulation::new(pair(), 1);
    simulation.check_rest(Duration::from_secs(1), 1);
    assert_eq!(simulation.violation.map(|found| found.property), Some(Property::Rest));
}

/// Without faults.
fn quiet() -> World {
    let mut world = pair();
    world.faults.every = Duration::ZERO;
    world
}

fn check_world(world: World, expected: Property) {
    let found = Simulation::new(world, 1).run(1).map_err(|failure| failure.violation.property);
    assert_eq!(found.map(|summary| summary.messages), Err(expected));
}
