use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hawser_wire::MonoTime;

/// What is to happen, by time. Events of one time happen in the order in which they were scheduled.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Scheduled>>,
    /// Events by place: what the heap moves about is small, whatever an event holds.
    events: Vec<Option<E>>,
    /// Places that are free.
    free: Vec<u32>,
    /// How many were ever scheduled: settles ties.
    order: u64,
    now: MonoTime,
}

/// An event as the heap orders it, in one number that is compared without a branch: by time, then by the
/// order in which it was scheduled, which no two have in common; then its place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Scheduled(u128);

/// Enough for 67 million events at once, and with what is left of 64 bits for 270 thousand million in all.
const PLACE_BITS: u32 = 26;

impl Scheduled {
    fn new(at: MonoTime, order: u64, place: u32) -> Self {
        Self(u128::from(at.as_nanos()) << 64 | u128::from(order) << PLACE_BITS | u128::from(place))
    }

    fn at(self) -> MonoTime {
        MonoTime::from_nanos(u64::try_from(self.0 >> 64).unwrap_or(u64::MAX))
    }

    fn place(self) -> usize {
        let place = self.0 & ((1 << PLACE_BITS) - 1);
        usize::try_from(place).unwrap_or(usize::MAX)
    }
}

impl<E> EventQueue<E> {
    /// Nothing is to happen, and it is `now`.
    pub(crate) fn new(now: MonoTime) -> Self {
        let (heap, events) = (BinaryHeap::with_capacity(1024), Vec::with_capacity(1024));
        Self { heap, events, free: Vec::new(), order: 0, now }
    }

    /// The time of the last event popped.
    pub(crate) const fn now(&self) -> MonoTime {
        self.now
    }

    /// `event` is to happen at `at`; now, if that has passed.
    pub(crate) fn schedule(&mut self, at: MonoTime, event: E) {
        let at = at.max(self.now);
        let next = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let place = self.free.pop().unwrap_or(next);
        assert!(place >> PLACE_BITS == 0, "more events at once than have a place");
        let scheduled = Scheduled::new(at, self.order, place);
        match self.events.get_mut(scheduled.place()) {
            Some(slot) => *slot = Some(event),
            None => self.events.push(Some(event)),
        }
        self.heap.push(Reverse(scheduled));
        self.order = self.order.saturating_add(1);
    }

    /// The next event, if it happens before `end`; it becomes the present.
    pub(crate) fn pop_before(&mut self, end: MonoTime) -> Option<E> {
        if self.heap.peek().is_none_or(|Reverse(next)| next.at() >= end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(next) = self.heap.pop()?;
        self.now = next.at();
        self.free.push(u32::try_from(next.place()).unwrap_or(u32::MAX));
        self.events.get_mut(next.place()).and_then(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_events_and_ties_keep_their_order() {
        let at = MonoTime::from_nanos;
        let mut queue = EventQueue::new(MonoTime::ZERO);
        for (time, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b'), (9, 'z')] {
            queue.schedule(at(time), event);
        }
        let order: String = std::iter::from_fn(|| queue.pop_before(at(9))).collect();
        assert_eq!(order, "abcd");
        assert_eq!(queue.now(), at(9));
        queue.schedule(at(1), 'p');
        assert_eq!(queue.pop_before(at(10)), Some('z'), "scheduled before");
        assert_eq!(queue.pop_before(at(10)), Some('p'), "the past is now");
        assert_eq!(queue.now(), at(9));
    }
}
