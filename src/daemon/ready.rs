//! What a node says once it serves: one line on standard output.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::output::{Output, counted};

/// The line.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    pub(crate) ready: bool,
    pub(crate) node_id: String,
    pub(crate) node_name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) socket: PathBuf,
    /// Where lanes are accepted now; none before the node is in a mesh, or if it only dials.
    pub(crate) listening: Option<String>,
    /// Where gRPC is served over TCP.
    pub(crate) api_listening: Option<String>,
    pub(crate) io_driver: &'static str,
    pub(crate) shards: usize,
    /// Starts of this node so far, this one included.
    pub(crate) boot: u64,
    pub(crate) pid: u32,
}

impl Ready {
    /// A reader that is gone does not end the node.
    pub(crate) fn say(&self, out: Output) {
        let _unread = out.value(self, || self.text());
    }

    fn text(&self) -> String {
        let lanes = match &self.listening {
            Some(address) => format!("lanes on {address}, "),
            None => String::new(),
        };
        let api = match &self.api_listening {
            Some(address) => format!("gRPC on {address} and "),
            None => "gRPC on ".to_owned(),
        };
        let shards = counted(u64::try_from(self.shards).unwrap_or(u64::MAX), "shard");
        format!(
            "ready: node {} ({}), {lanes}{api}{}, {shards} on {}\n",
            self.node_name,
            self.node_id,
            self.socket.display(),
            self.io_driver,
        )
    }
}
