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

    /// A count of steps on standard error, under the same conditions; how many there are is set once
    /// it is known.
    pub(crate) fn steps(self) -> ProgressBar {
        let bar = self.progress(None, "");
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(500));
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

/// Kilobits a second for people.
pub(crate) fn kbps_text(kbps: u32) -> String {
    match kbps {
        0..1000 => format!("{kbps} kbit/s"),
        1000..1_000_000 => format!("{}.{} Mbit/s", kbps / 1000, kbps % 1000 / 100),
        _ => format!("{}.{} Gbit/s", kbps / 1_000_000, kbps % 1_000_000 / 100_000),
    }
}

/// Thousandths for people.
pub(crate) fn percent_text(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Microseconds since 1970 for people: UTC as RFC 3339 writes it, to the millisecond.
pub(crate) fn time_text(unix_us: u64) -> String {
    let (seconds, millis) = (unix_us / 1_000_000, unix_us / 1000 % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of the Gregorian calendar, of a number of days since 1970 (H. Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`). Years begin in March there, so
/// that a leap day is a year's last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
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
        assert_eq!(kbps_text(999), "999 kbit/s");
        assert_eq!(kbps_text(9_680), "9.6 Mbit/s");
        assert_eq!(kbps_text(1_250_000), "1.2 Gbit/s");
        assert_eq!(percent_text(7), "0.7 %");
        assert_eq!(percent_text(1000), "100.0 %");
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time_text(seconds * 1_000_000), text);
        }
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(2, "file"), "2 files");
    }
}
