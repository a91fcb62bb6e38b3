use std::ops::Deref;

use bytes::{Bytes, BytesMut};

/// A shorter message is not worth sharing: what is kept of it is copied.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// The payload of a binary message, unmasked.
#[derive(Debug)]
pub struct Message(Buffer);

#[derive(Debug)]
enum Buffer {
    Own(BytesMut),
    Shared(Bytes),
}

impl Message {
    /// A long one whose buffer is hardly larger than itself may be shared: a part that is kept keeps
    /// all of the buffer.
    pub(crate) fn new(buffer: BytesMut) -> Self {
        let len = buffer.len();
        Self(if len >= SHARED_BYTES_MIN && fits(buffer.capacity(), len) {
            Buffer::Shared(buffer.freeze())
        } else {
            Buffer::Own(buffer)
        })
    }

    /// A buffer of this capacity holds such a message, and does not keep it from being shared.
    pub(crate) const fn suits(capacity: usize, len: usize) -> bool {
        capacity >= len && (len < SHARED_BYTES_MIN || fits(capacity, len))
    }

    /// The bytes as something of which parts can be kept without a copy; `None` if they are to be
    /// copied.
    #[must_use]
    pub const fn shared(&self) -> Option<&Bytes> {
        match &self.0 {
            Buffer::Own(_) => None,
            Buffer::Shared(bytes) => Some(bytes),
        }
    }

    /// The memory, unless somebody keeps a part of it.
    pub(crate) fn into_buffer(self) -> Option<BytesMut> {
        match self.0 {
            Buffer::Own(buffer) => Some(buffer),
            Buffer::Shared(bytes) => bytes.try_into_mut().ok(),
        }
    }
}

const fn fits(capacity: usize, len: usize) -> bool {
    capacity <= len.saturating_add(len >> 2)
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Buffer::Own(buffer) => buffer,
            Buffer::Shared(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_message_that_fills_its_buffer_is_shared() {
        let of = |len: usize, capacity: usize| {
            let mut buffer = BytesMut::with_capacity(capacity);
            buffer.resize(len, 7);
            Message::new(buffer)
        };
        let (min, shared) = (SHARED_BYTES_MIN, |message: &Message| message.shared().is_some());
        assert!(shared(&of(min, min)) && shared(&of(min, min + min / 4)));
        assert!(!shared(&of(min - 1, min - 1)) && !shared(&of(min, min + min / 4 + 1)));
    }

    #[test]
    fn memory_comes_back_when_nobody_keeps_a_part() {
        let message = || Message::new(BytesMut::zeroed(SHARED_BYTES_MIN));
        assert_eq!(message().into_buffer().unwrap().capacity(), SHARED_BYTES_MIN);
        let kept = message();
        let part = kept.shared().unwrap().slice(5..9);
        assert!(kept.into_buffer().is_none());
        assert_eq!(part, [0; 4].as_slice());
    }
}
