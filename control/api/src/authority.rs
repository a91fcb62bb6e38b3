//! Makes a socket's path acceptable as `:authority`.
//!
//! Clients of gRPC's C core (Python, C++, Ruby) and of Java name the path of a unix socket as the
//! authority, `tmp%2Fapi.sock` or `/tmp/api.sock`. It is no authority by RFC 3986 §3.2, and h2
//! resets the call before anybody can look at it. What is wrong with it are the characters `%`,
//! `/` and space. Each is replaced by `-`, which has the same length, also in HPACK's Huffman code
//! (RFC 7541 appendix B: six bits), so that no other byte of the connection changes and both ends'
//! header tables agree.
//!
//! Whatever else is wrong with a client's bytes is passed on for h2 to judge.

/// Length of the connection preface, RFC 9113 §3.4.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Stream dependency and weight.
const PRIORITY_BYTES: usize = 5;

/// Looks at what a client sends over one connection, in pieces of any size.
#[derive(Debug)]
pub(crate) struct AuthorityFilter {
    preface_left: usize,
    header: [u8; FRAME_HEADER_BYTES],
    header_have: usize,
    /// Of the frame that is being read.
    payload_left: usize,
    /// It carries a piece of a header block.
    in_block: bool,
    pad_length_due: bool,
    /// Bytes in front of the piece.
    front_left: usize,
    /// Bytes of the piece; padding follows.
    piece_left: usize,
    block: HeaderBlock,
}

impl AuthorityFilter {
    pub(crate) const fn new() -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            header: [0; FRAME_HEADER_BYTES],
            header_have: 0,
            payload_left: 0,
            in_block: false,
            pad_length_due: false,
            front_left: 0,
            piece_left: 0,
            block: HeaderBlock::new(),
        }
    }

    /// Corrects the next `bytes` of the connection.
    pub(crate) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let wanted = match (self.preface_left, self.payload_left) {
                (0, 0) => FRAME_HEADER_BYTES - self.header_have,
                (0, payload) => payload,
                (preface, _) => preface,
            };
            let (now, rest) = bytes.split_at_mut(wanted.min(bytes.len()));
            bytes = rest;
            if self.preface_left > 0 {
                self.preface_left -= now.len();
            } else if self.payload_left > 0 {
                self.payload_left -= now.len();
                if self.in_block {
                    self.pass_payload(now);
                }
            } else {
                self.pass_header(now);
            }
        }
    }

    fn pass_header(&mut self, now: &[u8]) {
        for (slot, &byte) in self.header.iter_mut().skip(self.header_have).zip(now) {
            *slot = byte;
        }
        self.header_have += now.len();
        if self.header_have < FRAME_HEADER_BYTES {
            return;
        }
        self.header_have = 0;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.in_block = kind == HEADERS || kind == CONTINUATION;
        let (padded, priority) = match kind {
            HEADERS => (flags & FLAG_PADDED != 0, flags & FLAG_PRIORITY != 0),
            _ => (false, false),
        };
        self.pad_length_due = padded;
        self.front_left = if priority { PRIORITY_BYTES } else { 0 };
        self.piece_left = self.payload_left.saturating_sub(self.front_left);
        if kind == HEADERS {
            self.block = HeaderBlock::new();
        }
    }

    fn pass_payload(&mut self, mut now: &mut [u8]) {
        if self.pad_length_due
            && let Some((&mut padding, rest)) = std::mem::take(&mut now).split_first_mut()
        {
            self.pad_length_due = false;
            self.piece_left = self.piece_left.saturating_sub(1 + usize::from(padding));
            now = rest;
        }
        let front = self.front_left.min(now.len());
        self.front_left -= front;
        let piece = self.piece_left.min(now.len() - front);
        self.piece_left -= piece;
        if let Some(piece) = now.get_mut(front..front + piece) {
            self.block.pass(piece);
        }
    }
}

/// What comes next in a header block, RFC 7541 §6.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The first byte of a field.
    Field,
    /// The rest of an integer that did not fit its prefix.
    Integer { value: usize, shift: u32, then: Then },
    /// The first byte of a string.
    Length { string: Text },
    /// A string's bytes.
    Bytes { string: Text, huffman: bool, left: usize },
    /// Something that makes no sense here: h2 will say so.
    Lost,
}

/// What an integer is.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// An index or a size that ends the field.
    Nothing,
    /// Where the name of a literal field stands; 0: it follows.
    Name,
    /// A string's length.
    Bytes { string: Text, huffman: bool },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Text {
    Name,
    Authority,
    OtherValue,
}

const AUTHORITY_NAME: &[u8] = b":authority";
/// Index of `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;

#[derive(Debug)]
struct HeaderBlock {
    next: Next,
    /// How much of the name agrees with `:authority`; `None` if it does not.
    name_agrees: Option<usize>,
    huffman: HuffmanText,
}

impl HeaderBlock {
    const fn new() -> Self {
        Self { next: Next::Field, name_agrees: None, huffman: HuffmanText::new() }
    }

    fn pass(&mut self, piece: &mut [u8]) {
        for at in 0..piece.len() {
            let (before, from) = piece.split_at_mut(at);
            if let Some(byte) = from.first_mut() {
                self.pass_byte(before.last_mut(), byte);
            }
        }
    }

    fn pass_byte(&mut self, previous: Option<&mut u8>, byte: &mut u8) {
        match self.next {
            Next::Lost => {}
            Next::Field => {
                let (prefix, then) = match *byte {
                    0x80.. => (0x7f, Then::Nothing),
                    0x40.. => (0x3f, Then::Name),
                    0x20.. => (0x1f, Then::Nothing),
                    _ => (0x0f, Then::Name),
                };
                self.integer(*byte & prefix, prefix, then);
            }
            Next::Length { string } => {
                let huffman = *byte & 0x80 != 0;
                self.integer(*byte & 0x7f, 0x7f, Then::Bytes { string, huffman });
            }
            Next::Integer { value, shift, then } => {
                let more = usize::from(*byte & 0x7f).checked_shl(shift);
                match more.and_then(|more| value.checked_add(more)) {
                    Some(value) if *byte & 0x80 != 0 && shift < 28 => {
                        self.next = Next::Integer { value, shift: shift + 7, then };
                    }
                    Some(value) if *byte & 0x80 == 0 => self.integer_done(value, then),
                    _ => self.next = Next::Lost,
                }
            }
            Next::Bytes { string, huffman, left } => {
                match (string, huffman) {
                    (Text::Authority, true) => self.huffman.pass(previous, byte),
                    (Text::Authority, false) if matches!(byte, b'%' | b'/' | b' ') => *byte = b'-',
                    (Text::Name, _) => {
                        let same = |&at: &usize| AUTHORITY_NAME.get(at) == Some(byte) && !huffman;
                        self.name_agrees = self.name_agrees.filter(same).map(|at| at + 1);
                    }
                    (Text::Authority | Text::OtherValue, _) => {}
                }
                self.bytes_left(string, huffman, left - 1);
            }
        }
    }

    fn integer(&mut self, value: u8, prefix: u8, then: Then) {
        let value_wide = usize::from(value);
        if value == prefix {
            self.next = Next::Integer { value: value_wide, shift: 0, then };
        } else {
            self.integer_done(value_wide, then);
        }
    }

    fn integer_done(&mut self, value: usize, then: Then) {
        match then {
            Then::Nothing => self.next = Next::Field,
            Then::Name if value == 0 => {
                self.name_agrees = Some(0);
                self.next = Next::Length { string: Text::Name };
            }
            Then::Name if value == AUTHORITY_INDEX => {
                self.next = Next::Length { string: Text::Authority };
            }
            Then::Name => self.next = Next::Length { string: Text::OtherValue },
            Then::Bytes { string, huffman } => {
                self.huffman = HuffmanText::new();
                self.bytes_left(string, huffman, value);
            }
        }
    }

    fn bytes_left(&mut self, string: Text, huffman: bool, left: usize) {
        self.next = match string {
            _ if left > 0 => Next::Bytes { string, huffman, left },
            Text::Name if self.name_agrees == Some(AUTHORITY_NAME.len()) => {
                Next::Length { string: Text::Authority }
            }
            Text::Name => Next::Length { string: Text::OtherValue },
            Text::Authority | Text::OtherValue => Next::Field,
        };
    }
}

/// Finds the characters of a Huffman-coded text, as far as their codes have at most eight bits:
/// those of letters, digits and the usual punctuation have.
#[derive(Debug)]
struct HuffmanText {
    code: u8,
    code_bits: u32,
    lost: bool,
}

impl HuffmanText {
    const SPACE: u8 = 0b01_0100;
    const PERCENT: u8 = 0b01_0101;
    const HYPHEN: u8 = 0b01_0110;
    const SLASH: u8 = 0b01_1000;

    const fn new() -> Self {
        Self { code: 0, code_bits: 0, lost: false }
    }

    /// Takes the next byte. A character that began in the previous one is corrected there too; if
    /// that has been passed on already, it stays.
    fn pass(&mut self, mut previous: Option<&mut u8>, byte: &mut u8) {
        let original = *byte;
        for below in (0..8_u32).rev() {
            if self.lost {
                return;
            }
            self.code = self.code << 1 | (original >> below & 1);
            self.code_bits += 1;
            // The code is canonical: the shorter ones are the smaller ones.
            let complete = match self.code_bits {
                5 => self.code <= 0x09,
                6 => self.code <= 0x2d,
                7 => self.code <= 0x7b,
                8 => self.code <= 0xfd,
                _ => false,
            };
            if complete {
                if matches!(
                    (self.code_bits, self.code),
                    (6, Self::SPACE | Self::PERCENT | Self::SLASH)
                ) {
                    let change = u16::from(self.code ^ Self::HYPHEN) << below;
                    let [high, low] = change.to_be_bytes();
                    match previous.as_deref_mut() {
                        Some(previous) => {
                            *previous ^= high;
                            *byte ^= low;
                        }
                        None if high == 0 => *byte ^= low,
                        None => {}
                    }
                }
                (self.code, self.code_bits) = (0, 0);
            } else if self.code_bits == 8 {
                self.lost = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = payload.len().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// `:method POST` from the static table, then the authority as given.
    fn block(authority: &[u8]) -> Vec<u8> {
        [&[0x83], authority, &[0x86]].concat()
    }

    /// Passes the frames in pieces of every size, which must not matter.
    fn check(frames: &[u8], expected: &[u8]) {
        let connection =
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, &[0; 6])[..], frames].concat();
        let len = connection.len() - frames.len();
        for size in 1..=connection.len() {
            let mut passed = connection.clone();
            let mut filter = AuthorityFilter::new();
            passed.chunks_mut(size).for_each(|piece| filter.pass(piece));
            assert_eq!(&passed[len..], expected, "in pieces of {size}");
            assert_eq!(&passed[..len], &connection[..len]);
        }
    }

    #[test]
    fn a_plain_text_is_corrected_whatever_names_it() {
        // As gRPC's C core writes it: a literal name.
        let literal = |value: &[u8]| block(&[b"\x40\x0a:authority\x0d", value].concat());
        let (from, to) =
            (frame(1, 4, &literal(b"tmp%2Fapi.soc")), frame(1, 4, &literal(b"tmp-2Fapi.soc")));
        check(&from, &to);
        // With the static table's name, not indexed.
        let indexed = |value: &[u8]| block(&[b"\x01\x0d", value].concat());
        check(&frame(1, 4, &indexed(b"/tmp/api.sock")), &frame(1, 4, &indexed(b"-tmp-api.sock")));
    }

    #[test]
    fn other_fields_and_frames_are_left_alone() {
        let path = block(b"\x44\x06/a.b/C\x40\x05:path\x04/%2F");
        check(&frame(1, 4, &path), &frame(1, 4, &path));
        let data = frame(0, 0, b"\x40\x0a:authority\x0d/tmp/api.sock");
        check(&data, &data);
        let good = frame(1, 4, &block(b"\x41\x09localhost"));
        check(&good, &good);
    }

    #[test]
    fn padding_priority_and_continuation_are_skipped_over() {
        let padded = |value: &[u8]| {
            let block = block(&[b"\x41\x04", value].concat());
            frame(1, 4 | FLAG_PADDED | FLAG_PRIORITY, &[b"\x02PRIO5", &block[..], b"//"].concat())
        };
        check(&padded(b"/a/b"), &padded(b"-a-b"));
        let split = |value: &[u8]| {
            let block = block(&[b"\x41\x04", value].concat());
            let (first, second) = block.split_at(5);
            [frame(1, 0, first), frame(CONTINUATION, 4, second)].concat()
        };
        check(&split(b"/a/b"), &split(b"-a-b"));
    }

    #[test]
    fn a_huffman_coded_text_is_corrected() {
        // "/a%b" and "-a-b", worked out by hand from RFC 7541 appendix B.
        let (from, to) = (block(b"\x41\x83\x60\x6a\xc7"), block(b"\x41\x83\x58\x6b\x47"));
        let mut passed = frame(1, 4, &from);
        let mut filter = AuthorityFilter { preface_left: 0, ..AuthorityFilter::new() };
        filter.pass(&mut passed);
        assert_eq!(passed, frame(1, 4, &to));
        // RFC 7541 C.4.1: "www.example.com".
        let good = b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        check(&frame(1, 4, &block(good)), &frame(1, 4, &block(good)));
    }

    #[test]
    fn nonsense_is_passed_on() {
        for nonsense in [
            &b"\x7f\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\x41\x7f\xff\xff\xff\xff\x0fxx",
            b"\x41\xff\xff\xff\xff\xff\xff",
            b"\x41\x84\xff\xff\xff\xff",
        ] {
            let frames = frame(1, 4, nonsense);
            check(&frames, &frames);
        }
        let cut = frame(1, 4 | FLAG_PADDED, b"\xff\x41\x01/");
        check(&cut, &cut);
    }
}
