//! A relay that is killed and started again over and over, never up for as long as a second.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Mesh, Node, Spec};

const RESTARTS: usize = 14;
/// How long messages go through each time.
const USED_FOR: Duration = Duration::from_millis(250);
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
    let mut sent = 0;
    for _ in 0..RESTARTS {
        mesh.b.process.signal(Signal::KILL);
        mesh.b.process.wait();
        mesh.b = Node::start(mesh.directory.path(), &spec);
        // Confirmed by the far end: each has gone there and back over the relay, which so is up for
        // long enough to have been of use.
        let mut up = None;
        while up.is_none_or(|up: Instant| up.elapsed() < USED_FOR) {
            mesh.a.feed(&["stream", "pub", "s"], format!("{sent}\n").as_bytes()).ok();
            up.get_or_insert_with(Instant::now);
            sent += 1;
        }
    }
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    let got = mesh.c.run(&["stream", "sub", "s", "--count", &sent.to_string()]).ok();
    let expected: String = (0..sent).map(|number| format!("{number}\n")).collect();
    assert_eq!(got.text(), expected);
}
