use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

/// One thing that is measured, several times.
pub(crate) struct Case<'a> {
    /// What is done.
    pub(crate) name: String,
    /// Size of a message, record or write that the case is about, in bytes.
    pub(crate) bytes: usize,
    /// Units of the figures that one run gives, in order.
    pub(crate) units: &'static [&'static str],
    /// One run.
    pub(crate) run: Box<dyn FnMut() -> Result<Vec<f64>> + 'a>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        bytes: usize,
        units: &'static [&'static str],
        run: impl FnMut() -> Result<Vec<f64>> + 'a,
    ) -> Self {
        Self { name: name.into(), bytes, units, run: Box::new(run) }
    }
}

/// Runs cases and prints a row per figure.
#[derive(Debug)]
pub(crate) struct Rows {
    json: bool,
    runs: u32,
    failed: bool,
    /// Nobody reads any more (`| head`).
    closed: bool,
}

impl Rows {
    pub(crate) const fn new(json: bool, runs: u32) -> Self {
        Self { json, runs, failed: false, closed: false }
    }

    /// Runs each case once, then each again, and so on; then prints. A case that fails is named on
    /// standard error and left out; the others are measured.
    pub(crate) fn alternate(&mut self, bench: &str, cases: &mut [Case<'_>]) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut samples: Vec<Vec<Vec<f64>>> = cases.iter().map(|_| Vec::new()).collect();
        let mut failures: Vec<Option<String>> = cases.iter().map(|_| None).collect();
        for _ in 0..self.runs {
            for ((case, samples), failure) in cases.iter_mut().zip(&mut samples).zip(&mut failures)
            {
                if failure.is_none() {
                    match (case.run)() {
                        Ok(figures) => samples.push(figures),
                        Err(error) => *failure = Some(format!("{error:#}")),
                    }
                }
            }
        }
        for ((case, samples), failure) in cases.iter().zip(&samples).zip(&failures) {
            if let Some(failure) = failure {
                self.failed = true;
                writeln!(io::stderr(), "{bench} {}: {failure}", case.name)?;
                continue;
            }
            for (index, unit) in case.units.iter().enumerate() {
                let mut figures: Vec<f64> =
                    samples.iter().filter_map(|run| run.get(index)).copied().collect();
                figures.sort_by(f64::total_cmp);
                self.print(bench, case, unit, &figures)?;
            }
        }
        Ok(())
    }

    /// `figures` ascend.
    fn print(&mut self, bench: &str, case: &Case<'_>, unit: &str, figures: &[f64]) -> Result<()> {
        let (Some(&min), Some(&max)) = (figures.first(), figures.last()) else { return Ok(()) };
        let median = median(figures);
        let line = if self.json {
            json!({
                "bench": bench, "case": case.name, "bytes": case.bytes, "unit": unit,
                "median": rounded(median), "min": rounded(min), "max": rounded(max),
                "runs": figures.len(),
            })
            .to_string()
        } else {
            let (median, min, max) = (short(median), short(min), short(max));
            let Case { name, bytes, .. } = case;
            format!("{bench:<11}{name:<38}{bytes:>7} B {median:>11} {unit:<14} [{min} .. {max}]")
        };
        match writeln!(io::stdout().lock(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            result => result?,
        }
        Ok(())
    }

    /// Fails if a case did.
    #[expect(clippy::unnecessary_wraps, reason = "the last expression of main")]
    pub(crate) fn finish(self) -> Result<ExitCode> {
        Ok(if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The middle of ascending figures; of the two middle ones the mean.
fn median(figures: &[f64]) -> f64 {
    let middle = figures.len() / 2;
    let upper = figures.get(middle).copied().unwrap_or(f64::NAN);
    if figures.len() % 2 == 1 {
        return upper;
    }
    figures.get(middle.wrapping_sub(1)).map_or(upper, |lower| f64::midpoint(*lower, upper))
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// Four digits that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => format!("{figure:.2}"),
        10.0..1000.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[1.0]), 1.0);
        assert_eq!(median(&[1.0, 2.0, 30.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 30.0]), 3.0);
    }

    #[test]
    fn a_case_that_fails_leaves_the_others_their_rows() {
        let (mut good_runs, mut bad_runs) = (0, 0);
        let mut rows = Rows::new(true, 3);
        let mut cases = [
            Case::new("bad", 0, &["ns"], || {
                bad_runs += 1;
                anyhow::bail!("no such thing")
            }),
            Case::new("good", 0, &["ns"], || {
                good_runs += 1;
                Ok(vec![1.0])
            }),
        ];
        rows.alternate("test", &mut cases).unwrap();
        drop(cases);
        assert_eq!((good_runs, bad_runs, rows.failed), (3, 1, true));
    }
}
