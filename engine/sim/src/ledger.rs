use std::collections::{BTreeMap, VecDeque};

use hawser_wire::{Crc32c, FrameKind, LinkSequence, MonoTime};

use crate::violation::Property;

/// What one direction of a link took and delivered in one life of its sender, by link sequence.
///
/// Frames come in any order, for lanes overtake each other; each must come once. A session that ends
/// hands back what it cannot know to be delivered: that may still come, once.
#[derive(Debug)]
pub(crate) struct FrameLedger {
    /// From the first frame that is not delivered on.
    frames: VecDeque<Frame>,
    /// Link sequence of the first in `frames`.
    first: u64,
    open: u64,
    /// Frames before the first that were handed back and not delivered.
    returned: BTreeMap<u64, Frame>,
}

/// What a frame's body is told by: its length and a checksum, of a record over what names it and some of
/// its messages. All of a record has a checksum of its own, which is among that and is checked where the
/// record arrives.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct FrameDigest {
    len: usize,
    checksum: u32,
}

/// Bytes of a record that its digest covers: routes, its header, and what of the rest costs little.
const RECORD_BYTES_COVERED: usize = 512;

impl FrameDigest {
    /// Of a body that consists of these parts.
    pub(crate) fn of<'a>(kind: FrameKind, parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut left = if kind == FrameKind::Record { RECORD_BYTES_COVERED } else { usize::MAX };
        let (mut len, mut checksum) = (0_usize, Crc32c::new());
        for part in parts {
            let covered = part.get(..left).unwrap_or(part);
            checksum = checksum.update(covered);
            left = left.saturating_sub(covered.len());
            len = len.saturating_add(part.len());
        }
        Self { len, checksum: checksum.finish() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    digest: FrameDigest,
    taken_at: MonoTime,
    delivered: bool,
    returned: bool,
}

impl FrameLedger {
    /// Nothing was taken yet; the first frame will have the link sequence `first`.
    pub(crate) const fn new(first: LinkSequence) -> Self {
        Self { frames: VecDeque::new(), first: first.0, open: 0, returned: BTreeMap::new() }
    }

    /// The link took a frame with the next sequence, whose body has this digest.
    pub(crate) fn handle_taken(&mut self, taken_at: MonoTime, digest: FrameDigest) {
        self.frames.push_back(Frame { digest, taken_at, delivered: false, returned: false });
        self.open = self.open.saturating_add(1);
    }

    /// The link took a frame of its own, of which nothing comes out.
    pub(crate) fn handle_own(&mut self) {
        let digest = FrameDigest::default();
        let frame = Frame { digest, taken_at: MonoTime::ZERO, delivered: true, returned: false };
        self.frames.push_back(frame);
        self.settle();
    }

    /// The link sequence of what the link takes next.
    pub(crate) fn next(&self) -> LinkSequence {
        let ahead = u64::try_from(self.frames.len()).unwrap_or(u64::MAX);
        LinkSequence(self.first.saturating_add(ahead))
    }

    /// The frame was handed back, and not delivered.
    pub(crate) fn has_left(&self, sequence: LinkSequence) -> bool {
        let Some(index) = sequence.0.checked_sub(self.first) else {
            return self.returned.contains_key(&sequence.0);
        };
        let frame = usize::try_from(index).ok().and_then(|index| self.frames.get(index));
        frame.is_some_and(|frame| frame.returned && !frame.delivered)
    }

    /// The link delivered a frame.
    ///
    /// # Errors
    /// The property that this breaks.
    pub(crate) fn handle_delivered(
        &mut self,
        sequence: LinkSequence,
        digest: FrameDigest,
    ) -> Result<(), (Property, String)> {
        let name = sequence.0;
        let duplicate = || (Property::NothingDuplicated, format!("frame {name} came again"));
        let Some(index) = name.checked_sub(self.first) else {
            let frame = self.returned.remove(&name).ok_or_else(duplicate)?;
            return check_body(sequence, &frame, digest);
        };
        let frame = usize::try_from(index).ok().and_then(|index| self.frames.get_mut(index));
        let Some(frame) = frame else {
            return Err((Property::Content, format!("frame {name} was never sent")));
        };
        check_body(sequence, frame, digest)?;
        if std::mem::replace(&mut frame.delivered, true) {
            return Err(duplicate());
        }
        if !frame.returned {
            self.open = self.open.saturating_sub(1);
        }
        self.settle();
        Ok(())
    }

    /// The link handed a frame back; one that was delivered is none of this ledger's concern.
    pub(crate) fn handle_returned(&mut self, sequence: LinkSequence) {
        let index = sequence.0.checked_sub(self.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let Some(frame) = index.and_then(|index| self.frames.get_mut(index))
            && !std::mem::replace(&mut frame.returned, true)
            && !frame.delivered
        {
            self.open = self.open.saturating_sub(1);
        }
        self.settle();
    }

    /// Forgets frames that nobody waits for any more.
    fn settle(&mut self) {
        while let Some(frame) = self.frames.pop_front_if(|frame| frame.delivered || frame.returned)
        {
            if !frame.delivered {
                self.returned.insert(self.first, frame);
            }
            self.first = self.first.saturating_add(1);
        }
    }

    /// Frames taken and neither delivered nor handed back.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// The first of them, and when it was taken.
    pub(crate) fn first_open(&self) -> Option<(LinkSequence, MonoTime)> {
        self.frames.front().map(|frame| (LinkSequence(self.first), frame.taken_at))
    }
}

/// The frame arrived as it was sent.
fn check_body(
    sequence: LinkSequence,
    frame: &Frame,
    found: FrameDigest,
) -> Result<(), (Property, String)> {
    let sent = frame.digest;
    if sent == found {
        return Ok(());
    }
    Err((Property::Content, format!("frame {sequence} came as {found:?}, was sent as {sent:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(body: &[u8]) -> FrameDigest {
        FrameDigest::of(FrameKind::StreamAck, std::iter::once(body))
    }

    fn ledger(frames: u8) -> FrameLedger {
        let mut ledger = FrameLedger::new(LinkSequence(1));
        for n in 0..frames {
            ledger.handle_taken(MonoTime::ZERO, digest(&[&[n][..], b"body"].concat()));
        }
        ledger
    }

    fn deliver(ledger: &mut FrameLedger, n: u8) -> Result<(), Property> {
        let body = [&[n][..], b"body"].concat();
        ledger
            .handle_delivered(LinkSequence(u64::from(n) + 1), digest(&body))
            .map_err(|(what, _)| what)
    }

    #[test]
    fn each_frame_once_in_any_order() {
        let mut ledger = ledger(4);
        for n in [2, 0, 3, 1] {
            assert_eq!(deliver(&mut ledger, n), Ok(()));
        }
        assert_eq!(ledger.open(), 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut ledger = ledger(3);
        assert_eq!(deliver(&mut ledger, 1), Ok(()));
        assert_eq!(deliver(&mut ledger, 1), Err(Property::NothingDuplicated));
        assert_eq!(deliver(&mut ledger, 0), Ok(()));
        assert_eq!(deliver(&mut ledger, 0), Err(Property::NothingDuplicated), "settled long ago");
        assert_eq!(deliver(&mut ledger, 7), Err(Property::Content), "never sent");
        let altered =
            ledger.handle_delivered(LinkSequence(3), digest(b"else")).map_err(|(what, _)| what);
        assert_eq!(altered, Err(Property::Content));
        assert_eq!(ledger.first_open().map(|(first, _)| first), Some(LinkSequence(3)));
    }

    #[test]
    fn a_lost_frame_stays_open() {
        let mut ledger = ledger(3);
        deliver(&mut ledger, 0).unwrap();
        deliver(&mut ledger, 2).unwrap();
        assert_eq!(ledger.first_open().map(|(first, _)| first), Some(LinkSequence(2)));
    }

    #[test]
    fn frames_of_the_link_itself_are_not_waited_for() {
        let mut ledger = ledger(1);
        ledger.handle_own();
        assert_eq!((ledger.next(), ledger.open()), (LinkSequence(3), 1));
        ledger.handle_taken(MonoTime::ZERO, digest(b"\x02body"));
        assert_eq!((deliver(&mut ledger, 2), deliver(&mut ledger, 0)), (Ok(()), Ok(())));
        assert_eq!((ledger.next(), ledger.open()), (LinkSequence(4), 0));
    }

    #[test]
    fn what_has_left_is_known_until_it_comes() {
        let mut ledger = ledger(3);
        for returned in [1, 3] {
            ledger.handle_returned(LinkSequence(returned));
        }
        let left = |ledger: &FrameLedger| [1, 2, 3, 4].map(|n| ledger.has_left(LinkSequence(n)));
        assert_eq!(left(&ledger), [true, false, true, false]);
        assert_eq!((deliver(&mut ledger, 0), deliver(&mut ledger, 2)), (Ok(()), Ok(())));
        assert_eq!(left(&ledger), [false; 4]);
    }

    #[test]
    fn what_was_handed_back_may_still_come_once() {
        let mut ledger = ledger(3);
        for returned in [1, 2, 3] {
            ledger.handle_returned(LinkSequence(returned));
        }
        assert_eq!((ledger.open(), ledger.first_open()), (0, None));
        assert_eq!(deliver(&mut ledger, 1), Ok(()));
        assert_eq!(deliver(&mut ledger, 1), Err(Property::NothingDuplicated));
    }
}
