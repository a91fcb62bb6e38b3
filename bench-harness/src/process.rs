//! Child processes that never outlive the harness.
//!
//! Every child is started through this program's own hidden `__exec`, which asks the kernel to
//! kill it when the harness dies, binds it to its cores, and then becomes the program. So the pid
//! is the program's, and not even a SIGKILL of the harness leaves one behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::machine;

/// This very program, even if a build has replaced its file since.
const SELF: &str = "/proc/self/exe";

/// How long a child may take to obey SIGTERM before it gets SIGKILL.
const TERMINATION_PATIENCE: Duration = Duration::from_secs(3);

/// How many bytes of a child's log an error quotes.
const LOG_TAIL_BYTES: usize = 2_000;

/// Becomes `program`, bound to `cores` (empty: any) and to the life of process `parent`.
///
/// # Errors
/// Whatever kept it from doing so; it returns in no other case.
pub(crate) fn exec(parent: u32, cores: &[usize], program: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent) {
        bail!("the parent is gone already");
    }
    machine::pin(cores)?;
    let (program, args) = program.split_first().context("no program")?;
    let error = std::process::Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// A command that runs `program` through [`exec`].
pub(crate) fn command(program: &Path, cores: &[usize]) -> Command {
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let mut command = Command::new(SELF);
    command.arg("__exec").arg("--parent").arg(std::process::id().to_string());
    if !cores.is_empty() {
        command.arg("--cores").arg(cores.join(","));
    }
    command.arg("--").arg(program);
    command.kill_on_drop(true);
    command
}

/// A command that runs this program with other arguments through [`exec`].
pub(crate) fn command_of_self(cores: &[usize]) -> Command {
    command(Path::new(SELF), cores)
}

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `command`; what it writes to its standard outputs goes to the file `log`.
    pub(crate) fn spawn_logged(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut process = Self::spawn(name, command)?;
        process.log = Some(log.to_owned());
        Ok(process)
    }

    /// Starts `command` as it is.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name: name.to_owned(), child, pid, log: None })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) const fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// # Errors
    /// If the process has ended; says how, and quotes the end of its log.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| self.name.clone())? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}{}", self.name, self.log_tail()),
        }
    }

    /// The end of the log, on lines of its own; empty if there is none.
    pub(crate) fn log_tail(&self) -> String {
        let Some(log) = self.log.as_deref().and_then(|path| fs::read(path).ok()) else {
            return String::new();
        };
        let tail = log.get(log.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        let tail = String::from_utf8_lossy(tail);
        if tail.trim().is_empty() { String::new() } else { format!("\n{}", tail.trim_end()) }
    }

    /// Asks the process to end and waits for it; kills it if it does not.
    ///
    /// # Errors
    /// If it had ended before, on its own.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.ensure_running()?;
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It can have ended since: nothing is left to do then.
            let _ = kill_process(pid, Signal::TERM);
        }
        // Past the patience, the drop kills it.
        if let Ok(status) = timeout(TERMINATION_PATIENCE, self.child.wait()).await {
            status.with_context(|| self.name.clone())?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) || self.child.start_kill().is_err() {
            return;
        }
        // A killed process ends within moments; its files can only be removed after that.
        let deadline = Instant::now() + TERMINATION_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let process = Process::spawn("sleeper", shell("exec sleep 60")).unwrap();
        let pid = process.pid();
        assert!(is_alive(pid));
        drop(process);
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn a_process_that_ended_says_how_and_why() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process =
            Process::spawn_logged("teller", shell("echo out of luck; exit 3"), &log).unwrap();
        process.child_mut().wait().await.unwrap();
        let error = process.ensure_running().unwrap_err().to_string();
        assert!(error.contains("teller ended: exit status: 3"), "{error}");
        assert!(error.ends_with("out of luck"), "{error}");
    }
}
