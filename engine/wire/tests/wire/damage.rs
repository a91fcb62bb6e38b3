//! Golden vectors cut short, lengthened, and with each bit turned over in turn.

use hawser_wire::{BootEpoch, DecodeError, RecordView};

use crate::layouts::{End, LAYOUTS};
use crate::vectors::vector;

#[test]
fn every_truncation_is_an_error() {
    for layout in LAYOUTS {
        for label in layout.vectors {
            let whole = vector(label);
            // What is a value and a payload of any length is cut within the value alone.
            let must_fail = if *label == "lane-fragment" { 2 } else { whole.len() };
            for len in 0..must_fail {
                // A notice may end before what it says of a bound.
                if *label == "notice" && len == 53 {
                    continue;
                }
                let error = (layout.recode)(&whole[..len]);
                assert!(error.is_err(), "{label} cut to {len} of {} bytes", whole.len());
            }
        }
    }
}

#[test]
fn what_stands_behind_a_value_is_refused_ignored_or_handed_back() {
    for layout in LAYOUTS {
        for label in layout.vectors {
            let longer = [vector(label), &[0xa5, 0x5a]].concat();
            match (layout.end, (layout.recode)(&longer)) {
                (End::Closed, result) => assert!(result.is_err(), "{label}"),
                (End::Open, result) => assert_eq!(result.unwrap(), vector(label), "{label}"),
                (End::Front, result) => assert_eq!(result.unwrap(), longer, "{label}"),
            }
        }
    }
}

#[test]
fn every_turned_bit_gives_an_error_or_another_value() {
    for layout in LAYOUTS {
        for label in layout.vectors {
            for_each_flip(vector(label), |at, flipped| {
                // One value has one encoding: what decodes is the value that these bytes stand for.
                let _ = layout.check(flipped).inspect_err(|error| {
                    assert!(!error.to_string().is_empty(), "{label} bit {at}");
                });
            });
        }
    }
}

#[test]
fn a_turned_bit_in_a_frame_header_is_always_noticed() {
    for_each_flip(vector("frame-header"), |at, flipped| {
        let result = hawser_wire::FrameHeader::decode(flipped);
        assert!(matches!(result, Err(DecodeError::Checksum { .. })), "bit {at}: {result:?}");
    });
}

/// The fence epoch is the one field that changes on a resend and stands outside the checksum.
#[test]
fn a_turned_bit_in_a_record_is_noticed_everywhere_but_in_the_fence_epoch() {
    const FENCE_BITS: std::ops::Range<usize> = 72 * 8..80 * 8;
    let whole = RecordView::decode(vector("record")).unwrap();
    for_each_flip(vector("record"), |at, flipped| {
        let result = RecordView::decode(flipped);
        if FENCE_BITS.contains(&at) {
            let fence_epoch =
                BootEpoch(whole.header.fence_epoch.0 ^ (1 << (at - FENCE_BITS.start)));
            assert_eq!(result.unwrap().header.fence_epoch, fence_epoch);
        } else {
            assert!(result.is_err(), "bit {at}: {result:?}");
        }
    });
}

fn for_each_flip(bytes: &[u8], mut check: impl FnMut(usize, &[u8])) {
    let mut flipped = bytes.to_vec();
    for at in 0..bytes.len() * 8 {
        flipped[at / 8] ^= 1 << (at % 8);
        check(at, &flipped);
        flipped[at / 8] ^= 1 << (at % 8);
    }
}
