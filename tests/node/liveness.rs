//! Who is alive, as real nodes see it.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Node, Spec, free_address, wait_for};

/// A death would be known by then: probes of one second, and a suspicion of a few.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// What `node` knows of the one called `name`.
fn known(node: &Node, name: &str) -> Option<Value> {
    let status = node.json(&["mesh", "status"]);
    status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).cloned()
}

fn wait_until_known(node: &Node, name: &str, liveness: &str) -> Value {
    wait_for(&format!("{name} to be {liveness}"), || {
        known(node, name).filter(|found| found["liveness"] == liveness)
    })
}

fn join(node: &Node, by: &Node) {
    let token = by.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    node.run(&["mesh", "join", &token]).ok();
}

#[test]
fn a_killed_node_has_failed_and_a_restarted_one_is_alive_in_a_new_life() {
    const CONFIG: &str = "[membership]\nprobe_ms = 200\n";
    let directory = tempfile::tempdir().unwrap();
    let start = |spec: Spec| Node::start(directory.path(), &Spec { config: CONFIG, ..spec });
    let a = start(Spec::dialling("a"));
    let b = start(Spec::listening("b"));
    let mut c = start(Spec::dialling("c"));
    b.run(&["mesh", "seed", "test"]).ok();
    join(&a, &b);
    join(&c, &b);
    let others = [&a, &b];
    for node in others {
        let found = wait_until_known(node, "c", "alive");
        assert_eq!(found["incarnation"], 1);
    }
    c.process.signal(Signal::KILL);
    c.process.wait();
    for node in others {
        let found = wait_until_known(node, "c", "dead");
        assert_eq!(found["incarnation"], 1);
        wait_for("the event", || node.log().contains("node_failed").then_some(()));
        assert!(node.log().contains("node_suspected"), "{}", node.log());
    }
    let c = start(Spec::dialling("c"));
    for node in others {
        let found = wait_until_known(node, "c", "alive");
        assert_eq!(found["incarnation"], 2);
        wait_for("the event", || node.log().contains("node_alive").then_some(()));
    }
    for name in ["a", "b", "c"] {
        wait_until_known(&c, name, "alive");
    }
}

/// The way to an address, which can be cut.
struct Way {
    entrance: String,
    /// Both ends of each connection; `None` once it is cut.
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Way {
    fn to(exit: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let entrance = listener.local_addr().unwrap().to_string();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let streams = Arc::clone(&open);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let Ok(far) = TcpStream::connect(&exit) else { continue };
                let mut streams = streams.lock().unwrap();
                // One that comes after the cut is closed at once.
                let Some(streams) = &mut *streams else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    from.set_nodelay(true).unwrap();
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        // It ends with either end.
                        let _cut = io::copy(&mut from, &mut to);
                        let _closed = to.shutdown(Shutdown::Both);
                    });
                }
                streams.extend([near, far]);
            }
        });
        Self { entrance, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().take().unwrap() {
            // The other end may have closed it.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_cut_link_is_no_dead_node() {
    let directory = tempfile::tempdir().unwrap();
    let b = Node::start(directory.path(), &Spec::listening("b"));
    let exit = free_address();
    let way = Way::to(exit.clone());
    // A and C dial B; A dials C too, by a way that can be cut.
    let config = |text: String| -> &'static str { text.leak() };
    let a = Spec {
        config: config(format!("[lanes]\ndial = [\"{}\"]\n", way.entrance)),
        ..Spec::dialling("a")
    };
    let c = Spec {
        listen: exit,
        config: config(format!("[lanes]\nadvertise = \"{}\"\n", way.entrance)),
        ..Spec::dialling("c")
    };
    let c = Node::start(directory.path(), &c);
    let a = Node::start(directory.path(), &a);
    b.run(&["mesh", "seed", "test"]).ok();
    join(&c, &b);
    join(&a, &b);
    let nodes = [("a", &a), ("b", &b), ("c", &c)];
    let wait_for_hops = |hops: u32| {
        for (node, other) in [(&a, "c"), (&c, "a")] {
            wait_for("a path", || known(node, other).filter(|found| found["hops"] == hops));
        }
    };
    wait_for_hops(1);
    for (_, node) in nodes {
        for (name, _) in nodes {
            wait_until_known(node, name, "alive");
        }
    }
    way.cut();
    wait_for_hops(2);
    let cut = Instant::now();
    wait_for("the time that a death takes", || {
        for (_, node) in nodes {
            for (name, _) in nodes {
                let found = known(node, name).unwrap();
                assert_ne!(found["liveness"], "dead", "{name} at {}", node.data_dir.display());
            }
        }
        (cut.elapsed() >= LONG_ENOUGH).then_some(())
    });
    for (_, node) in nodes {
        assert!(!node.log().contains("node_failed"), "{}", node.log());
    }
}
