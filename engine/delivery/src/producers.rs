use std::collections::BTreeMap;

use hawser_wire::ProducerId;

/// What is known of one producer at the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    /// The sequence that comes next, from 1.
    pub(crate) next_seq: u64,
    /// Every sequence up to and with this one is at every destination.
    pub(crate) acked_seq: u64,
    /// `acked_seq` rose since it was last reported.
    pub(crate) dirty: bool,
}

/// The producers of a stream. Never forgotten by time (I4).
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    dirty: Vec<ProducerId>,
}

impl Producers {
    pub(crate) fn get(&self, producer: ProducerId) -> Option<&Producer> {
        self.known.get(&producer)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The producer, made at its first sequence if it is new.
    pub(crate) fn entry(&mut self, producer: ProducerId) -> &mut Producer {
        let fresh = Producer { next_seq: 1, acked_seq: 0, dirty: false };
        self.known.entry(producer).or_insert(fresh)
    }

    /// A destination has this producer up to before `next_seq`: the source, which began a new life,
    /// goes on where the destination that has least does.
    pub(crate) fn restore(&mut self, producer: ProducerId, next_seq: u64) {
        let acked_seq = next_seq.saturating_sub(1);
        let known =
            self.known.entry(producer).or_insert(Producer { next_seq, acked_seq, dirty: false });
        known.next_seq = known.next_seq.min(next_seq);
        known.acked_seq = known.acked_seq.min(acked_seq);
    }

    /// Forgets a producer that another destination does not know: it has nothing everywhere.
    pub(crate) fn retain_listed(&mut self, listed: &[(ProducerId, u64)]) {
        self.known.retain(|producer, _| listed.iter().any(|(other, _)| other == producer));
    }

    pub(crate) fn acknowledge(&mut self, producer: ProducerId, through_seq: u64) {
        if let Some(known) = self.known.get_mut(&producer)
            && through_seq > known.acked_seq
        {
            known.acked_seq = through_seq;
            if !known.dirty {
                known.dirty = true;
                self.dirty.push(producer);
            }
        }
    }

    /// Every producer's next sequence.
    pub(crate) fn next_seqs(&self) -> impl Iterator<Item = (ProducerId, u64)> + '_ {
        self.known.iter().map(|(&producer, known)| (producer, known.next_seq))
    }

    /// The next producer whose progress is to be reported, with its acknowledged sequence.
    pub(crate) fn poll_acked(&mut self) -> Option<(ProducerId, u64)> {
        let producer = self.dirty.pop()?;
        let known = self.known.get_mut(&producer)?;
        known.dirty = false;
        Some((producer, known.acked_seq))
    }
}
