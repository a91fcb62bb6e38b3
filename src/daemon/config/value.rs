//! One configuration value, parsed by the form that its key has.

use std::fmt;

use hawser_wire::NodeId;
use toml::de::DeValue;

use super::key::Kind;

/// A parsed value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Texts(Vec<String>),
    Processors(Vec<usize>),
}

/// Processors that the kernel can name.
const PROCESSOR_MAX: u64 = 1023;

impl Value {
    /// From an environment variable or a command line: lists are separated by commas, with or
    /// without brackets.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn from_text(kind: Kind, text: &str) -> Result<Self, String> {
        let list = || {
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
            inner
                .split(',')
                .map(|item| item.trim().trim_matches('"'))
                .filter(|item| !item.is_empty())
        };
        let value = match kind {
            Kind::Flag => match text {
                "true" | "1" | "yes" | "on" => Self::Flag(true),
                "false" | "0" | "no" | "off" => Self::Flag(false),
                _ => return Err(expected(kind, &format!("{text:?}"))),
            },
            Kind::Number { .. } => {
                let number = text.parse::<u64>();
                Self::Number(number.map_err(|_parse| expected(kind, &format!("{text:?}")))?)
            }
            Kind::Processors => Self::Processors(
                list()
                    .map(|item| item.parse().map_err(|_parse| expected(kind, &format!("{item:?}"))))
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Addresses | Kind::Nodes => Self::Texts(list().map(str::to_owned).collect()),
            _ => Self::Text(text.to_owned()),
        };
        value.check(kind)
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn from_toml(kind: Kind, value: &DeValue<'_>) -> Result<Self, String> {
        let wrong =
            |value: &DeValue<'_>| expected(kind, &format!("a value of type {}", value.type_str()));
        let number = |value: &DeValue<'_>| {
            let integer = value.as_integer().ok_or_else(|| wrong(value))?;
            u64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_parse| expected(kind, integer.as_str()))
        };
        let text =
            |value: &DeValue<'_>| value.as_str().map(str::to_owned).ok_or_else(|| wrong(value));
        let parsed = match (kind, value) {
            (Kind::Flag, value) => Self::Flag(value.as_bool().ok_or_else(|| wrong(value))?),
            (Kind::Number { .. }, value) => Self::Number(number(value)?),
            (Kind::Addresses | Kind::Nodes, DeValue::Array(items)) => Self::Texts(
                items.iter().map(|item| text(item.get_ref())).collect::<Result<_, _>>()?,
            ),
            (Kind::Addresses | Kind::Nodes, value) => Self::Texts(vec![text(value)?]),
            (Kind::Processors, DeValue::Array(items)) => Self::Processors(
                items
                    .iter()
                    .map(|item| number(item.get_ref()).and_then(|n| processor(kind, n)))
                    .collect::<Result<_, _>>()?,
            ),
            (Kind::Processors, value) => {
                Self::Processors(vec![number(value).and_then(|n| processor(kind, n))?])
            }
            (_, value) => Self::Text(text(value)?),
        };
        parsed.check(kind)
    }

    fn check(self, kind: Kind) -> Result<Self, String> {
        let fits = match (&self, kind) {
            (Self::Number(number), Kind::Number { min, max }) => (min..=max).contains(number),
            (Self::Text(text), Kind::Name) => hawser_identity::check_node_name(text).is_ok(),
            (Self::Text(text), Kind::Node) => text.parse::<NodeId>().is_ok(),
            (Self::Text(text), Kind::Address) => is_address(text),
            (Self::Text(text), Kind::AddressOrNone) => text == "none" || is_address(text),
            (Self::Text(text), Kind::Choice(words)) => words.contains(&text.as_str()),
            (Self::Text(text), Kind::LogLevel) => is_log_level(text),
            (Self::Text(text), Kind::Weights) => super::weights::parse(text).is_some(),
            (Self::Text(text), Kind::Text) => !text.is_empty() && !text.contains('\0'),
            (Self::Texts(texts), Kind::Addresses) => texts.iter().all(|text| is_address(text)),
            (Self::Texts(texts), Kind::Nodes) => {
                texts.iter().all(|text| text.parse::<NodeId>().is_ok())
            }
            (Self::Processors(list), Kind::Processors) => {
                let mut seen = list.clone();
                seen.sort_unstable();
                seen.dedup();
                !list.is_empty()
                    && seen.len() == list.len()
                    && list.iter().all(|cpu| *cpu as u64 <= PROCESSOR_MAX)
            }
            (Self::Flag(_), Kind::Flag) => true,
            _ => false,
        };
        if fits { Ok(self) } else { Err(expected(kind, &self.to_string())) }
    }
}

fn processor(kind: Kind, number: u64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_range| expected(kind, &number.to_string()))
}

fn expected(kind: Kind, found: &str) -> String {
    let wanted = match kind {
        Kind::Text => "a text that is not empty".to_owned(),
        Kind::Name => "a name of 1 to 64 bytes of letters, digits, . _ - that begins with a letter or digit and \
                       is no node id"
            .to_owned(),
        Kind::Address => "host:port".to_owned(),
        Kind::AddressOrNone => "host:port or none".to_owned(),
        Kind::Addresses => "a list of host:port".to_owned(),
        Kind::Nodes => "a list of node ids".to_owned(),
        Kind::Node => "a node id".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Processors => {
            format!("a processor or a list of different ones, each from 0 to {PROCESSOR_MAX}")
        }
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Weights => "latency, bandwidth, loss, utilization, hop, each at most once with a weight from 0 to \
                          1000, that of hop to 1e9, and one but utilization above 0, as in latency=1,hop=50"
            .to_owned(),
        Kind::LogLevel => "error, warn, info, debug, trace, or target=level with commas".to_owned(),
    };
    format!("expected {wanted}; found {found}")
}

/// Levels in the form that tracing's `Targets` takes, which itself takes anything.
fn is_log_level(text: &str) -> bool {
    text.split(',').all(|directive| {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("all", directive));
        !target.is_empty()
            && !target.contains(|c: char| c == '=' || c.is_whitespace())
            && matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "off")
    })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty()
            && !bare_v6
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
            && port.parse::<u16>().is_ok()
    })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Texts(texts) => write!(f, "{texts:?}"),
            Self::Processors(list) => write!(f, "{list:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "gaytemzugu3doobzmfrggzdfmy";

    #[test]
    fn texts_are_parsed_by_kind() {
        let number = Kind::Number { min: 1, max: 9 };
        for (kind, text, value) in [
            (Kind::Flag, "true", Value::Flag(true)),
            (number, "9", Value::Number(9)),
            (Kind::Processors, "[3, 1]", Value::Processors(vec![3, 1])),
            (Kind::Processors, "3", Value::Processors(vec![3])),
            (Kind::Addresses, "a:1, [::1]:2", Value::Texts(vec!["a:1".into(), "[::1]:2".into()])),
            (Kind::Addresses, "", Value::Texts(vec![])),
            (Kind::Nodes, "", Value::Texts(vec![])),
            (Kind::Nodes, NODE, Value::Texts(vec![NODE.into()])),
            (Kind::AddressOrNone, "none", Value::Text("none".into())),
            (
                Kind::LogLevel,
                "info,hawser_plane=debug",
                Value::Text("info,hawser_plane=debug".into()),
            ),
        ] {
            assert_eq!(Value::from_text(kind, text), Ok(value), "{text}");
        }
    }

    #[test]
    fn wrong_texts_are_refused() {
        for (kind, text) in [
            (Kind::Flag, "maybe"),
            (Kind::Number { min: 1, max: 9 }, "0"),
            (Kind::Number { min: 1, max: 9 }, "-1"),
            (Kind::Processors, "1,1"),
            (Kind::Processors, ""),
            (Kind::Processors, "4096"),
            (Kind::Address, "none"),
            (Kind::Address, "host"),
            (Kind::Address, "::1:80"),
            (Kind::Address, "host:70000"),
            (Kind::Nodes, "node-a"),
            (Kind::Name, "two words"),
            (Kind::Name, ""),
            (Kind::Choice(&["a", "b"]), "c"),
            (Kind::LogLevel, "=,=,"),
            (Kind::LogLevel, "loud"),
            (Kind::LogLevel, ""),
        ] {
            let refused = Value::from_text(kind, text);
            assert!(refused.is_err(), "{kind:?} {text:?} became {refused:?}");
        }
    }
}
