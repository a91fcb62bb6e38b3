//! A relay that is killed and started again over and over, never up for as long as a second.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Mesh, Node, Spec};

const RESTARTS: usize = 14;
/// Several times what they take on a busy machine. Dialling that took each of these short lives for a
/// failure would pause for fifteen seconds on average before each of the last ones.
const SOON: Duration = Duration::from_secs(45);

#[test]
fn a_relay_that_restarts_over_and_over_carries_each_time() {
    let mut mesh = Mesh::start();
    mesh.open("s");
    let lanes = mesh.a.json(&["lane", "ls"]);
    let listen = lanes[0]["remote_address"].as_str().unwrap().to_owned();
    let spec = Spec { listen, ..Spec::dialling("b") };
    let begun = Instant::now();
    for number in 0..RESTARTS {
        mesh.b.process.signal(Signal::KILL);
        mesh.b.process.wait();
        mesh.b = Node::start(mesh.directory.path(), &spec);
        // Confirmed by the far end: it has gone there and back over the relay.
        mesh.a.feed(&["stream", "pub", "s"], format!("{number}\n").as_bytes()).ok();
    }
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    let count = RESTARTS.to_string();
    let got = mesh.c.run(&["stream", "sub", "s", "--count", &count]).ok();
    let sent: String = (0..RESTARTS).map(|number| format!("{number}\n")).collect();
    assert_eq!(got.text(), sent);
}
