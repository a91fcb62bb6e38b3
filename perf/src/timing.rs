use std::time::{Duration, Instant};

use anyhow::Result;

/// Nanoseconds that a call of `work` takes, measured for about `sample`.
pub(crate) fn nanos_per_call(
    sample: Duration,
    mut work: impl FnMut() -> Result<()>,
) -> Result<f64> {
    // The clock is read once per chunk, and a chunk takes a fiftieth of the sample or so.
    let mut chunk = 1_u32;
    loop {
        let begin = Instant::now();
        for _ in 0..chunk {
            work()?;
        }
        if begin.elapsed() * 50 >= sample || chunk > u32::MAX / 2 {
            break;
        }
        chunk *= 2;
    }
    let (begin, mut calls) = (Instant::now(), 0_u64);
    loop {
        for _ in 0..chunk {
            work()?;
        }
        calls += u64::from(chunk);
        let elapsed = begin.elapsed();
        if elapsed >= sample {
            return Ok(elapsed.as_nanos() as f64 / calls as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_millisecond_is_about_a_million_nanoseconds() {
        let nanos = nanos_per_call(Duration::from_millis(20), || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            Ok(())
        })
        .unwrap();
        // Never less; on a busy machine a good deal more.
        assert!(nanos >= 1e6, "{nanos}");
    }
}
