use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hawser_wire::MonoTime;

/// What is to happen, by time. Events of one time happen in the order in which they were scheduled.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    /// How many were ever scheduled: settles ties.
    order: u64,
    now: MonoTime,
}

#[derive(Debug)]
struct Scheduled<E> {
    at: MonoTime,
    order: u64,
    event: E,
}

impl<E> Scheduled<E> {
    const fn key(&self) -> (MonoTime, u64) {
        (self.at, self.order)
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> EventQueue<E> {
    /// Nothing is to happen, and it is `now`.
    pub(crate) fn new(now: MonoTime) -> Self {
        Self { heap: BinaryHeap::with_capacity(1024), order: 0, now }
    }

    /// The time of the last event popped.
    pub(crate) const fn now(&self) -> MonoTime {
        self.now
    }

    /// `event` is to happen at `at`; now, if that has passed.
    pub(crate) fn schedule(&mut self, at: MonoTime, event: E) {
        let at = at.max(self.now);
        self.heap.push(Reverse(Scheduled { at, order: self.order, event }));
        self.order = self.order.saturating_add(1);
    }

    /// The next event, if it happens before `end`; it becomes the present.
    pub(crate) fn pop_before(&mut self, end: MonoTime) -> Option<E> {
        if self.heap.peek().is_none_or(|Reverse(next)| next.at >= end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(next) = self.heap.pop()?;
        self.now = next.at;
        Some(next.event)
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
