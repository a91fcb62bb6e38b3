//! What a command says on standard output: a table for people or JSON for programs, never both.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;
use super::table::Table;

/// Form of the output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON value a line.
    Json,
}

/// Standard output of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One value: as a line of JSON, or as the text that `text` makes.
    ///
    /// # Errors
    /// [`Failure::stdout`].
    pub(crate) fn value<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json_line(value);
        }
        write_all(text().as_bytes())
    }

    /// Several values: as a JSON array, or as a table.
    ///
    /// # Errors
    /// [`Failure::stdout`].
    pub(crate) fn rows<T: Serialize>(
        self,
        rows: &[T],
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json_line(&rows);
        }
        write_all(table().to_string().as_bytes())
    }

    fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Failure::plain(format!("cannot write JSON: {error}")))?;
        line.push(b'\n');
        write_all(&line)
    }

    /// A progress bar on standard error, if that is a terminal and people read the output.
    /// `total` is in bytes; none if it is unknown.
    pub(crate) fn progress(self, total: Option<u64>, what: &'static str) -> ProgressBar {
        let shown = !self.is_json() && io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() {
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        } else {
            "{msg} {bytes} {bytes_per_sec} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar
    }
}

/// Writes and flushes, so that a reader sees whole lines as they come.
///
/// # Errors
/// [`Failure::stdout`].
pub(crate) fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
}

/// A line on standard error. One that nobody can read is lost without harm.
pub(crate) fn say(text: &str) {
    let mut line = text.to_owned();
    line.push('\n');
    let _unread = io::stderr().lock().write_all(line.as_bytes());
}

/// Bytes for people: at most four digits and a binary unit.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Microseconds for people.
pub(crate) fn micros_text(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// "1 file", "2 files".
pub(crate) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
        assert_eq!(micros_text(999), "999 µs");
        assert_eq!(micros_text(1_250), "1.2 ms");
        assert_eq!(micros_text(2_500_000), "2.5 s");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(2, "file"), "2 files");
    }
}
