//! Lanes that go while a link changes its mode, under a striped stream: all at once, over a real
//! bottleneck.

use crate::link_faults::{Traffic, World};
use crate::namespaces::Fault;
use crate::process::wait_for;

/// Slow enough to be filled, so that the stream takes a second lane.
const BOTTLENECK_MBIT: u32 = 50;
const LINE_BYTES: usize = 1_000;

fn bulk_ports(world: &World) -> Vec<u16> {
    let bulk = world.lanes().into_iter().filter(|(class, _)| class == "bulk");
    bulk.map(|(_, port)| port).collect()
}

/// Both ends have the mode.
fn await_mode(world: &World, mode: &str) {
    wait_for("the mode at both ends", || {
        let has =
            [&world.a, &world.b].iter().all(|node| node.json(&["link", "ls"])[0]["mode"] == mode);
        has.then_some(())
    });
}

/// The lanes of these ports are gone.
fn await_end(world: &World, ports: &[u16]) {
    wait_for("the end of the lanes", || {
        (!world.lanes().iter().any(|(_, port)| ports.contains(port))).then_some(())
    });
}

#[test]
fn lanes_that_go_while_the_mode_changes_cost_a_striped_stream_nothing() {
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), "") else { return };
    world.a.run(&["stream", "open", "wide", "--to", "b", "--stripe"]).ok();
    let traffic = Traffic::over("wide", &world.a, &world.b, LINE_BYTES, None);
    let ports = wait_for("two lanes for the stream", || {
        Some(bulk_ports(&world)).filter(|ports| ports.len() >= 2)
    });
    // One of the two falls silent, and what is on both is to go to one lane.
    world.namespaces.begin(Fault::Silence { port: ports[0] });
    world.a.run(&["link", "mode", "b", "collapsed"]).ok();
    traffic.await_more(1_000);
    await_end(&world, &ports[..1]);
    world.namespaces.end();
    await_mode(&world, "collapsed");
    // The only lane, and those that come, are reset while there are to be more.
    let before: Vec<u16> = world.lanes().into_iter().map(|(_, port)| port).collect();
    world.b.run(&["link", "mode", "a", "separate"]).ok();
    world.namespaces.begin(Fault::ResetAll);
    await_end(&world, &before);
    world.namespaces.end();
    await_mode(&world, "separate");
    traffic.await_more(1_000);
    // Back to one, while a bulk lane is reset and another one takes its place.
    let ports =
        wait_for("a bulk lane", || Some(bulk_ports(&world)).filter(|ports| !ports.is_empty()));
    world.namespaces.begin(Fault::Reset { port: ports[0] });
    world.a.run(&["link", "mode", "b", "collapsed"]).ok();
    await_end(&world, &ports[..1]);
    world.namespaces.end();
    await_mode(&world, "collapsed");
    traffic.await_more(1_000);
    traffic.finish(&world.a);
}
