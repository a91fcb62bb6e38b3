use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId, PathId, StreamId, TrafficClass};

use crate::{PathWindow, PathWindowLimits, StreamKey, StreamSender, TenantRounds};

/// A window that no stream uses is kept for so long, should its path come back.
const UNUSED_KEPT: Duration = Duration::from_secs(60);
/// More of them are not kept.
const UNUSED_MAX: usize = 256;

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
    who: StreamKey,
    /// It wants to send more than it has since it was last let go of.
    has_asked: bool,
    /// It was told that there is room.
    is_woken: bool,
}

#[derive(Debug)]
struct Path {
    window: PathWindow,
    /// Streams that use it.
    streams: usize,
    /// Those that were refused; one of them has the turn.
    rounds: TenantRounds,
    turn: Option<Turn>,
    /// As it stands in the set of timers.
    timer_at: Option<MonoTime>,
    unused_since: Option<MonoTime>,
}

/// The windows of all paths of one shard, and whose turn it is at each.
///
/// While a window is too small for the streams that use it they take turns, tenants first
/// ([`TenantRounds`]). A stream that was refused is woken when its turn comes and there is room, and need
/// not be asked before.
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
            rounds: TenantRounds::default(),
            turn: None,
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
        path.rounds.leave(sender.key());
        path.next_turn();
        path.streams = path.streams.saturating_sub(1);
        if path.streams == 0 {
            self.left.push(key);
        }
        self.woken.extend(path.wake());
        self.set_timer(key);
    }

    /// May `who` send a record of `len_bytes` on the path now? If not it is woken when it is to
    /// ask again.
    ///
    /// On a path that nobody joined, whoever asks may.
    pub fn may_send(
        &mut self,
        now: MonoTime,
        key: PathKey,
        who: StreamKey,
        len_bytes: u64,
    ) -> bool {
        let Some(path) = self.paths.get_mut(&key) else { return true };
        if path.turn.is_some() {
            path.rounds.wait(who, 0);
            // What the one that has it had of its turn may be used up.
            let has_changed = path.next_turn();
            let Some(turn) = path.turn.as_mut().filter(|turn| turn.who == who) else {
                self.woken.extend(if has_changed { path.wake() } else { None });
                return false;
            };
            turn.has_asked = true;
        }
        let is_open = path.window.is_open(now, len_bytes);
        if is_open && path.rounds.is_alone() {
            path.rounds.clear();
            path.turn = None;
        } else if !is_open && path.turn.is_none() {
            path.rounds.wait(who, 0);
            path.turn = Some(Turn { who, has_asked: true, is_woken: false });
        }
        is_open
    }

    /// Something has happened to a stream that uses the path, or it has sent a record.
    pub fn settle(&mut self, now: MonoTime, key: PathKey, sender: &mut StreamSender) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let sent_bytes = sender.settle_path(now, key.destination, &mut path.window);
        path.handle_sent(sender.key(), sent_bytes);
        self.woken.extend(path.wake());
        self.set_timer(key);
    }

    /// `who` has sent what it wanted to and could. If it wants no more, others have their turn at once.
    pub fn end_visit(&mut self, key: PathKey, who: StreamKey) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let Some(turn) = path.turn.as_mut().filter(|turn| turn.who == who) else { return };
        turn.is_woken = false;
        if !std::mem::take(&mut turn.has_asked) {
            path.rounds.leave(who);
            path.next_turn();
            self.woken.extend(path.wake());
        }
    }

    /// The window lets `who` send, and the first link of the path does not: it is full, or others have
    /// their turn there. While nothing is under way the window is not what is too little: nobody waits
    /// for it any more, and who did is woken.
    ///
    /// Else one that waits for its turn at the link, maybe behind many of its tenant, would make the
    /// path's streams of every other tenant wait as long.
    pub fn handle_no_room(&mut self, key: PathKey, who: StreamKey) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        if path.window.in_flight_bytes() == 0 {
            path.turn = None;
            path.rounds.leave(who);
            self.woken.extend(path.rounds.waiting());
            path.rounds.clear();
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

impl Path {
    fn handle_sent(&mut self, who: StreamKey, bytes: u64) {
        let turn = self.turn.as_mut().filter(|turn| turn.who == who && bytes > 0);
        let Some(turn) = turn else { return };
        turn.has_asked = false;
        self.rounds.spend(who, bytes);
    }

    /// Who has the turn may have used it up, or have left; true if another one has it now.
    fn next_turn(&mut self) -> bool {
        let next = self.rounds.next(|_| true);
        let has_changed = next != self.turn.as_ref().map(|turn| turn.who);
        if has_changed {
            self.turn = next.map(|who| Turn { who, has_asked: false, is_woken: false });
        }
        has_changed
    }

    /// Who is to be woken: the one that has the turn, if it was not yet and there may be room.
    fn wake(&mut self) -> Option<StreamId> {
        let turn = self.turn.as_mut()?;
        if turn.is_woken || !self.window.has_room() {
            return None;
        }
        turn.is_woken = true;
        Some(turn.who.stream)
    }
}

#[cfg(test)]
mod tests;
