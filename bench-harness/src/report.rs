//! What goes to standard output: one JSON line a row, or a table to read.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Label and text of each line of a table.
pub(crate) type Rows = Vec<(&'static str, String)>;

/// One result.
pub(crate) trait Report: Serialize {
    /// Something of ours was lost or came twice.
    fn has_loss(&self) -> bool;
    /// The result to read.
    fn rows(&self) -> Rows;
}

/// Prints `report` on standard output.
///
/// # Errors
/// If nobody reads it.
pub(crate) fn print(report: &impl Report, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string(report)? + "\n"
    } else {
        let rows = report.rows();
        let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        rows.iter().map(|(label, text)| format!("{label:width$}  {text}\n")).collect::<String>()
            + "\n"
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// Says on standard error what is being done, if somebody watches.
pub(crate) fn progress(text: &str) {
    let mut to = io::stderr().lock();
    if to.is_terminal() {
        // Nobody is worse off if it cannot be said.
        let _ = writeln!(to, "{text}");
    }
}

/// `value` to so many decimals, so that rows carry no digits without meaning.
pub(crate) fn decimals(value: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (value * scale).round() / scale
}
