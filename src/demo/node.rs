//! One node process of the demo.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::poll_until;
use crate::cli::Target;
use crate::cli::failure::Failure;
use crate::daemon::RELEASE;

/// How long a node may take to answer.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// Log lines that a failure quotes.
const LOG_LINES: usize = 12;
/// This very program, even if a build has replaced its file since.
const SELF: &str = "/proc/self/exe";

/// Where a node of the chain listens and dials, and where it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct NodePlan {
    pub(super) name: String,
    /// Address of lanes; none: it only dials.
    pub(super) listen: Option<String>,
    pub(super) dial: Vec<String>,
    /// Processor of the control and API threads, and of the shard.
    pub(super) cores: (usize, usize),
}

/// A running node. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct DemoNode {
    pub(super) plan: NodePlan,
    directory: PathBuf,
    child: Child,
    /// Held open: its end is the node's end.
    leash: Option<ChildStdin>,
}

impl DemoNode {
    /// Starts a node with its directories below `parent` and does not wait for it.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(super) fn spawn(parent: &Path, plan: NodePlan) -> Result<Self, Failure> {
        let directory = parent.join(&plan.name);
        let (child, leash) = start(&directory, &plan)?;
        Ok(Self { plan, directory, child, leash })
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn target(&self) -> Target {
        Target::in_directory(&self.data_dir())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the node answers.
    ///
    /// # Errors
    /// If it ends, or does not answer in time.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let target = self.target();
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let failure = Failure::plain(format!("it ended at once: {status}"));
                return Err(self.with_log(failure));
            }
            let answers =
                async { target.mesh().await?.get_mesh_status(()).await.map_err(Failure::from) };
            match answers.await {
                Ok(_status) => return Ok(()),
                Err(failure) if Instant::now() > deadline => return Err(self.with_log(failure)),
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// Kills the node as a crash would, and waits for its end.
    ///
    /// # Errors
    /// If it was gone already.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let gone = |error| Failure::plain(format!("cannot kill node {}: {error}", self.plan.name));
        self.child.kill().map_err(gone)?;
        self.child.wait().map_err(gone)?;
        Ok(())
    }

    /// Starts the node again, with `plan`, and does not wait for it. The old process has ended.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(super) fn restart(&mut self, plan: NodePlan) -> Result<(), Failure> {
        (self.child, self.leash) = start(&self.directory, &plan)?;
        self.plan = plan;
        Ok(())
    }

    /// Asks the node to end.
    pub(super) fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end, and brings it about in the end.
    pub(super) async fn ended(&mut self) {
        let child = &mut self.child;
        let ended = poll_until(STOP_PATIENCE, || {
            let status = child.try_wait();
            async move { status.map_err(|error| Failure::plain(error.to_string())) }
        });
        if ended.await.is_err() {
            let _gone = self.kill();
        }
    }

    /// The node goes on without this process.
    ///
    /// # Errors
    /// If it cannot be told.
    pub(super) fn release(&mut self) -> Result<(), Failure> {
        let Some(leash) = &mut self.leash else { return Ok(()) };
        leash.write_all(RELEASE).map_err(|error| {
            Failure::plain(format!("cannot let node {} go on: {error}", self.plan.name))
        })?;
        self.leash = None;
        Ok(())
    }

    /// `failure`, with what the node said last.
    pub(super) fn with_log(&self, failure: Failure) -> Failure {
        let mut failure = failure.at(format!("node {}", self.plan.name));
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            failure.message.push_str("\n  ");
            failure.message.push_str(line);
        }
        failure
    }
}

impl Drop for DemoNode {
    fn drop(&mut self) {
        // A released node has no leash: it is not this process's any more.
        if self.leash.is_some() {
            let _gone = self.kill();
        }
    }
}

fn start(directory: &Path, plan: &NodePlan) -> Result<(Child, Option<ChildStdin>), Failure> {
    let failed =
        |error: std::io::Error| Failure::plain(format!("cannot start node {}: {error}", plan.name));
    fs::create_dir_all(directory).map_err(failed)?;
    let config = directory.join("hawser.toml");
    fs::write(&config, config_toml(directory, plan)).map_err(failed)?;
    let log =
        File::options().create(true).append(true).open(directory.join("log")).map_err(failed)?;
    let mut command = Command::new(SELF);
    command.arg0("hawser").args(["node", "run", "--leashed", "--config"]).arg(&config);
    command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    // The terminal's Ctrl-C is for the demo, which ends its nodes itself.
    command.process_group(0);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HAWSER_") {
            command.env_remove(variable);
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    let leash = child.stdin.take();
    Ok((child, leash))
}

fn config_toml(directory: &Path, plan: &NodePlan) -> String {
    let data_dir = directory.join("data");
    let (control, shard) = plan.cores;
    let listen = plan.listen.as_deref().unwrap_or("none");
    let text = |text: &str| toml::Value::String(text.to_owned());
    let dial: Vec<String> = plan.dial.iter().map(|address| text(address).to_string()).collect();
    format!(
        "[node]\nname = {}\ndata_dir = {}\nprofile = \"single-core\"\n\n\
         [lanes]\nlisten = {}\ndial = [{}]\n\n\
         [api]\nlisten = \"none\"\n\n\
         [cores]\ncontrol = {control}\napi = {control}\nshards = {shard}\n",
        text(&plan.name),
        text(&data_dir.to_string_lossy()),
        text(listen),
        dial.join(", "),
    )
}

/// A port of loopback that is free now.
///
/// # Errors
/// If there is none.
pub(super) fn free_address() -> Result<String, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.to_string())
        .map_err(|error| Failure::plain(format!("no free port on loopback: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::Config;
    use crate::daemon::config::settings::Settings;

    #[test]
    fn the_configuration_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let plan = NodePlan {
            name: "a".to_owned(),
            listen: None,
            dial: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            cores: (0, 1),
        };
        let path = directory.path().join("hawser.toml");
        fs::write(&path, config_toml(directory.path(), &plan)).unwrap();
        let config = Config::from_settings(Settings::load(Some(&path), []).unwrap()).unwrap();
        assert_eq!(config.listen, None);
        assert_eq!(config.dial.len(), 2);
        assert_eq!(config.data_dir, directory.path().join("data"));
    }
}
