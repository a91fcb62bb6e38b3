//! What the system refuses: io_uring, permission, room.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::process::{Node, Spec, finish, skip};

/// Becomes the command behind it, with io_uring_setup (425 on every architecture) answered EPERM,
/// as under a container's seccomp profile. Nothing else on the machine notices.
const WITHOUT_IO_URING: &str = r"
import ctypes, os, struct, sys
load, jump, ret = 0x20, 0x15, 0x06
code = [(load, 0, 0, 0), (jump, 0, 1, 425), (ret, 0, 0, 0x00050001), (ret, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
class Fprog(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
fprog = Fprog(len(code), ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0):
    sys.exit('seccomp: ' + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
";

/// Sets an io_uring up, of 8 entries; ends with the number of the system's error, which is 0 if it
/// has none.
const IO_URING: &str = r"
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
parameters = ctypes.create_string_buffer(120)
sys.exit(0 if libc.syscall(425, 8, parameters) >= 0 else ctypes.get_errno())
";

/// Whether the system lets anybody here have io_uring; if not, the test is said to be skipped.
fn io_uring_is_allowed() -> bool {
    let tried = finish(Command::new("python3").args(["-c", IO_URING]), None);
    if tried.code != 0 {
        let error = std::io::Error::from_raw_os_error(tried.code);
        skip(&format!("no io_uring here ({error})"));
    }
    tried.code == 0
}

/// `command` behind `wrapper`.
fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(variable, value),
            None => outer.env_remove(variable),
        };
    }
    outer
}

#[test]
fn without_io_uring_a_node_runs_on_epoll_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::dialling("a");
    let command = wrapped(&["python3", "-c", WITHOUT_IO_URING], &spec.command(directory.path()));
    let node = Node::start_with(directory.path(), &spec, command);
    assert_eq!(node.ready["io_driver"], "epoll", "{}", node.log());
    let log = node.log();
    let line = log.lines().find(|line| line.contains("falling back to epoll")).unwrap();
    assert!(line.contains("WARN") && line.contains("io_uring"), "{line}");
    assert_eq!(node.json(&["mesh", "status"])["io_driver"], "epoll");
    // It works.
    node.run(&["mesh", "seed", "m"]).ok();
    node.run(&["stream", "open", "s", "--to", "a"]).ok();
    node.feed(&["stream", "pub", "s"], b"hello\n").ok();
    assert_eq!(node.run(&["stream", "sub", "s", "--count", "1"]).ok().text(), "hello\n");
}

#[test]
fn a_node_that_must_have_io_uring_does_not_start_without() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec { config: "[shards]\ndriver = \"io_uring\"\n", ..Spec::dialling("a") };
    let mut command =
        wrapped(&["python3", "-c", WITHOUT_IO_URING], &spec.command(directory.path()));
    let done = finish(&mut command, None);
    done.refused(1, &["io_uring is refused", "shards.driver"]);
    if !io_uring_is_allowed() {
        return;
    }
    assert_eq!(Node::start(directory.path(), &spec).ready["io_driver"], "io_uring");
}

#[test]
fn epoll_can_be_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec { config: "[shards]\ndriver = \"epoll\"\n", ..Spec::dialling("a") };
    let node = Node::start(directory.path(), &spec);
    assert_eq!(node.ready["io_driver"], "epoll");
}

#[test]
fn a_directory_without_permission_is_named() {
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("a.toml"), "").unwrap();
    let spec = Spec::dialling("a");
    let mut command = spec.command(&locked);
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere: the node runs as somebody else, who can reach the program.
        let program = directory.path().join("hawser");
        fs::copy(env!("CARGO_BIN_EXE_hawser"), &program).unwrap();
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        open(directory.path(), 0o755);
        open(&program, 0o755);
        let mut other = Command::new(program);
        other.args(command.get_args()).env("HAWSER_CONFIG", "/dev/null");
        other.uid(NOBODY).gid(NOBODY);
        open(&locked, 0o555);
        command = other;
    } else {
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let done = finish(&mut command, None);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    done.refused(5, &[locked.to_str().unwrap(), "permission"]);
}

/// The node's command, with its data directory on a file system of its own that only this process
/// sees. `None` where there is none to be had: the test is said to be skipped.
fn on_a_small_disk(directory: &Path, spec: &Spec, size: &str) -> Option<Command> {
    let data_dir = directory.join(spec.name);
    fs::create_dir(&data_dir).unwrap();
    let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
    let wrapper =
        ["unshare", "--mount", "--map-root-user", "sh", "-c", &mount, data_dir.to_str().unwrap()];
    let tried = finish(&mut wrapped(&wrapper, &Command::new("true")), None);
    if tried.code != 0 {
        skip(&format!("no file system of its own ({})", tried.stderr.trim_end()));
        return None;
    }
    Some(wrapped(&wrapper, &spec.command(directory)))
}

#[test]
fn a_full_disk_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::dialling("a");
    let Some(mut command) = on_a_small_disk(directory.path(), &spec, "16k") else { return };
    let done = finish(&mut command, None);
    done.refused(1, &["state.redb", "no space left"]);
}

/// Who asks for what has to be stored is told why it is not. Messages go on all the while, and with room
/// everything does.
#[test]
fn a_disk_that_fills_up_under_a_node_is_named_to_who_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::dialling("a");
    let Some(command) = on_a_small_disk(directory.path(), &spec, "6m") else { return };
    let mut node = Node::start_with(directory.path(), &spec, command);
    // As the node sees it.
    let root = format!("/proc/{}/root", node.process.0.id());
    node.data_dir = Path::new(&root).join(node.data_dir.strip_prefix("/").unwrap());
    node.run(&["mesh", "seed", "m"]).ok();
    node.run(&["stream", "open", "s", "--to", "a"]).ok();
    node.feed(&["stream", "pub", "s"], b"before\n").ok();
    assert_eq!(node.run(&["stream", "sub", "s", "--count", "1"]).ok().text(), "before\n");

    let filler = node.data_dir.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let refused = (0..500).find_map(|number| {
        let done = node.run(&["stream", "open", &format!("f{number}"), "--to", "a"]);
        (done.code != 0).then_some(done)
    });
    refused.expect("never full").refused(1, &["state.redb", "no space left", "try again"]);
    node.feed(&["stream", "pub", "s"], b"meanwhile\n").ok();
    let got = node.run(&["stream", "sub", "s", "--count", "1"]).ok();
    assert_eq!(got.text(), "meanwhile\n");

    drop(file);
    fs::remove_file(filler).unwrap();
    node.run(&["stream", "open", "after", "--to", "a"]).ok();
    node.feed(&["stream", "pub", "after"], b"with room\n").ok();
    assert_eq!(node.run(&["stream", "sub", "after", "--count", "1"]).ok().text(), "with room\n");
}
