/// How much is acknowledged at once, as either end asks of the other.
///
/// Who may have little in flight waits for acknowledgements with all the rest, and a peer that does not
/// know it sends them by its timer: a round trip of a short path would take a millisecond more. So it is
/// told how much of what is sent is to be acknowledged without delay. What is far below the bound needs
/// none of that, so that lone messages cost no acknowledgement more.
#[derive(Debug, Default)]
pub(crate) struct AckInterval {
    /// What the peer was asked for last.
    asked: Option<u64>,
    /// What it has asked for.
    peer: Option<u64>,
}

/// In so many parts, at least, what may be in flight is acknowledged.
const PARTS: u64 = 2;
/// The least that is asked for, in bytes: frames are hardly smaller where it matters.
const BYTES_MIN: u64 = 512;
/// The peer is told of a larger part when it has grown by so much: rates go up and down.
const GROWTH: u64 = 4;

impl AckInterval {
    /// So many bytes are in flight now, of so many that may be, and the peer acknowledges `default_bytes`
    /// at once. What it is to be asked for, if anything.
    pub(crate) fn handle_send(
        &mut self,
        in_flight_bytes: u64,
        bound_bytes: u64,
        default_bytes: u64,
    ) -> Option<u32> {
        let part = bound_bytes.checked_div(PARTS).unwrap_or(0);
        // A power of two: not each small change is told.
        let bytes = 1_u64.checked_shl(part.checked_ilog2().unwrap_or(0)).unwrap_or(part);
        let bytes = bytes.clamp(BYTES_MIN, default_bytes);
        let fills = in_flight_bytes >= part;
        let is_news = match self.asked {
            // Whoever has far more room now wants fewer acknowledgements, whatever is in flight.
            Some(asked) if bytes > asked => {
                let all = bytes == default_bytes && part >= default_bytes.saturating_mul(2);
                all || bytes >= asked.saturating_mul(GROWTH)
            }
            Some(asked) => fills && bytes < asked,
            None => fills && bytes < default_bytes,
        };
        if !is_news {
            return None;
        }
        self.asked = Some(bytes);
        u32::try_from(bytes).ok()
    }

    /// The peer may not have heard what it was asked for.
    pub(crate) const fn forget_asked(&mut self) {
        self.asked = None;
    }

    /// The peer asks for an acknowledgement of so many bytes.
    pub(crate) fn handle_peer(&mut self, bytes: u32) {
        self.peer = Some(u64::from(bytes).max(BYTES_MIN));
    }

    /// So many bytes that are not acknowledged yet are so now.
    pub(crate) fn is_due(&self, unacked_bytes: u64) -> bool {
        self.peer.is_some_and(|bytes| unacked_bytes >= bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u64 = 256 << 10;

    #[test]
    fn who_fills_its_bound_asks_once_and_again_when_it_has_less() {
        let mut interval = AckInterval::default();
        assert_eq!(interval.handle_send(9_000, 20_000, DEFAULT), None, "far below");
        assert_eq!(interval.handle_send(10_000, 20_000, DEFAULT), Some(8_192));
        assert_eq!(interval.handle_send(20_000, 20_000, DEFAULT), None, "it is told");
        assert_eq!(interval.handle_send(16_384, 16_384, DEFAULT), None);
        assert_eq!(interval.handle_send(16_383, 16_383, DEFAULT), Some(4_096));
        assert_eq!(interval.handle_send(32_767, 32_767, DEFAULT), None, "not much more");
        assert_eq!(interval.handle_send(1, 32_768, DEFAULT), Some(16_384), "little is in flight");
        interval.forget_asked();
        assert_eq!(interval.handle_send(1, 32_768, DEFAULT), None);
        assert_eq!(interval.handle_send(32_768, 32_768, DEFAULT), Some(16_384));
        assert_eq!(interval.handle_send(1, 300 << 10, DEFAULT), Some(128 << 10));
        // What the peer does anyway is the most that is asked for, and not at each change nearby.
        assert_eq!(interval.handle_send(1, (1 << 20) - 1, DEFAULT), None);
        assert_eq!(interval.handle_send(1, 1 << 20, DEFAULT), Some(256 << 10));
        assert_eq!(interval.handle_send(1 << 30, 1 << 30, DEFAULT), None);
        assert_eq!(AckInterval::default().handle_send(1 << 30, 1 << 30, DEFAULT), None);
        assert_eq!(AckInterval::default().handle_send(1, 1, DEFAULT), Some(512));
    }

    #[test]
    fn a_peer_that_asks_for_next_to_nothing_gets_no_acknowledgement_for_each_byte() {
        let mut interval = AckInterval::default();
        assert!(!interval.is_due(u64::MAX), "it has not asked");
        interval.handle_peer(0);
        assert!(!interval.is_due(511));
        assert!(interval.is_due(512));
        interval.handle_peer(8_192);
        assert!(!interval.is_due(8_191));
    }
}
