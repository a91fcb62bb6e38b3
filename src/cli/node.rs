//! `hawser node`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::client::Target;
use super::failure::Failure;
use super::mesh;
use super::output::Output;
use super::runtime::ask;
use crate::daemon::config::default_file;
use crate::daemon::config::settings::Settings;
use crate::daemon::profile::NAMES;
use crate::daemon::{self, NodeStart};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run the node in the foreground. It prints one line when it serves, and logs to standard
    /// error.
    Run(Box<RunArgs>),
    /// Take this node out of transit: paths through it move elsewhere where there is another way.
    /// It holds over restarts until `node undrain`; what begins or ends here is not affected.
    Drain,
    /// Let this node carry other nodes' traffic again.
    Undrain,
    /// Evict a node from the mesh, for good: every node closes its lanes to it and lets none come up
    /// again, and with the same key it cannot come back. Only the node that seeded the mesh can.
    Evict {
        /// Name or id of the node.
        node: String,
        /// Why; told to all nodes, at most 255 bytes.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Configuration file [default: $HAWSER_CONFIG, else /etc/hawser/hawser.toml for root and
    /// ~/.config/hawser/hawser.toml for others, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the machine is used.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    profile: Option<String>,
    /// Human name of the node, unique in its mesh.
    #[arg(long)]
    name: Option<String>,
    /// Where other nodes connect, host:port; `none`: only dial.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address that other nodes are told to dial.
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// Node to keep a link to, host:port; may be said again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    dial: Vec<String>,
    /// Where gRPC is served with TLS, host:port; `none`: on the socket alone.
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<String>,
    /// Stop when standard input is closed.
    #[arg(long, hide = true)]
    leashed: bool,
}

/// # Errors
/// If the node cannot start, or a part of it fails; or whatever the running node answers.
pub(crate) fn run(
    command: NodeCommand,
    target: impl FnOnce() -> Result<Target, Failure>,
    data_dir: Option<PathBuf>,
    out: Output,
) -> Result<(), Failure> {
    let args = match command {
        NodeCommand::Run(args) => args,
        NodeCommand::Drain => return ask(target()?, |node| mesh::drain(true, node, out)),
        NodeCommand::Undrain => return ask(target()?, |node| mesh::drain(false, node, out)),
        NodeCommand::Evict { node, reason } => {
            return ask(target()?, |at| mesh::evict(node, reason, at, out));
        }
    };
    let leashed = args.leashed;
    let reload = move || settings(&args, data_dir.as_deref());
    daemon::run(&NodeStart { settings: reload()?, reload: Box::new(reload), leashed, out })
}

/// File, environment and command line, in this order.
fn settings(args: &RunArgs, data_dir: Option<&Path>) -> Result<Settings, Failure> {
    let directory = match data_dir.map(Path::to_str) {
        Some(None) => return Err(Failure::usage("--data-dir: the path is not UTF-8")),
        given => given.flatten(),
    };
    let file = args.config.clone().or_else(default_file);
    let mut settings = Settings::load(file.as_deref(), std::env::vars_os())?;
    let mut set = |flag, name, value: Option<&str>| {
        if let Some(value) = value {
            settings.set(flag, name, value);
        }
    };
    let dial = args.dial.join(",");
    set("--data-dir", "node.data_dir", directory);
    set("--profile", "node.profile", args.profile.as_deref());
    set("--name", "node.name", args.name.as_deref());
    set("--listen", "lanes.listen", args.listen.as_deref());
    set("--advertise", "lanes.advertise", args.advertise.as_deref());
    set("--dial", "lanes.dial", (!dial.is_empty()).then_some(dial.as_str()));
    set("--api-listen", "api.listen", args.api_listen.as_deref());
    Ok(settings)
}
