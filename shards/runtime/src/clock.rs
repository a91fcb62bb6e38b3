use std::time::Instant;

use hawser_wire::MonoTime;

/// The shard's clock: nanoseconds since it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> MonoTime {
        // One nanosecond on, so that a reading is never the origin itself, which stands for "at once".
        let nanos = self.origin.elapsed().as_nanos().saturating_add(1);
        MonoTime::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
