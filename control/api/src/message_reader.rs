use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tonic::Status;

/// Before each message: whether it is compressed, and its length, big-endian.
const PREFIX_BYTES: usize = 5;

/// What a client sent is no sequence of gRPC messages. Status codes and words are tonic's.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum FramingError {
    #[error(
        "protocol error: received message with compressed-flag but no grpc-encoding was specified"
    )]
    Compressed,
    #[error(
        "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 \
         and 1), while sending request"
    )]
    InvalidFlag { flag: u8 },
    #[error(
        "Error, decoded message length too large: found {bytes} bytes, the limit is: {max} bytes"
    )]
    TooLarge { bytes: usize, max: usize },
    #[error("Unexpected EOF decoding stream.")]
    Truncated,
}

impl From<FramingError> for Status {
    fn from(error: FramingError) -> Self {
        let message = error.to_string();
        match error {
            FramingError::TooLarge { .. } => Self::out_of_range(message),
            FramingError::Compressed
            | FramingError::InvalidFlag { .. }
            | FramingError::Truncated => Self::internal(message),
        }
    }
}

/// Cuts the DATA frames of a call into gRPC messages ("Length-Prefixed-Message" of gRPC over
/// HTTP/2).
///
/// A message that lies within one frame is a slice of it. One that does not is gathered: each byte
/// is copied once, into memory of the announced length, so that many small frames hold nothing
/// else.
///
/// After an error, only errors follow.
#[derive(Debug)]
pub(crate) struct MessageReader {
    message_bytes_max: usize,
    /// What has not been read of the newest frame.
    unread: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    Prefix {
        bytes: [u8; PREFIX_BYTES],
        have: usize,
    },
    /// `length` is more than the frame that it began in.
    Gathering {
        message: BytesMut,
        length: usize,
    },
    Failed(FramingError),
}

const AT_PREFIX: State = State::Prefix { bytes: [0; PREFIX_BYTES], have: 0 };

impl MessageReader {
    pub(crate) const fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, unread: Bytes::new(), state: AT_PREFIX }
    }

    /// Takes the next frame. [`next_message`](Self::next_message) has said that it needs one.
    pub(crate) fn feed(&mut self, frame: Bytes) {
        debug_assert!(self.unread.is_empty(), "the frame before has not been read");
        self.unread = frame;
    }

    /// The next message, without its prefix; `None` if it takes another frame.
    ///
    /// # Errors
    /// [`FramingError`] if the client breaks the protocol; the messages before were given out.
    pub(crate) fn next_message(&mut self) -> Result<Option<Bytes>, FramingError> {
        if let State::Prefix { bytes, have } = &mut self.state {
            let wanted = (PREFIX_BYTES - *have).min(self.unread.len());
            if let Some(slots) = bytes.get_mut(*have..*have + wanted) {
                self.unread.copy_to_slice(slots);
                *have += wanted;
            }
            if *have < PREFIX_BYTES {
                return Ok(None);
            }
            let prefix = *bytes;
            let length = self.length(prefix).inspect_err(|&error| self.fail(error))?;
            if length <= self.unread.len() {
                self.state = AT_PREFIX;
                return Ok(Some(self.unread.split_to(length)));
            }
            self.state = State::Gathering { message: BytesMut::with_capacity(length), length };
        }
        match &mut self.state {
            State::Gathering { message, length } => {
                let wanted = (*length - message.len()).min(self.unread.len());
                message.put(self.unread.split_to(wanted));
                if message.len() < *length {
                    return Ok(None);
                }
                let message = std::mem::take(message).freeze();
                self.state = AT_PREFIX;
                Ok(Some(message))
            }
            State::Failed(error) => Err(*error),
            State::Prefix { .. } => Ok(None),
        }
    }

    /// The client sends no more.
    ///
    /// # Errors
    /// [`FramingError::Truncated`] if that is in the middle of a message.
    pub(crate) fn end(&self) -> Result<(), FramingError> {
        match self.state {
            State::Prefix { have: 0, .. } if self.unread.is_empty() => Ok(()),
            State::Failed(error) => Err(error),
            State::Prefix { .. } | State::Gathering { .. } => Err(FramingError::Truncated),
        }
    }

    fn length(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, FramingError> {
        let [flag, length @ ..] = prefix;
        match flag {
            0 => {}
            1 => return Err(FramingError::Compressed),
            flag => return Err(FramingError::InvalidFlag { flag }),
        }
        let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let max = self.message_bytes_max;
        if bytes <= max { Ok(bytes) } else { Err(FramingError::TooLarge { bytes, max }) }
    }

    fn fail(&mut self, error: FramingError) {
        self.unread = Bytes::new();
        self.state = State::Failed(error);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn encoded(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.push(0);
            bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }

    fn read(frames: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), FramingError>) {
        let (mut reader, mut messages) = (MessageReader::new(MAX), Vec::new());
        for frame in frames {
            reader.feed(Bytes::copy_from_slice(frame));
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => messages.push(message.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (messages, Err(error)),
                }
            }
        }
        let end = reader.end();
        (messages, end)
    }

    #[test]
    fn a_message_within_one_frame_is_not_copied() {
        let frame = Bytes::from(encoded(&[vec![1; 100], vec![], vec![2; 100_000]]));
        let mut reader = MessageReader::new(MAX);
        reader.feed(frame.clone());
        for at in [5, 110, 115] {
            let message = reader.next_message().unwrap().unwrap();
            assert_eq!(message.as_ptr(), frame[at..].as_ptr());
        }
        assert_eq!(reader.next_message(), Ok(None));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn any_two_cuts_give_the_same_messages() {
        let messages = [b"first".to_vec(), vec![], b"third one".to_vec()];
        let bytes = encoded(&messages);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let frames = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read(&frames), (messages.to_vec(), Ok(())), "{first} {second}");
            }
        }
    }

    #[test]
    fn an_end_within_a_message_is_an_error() {
        let bytes = encoded(&[b"whole".to_vec(), b"cut".to_vec()]);
        for len in 0..=bytes.len() {
            let expected = match len {
                0 | 10 | 18 => Ok(()),
                _ => Err(FramingError::Truncated),
            };
            assert_eq!(read(&[&bytes[..len]]).1, expected, "{len}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_behind_what_came_before() {
        fn check(bytes: &[u8], expected: FramingError, code: tonic::Code) {
            let all = [&encoded(&[b"before".to_vec()]), bytes].concat();
            let frames: Vec<_> = all.chunks(1).collect();
            for frames in [&[all.as_slice()], frames.as_slice()] {
                assert_eq!(read(frames), (vec![b"before".to_vec()], Err(expected)));
            }
            assert_eq!(Status::from(expected).code(), code);
        }
        check(&[1, 0, 0, 0, 0], FramingError::Compressed, tonic::Code::Internal);
        check(&[2, 0, 0, 0, 0], FramingError::InvalidFlag { flag: 2 }, tonic::Code::Internal);
        let bytes = MAX + 1;
        let too_large = FramingError::TooLarge { bytes, max: MAX };
        check(&[0, 0, 16, 0, 1], too_large, tonic::Code::OutOfRange);
    }

    #[test]
    fn an_error_stays() {
        let mut reader = MessageReader::new(MAX);
        reader.feed(Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(reader.next_message(), Err(FramingError::Compressed));
        reader.feed(Bytes::from_static(&[0, 0, 0, 0, 0]));
        assert_eq!(reader.next_message(), Err(FramingError::Compressed));
        assert_eq!(reader.end(), Err(FramingError::Compressed));
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = encoded(&messages);
            cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
            let (mut frames, mut from) = (Vec::new(), 0);
            for to in cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]) {
                frames.push(&bytes[from..to]);
                from = to;
            }
            prop_assert_eq!(read(&frames), (messages, Ok(())));
        }

        #[test]
        fn no_bytes_make_it_panic(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        ) {
            let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
            let total = frames.concat().len();
            let (messages, _end) = read(&frames);
            prop_assert!(messages.concat().len() + messages.len() * PREFIX_BYTES <= total);
        }
    }
}
