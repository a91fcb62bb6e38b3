//! `events watch` on a node, while a test goes on.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Guarded, Node, wait_for};

/// What a node says that happens, of some kinds.
pub(crate) struct Watcher {
    _process: Guarded,
    lines: Receiver<Value>,
}

impl Watcher {
    /// It sees whatever happens from now on.
    pub(crate) fn start(node: &Node, kinds: &[&str]) -> Self {
        let mut arguments = vec!["events", "watch", "--json", "--kind", "stream_opened"];
        arguments.extend(kinds.iter().flat_map(|kind| ["--kind", kind]));
        let mut process = node.spawn(&arguments, Stdio::null());
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (seen, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if seen.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        let own = node.ready["node_name"].as_str().unwrap_or("b").to_owned();
        let mut streams = 0;
        wait_for("the watcher to see what happens", || {
            streams += 1;
            node.run(&["stream", "open", &format!("w{streams}"), "--to", &own]).ok();
            lines.try_recv().ok()
        });
        Self { _process: process, lines }
    }

    /// The next event that satisfies `wanted`.
    pub(crate) fn next(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.lines.recv_timeout(Duration::from_secs(30)).unwrap();
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Everything that it has seen and nobody has taken.
    pub(crate) fn seen(&self) -> Vec<Value> {
        let seen = self.lines.try_iter();
        seen.filter(|event| event["kind"] != "stream_opened").collect()
    }
}
