/// Ciphertext on its way to the socket.
///
/// The vector stays as long as it ever was in this use, and `used` says where the contents end:
/// making room for each record anew would set every byte of it to zero before it is written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    used: usize,
}

impl Outgoing {
    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    /// At least `len_bytes` of room behind the contents. What stands there means nothing.
    pub(crate) fn room(&mut self, len_bytes: usize) -> &mut [u8] {
        let end = self.used + len_bytes;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.used..).unwrap_or_default()
    }

    /// The first `written` bytes of the room belong to the contents from now on.
    pub(crate) fn commit(&mut self, written: usize) {
        self.used = self.used.saturating_add(written).min(self.bytes.len());
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(self.used);
        self.used = 0;
        bytes
    }

    /// Takes a buffer back to fill it again, unless another one is in use.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_end_where_they_were_committed_and_old_bytes_never_show() {
        let mut outgoing = Outgoing::default();
        outgoing.room(8).fill(7);
        outgoing.commit(5);
        assert_eq!(outgoing.len(), 5);
        let first = outgoing.take();
        assert_eq!(first, [7; 5]);
        assert_eq!(outgoing.len(), 0);
        outgoing.recycle(first);
        outgoing.room(2)[..2].copy_from_slice(&[1, 2]);
        outgoing.commit(2);
        outgoing.recycle(vec![9; 100]);
        assert_eq!(outgoing.take(), [1, 2]);
    }

    #[test]
    fn room_behind_the_contents_leaves_them_alone() {
        let mut outgoing = Outgoing::default();
        outgoing.room(3)[..3].copy_from_slice(b"abc");
        outgoing.commit(3);
        assert!(outgoing.room(1000).len() >= 1000);
        outgoing.commit(0);
        assert_eq!(outgoing.take(), b"abc");
    }
}
