//! Names that a peer gave. None is trusted: see [`SafePath::parse`].

use std::fmt;

use thiserror::Error;

/// Longest path, in bytes: what Linux takes.
const PATH_BYTES_MAX: usize = 4095;
/// Longest component, in bytes: what Linux file systems take.
const COMPONENT_BYTES_MAX: usize = 255;
/// Names at the top that begin like this are the receiver's own.
pub(super) const RESERVED_PREFIX: &[u8] = b".hawser-";

/// Why a name is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum PathRefusal {
    #[error("it is empty")]
    Empty,
    #[error("it is absolute")]
    Absolute,
    #[error("it has an empty component")]
    EmptyComponent,
    #[error("it has a component . or ..")]
    Dots,
    #[error("it has a NUL byte")]
    Nul,
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has a component longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
    #[error("names that begin with .hawser- are the receiver's own")]
    Reserved,
}

/// A relative path that stays below the directory that it is used in, as far as the name goes:
/// whoever opens it follows no symlink on the way.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct SafePath(Vec<u8>);

impl SafePath {
    /// # Errors
    /// [`PathRefusal`] says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PathRefusal> {
        if bytes.is_empty() {
            return Err(PathRefusal::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathRefusal::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathRefusal::Nul);
        }
        if bytes.starts_with(b"/") {
            return Err(PathRefusal::Absolute);
        }
        if bytes.starts_with(RESERVED_PREFIX) {
            return Err(PathRefusal::Reserved);
        }
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" => return Err(PathRefusal::EmptyComponent),
                b"." | b".." => return Err(PathRefusal::Dots),
                long if long.len() > COMPONENT_BYTES_MAX => {
                    return Err(PathRefusal::ComponentTooLong);
                }
                _ => {}
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its directories, outermost first, and its last component.
    pub(crate) fn split(&self) -> (impl Iterator<Item = &[u8]>, &[u8]) {
        let cut = self.0.iter().rposition(|byte| *byte == b'/');
        let (parents, leaf) = match cut {
            Some(at) => (self.0.get(..at).unwrap_or_default(), self.0.get(at + 1..)),
            None => (&[][..], Some(self.0.as_slice())),
        };
        let parents = parents.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        (parents, leaf.unwrap_or_default())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.0).fmt(f)
    }
}

/// A name for people, whatever bytes it has.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = [b'a'; 256];
        let deep = b"a/".repeat(2100);
        for (name, refusal) in [
            (&b""[..], PathRefusal::Empty),
            (b"/etc/passwd", PathRefusal::Absolute),
            (b"..", PathRefusal::Dots),
            (b"../x", PathRefusal::Dots),
            (b"a/../../x", PathRefusal::Dots),
            (b"a/..", PathRefusal::Dots),
            (b"./a", PathRefusal::Dots),
            (b"a//b", PathRefusal::EmptyComponent),
            (b"a/", PathRefusal::EmptyComponent),
            (b"a\0b", PathRefusal::Nul),
            (&long, PathRefusal::ComponentTooLong),
            (&deep, PathRefusal::TooLong),
            (b".hawser-x.part", PathRefusal::Reserved),
        ] {
            assert_eq!(SafePath::parse(name), Err(refusal), "{}", shown(name));
        }
    }

    #[test]
    fn plain_names_are_taken() {
        for name in [&b"a"[..], b"a/b/c", b"..a", b"a..", b"...", b".a/.b", b"\xff\xfe", b"a b"] {
            let path = SafePath::parse(name).unwrap();
            let (parents, leaf) = path.split();
            let mut parts: Vec<&[u8]> = parents.collect();
            parts.push(leaf);
            assert_eq!(parts.join(&b'/'), name);
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_stays_below(
            name in prop::collection::vec(prop::sample::select(b"a./\0".to_vec()), 0..12)
        ) {
            if let Ok(path) = SafePath::parse(&name) {
                let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(path.components().count() > 0);
            }
        }
    }
}
