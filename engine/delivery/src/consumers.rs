use std::collections::BTreeMap;

use hawser_wire::StreamOffset;
use thiserror::Error;

/// Where a consumer wants to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumerStart {
    /// Behind what it confirmed; a new one at the first message that is still there.
    Resume,
    /// At this offset.
    At(StreamOffset),
}

/// A consumer's request that cannot be met; nothing changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ConsumerError {
    /// Messages below are gone.
    #[error("messages below offset {} are gone", floor.0)]
    OutOfRange {
        /// First offset that is still here.
        floor: StreamOffset,
    },
    /// The stream has as many consumers as it may have.
    #[error("the stream has {max} consumers already")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// It confirms what it was never given.
    #[error("confirmed beyond offset {}", end.0)]
    Ahead {
        /// Behind the last message received.
        end: StreamOffset,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    /// First offset not delivered to its present subscription.
    pub(crate) cursor: StreamOffset,
    /// First offset not confirmed.
    pub(crate) confirmed: StreamOffset,
    /// It is subscribed.
    pub(crate) is_attached: bool,
}

/// The consumers of a stream at one destination, by name. Each gets every message.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    known: BTreeMap<Box<str>, Consumer>,
}

impl Consumers {
    pub(crate) fn restore(&mut self, name: &str, confirmed: StreamOffset) {
        let consumer = Consumer { cursor: confirmed, confirmed, is_attached: false };
        self.known.insert(name.into(), consumer);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Consumer> {
        self.known.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Consumer> {
        self.known.get_mut(name)
    }

    /// Begins a subscription; the offset it begins at.
    pub(crate) fn attach(
        &mut self,
        name: &str,
        start: ConsumerStart,
        floor: StreamOffset,
        max: usize,
    ) -> Result<StreamOffset, ConsumerError> {
        if let ConsumerStart::At(offset) = start
            && offset < floor
        {
            return Err(ConsumerError::OutOfRange { floor });
        }
        let count = self.known.len();
        let known = match self.known.get_mut(name) {
            Some(known) => known,
            None if count >= max => return Err(ConsumerError::TooMany { max }),
            None => {
                let confirmed = match start {
                    ConsumerStart::Resume => floor,
                    ConsumerStart::At(offset) => offset,
                };
                let fresh = Consumer { cursor: confirmed, confirmed, is_attached: false };
                self.known.entry(name.into()).or_insert(fresh)
            }
        };
        known.cursor = match start {
            ConsumerStart::Resume => known.confirmed.max(floor),
            ConsumerStart::At(offset) => offset,
        };
        known.is_attached = true;
        Ok(known.cursor)
    }

    /// A subscription ended. What it was handed and has not confirmed is still its.
    pub(crate) fn detach(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.is_attached = false;
        }
    }

    /// Somebody is subscribed.
    pub(crate) fn is_any_attached(&self) -> bool {
        self.known.values().any(|consumer| consumer.is_attached)
    }

    /// Some consumer confirmed what is below.
    pub(crate) fn confirmed_most(&self) -> StreamOffset {
        self.known.values().map(|consumer| consumer.confirmed).max().unwrap_or_default()
    }

    /// Every consumer was handed what is below, or has confirmed it; `None` without a consumer.
    pub(crate) fn handed_out(&self) -> Option<StreamOffset> {
        self.known.values().map(|consumer| consumer.cursor.max(consumer.confirmed)).min()
    }

    /// Every consumer confirmed what is below; `None` without a consumer.
    pub(crate) fn confirmed(&self) -> Option<StreamOffset> {
        self.known.values().map(|consumer| consumer.confirmed).min()
    }
}
