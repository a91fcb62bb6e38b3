use std::ops::{Deref, DerefMut};

use hawser_wire::MonoTime;

/// A machine, and whether anything has happened to it since it was last asked what it has to do.
///
/// A node has many machines and an event concerns one or two of them. What was not touched and is not
/// due has nothing to say, so that the turn of a node costs what has happened and not what there is.
///
/// **Invariant:** whoever can change the machine has touched it.
#[derive(Debug)]
pub(crate) struct Watched<M> {
    machine: M,
    touched: bool,
    /// When the machine, as it was left, has something to do by itself.
    due: Option<MonoTime>,
}

/// Has something to do at a time that it knows.
pub(crate) trait Timed {
    /// That time.
    fn due(&self) -> Option<MonoTime>;
}

impl<M: Timed> Watched<M> {
    pub(crate) const fn new(machine: M) -> Self {
        Self { machine, touched: true, due: None }
    }

    /// Another machine takes its place.
    pub(crate) fn replace(&mut self, machine: M) {
        *self = Self::new(machine);
    }

    /// What it is asked has changed.
    pub(crate) const fn touch(&mut self) {
        self.touched = true;
    }

    /// Something may have happened to it since it was left.
    pub(crate) const fn is_touched(&self) -> bool {
        self.touched
    }

    /// It may have something to say at `now`.
    pub(crate) fn is_awake(&self, now: MonoTime) -> bool {
        self.touched || self.is_due(now)
    }

    /// It was asked for all that it has to say.
    pub(crate) fn leave(&mut self) {
        self.touched = false;
        self.due = self.machine.due();
    }

    /// When it has something to do by itself.
    pub(crate) fn due(&self) -> Option<MonoTime> {
        if self.touched { self.machine.due() } else { self.due }
    }

    /// It has something to do by itself, and `now` is the time for it.
    pub(crate) fn is_due(&self, now: MonoTime) -> bool {
        self.due().is_some_and(|at| at <= now)
    }
}

impl<M> Deref for Watched<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M> DerefMut for Watched<M> {
    fn deref_mut(&mut self) -> &mut M {
        self.touched = true;
        &mut self.machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for u64 {
        fn due(&self) -> Option<MonoTime> {
            (*self > 0).then(|| MonoTime::from_nanos(*self))
        }
    }

    #[test]
    fn who_changes_a_machine_wakes_it_and_time_does_too() {
        let at = MonoTime::from_nanos;
        let mut machine = Watched::new(0_u64);
        assert!(machine.is_awake(at(1)), "it was never asked");
        machine.leave();
        assert_eq!((machine.is_awake(at(1)), *machine, machine.due()), (false, 0, None));
        *machine = 7;
        assert_eq!((machine.is_awake(at(1)), machine.due()), (true, Some(at(7))));
        machine.leave();
        assert!(!machine.is_awake(at(6)) && machine.is_awake(at(7)) && machine.is_due(at(7)));
        machine.replace(9);
        assert!(machine.is_awake(at(1)) && !machine.is_due(at(8)));
    }
}
