//! Which files the demo sends.

use std::path::{Path, PathBuf};

use crate::cli::failure::{Exit, Failure};
use crate::tree::{Entry, Walk};

/// Most that is sent unless a directory is named, in bytes.
const DEFAULT_BYTES_MAX: u64 = 64 << 20;

/// Files and directories below one root, in path order.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) root: PathBuf,
    pub(super) entries: Vec<Entry>,
    pub(super) warnings: Vec<String>,
}

impl Selection {
    /// All of `directory`, or at most [`DEFAULT_BYTES_MAX`] of what is at hand.
    ///
    /// # Errors
    /// If there is nothing to send.
    pub(super) fn choose(directory: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(root) = directory {
            let all = Self::of(&root, u64::MAX)?;
            return all.ok_or_else(|| none_in(&root));
        }
        let cargo = std::env::var_os("CARGO_HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
        if let Some(cache) = cargo.map(|home| home.join("registry/cache"))
            && let Ok(Some(found)) = Self::of(&cache, DEFAULT_BYTES_MAX)
        {
            return Ok(found);
        }
        let here = std::env::current_dir()
            .map_err(|error| Failure::file("read", "the current directory", &error))?;
        Self::of(&here, DEFAULT_BYTES_MAX)?.ok_or_else(|| none_in(&here))
    }

    /// The first files of `root`, together at most `bytes_max`; none if there is no file.
    fn of(root: &Path, bytes_max: u64) -> Result<Option<Self>, Failure> {
        let mut warnings = Vec::new();
        let mut walk = Walk::new(root)
            .map_err(|error| Failure::file("read directory", root.display(), &error))?;
        let (mut entries, mut bytes, mut files) = (Vec::new(), 0_u64, 0);
        while let Some(entry) = walk.next(&mut warnings) {
            if let Some(size) = entry.size {
                if bytes.saturating_add(size) > bytes_max {
                    if files > 0 {
                        break;
                    }
                    continue;
                }
                bytes += size;
                files += 1;
            }
            entries.push(entry);
        }
        let root = root.to_path_buf();
        Ok((files > 0).then_some(Self { root, entries, warnings }))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| entry.size).sum()
    }

    pub(super) fn file_count(&self) -> u64 {
        let files = self.entries.iter().filter(|entry| entry.size.is_some());
        u64::try_from(files.count()).unwrap_or(u64::MAX)
    }
}

fn none_in(root: &Path) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("no file to send in {}; name another directory with --dir", root.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_files_that_fit_are_taken() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("b")).unwrap();
        for (name, bytes) in [("a", 50), ("b/c", 4), ("b/d", 4), ("e", 4), ("f", 1)] {
            std::fs::write(root.path().join(name), vec![0; bytes]).unwrap();
        }
        let chosen = Selection::of(root.path(), 10).unwrap().unwrap();
        let names: Vec<String> = chosen.entries.iter().map(|e| e.path.to_string()).collect();
        assert_eq!(names, ["b", "b/c", "b/d"]);
        assert_eq!((chosen.bytes(), chosen.file_count()), (8, 2));
        assert_eq!(Selection::of(root.path(), u64::MAX).unwrap().unwrap().file_count(), 5);
    }

    #[test]
    fn a_directory_without_files_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("b")).unwrap();
        let refused = Selection::choose(Some(root.path().to_path_buf())).unwrap_err();
        assert_eq!(refused.exit, Exit::NotFound);
    }
}
