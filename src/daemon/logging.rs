//! The log: lines on standard error, text or JSON, each with the node's id.

use std::fmt::{self, Write};
use std::io;
use std::sync::OnceLock;

use hawser_wire::NodeId;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::cli::failure::Failure;

/// The node's id, once it is known.
static NODE: OnceLock<String> = OnceLock::new();

/// Changes the level of a log that runs.
#[derive(Debug)]
pub(crate) struct LogLevel {
    handle: Handle<Targets, Registry>,
}

/// Starts the log. `level` is a checked `log.level`.
///
/// # Errors
/// If there is a log already.
pub(crate) fn start(level: &str, json: bool) -> Result<LogLevel, Failure> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = layer().with_writer(io::stderr).event_format(NodeLine { json });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| Failure::plain(format!("cannot start the log: {error}")))?;
    Ok(LogLevel { handle })
}

impl LogLevel {
    /// From now on, `level` holds.
    pub(crate) fn set(&self, level: &str) {
        if let Err(error) = self.handle.reload(targets(level)) {
            tracing::warn!(%error, "the log level cannot be changed");
        }
    }
}

/// Every line from now on carries `node`.
pub(crate) fn set_node(node: NodeId) {
    let _known = NODE.set(node.to_string());
}

fn targets(level: &str) -> Targets {
    level.parse().unwrap_or_else(|_checked_before| Targets::new())
}

/// One event, one line.
struct NodeLine {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for NodeLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = Line {
            time: &time,
            level: metadata.level().as_str(),
            target: metadata.target(),
            node: NODE.get().map(String::as_str),
            fields: &fields,
        };
        if self.json { line.json(&mut writer) } else { line.text(&mut writer) }
    }
}

struct Line<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    node: Option<&'a str>,
    fields: &'a Fields,
}

impl Line<'_> {
    fn text(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{} {:5} ", self.time, self.level)?;
        if let Some(node) = self.node {
            write!(out, "node={node} ")?;
        }
        write!(out, "{}: {}", self.target, printable(&self.fields.message))?;
        for (name, value) in &self.fields.values {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                write!(out, " {name}={text:?}")?;
            } else {
                write!(out, " {name}={text}")?;
            }
        }
        writeln!(out)
    }

    fn json(&self, out: &mut impl Write) -> fmt::Result {
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| {
            object.insert(name.to_owned(), value);
        };
        for (name, value) in &self.fields.values {
            put(name, value.clone());
        }
        put("time", self.time.into());
        put("level", self.level.into());
        put("target", self.target.into());
        put("message", self.fields.message.clone().into());
        if let Some(node) = self.node {
            put("node", node.into());
        }
        writeln!(out, "{}", serde_json::Value::Object(object))
    }
}

/// A message stays one line, whatever a peer put into it.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, serde_json::Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.values.push((field.name(), format!("{value:?}").into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.values.push((field.name(), value.into()));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.push((field.name(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &Fields) -> (String, String) {
        let line = Line { time: "T", level: "INFO", target: "t", node: Some("n"), fields };
        let (mut text, mut json) = (String::new(), String::new());
        line.text(&mut text).unwrap();
        line.json(&mut json).unwrap();
        (text, json)
    }

    #[test]
    fn a_line_stays_a_line() {
        let fields = Fields {
            message: "up\nand\x1b[2J away".to_owned(),
            values: vec![("lanes", 2.into()), ("peer", "a b".into()), ("name", "c".into())],
        };
        let (text, json) = line(&fields);
        assert_eq!(text, "T INFO  node=n t: up\\nand\\u{1b}[2J away lanes=2 peer=\"a b\" name=c\n");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.lines().count(), 1);
        assert_eq!(value["lanes"], 2);
        assert_eq!(value["node"], "n");
        assert_eq!(value["message"], "up\nand\x1b[2J away");
    }
}
