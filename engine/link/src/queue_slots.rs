use std::collections::{BTreeMap, VecDeque};

/// So many that hold nothing keep their name and their memory.
pub(crate) const IDLE_MAX: usize = 256;

/// Queues by the name of whoever has something in them.
///
/// Any number of them, each in a slot that is filled again: one that empties is *idle*, and still there for
/// its owner; of those that have been idle for long the slot goes to whoever comes next. So owners that
/// come and go cost no memory each time, and most of them no look-up.
///
/// Names are the peer's choice: a tree, in which no choice of them makes a long way.
///
/// **Invariant:** slots are at most as many as were ever in use at once and [`IDLE_MAX`] more.
#[derive(Debug)]
pub(crate) struct QueueSlots<K, Q> {
    slots: Vec<Slot<K, Q>>,
    by_name: BTreeMap<K, usize>,
    /// Most often the one that was taken last is asked for.
    last: usize,
    used: usize,
    /// Those that became idle, oldest first, and when: one that was used again since is not at that place.
    idle: VecDeque<(usize, u64)>,
    /// How often one became idle.
    releases: u64,
    /// Without a name.
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot<K, Q> {
    name: Option<K>,
    is_used: bool,
    /// When it became idle; 0 while it is not.
    idle_since: u64,
    queue: Q,
}

impl<K, Q> Default for QueueSlots<K, Q> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            by_name: BTreeMap::new(),
            last: 0,
            used: 0,
            idle: VecDeque::new(),
            releases: 0,
            free: Vec::new(),
        }
    }
}

impl<K: Copy + Ord, Q: Default> QueueSlots<K, Q> {
    /// Queues that hold something.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Q> {
        self.slots.get(at).map(|slot| &slot.queue)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Q> {
        self.slots.get_mut(at).map(|slot| &mut slot.queue)
    }

    /// The queue of this name that holds something.
    pub(crate) fn find(&self, name: K) -> Option<usize> {
        let at = self.named(name)?;
        self.slots.get(at).is_some_and(|slot| slot.is_used).then_some(at)
    }

    /// As [`Self::find`], for who may be asked for again.
    pub(crate) fn seek(&mut self, name: K) -> Option<usize> {
        let at = self.find(name)?;
        self.last = at;
        Some(at)
    }

    fn named(&self, name: K) -> Option<usize> {
        let is_last = self.slots.get(self.last).is_some_and(|slot| slot.name == Some(name));
        if is_last { Some(self.last) } else { self.by_name.get(&name).copied() }
    }

    /// The queue of this name, which is to hold something until it is [given back](Self::release).
    pub(crate) fn take(&mut self, name: K) -> usize {
        let at = self.named(name).unwrap_or_else(|| self.enter(name));
        self.last = at;
        if let Some(slot) = self.slots.get_mut(at)
            && !std::mem::replace(&mut slot.is_used, true)
        {
            slot.idle_since = 0;
            self.used = self.used.saturating_add(1);
        }
        at
    }

    fn enter(&mut self, name: K) -> usize {
        let at = self.free.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            let (is_used, idle_since, queue) = (false, 0, Q::default());
            self.slots.push(Slot { name: None, is_used, idle_since, queue });
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.name = Some(name);
        }
        self.by_name.insert(name, at);
        at
    }

    /// The queue holds nothing any more.
    pub(crate) fn release(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if std::mem::replace(&mut slot.is_used, false) {
            self.used = self.used.saturating_sub(1);
            self.releases = self.releases.saturating_add(1);
            slot.idle_since = self.releases;
            self.idle.push_back((at, self.releases));
        }
        if self.used == 0 && self.slots.len() > IDLE_MAX.saturating_mul(2) {
            // After a rush nothing of it is kept.
            *self = Self::default();
            return;
        }
        if self.idle.len() > IDLE_MAX.saturating_mul(4) {
            let slots = &self.slots;
            let is_idle = |at: usize, since| slots.get(at).is_some_and(|s| s.idle_since == since);
            self.idle.retain(|&(at, since)| is_idle(at, since));
        }
        while self.by_name.len().saturating_sub(self.used) > IDLE_MAX && !self.idle.is_empty() {
            self.forget_oldest();
        }
    }

    /// The slot that became idle first is for another name, if it has been idle since.
    fn forget_oldest(&mut self) {
        let Some((at, since)) = self.idle.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.idle_since == since) else {
            return;
        };
        slot.idle_since = 0;
        slot.queue = Q::default();
        if let Some(name) = slot.name.take() {
            self.by_name.remove(&name);
        }
        self.free.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Slots = QueueSlots<u64, Vec<u8>>;

    #[test]
    fn who_comes_back_finds_its_queue() {
        let mut slots = Slots::default();
        let one = slots.take(1);
        slots.get_mut(one).unwrap().push(7);
        assert_eq!((slots.find(1), slots.find(2), slots.used()), (Some(one), None, 1));
        let two = slots.take(2);
        assert_ne!(one, two);
        slots.release(one);
        assert_eq!((slots.find(1), slots.find(2), slots.used()), (None, Some(two), 1));
        assert_eq!(slots.take(1), one);
        assert_eq!(slots.get(one), Some(&vec![7]), "with what it had");
    }

    #[test]
    fn who_comes_once_leaves_nothing() {
        let mut slots = Slots::default();
        let stays = slots.take(0);
        for name in 1..100_000 {
            let at = slots.take(name);
            assert_eq!(slots.find(name), Some(at));
            slots.release(at);
        }
        assert_eq!((slots.find(0), slots.used()), (Some(stays), 1));
        assert!(slots.slots.len() <= IDLE_MAX + 2, "{}", slots.slots.len());
        assert_eq!(slots.by_name.len() + slots.free.len(), slots.slots.len());
        assert!(slots.idle.len() <= IDLE_MAX);
    }

    #[test]
    fn one_that_comes_and_goes_pushes_no_other_out() {
        let mut slots = Slots::default();
        let idle = slots.take(1);
        slots.release(idle);
        for _ in 0..1000 {
            let at = slots.take(2);
            slots.release(at);
        }
        assert_eq!(slots.take(1), idle);
    }

    /// Also one that was idle before.
    #[test]
    fn who_became_idle_last_is_forgotten_last() {
        let mut slots = Slots::default();
        let again = slots.take(0);
        slots.release(again);
        for name in 1..u64::try_from(IDLE_MAX).unwrap() {
            let at = slots.take(name);
            slots.release(at);
        }
        assert_eq!(slots.take(0), again);
        slots.get_mut(again).unwrap().push(7);
        slots.release(again);
        for name in 1000..1099 {
            let at = slots.take(name);
            slots.release(at);
        }
        assert_eq!(slots.take(0), again);
        assert_eq!(slots.get(again), Some(&vec![7]), "with what it had");
    }

    #[test]
    fn one_that_comes_and_goes_takes_no_memory_for_it() {
        let mut slots = Slots::default();
        for name in 1..10 {
            let at = slots.take(name);
            slots.release(at);
        }
        for _ in 0..10_000 {
            let at = slots.take(5);
            slots.release(at);
        }
        assert!(slots.idle.len() <= 4 * IDLE_MAX, "{}", slots.idle.len());
        assert_eq!((slots.slots.len(), slots.by_name.len()), (9, 9));
    }

    #[test]
    fn after_a_rush_nothing_is_kept() {
        let mut slots = Slots::default();
        let taken: Vec<usize> = (0..1000).map(|name| slots.take(name)).collect();
        assert_eq!(slots.used(), 1000);
        taken.into_iter().for_each(|at| slots.release(at));
        assert_eq!((slots.used(), slots.slots.len(), slots.by_name.len()), (0, 0, 0));
        let at = slots.take(5);
        assert_eq!(slots.find(5), Some(at));
    }
}
