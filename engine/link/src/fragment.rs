use hawser_wire::{FRAME_BODY_BYTES_MAX, FrameHeader, LaneFragment, LaneId, TrafficClass};

use crate::batch::Batch;
use crate::violation::LinkViolation;

/// Largest batch that is sent in pieces: what a peer may make this node keep for each lane and class.
pub(crate) const SPLIT_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX + FrameHeader::LEN;

/// A batch that is being sent in pieces.
///
/// It is in no window before its last piece is sent, so that it goes whole to another lane if this
/// one is lost or carries its class no more.
#[derive(Debug)]
pub(crate) struct SplitBatch {
    batch: Batch,
    sent_bytes: usize,
}

impl SplitBatch {
    pub(crate) fn new(mut batch: Batch) -> Self {
        batch.own();
        Self { batch, sent_bytes: 0 }
    }

    pub(crate) const fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(crate) const fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }

    pub(crate) const fn left_bytes(&self) -> usize {
        self.batch.len().saturating_sub(self.sent_bytes)
    }

    /// The next piece, of at most `max_bytes`.
    pub(crate) fn next_piece(&mut self, max_bytes: usize) -> LaneFragment<'_> {
        let first = self.sent_bytes == 0;
        let [rest, _none] = self.batch.behind(self.batch.start().saturating_add(self.sent_bytes));
        let (piece, behind) = rest.split_at(rest.len().min(max_bytes));
        self.sent_bytes = self.sent_bytes.saturating_add(piece.len());
        LaneFragment { first, last: behind.is_empty(), piece }
    }

    pub(crate) fn into_batch(self) -> Batch {
        self.batch
    }
}

/// What comes in pieces over one lane: a batch of each class at a time, as pieces of one class may come
/// between those of another.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    assemblies: [Assembly; 3],
    /// Of the batch that is whole and being handled: its class, and the bytes of its last piece, which
    /// is not counted as received before that is done.
    whole: Option<(TrafficClass, u64)>,
}

impl Incoming {
    fn assembly(&mut self, class: TrafficClass) -> Option<&mut Assembly> {
        self.assemblies.get_mut(usize::from(class.to_wire()))
    }

    /// A piece of a batch of `class` came, of `bytes` on the wire. True if the batch is whole.
    ///
    /// # Errors
    /// [`LinkViolation`] if no batch has begun or it gets too large; nothing is taken.
    pub(crate) fn handle_piece(
        &mut self,
        lane: LaneId,
        class: TrafficClass,
        fragment: &LaneFragment<'_>,
        bytes: u64,
    ) -> Result<bool, LinkViolation> {
        let Some(assembly) = self.assembly(class) else { return Ok(false) };
        let is_whole = assembly.handle_piece(lane, fragment)?;
        if is_whole {
            self.whole = Some((class, bytes));
        }
        Ok(is_whole)
    }

    /// The class of the batch that is being handled.
    pub(crate) fn class(&self) -> Option<TrafficClass> {
        self.whole.map(|(class, _)| class)
    }

    /// The batch that is whole.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let class = self.class();
        let assembly = class.and_then(|class| self.assembly(class));
        assembly.map_or_else(Vec::new, Assembly::take)
    }

    /// It was handled, and its memory comes back: the bytes of its last piece.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) -> Option<u64> {
        let (class, bytes) = self.whole.take()?;
        self.assembly(class)?.give(buffer);
        Some(bytes)
    }
}

/// What has come of a batch in pieces, of one class and over one lane.
///
/// **Invariant:** holds no more than has come, and at most [`SPLIT_BYTES_MAX`].
#[derive(Debug, Default)]
struct Assembly {
    bytes: Vec<u8>,
    is_open: bool,
}

/// A buffer with more room is not kept from batch to batch.
const KEEP_BYTES: usize = 256 << 10;

impl Assembly {
    /// A piece came. True if the batch is whole.
    ///
    /// # Errors
    /// [`LinkViolation`] if no batch has begun or it gets too large; nothing is taken.
    fn handle_piece(
        &mut self,
        lane: LaneId,
        fragment: &LaneFragment<'_>,
    ) -> Result<bool, LinkViolation> {
        if !fragment.first && !self.is_open {
            return Err(LinkViolation::StrayFragment { lane });
        }
        let begun = if fragment.first { 0 } else { self.bytes.len() };
        let bytes = begun.saturating_add(fragment.piece.len());
        if bytes > SPLIT_BYTES_MAX {
            return Err(LinkViolation::FragmentsTooLarge { lane, bytes });
        }
        self.bytes.truncate(begun);
        self.bytes.extend_from_slice(fragment.piece);
        self.is_open = !fragment.last;
        Ok(fragment.last)
    }

    /// The batch that is whole.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The memory of what was taken comes back.
    fn give(&mut self, mut buffer: Vec<u8>) {
        if !self.is_open && buffer.capacity() <= KEEP_BYTES {
            buffer.clear();
            self.bytes = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(2);

    fn piece(first: bool, last: bool, piece: &[u8]) -> LaneFragment<'_> {
        LaneFragment { first, last, piece }
    }

    #[test]
    fn pieces_of_any_size_make_the_batch() {
        let mut assembly = Assembly::default();
        for len in [1, 2, 99, 100, 101, 1000, 5000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            for size in [1_usize, 7, 50, 100, 999, 5000, 6000] {
                let mut split = SplitBatch::new(Batch::new(bytes.clone(), TrafficClass::Bulk));
                // Now and then of another size.
                let sizes = [size, size, size.div_ceil(3)].into_iter().cycle();
                let pieces = sizes.take_while(|&size| {
                    let fragment = split.next_piece(size);
                    !assembly.handle_piece(LANE, &fragment).unwrap()
                });
                assert!(pieces.count() < len, "{len} {size}");
                assert_eq!(split.left_bytes(), 0);
                let whole = assembly.take();
                assert_eq!(whole, bytes);
                assembly.give(whole);
            }
        }
    }

    #[test]
    fn a_first_piece_voids_what_came_before() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.handle_piece(LANE, &piece(true, false, b"old")), Ok(false));
        assert_eq!(assembly.handle_piece(LANE, &piece(true, false, b"ne")), Ok(false));
        assert_eq!(assembly.handle_piece(LANE, &piece(false, true, b"w")), Ok(true));
        assert_eq!(assembly.take(), b"new");
    }

    #[test]
    fn pieces_of_one_class_may_come_between_those_of_another() {
        use TrafficClass::{Bulk, Priority};
        let mut incoming = Incoming::default();
        let mut come = |class, first, last, bytes| {
            incoming.handle_piece(LANE, class, &piece(first, last, bytes), 7).unwrap()
        };
        assert!(!come(Bulk, true, false, b"bu"));
        assert!(!come(Priority, true, false, b"prio"));
        assert!(!come(Bulk, false, false, b"l"));
        assert!(come(Priority, false, true, b"rity"));
        assert_eq!((incoming.class(), incoming.take()), (Some(Priority), b"priority".to_vec()));
        assert_eq!(incoming.give(Vec::new()), Some(7));
        assert_eq!((incoming.class(), incoming.give(Vec::new())), (None, None));
        assert_eq!(incoming.handle_piece(LANE, Bulk, &piece(false, true, b"k"), 9), Ok(true));
        assert_eq!((incoming.class(), incoming.take()), (Some(Bulk), b"bulk".to_vec()));
    }

    #[test]
    fn stray_pieces_and_too_many_are_refused() {
        let mut assembly = Assembly::default();
        let stray = Err(LinkViolation::StrayFragment { lane: LANE });
        assert_eq!(assembly.handle_piece(LANE, &piece(false, true, b"x")), stray);
        assert_eq!(assembly.handle_piece(LANE, &piece(true, true, b"x")), Ok(true));
        assert_eq!(assembly.handle_piece(LANE, &piece(false, true, b"x")), stray);
        let large = vec![0; SPLIT_BYTES_MAX];
        assert_eq!(assembly.handle_piece(LANE, &piece(true, false, &large)), Ok(false));
        let bytes = SPLIT_BYTES_MAX.saturating_add(1);
        let refused = Err(LinkViolation::FragmentsTooLarge { lane: LANE, bytes });
        assert_eq!(assembly.handle_piece(LANE, &piece(false, true, b"x")), refused);
        assert_eq!(assembly.take().len(), SPLIT_BYTES_MAX, "nothing is taken");
    }
}
