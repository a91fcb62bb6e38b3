//! What file, environment and command line say, key by key, before it becomes a [`Config`].
//!
//! [`Config`]: super::Config

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{KEYS, Key};
use super::peers::{self, Peers};
use super::value::Value;
use crate::cli::failure::{Exit, Failure};

/// Where a value comes from; a later one of this order overrides an earlier one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::CommandLine(flag) => f.write_str(flag),
        }
    }
}

/// Values by key. Keys without an entry have their default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
    /// What files say of single neighbours.
    pub(crate) peers: Peers,
    problems: Vec<String>,
}

impl Settings {
    /// Reads `file`, if one is given, then lets `environment` override it. Problems are collected,
    /// so that all of them can be told at once: see [`Self::finish`].
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Failure> {
        let mut settings = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let failure = Failure::file("read configuration", path.display(), &error);
                Failure::new(Exit::Config, failure.message)
            })?;
            settings.read_toml(path, &text);
        }
        for (variable, value) in environment {
            settings.read_variable(&variable, value);
        }
        Ok(settings)
    }

    pub(super) fn read_toml(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            Origin::File {
                path: path.to_path_buf(),
                line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            }
        };
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let origin = at(error.span().map_or(0, |span| span.start));
                self.problems.push(format!("{origin}: {}", error.message()));
                return;
            }
        };
        for (section, body) in document.get_ref() {
            match body.get_ref() {
                DeValue::Table(body)
                    if KEYS.iter().any(|key| {
                        key.name
                            .split_once('.')
                            .is_some_and(|(known, _)| known == section.get_ref())
                    }) =>
                {
                    for (leaf, value) in body {
                        if (section.get_ref().as_ref(), leaf.get_ref().as_ref()) == peers::SECTION {
                            self.peers.read(value, &at, &mut self.problems);
                            continue;
                        }
                        self.read_entry(section.get_ref(), leaf, value, &at);
                    }
                }
                DeValue::Table(body) if !body.is_empty() => {
                    for (leaf, _) in body {
                        let name = format!("{}.{}", section.get_ref(), leaf.get_ref());
                        self.unknown(&at(leaf.span().start), &name, &name);
                    }
                }
                _ => {
                    let name = section.get_ref();
                    self.unknown(&at(section.span().start), name, name);
                }
            }
        }
    }

    fn read_entry(
        &mut self,
        section: &str,
        leaf: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        at: &dyn Fn(usize) -> Origin,
    ) {
        let name = format!("{section}.{}", leaf.get_ref());
        let origin = at(leaf.span().start);
        match Key::find(&name) {
            None => self.unknown(&origin, &name, &name),
            Some(key) => self.take(key, Value::from_toml(key.kind, value.get_ref()), origin),
        }
    }

    /// Variables without two underscores are none of ours.
    fn read_variable(&mut self, variable: &OsString, value: OsString) {
        let Some(variable) = variable.to_str() else { return };
        let Some((section, leaf)) =
            variable.strip_prefix("HAWSER_").and_then(|name| name.split_once("__"))
        else {
            return;
        };
        let name = format!("{section}.{leaf}").to_ascii_lowercase();
        let origin = Origin::Environment(variable.to_owned());
        let Some(key) = Key::find(&name) else {
            return self.unknown(&origin, variable, &name);
        };
        match value.into_string() {
            Ok(text) => self.take(key, Value::from_text(key.kind, &text), origin),
            Err(_bytes) => self.problems.push(format!("{origin}: {name}: not UTF-8")),
        }
    }

    /// A flag of the command line, which overrides everything.
    pub(crate) fn set(&mut self, flag: &'static str, name: &str, text: &str) {
        if let Some(key) = Key::find(name) {
            self.take(key, Value::from_text(key.kind, text), Origin::CommandLine(flag));
        }
    }

    fn take(&mut self, key: &'static Key, value: Result<Value, String>, origin: Origin) {
        match value {
            Ok(value) => {
                self.values.insert(key.name, (value, origin));
            }
            Err(wrong) => self.problems.push(format!("{origin}: {}: {wrong}", key.name)),
        }
    }

    fn unknown(&mut self, origin: &Origin, written: &str, name: &str) {
        let hint = match (origin, Key::nearest(name)) {
            (_, None) => "`hawser config keys` lists all".to_owned(),
            (Origin::Environment(_), Some(near)) => {
                let variable = Key::find(near).map(Key::variable).unwrap_or_default();
                format!("did you mean {variable}?")
            }
            (_, Some(near)) => format!("did you mean {near}?"),
        };
        self.problems.push(match origin {
            Origin::Environment(_) => format!("{written}: unknown configuration key; {hint}"),
            _ => format!("{origin}: unknown configuration key {written}; {hint}"),
        });
    }

    /// The settings, if nothing was wrong.
    ///
    /// # Errors
    /// All that was wrong, a line each.
    pub(crate) fn finish(self) -> Result<Self, Failure> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        Err(Failure::config(self.problems.join("\n")))
    }

    /// The value of `name` and where it comes from; none if it is unset.
    pub(crate) fn value(&self, name: &str) -> (Option<Value>, Origin) {
        match self.values.get(name) {
            Some((value, origin)) => (Some(value.clone()), origin.clone()),
            None => (Key::find(name).and_then(Key::default_value), Origin::Default),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.value(name).0 {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.value(name).0 {
            Some(Value::Texts(texts)) => texts,
            _ => Vec::new(),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.value(name).0, Some(Value::Flag(true)))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        match self.value(name).0 {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn processors(&self, name: &str) -> Option<Vec<usize>> {
        match self.value(name).0 {
            Some(Value::Processors(list)) => Some(list),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.read_toml(Path::new("h.toml"), toml);
        for (variable, value) in environment {
            settings.read_variable(&variable.into(), value.into());
        }
        settings.finish().map_err(|failure| failure.message)
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_command_line_both() {
        let toml = "[lanes]\nlisten = \"127.0.0.1:1\"\ncollapsed = true\n[cores]\nshards = [2, 3]\ncontrol = 0\n";
        let mut settings =
            load(toml, &[("HAWSER_LANES__LISTEN", "none"), ("HAWSER_DATA_DIR", "x")]).unwrap();
        assert_eq!(settings.text("lanes.listen").as_deref(), Some("none"));
        assert_eq!(settings.value("lanes.listen").1.to_string(), "HAWSER_LANES__LISTEN");
        assert!(settings.flag("lanes.collapsed"));
        assert_eq!(settings.value("lanes.collapsed").1.to_string(), "h.toml:3");
        assert_eq!(settings.processors("cores.shards"), Some(vec![2, 3]));
        assert_eq!(settings.processors("cores.control"), Some(vec![0]));
        assert_eq!(settings.number("admission.handshakes_max"), Some(64));
        assert_eq!(settings.number("shards.spin_us"), None);
        settings.set("--listen", "lanes.listen", "127.0.0.1:9");
        assert_eq!(settings.text("lanes.listen").as_deref(), Some("127.0.0.1:9"));
    }

    #[test]
    fn unknown_keys_are_errors_with_file_line_and_nearest_name() {
        for (toml, message) in [
            (
                "[lanes]\n\nlisen = \"x\"\n",
                "h.toml:3: unknown configuration key lanes.lisen; did you mean lanes.listen?",
            ),
            (
                "[lane]\nlisten = \"none\"\n",
                "h.toml:2: unknown configuration key lane.listen; did you mean lanes.listen?",
            ),
            (
                "qqqqqqqq = 1\n",
                "h.toml:1: unknown configuration key qqqqqqqq; `hawser config keys` lists all",
            ),
            (
                "listen = 1\n",
                "h.toml:1: unknown configuration key listen; did you mean api.listen?",
            ),
        ] {
            assert_eq!(load(toml, &[]).unwrap_err(), message);
        }
        assert_eq!(
            load("", &[("HAWSER_LANES__LISTN", "none")]).unwrap_err(),
            "HAWSER_LANES__LISTN: unknown configuration key; did you mean HAWSER_LANES__LISTEN?"
        );
    }

    #[test]
    fn all_problems_are_told() {
        let toml = "[lanes]\ncollapsed = 1\n[admission]\nhandshakes_max = 0\n";
        assert_eq!(
            load(toml, &[("HAWSER_LOG__FORMAT", "xml")]).unwrap_err(),
            "h.toml:4: admission.handshakes_max: expected a whole number from 1 to 65536; found 0\n\
             h.toml:2: lanes.collapsed: expected true or false; found a value of type integer\n\
             HAWSER_LOG__FORMAT: log.format: expected one of text, json; found \"xml\""
        );
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let message = load("[lanes]\nlisten = \n", &[]).unwrap_err();
        assert!(message.starts_with("h.toml:2: "), "{message}");
    }
}
