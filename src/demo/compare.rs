//! Compares the files at both ends.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use crate::cli::failure::Failure;
use crate::tree::{Entry, SafePath, list};

/// Reads every file at both ends and names those that differ, are missing, or were never sent.
///
/// # Errors
/// If what was received cannot be listed.
pub(super) fn compare(
    sent: &Path,
    received: &Path,
    entries: &[Entry],
) -> Result<Vec<String>, Failure> {
    let mut differences = Vec::new();
    let path_in = |root: &Path, entry: &Entry| root.join(OsStr::from_bytes(entry.path.as_bytes()));
    for entry in entries.iter().filter(|entry| entry.size.is_some()) {
        let here = sha256(&path_in(sent, entry));
        let there = sha256(&path_in(received, entry));
        match (here, there) {
            (Ok(here), Ok(there)) if here == there => {}
            (Ok(_), Ok(_)) => differences.push(format!("{}: SHA-256 differs", entry.path)),
            (Err(error), _) | (_, Err(error)) => {
                differences.push(format!("{}: {error}", entry.path));
            }
        }
    }
    let there = list(received, &mut differences)
        .map_err(|error| Failure::file("read directory", received.display(), &error))?;
    let sent: BTreeSet<&SafePath> = entries.iter().map(|entry| &entry.path).collect();
    for entry in there {
        if !sent.contains(&entry.path) {
            differences.push(format!("{}: nobody sent it", entry.path));
        }
    }
    Ok(differences)
}

fn sha256(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hash.finish().as_ref().to_vec());
        }
        hash.update(piece.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let (sent, received) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, here, there) in
            [("same", "1", Some("1")), ("other", "1", Some("2")), ("missing", "1", None)]
        {
            std::fs::write(sent.path().join(name), here).unwrap();
            if let Some(there) = there {
                std::fs::write(received.path().join(name), there).unwrap();
            }
        }
        std::fs::write(received.path().join("extra"), "").unwrap();
        let entries = list(sent.path(), &mut Vec::new()).unwrap();
        let differences = compare(sent.path(), received.path(), &entries).unwrap();
        let named = |name: &str| differences.iter().any(|d| d.starts_with(name));
        assert_eq!(differences.len(), 3, "{differences:?}");
        assert!(named("other") && named("missing") && named("extra"));
    }
}
