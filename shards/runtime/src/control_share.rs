use bytes::Bytes;
use hawser_link::FrameParts;
use hawser_routing::FLOODING_MESSAGE_BYTES_MAX;
use hawser_wire::MonoTime;

use crate::budget::Budget;
use crate::untold::Untold;

/// Bytes of one neighbour's frames that may be on their way to the control thread. Of link state it may
/// send 256 KiB before that is acknowledged; certificates that were asked for are a MiB more. What it
/// brings may be announcements of as many streams as a node has.
const SHARE_BYTES: usize = 8 << 20;
/// And so many of them: they stand before the word that a lane came or went.
const SHARE_FRAMES: usize = 16_384;

const _: () = assert!(SHARE_BYTES >= 4 * FLOODING_MESSAGE_BYTES_MAX);

/// What one neighbour has on its way to the control thread: link control, and datagrams that came over
/// its lanes, from whomever. They take no credit, so that a neighbour may send them without end. What is
/// above its share is dropped, and repeated by its protocol; no other neighbour's is.
#[derive(Debug)]
pub(crate) struct ControlShare {
    budget: Budget,
    dropped_frames: u64,
    untold: Untold,
}

impl ControlShare {
    pub(crate) fn new() -> Self {
        let budget = Budget::new(SHARE_BYTES).with_frames(SHARE_FRAMES);
        Self { budget, dropped_frames: 0, untold: Untold::default() }
    }

    /// The body of a frame that the control thread is to have; `None` if it is dropped.
    pub(crate) fn take(&mut self, body: &[u8]) -> Option<Bytes> {
        let taken = self.budget.take(FrameParts::of(&[body]));
        if taken.is_none() {
            self.dropped_frames = self.dropped_frames.saturating_add(1);
            self.untold.add();
        }
        taken
    }

    /// Frames that were dropped, ever.
    pub(crate) const fn dropped_frames(&self) -> u64 {
        self.dropped_frames
    }

    /// How many since that was told last, if it is time to tell.
    pub(crate) fn poll_dropped(&mut self, now: MonoTime) -> Option<u64> {
        self.untold.poll(now)
    }
}
