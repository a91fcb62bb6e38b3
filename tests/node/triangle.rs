//! Three nodes, each with a link to both others.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Node, Spec, wait_for};

/// A and C dial B, where they join; A dials C, too.
#[derive(Debug)]
pub(crate) struct Triangle {
    // In this order: processes end before their directory goes.
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) c: Node,
    pub(crate) spec_a: Spec,
    pub(crate) spec_b: Spec,
    pub(crate) spec_c: Spec,
    pub(crate) directory: TempDir,
}

impl Triangle {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With further lines in the configuration of A.
    pub(crate) fn start_with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spec_b, spec_c) = (Spec::listening("b"), Spec::listening("c"));
        let b = Node::start(directory.path(), &spec_b);
        let config = format!("[lanes]\ndial = [\"{}\"]\n{config}", spec_c.listen).leak();
        let c = Node::start(directory.path(), &spec_c);
        let spec_a = Spec { config, ..Spec::dialling("a") };
        let a = Node::start(directory.path(), &spec_a);
        b.run(&["mesh", "seed", "test"]).ok();
        for node in [&c, &a] {
            let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
            node.run(&["mesh", "join", &token]).ok();
        }
        let mesh = Self { a, b, c, spec_a, spec_b, spec_c, directory };
        for (node, other) in [(&mesh.a, "c"), (&mesh.a, "b"), (&mesh.c, "a"), (&mesh.c, "b")] {
            wait_for("both paths", || (ways(&paths_to(node, other)).len() == 2).then_some(()));
        }
        mesh
    }
}

/// The paths of a node to another one; none while it has not heard of that one.
pub(crate) fn paths_to(node: &Node, other: &str) -> Value {
    let rows = node.json(&["route", "ls"]);
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["destination_name"] == other).cloned().collect()
}

/// The nodes on the way of a row, with blanks between.
pub(crate) fn nodes_of(row: &Value) -> String {
    let nodes = row["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// The ways of the rows, in order of the alphabet: what was measured says which is the best.
pub(crate) fn ways(rows: &Value) -> Vec<String> {
    let mut ways: Vec<String> = rows.as_array().unwrap().iter().map(nodes_of).collect();
    ways.sort();
    ways
}
