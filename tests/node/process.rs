//! Runs `hawser`: nodes in the background, commands in the foreground.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that should take moments: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports of nodes are below those of `net.ipv4.ip_local_port_range`, which begins at 32,768.
const PORTS: u16 = 12_000;

/// So much of a node's log is shown when its test fails.
const LOG_SHOWN_BYTES: usize = 16 << 10;

/// A command line of the program under test, without this process's own `HAWSER_` variables.
pub(crate) fn hawser() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HAWSER_") {
            command.env_remove(variable);
        }
    }
    // No file of this machine's own is to be read.
    command.env("HAWSER_CONFIG", "/dev/null");
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The only line of standard output, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the command worked.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Fails the test unless the command failed with `code` and said all of `words`.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// Runs a command to its end; one that does not end is killed and fails the test.
pub(crate) fn finish(command: &mut Command, input: Option<&[u8]>) -> Done {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Guarded(command.spawn().unwrap());
    let child = &mut process.0;
    let writer = child.stdin.take().zip(input.map(<[u8]>::to_vec)).map(|(mut stdin, input)| {
        std::thread::spawn(move || {
            // A command that has failed reads no more.
            let _broken = stdin.write_all(&input);
        })
    });
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let shown = format!("the end of {command:?}");
    let status = wait_for(&shown, || process.0.try_wait().unwrap());
    if let Some(writer) = writer {
        writer.join().unwrap();
    }
    Done {
        code: status.code().unwrap_or(-1),
        stdout: stdout.join().unwrap(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
    }
}

/// Reads a pipe to its end, beside whatever else happens.
fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Runs a command without input.
pub(crate) fn run(arguments: &[&str]) -> Done {
    finish(hawser().args(arguments), None)
}

/// Says that a test does not run here, and why: on standard error, and in the file that
/// `HAWSER_TEST_SKIPPED` names, as runners show nothing of tests that pass.
pub(crate) fn skip(why: &str) {
    let current = std::thread::current();
    let line = format!("SKIPPED: {}: {why}\n", current.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("HAWSER_TEST_SKIPPED") {
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Asks until there is an answer, and fails the test if there is none for too long.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port of loopback that is free, and stays so until it is used: none of those that the kernel
/// hands out by itself, to connections or to whoever asks for any port.
pub(crate) fn free_address() -> String {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    wait_for("a free port", || {
        let next = (first + TRIED.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000 + next)).ok()?;
        Some(listener.local_addr().unwrap().to_string())
    })
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, once the process has ended by itself.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait_for("the end of a process", || self.0.try_wait().unwrap()).code()
    }

    /// Everything that is left on standard output, once the process has ended by itself.
    pub(crate) fn output(&mut self) -> (Option<i32>, Vec<u8>) {
        let stdout = drain(self.0.stdout.take());
        let code = self.wait();
        (code, stdout.join().unwrap())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) listen: String,
    /// Further lines of the configuration file.
    pub(crate) config: &'static str,
}

impl Spec {
    pub(crate) fn dialling(name: &'static str) -> Self {
        Self { name, listen: "none".to_owned(), config: "" }
    }

    pub(crate) fn listening(name: &'static str) -> Self {
        Self { listen: free_address(), ..Self::dialling(name) }
    }

    /// The command that runs the node with its state below `directory`.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        let config = directory.join(format!("{}.toml", self.name));
        fs::write(&config, self.config).unwrap();
        let mut command = hawser();
        command.args(["node", "run", "--name", self.name, "--listen", &self.listen, "--json"]);
        command.args(["--api-listen", "none", "--config"]).arg(config);
        command.arg("--data-dir").arg(directory.join(self.name));
        command
    }

    /// Runs a node that is not to start, to its end.
    pub(crate) fn fails(&self, directory: &Path) -> Done {
        finish(&mut self.command(directory), None)
    }
}

/// A node that serves.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Guarded,
    pub(crate) data_dir: PathBuf,
    /// What it said when it was ready.
    pub(crate) ready: Value,
    /// While it is open, the node lives: a test that dies takes its nodes with it.
    pub(crate) leash: Option<ChildStdin>,
    log: PathBuf,
}

impl Node {
    /// Starts a node with its state below `directory` and waits until it says that it is ready.
    pub(crate) fn start(directory: &Path, spec: &Spec) -> Self {
        Self::start_with(directory, spec, spec.command(directory))
    }

    pub(crate) fn start_with(directory: &Path, spec: &Spec, mut command: Command) -> Self {
        let log = directory.join(format!("{}.log", spec.name));
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.arg("--leashed").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().unwrap();
        let leash = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let process = Guarded(child);
        let (said, hears) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _read = stdout.read_line(&mut line);
            let _gone = said.send(line);
            // What it says later must not end it.
            let _read = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = hears.recv_timeout(PATIENCE).unwrap_or_default();
        let log_text = || fs::read_to_string(&log).unwrap_or_default();
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", log_text()));
        Self { process, data_dir: directory.join(spec.name), ready, leash, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// A command for this node.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hawser();
        command.args(arguments).arg("--data-dir").arg(&self.data_dir);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        finish(&mut self.command(arguments), None)
    }

    /// Runs a command with this input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Done {
        finish(&mut self.command(arguments), Some(input))
    }

    /// Starts a command that goes on; its standard output is a pipe.
    pub(crate) fn spawn(&self, arguments: &[&str], stdin: Stdio) -> Guarded {
        let mut command = self.command(arguments);
        Guarded(command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        self.run(&arguments).ok().json()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// One of this node's streams, in this role.
    pub(crate) fn stream(&self, name: &str, role: &str) -> Option<Value> {
        let streams = self.json(&["stream", "ls"]);
        let streams = streams.as_array().unwrap();
        streams.iter().find(|s| s["name"] == name && s["role"] == role).cloned()
    }
}

/// A test that fails shows what its nodes were at.
impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut shown = format!("\n== {}\n", self.data_dir.display());
        for question in [
            ["mesh", "status"],
            ["stream", "ls"],
            ["link", "ls"],
            ["lane", "ls"],
            ["lane", "events"],
        ] {
            let inner = self.command(&question);
            let mut command = Command::new("timeout");
            command.arg("5").arg(inner.get_program()).args(inner.get_args());
            let answer = command.output().map(|done| done.stdout).unwrap_or_default();
            shown.push_str(&format!("-- {question:?}\n{}", String::from_utf8_lossy(&answer)));
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_SHOWN_BYTES);
        shown.push_str("-- log\n");
        shown.push_str(log.get(log.ceil_char_boundary(from)..).unwrap_or_default());
        let _written = std::io::stderr().write_all(shown.as_bytes());
    }
}

/// Three nodes; the ends only dial the middle.
#[derive(Debug)]
pub(crate) struct Mesh {
    // In this order: processes end before their directory goes.
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) c: Node,
    pub(crate) directory: TempDir,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start = |spec| Node::start(directory.path(), &spec);
        let (a, b, c) =
            (start(Spec::dialling("a")), start(Spec::listening("b")), start(Spec::dialling("c")));
        b.run(&["mesh", "seed", "test"]).ok();
        for node in [&a, &c] {
            let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
            node.run(&["mesh", "join", &token]).ok();
        }
        let mesh = Self { a, b, c, directory };
        mesh.wait_until_whole();
        mesh
    }

    /// Waits until the ends have a path to each other.
    pub(crate) fn wait_until_whole(&self) {
        for (node, other) in [(&self.a, "c"), (&self.c, "a")] {
            wait_for("a path between the ends", || {
                let status = node.json(&["mesh", "status"]);
                let nodes = status["nodes"].as_array().unwrap().clone();
                nodes.into_iter().find(|n| n["name"] == other && n["hops"] == 2)
            });
        }
    }

    /// Opens a stream from one end to the other.
    pub(crate) fn open(&self, name: &str) {
        let opened = self.a.json(&["stream", "open", name, "--to", "c"]);
        assert_eq!(opened["pending_dst_nodes"].as_array().unwrap().len(), 0, "{opened}");
    }
}
