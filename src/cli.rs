//! The command line: noun, verb, and one way to print and to fail.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

mod client;
mod config;
mod events;
pub(crate) mod failure;
mod lane;
mod link;
mod mesh;
pub(crate) mod node;
pub(crate) mod output;
mod plan;
mod route;
mod runtime;
mod sim;
pub(crate) mod stream;
pub(crate) mod table;
mod token;

pub(crate) use client::{Mesh, MeshData, SOCKET_NAME, Target};
use runtime::ask;
pub(crate) use runtime::block_on;

use failure::{Exit, Failure};
use output::{Format, Output};

const EXIT_CODES: &str = "Exit codes:
  0  it worked
  1  the node, or this command, failed
  2  wrong usage
  3  not found: node, stream, file
  4  unreachable: no node at the socket, or a peer that does not answer
  5  refused: token, identity, permission, hostile file name
  6  something was lost, came twice or differs
  7  wrong configuration";

/// Mesh node daemon: streams that arrive exactly once, through links that fail.
#[derive(Debug, Parser)]
#[command(name = "hawser", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Global {
    /// Form of standard output.
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value = "table")]
    output: Format,
    /// The same as `-o json`.
    #[arg(long, global = true, action = ArgAction::SetTrue)]
    json: bool,
    /// Socket of the node, in place of the one in its data directory.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Data directory of the node [default: $HAWSER_DATA_DIR, else /var/lib/hawser for root and
    /// ~/.local/share/hawser for others]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The node process.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// The mesh that this node is in.
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Join tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Streams: open, close, list, publish, subscribe.
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    /// Links to neighbours.
    #[command(subcommand)]
    Link(link::LinkCommand),
    /// Lanes: the connections that links are made of.
    #[command(subcommand)]
    Lane(lane::LaneCommand),
    /// Routes: the paths to other nodes.
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// What happens in the mesh.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Paths in a mesh, of a file or of a running node, and what would be lost with some of it.
    Plan(plan::PlanArgs),
    /// The configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// The engine in virtual time, with faults.
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// Shows the main job on this machine: a mesh of processes, a relay killed in the middle.
    Demo(crate::demo::DemoArgs),
    /// Prints a completion script.
    Completions {
        /// The shell to complete for.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]))]
        shell: String,
    },
}

/// Runs the command line in `arguments`.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(answer) if !answer.use_stderr() && asks_for_json(&arguments) => {
            // Help and version are no JSON.
            output::say(answer.render().to_string().trim_end());
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1));
        }
        Err(answer) => {
            // Help and version are answers, too; a reader that left does not miss them.
            let _unread = answer.print();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1));
        }
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::from(Exit::Ok as u8),
        Err(failure) => {
            if !failure.quiet {
                output::say(&format!("error: {failure}"));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Whether a command line that is no command wants JSON.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let words = arguments.iter().filter_map(|argument| argument.to_str());
    let mut words = words.take_while(|word| *word != "--").peekable();
    while let Some(word) = words.next() {
        let asks = match word {
            "-o" | "--output" => words.peek() == Some(&"json"),
            word => matches!(word, "--json" | "-ojson" | "-o=json" | "--output=json"),
        };
        if asks {
            return true;
        }
    }
    false
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Global { output, json, socket, data_dir } = cli.global;
    let out = Output::new(if json { Format::Json } else { output });
    let target = || Target::new(socket.clone(), data_dir.clone());
    match cli.command {
        Command::Node(command) => node::run(command, target, data_dir.clone(), out),
        Command::Mesh(command) => ask(target()?, |node| mesh::run(command, node, out)),
        Command::Token(command) => ask(target()?, |node| token::run(command, node, out)),
        Command::Stream(command) => ask(target()?, |node| stream::run(command, node, out)),
        Command::Link(command) => ask(target()?, |node| link::run(command, node, out)),
        Command::Lane(command) => ask(target()?, |node| lane::run(command, node, out)),
        Command::Route(command) => ask(target()?, |node| route::run(command, node, out)),
        Command::Events(command) => ask(target()?, |node| events::run(command, node, out)),
        Command::Plan(args) => plan::run(&args, target, out),
        Command::Config(command) => config::run(command, data_dir.as_deref(), out),
        Command::Sim(command) => sim::run(command, out),
        Command::Demo(args) => crate::demo::run(args, out),
        Command::Completions { shell } => completions(&shell, out),
    }
}

fn completions(shell: &str, out: Output) -> Result<(), Failure> {
    if out.is_json() {
        return Err(Failure::usage("a completion script is no JSON: leave out --json"));
    }
    let shell: Shell = shell.parse().map_err(Failure::usage)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hawser", &mut script);
    output::write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_a_short_form() {
        for arguments in
            [&["hawser", "link", "ls", "--json"][..], &["hawser", "-ojson", "link", "ls"]]
        {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert!(cli.global.json || cli.global.output == Format::Json);
        }
    }

    #[test]
    fn json_is_seen_where_there_is_no_command() {
        let asks = |line: &str| {
            asks_for_json(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        for line in [
            "hawser --json --help",
            "hawser help node --json",
            "hawser -ojson -V",
            "hawser -o json -V",
            "hawser --output json -V",
            "hawser --output=json -V",
        ] {
            assert!(asks(line), "{line}");
        }
        for line in ["hawser --help", "hawser -o table --help", "hawser help -- --json"] {
            assert!(!asks(line), "{line}");
        }
    }
}
