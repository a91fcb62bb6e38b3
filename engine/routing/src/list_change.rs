//! What the change of one arc leaves of the best paths to a destination.
//!
//! The best paths stay the best ones, with other keys and perhaps in another order, if no other path
//! can have come before the last of them. What others can have become is bounded from below: by what
//! they were at least when the list was made, and by the best of all paths over the changed arc, or
//! around it.

use crate::graph::PathKey;
use crate::incremental_spf::ArcChange;
use crate::path_list::PathList;

/// A change of one arc, for the lists of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListChange {
    change: ArcChange,
    /// Paths that a list has if there are so many.
    k: usize,
}

/// What is known of the paths to a destination that its list does not have: no key is smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OtherPaths {
    /// Before the change.
    pub(crate) beyond: u64,
    /// After it, of the paths over the arc.
    pub(crate) over: u64,
    /// After it, of the paths that do not take the arc.
    pub(crate) around: u64,
}

/// The list after the change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// No path of it takes the arc: it is as it was. No other path has a smaller key than this.
    Same(u64),
    /// It has the same paths but for those that the arc's end took away: see
    /// [`ListChange::apply`]. No other path has a smaller key than this.
    Moved(u64),
    /// Others may have come in.
    Unknown,
}

impl ListChange {
    pub(crate) const fn new(change: ArcChange, k: usize) -> Self {
        Self { change, k }
    }

    /// What becomes of `list`, which had the best paths until the change.
    pub(crate) fn standing(self, list: &PathList, others: OtherPaths) -> Standing {
        let over = match self.change.before {
            Some(_) => self.shifted(others.beyond).max(others.over),
            None => others.over,
        };
        let around = others.beyond.max(others.around);
        let beyond = over.min(around);
        if !list.takes(self.change.from, self.change.to) {
            let stands = match list.len().checked_sub(1) {
                Some(last) if list.len() >= self.k => list.raw_key(last) < over,
                _ => beyond == PathKey::NONE,
            };
            return if stands { Standing::Same(beyond) } else { Standing::Unknown };
        }
        // Number and key of the path that is the last one now.
        let (mut last, mut count): (Option<(usize, u64)>, usize) = (None, 0);
        for path in 0..list.len() {
            let key = self.key(list, path);
            if key == PathKey::NONE {
                continue;
            }
            count = count.saturating_add(1);
            if last.is_none_or(|last| is_before(list, last, (path, key))) {
                last = Some((path, key));
            }
        }
        let stands = match last {
            Some((path, key)) if count >= self.k => {
                let was_last = Some(path) == list.len().checked_sub(1);
                let takes = list.path_takes(path, self.change.from, self.change.to);
                // What came behind the last path and moves as it does is still behind it.
                let none_over = key < over || (was_last && takes);
                // So is what did not move, unless the last one moved back.
                let moved_back = self.change.worsens() && (takes || !was_last);
                none_over && (key < around || !moved_back)
            }
            _ => beyond == PathKey::NONE,
        };
        // What was left out for its hops is not known.
        if stands && !list.is_cut { Standing::Moved(beyond) } else { Standing::Unknown }
    }

    /// Puts the paths of `list` that are still there into `moved`, best first.
    pub(crate) fn apply(
        self,
        list: &PathList,
        order: &mut Vec<(usize, u64)>,
        moved: &mut PathList,
    ) {
        order.clear();
        order.extend((0..list.len()).map(|path| (path, self.key(list, path))));
        order.retain(|&(_, key)| key != PathKey::NONE);
        order.sort_unstable_by(|&a, &b| {
            if is_before(list, a, b) {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Greater
            }
        });
        moved.clear();
        for &(path, key) in &*order {
            moved.push(key, list.backward(path));
        }
    }

    /// Key of a path of the list after the change; none if it is gone.
    fn key(self, list: &PathList, path: usize) -> u64 {
        let key = list.raw_key(path);
        if list.path_takes(path, self.change.from, self.change.to) {
            self.shifted(key)
        } else {
            key
        }
    }

    /// The least key after the change of a path over the arc which had at least `key` before.
    fn shifted(self, key: u64) -> u64 {
        match (self.change.before, self.change.after) {
            (Some(before), Some(after)) if key != PathKey::NONE => {
                let rest = key.saturating_sub(u64::from(before) << 16);
                rest.saturating_add(u64::from(after) << 16)
            }
            _ => PathKey::NONE,
        }
    }
}

/// Whether one path of a list comes before another, with these keys: of two with equal keys the one
/// with the smaller list of nodes.
fn is_before(list: &PathList, (a, a_key): (usize, u64), (b, b_key): (usize, u64)) -> bool {
    let nodes = |path| list.backward(path).iter().rev();
    a_key < b_key || (a_key == b_key && nodes(a).lt(nodes(b)))
}
