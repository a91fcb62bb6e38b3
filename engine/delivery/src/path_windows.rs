use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId, PathId, StreamId, TrafficClass};

use crate::{PathWindow, PathWindowLimits, StreamSender};

/// A window that no stream uses is kept for so long, should its path come back.
const UNUSED_KEPT: Duration = Duration::from_secs(60);
/// More of them are not kept.
const UNUSED_MAX: usize = 256;

/// What a stream may send before others that wait for the same window have their turn; the last
/// record may exceed it, which its next turns make up for.
const QUANTUM_BYTES: u64 = 64 << 10;

/// A path of this node, as streams of one class use it: at relays each class has queues of its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PathKey {
    /// Where it ends.
    pub destination: NodeId,
    /// What this node calls it.
    pub path: PathId,
    /// Theirs.
    pub class: TrafficClass,
}

/// Who may use a window that is too small for all.
#[derive(Debug)]
struct Turn {
    stream: StreamId,
    /// Of its quantum.
    left_bytes: u64,
    /// What it has sent beyond.
    owed_bytes: u64,
    /// It has wanted to send since it was last let go of.
    has_asked: bool,
    /// It was told that there is room.
    is_woken: bool,
}

#[derive(Debug)]
struct Path {
    window: PathWindow,
    /// Streams that use it.
    streams: usize,
    turn: Option<Turn>,
    /// Others that were refused, and what each has sent beyond its quanta.
    waiting: BTreeMap<StreamId, u64>,
    /// As it stands in the set of timers.
    timer_at: Option<MonoTime>,
    unused_since: Option<MonoTime>,
}

/// The windows of all paths of one shard, and whose turn it is at each.
///
/// While a window is too small for the streams that use it they take turns: deficit round robin
/// (Shreedhar and Varghese, 1995), in the order of their ids. A stream that was refused is woken when
/// its turn comes and there is room, and need not be asked before.
///
/// Invariant: if streams wait, one has the turn; it was woken, or something is under way whose
/// acknowledgement or loss wakes it.
#[derive(Debug)]
pub struct PathWindows {
    limits: PathWindowLimits,
    paths: BTreeMap<PathKey, Path>,
    /// At most one for each path, never later than its window's.
    timers: BTreeSet<(MonoTime, PathKey)>,
    /// Paths that were left by their last stream since the clock was last looked at.
    left: Vec<PathKey>,
    /// Earlier ones.
    unused: VecDeque<(MonoTime, PathKey)>,
    woken: Vec<StreamId>,
}

impl PathWindows {
    /// No paths yet; each begins with these limits.
    #[must_use]
    pub const fn new(limits: PathWindowLimits) -> Self {
        Self {
            limits,
            paths: BTreeMap::new(),
            timers: BTreeSet::new(),
            left: Vec::new(),
            unused: VecDeque::new(),
            woken: Vec::new(),
        }
    }

    /// The window of a path that streams use, or have used a short while ago.
    #[must_use]
    pub fn get(&self, key: PathKey) -> Option<&PathWindow> {
        self.paths.get(&key).map(|path| &path.window)
    }

    /// A stream begins to use a path; for each call there is to be one of [`Self::leave`].
    pub fn join(&mut self, key: PathKey) {
        let limits = self.limits;
        let path = self.paths.entry(key).or_insert_with(|| Path {
            window: PathWindow::new(limits),
            streams: 0,
            turn: None,
            waiting: BTreeMap::new(),
            timer_at: None,
            unused_since: None,
        });
        path.streams = path.streams.saturating_add(1);
        path.unused_since = None;
    }

    /// A stream ends, or takes another path: what it had under way does not count any more.
    pub fn leave(&mut self, key: PathKey, sender: &mut StreamSender) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        sender.leave_path(key.destination, &mut path.window);
        let stream = sender.stream();
        path.waiting.remove(&stream);
        if path.turn.as_ref().is_some_and(|turn| turn.stream == stream) {
            path.next_turn(stream);
        }
        path.streams = path.streams.saturating_sub(1);
        if path.streams == 0 {
            self.left.push(key);
        }
        self.woken.extend(path.wake());
        self.set_timer(key);
    }

    /// May `stream` send a record of `len_bytes` on the path now? If not it is woken when it is to
    /// ask again.
    ///
    /// On a path that nobody joined, whoever asks may.
    pub fn may_send(
        &mut self,
        now: MonoTime,
        key: PathKey,
        stream: StreamId,
        len_bytes: u64,
    ) -> bool {
        let Some(path) = self.paths.get_mut(&key) else { return true };
        if let Some(turn) = &mut path.turn {
            if turn.stream != stream {
                path.waiting.entry(stream).or_insert(0);
                return false;
            }
            turn.has_asked = true;
            if path.waiting.is_empty() {
                *turn = Turn { has_asked: true, is_woken: turn.is_woken, ..Turn::new(stream, 0) };
            } else if turn.left_bytes == 0 {
                path.waiting.insert(stream, turn.owed_bytes);
                path.next_turn(stream);
                self.woken.extend(path.wake());
                return false;
            }
        }
        let is_open = path.window.is_open(now, len_bytes);
        if is_open && path.waiting.is_empty() {
            path.turn = None;
        } else if !is_open && path.turn.is_none() {
            path.turn = Some(Turn { has_asked: true, ..Turn::new(stream, 0) });
        }
        is_open
    }

    /// Something has happened to a stream that uses the path, or it has sent a record.
    pub fn settle(&mut self, now: MonoTime, key: PathKey, sender: &mut StreamSender) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let sent_bytes = sender.settle_path(now, key.destination, &mut path.window);
        path.handle_sent(sender.stream(), sent_bytes);
        self.woken.extend(path.wake());
        self.set_timer(key);
    }

    /// `stream` has sent what it wanted to and could.
    pub fn end_visit(&mut self, key: PathKey, stream: StreamId) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let Some(turn) = path.turn.as_mut().filter(|turn| turn.stream == stream) else { return };
        turn.is_woken = false;
        if !std::mem::take(&mut turn.has_asked) {
            path.next_turn(stream);
            self.woken.extend(path.wake());
        }
    }

    /// A relay said that it dropped a record of the path for want of room.
    pub fn handle_loss(&mut self, now: MonoTime, key: PathKey) {
        if let Some(path) = self.paths.get_mut(&key) {
            path.window.handle_loss(now);
        }
    }

    /// The next path where nothing has moved for too long; until `None`. Each stream that uses it is
    /// to hear of it ([`StreamSender::handle_path_timeout`]) and to be asked what it would send: the
    /// first record is the probe.
    pub fn handle_timeout(&mut self, now: MonoTime) -> Option<PathKey> {
        self.forget_unused(now);
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(path) = self.paths.get_mut(&key) else { continue };
            path.timer_at = None;
            let is_lost = path.window.handle_timeout(now);
            self.woken.extend(path.wake());
            self.set_timer(key);
            if is_lost {
                return Some(key);
            }
        }
        None
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The next stream that was refused and is to ask again.
    pub fn poll_woken(&mut self) -> Option<StreamId> {
        self.woken.pop()
    }

    /// Notes when the window is due. What is noted already stays unless it is too late: most often
    /// the window's own time moves on with each acknowledgement.
    fn set_timer(&mut self, key: PathKey) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let Some(at) = path.window.poll_timeout() else { return };
        if path.timer_at.is_some_and(|noted| noted <= at) {
            return;
        }
        if let Some(noted) = path.timer_at.replace(at) {
            self.timers.remove(&(noted, key));
        }
        self.timers.insert((at, key));
    }

    fn forget_unused(&mut self, now: MonoTime) {
        for key in self.left.drain(..) {
            if let Some(path) = self.paths.get_mut(&key).filter(|path| path.streams == 0) {
                path.unused_since = Some(now);
                self.unused.push_back((now, key));
            }
        }
        while let Some(&(since, key)) = self.unused.front()
            && (self.unused.len() > UNUSED_MAX || now.saturating_since(since) >= UNUSED_KEPT)
        {
            self.unused.pop_front();
            // Another stream may have used it since.
            if self.paths.get(&key).is_some_and(|path| path.unused_since == Some(since))
                && let Some(path) = self.paths.remove(&key)
                && let Some(at) = path.timer_at
            {
                self.timers.remove(&(at, key));
            }
        }
    }
}

impl Turn {
    /// The next quantum of a stream that owes less than one.
    const fn new(stream: StreamId, owed_bytes: u64) -> Self {
        Self {
            stream,
            left_bytes: QUANTUM_BYTES.saturating_sub(owed_bytes),
            owed_bytes: 0,
            has_asked: false,
            is_woken: false,
        }
    }
}

impl Path {
    fn handle_sent(&mut self, stream: StreamId, bytes: u64) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.stream == stream) else { return };
        let beyond = bytes.saturating_sub(turn.left_bytes);
        turn.owed_bytes = turn.owed_bytes.saturating_add(beyond);
        turn.left_bytes = turn.left_bytes.saturating_sub(bytes);
    }

    /// The first behind `last` that waits and owes less than a quantum has its turn; those that it
    /// passes over have paid one.
    fn next_turn(&mut self, mut last: StreamId) {
        self.turn = None;
        while self.turn.is_none() {
            let behind = (Bound::Excluded(last), Bound::Unbounded);
            let next = self.waiting.range(behind).next().or_else(|| self.waiting.iter().next());
            let Some((&stream, &owed_bytes)) = next else { return };
            if let Some(owed_bytes) = owed_bytes.checked_sub(QUANTUM_BYTES) {
                self.waiting.insert(stream, owed_bytes);
                last = stream;
            } else {
                self.waiting.remove(&stream);
                self.turn = Some(Turn::new(stream, owed_bytes));
            }
        }
    }

    /// Who is to be woken: the one that has the turn, if it was not yet and there may be room.
    fn wake(&mut self) -> Option<StreamId> {
        let turn = self.turn.as_mut()?;
        if turn.is_woken || !self.window.has_room() {
            return None;
        }
        turn.is_woken = true;
        Some(turn.stream)
    }
}

#[cfg(test)]
mod tests;
