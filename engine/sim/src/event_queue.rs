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

/// By time, then by the order in which they were scheduled, which no two have in common.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Scheduled {
    at: MonoTime,
    order: u64,
    place: u32,
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
        match self.events.get_mut(index(place)) {
            Some(slot) => *slot = Some(event),
            None => self.events.push(Some(event)),
        }
        self.heap.push(Reverse(Scheduled { at, order: self.order, place }));
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
        self.free.push(next.place);
        self.events.get_mut(index(next.place)).and_then(Option::take)
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
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
