use std::time::Duration;

/// How a thread looks for work before it sleeps.
///
/// Waking a thread that sleeps takes 30 µs and more where the core has to be woken too; one that
/// still looks finds a message in under 1 µs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spin {
    /// How long to look after the last message of an application; zero: sleep at once.
    pub budget: Duration,
    /// Other threads of this node that move data run on the same core: a shard, fresh from its sleep,
    /// that has handed something to an API thread lets them go first.
    pub shares_core: bool,
}

impl Spin {
    /// To be called after a look that found nothing: whoever waits for this core goes first, be it of
    /// this node or not.
    pub fn relax() {
        std::thread::yield_now();
    }
}
