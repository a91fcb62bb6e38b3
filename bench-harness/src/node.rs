//! One node of ours: a real `hawser` process with a data directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::client;
use serde::Serialize;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::cores::NodeCores;
use crate::machine::free_address;
use crate::process::{self, Process};

/// How long a node may take to answer on its socket.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// Longest path of a unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The configuration file of a node; the keys are those of docs/configuration.md.
#[derive(Serialize)]
struct NodeConfig<'a> {
    node: NodeSection<'a>,
    lanes: LanesSection<'a>,
    api: ApiSection,
    cores: CoresSection<'a>,
    log: LogSection,
}

#[derive(Serialize)]
struct NodeSection<'a> {
    name: &'a str,
    data_dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

#[derive(Serialize)]
struct LanesSection<'a> {
    listen: &'a str,
}

#[derive(Serialize)]
struct ApiSection {
    listen: &'static str,
}

#[derive(Serialize)]
struct CoresSection<'a> {
    control: usize,
    api: &'a [usize],
    shards: &'a [usize],
}

#[derive(Serialize)]
struct LogSection {
    level: &'static str,
}

/// What a node is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSpec<'a> {
    /// The `hawser` program.
    pub(crate) hawser: &'a Path,
    pub(crate) name: &'a str,
    /// Directory within which the node gets its own.
    pub(crate) parent: &'a Path,
    /// True: it accepts lanes on a port of loopback. False: it only dials.
    pub(crate) listens: bool,
    pub(crate) profile: Option<&'a str>,
    pub(crate) cores: &'a NodeCores,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
    /// Where it accepts lanes.
    pub(crate) address: Option<String>,
    pub(crate) channel: Channel,
}

impl Node {
    /// Starts a node and waits until it answers.
    pub(crate) async fn start(spec: NodeSpec<'_>) -> Result<Self> {
        let directory = spec.parent.join(spec.name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        let data_dir = directory.join("data");
        let socket = data_dir.join("api.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!(
                "{}: longer than the {SOCKET_PATH_BYTES_MAX} bytes of a unix socket's path; set \
                 TMPDIR to a shorter one",
                socket.display()
            );
        }
        let address = if spec.listens { Some(free_address()?.to_string()) } else { None };
        let config = NodeConfig {
            node: NodeSection { name: spec.name, data_dir: &data_dir, profile: spec.profile },
            lanes: LanesSection { listen: address.as_deref().unwrap_or("none") },
            api: ApiSection { listen: "none" },
            cores: CoresSection {
                control: spec.cores.control,
                api: &spec.cores.api,
                shards: &spec.cores.shards,
            },
            log: LogSection { level: "info" },
        };
        let config_path = directory.join("hawser.toml");
        fs::write(&config_path, toml::to_string(&config)?)?;
        let mut command = process::command(spec.hawser, &[]);
        command.args(["node", "run", "--config"]).arg(&config_path);
        let name = format!("node {}", spec.name);
        let mut process = Process::spawn_logged(&name, command, &directory.join("log"))?;
        let channel = Self::await_socket(&mut process, &socket).await?;
        Ok(Self { name: spec.name.to_owned(), process, socket, address, channel })
    }

    async fn await_socket(process: &mut Process, socket: &Path) -> Result<Channel> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            process.ensure_running()?;
            match client::connect_unix(socket).await {
                Ok(channel) => return Ok(channel),
                Err(error) if Instant::now() > deadline => {
                    let log = process.log_tail();
                    return Err(error).with_context(|| format!("the node does not answer{log}"));
                }
                Err(_not_yet) => sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_with_the_cores_in_it() {
        let config = NodeConfig {
            node: NodeSection { name: "a", data_dir: Path::new("/d"), profile: None },
            lanes: LanesSection { listen: "none" },
            api: ApiSection { listen: "none" },
            cores: CoresSection { control: 1, api: &[0], shards: &[0, 1] },
            log: LogSection { level: "info" },
        };
        let table: toml::Table = toml::to_string(&config).unwrap().parse().unwrap();
        let cores = table["cores"].as_table().unwrap();
        assert_eq!(cores["control"].as_integer(), Some(1));
        assert_eq!(cores["shards"].as_array().unwrap().len(), 2);
        assert!(table["node"].get("profile").is_none());
    }
}
