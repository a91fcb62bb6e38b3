//! What the scripts install.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::process::{Done, finish};

/// `scripts/install-missing` as root on a machine whose python3 ends with `code` whatever it is
/// asked, and whose apt-get says what it was asked for.
fn install_missing(code: i32, needs: &str) -> Done {
    let programs = tempfile::tempdir().unwrap();
    for (name, script) in [
        ("python3", format!("exit {code}")),
        ("apt-get", "echo \"apt-get $*\"".to_owned()),
        ("id", "echo 0".to_owned()),
    ] {
        let program = programs.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install-missing");
    finish(Command::new(script).env("PATH", path), Some(needs.as_bytes()))
}

#[test]
fn a_python_without_a_module_gets_its_package() {
    let needs = "python3 python3 scripts\npython3:ensurepip python3-venv environments\n";
    let done = install_missing(1, needs).ok();
    assert!(done.text().contains("missing: python3:ensurepip (environments)"), "{done:?}");
    let install = done.text().lines().find(|line| line.starts_with("apt-get install")).unwrap();
    assert_eq!(install.split_whitespace().last(), Some("python3-venv"), "{done:?}");
    assert!(!install.contains(" python3 "), "{done:?}");
}

#[test]
fn where_everything_is_nothing_is_installed() {
    let done = install_missing(0, "python3:ensurepip python3-venv environments\n").ok();
    assert_eq!(done.text(), "");
}
