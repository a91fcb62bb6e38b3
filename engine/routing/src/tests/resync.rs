//! Two parts of a mesh of a thousand nodes come together: what their neighbours at the border say to
//! each other meets no limit.

use std::time::Duration;

use hawser_wire::NodeId;

use super::{check_all, lsa, millis, node};
use crate::message::Message;
use crate::{Flooding, Judgement, Lsa};

const NODES: u32 = 1000;

fn id(number: u32) -> NodeId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    NodeId::from_bytes(id)
}

fn numbered(number: u32, sequence: u64) -> Lsa {
    Lsa { origin: id(number), ..lsa(9, 1, sequence, &[(2, 1), (3, 1), (4, 1)]) }
}

/// What somebody behind `at` says.
fn tell(at: &mut Flooding, ms: u64, lsa: &Lsa) {
    let mut encoding = Vec::new();
    lsa.encode(&mut encoding);
    let message = Message::encode_lsa(Duration::from_secs(3600), &encoding);
    at.handle_message(millis(ms), node(99), &message).unwrap();
    check_all(at, millis(ms), &mut |_| Judgement::Accept).unwrap();
}

/// Lets both say all they have to say at this time; how many digests are among it.
fn talk(ends: &mut [Flooding; 2], ms: u64) -> usize {
    let mut digests = 0;
    loop {
        let mut said = false;
        for at in [0, 1] {
            ends[at].handle_timeout(millis(ms));
            while let Some((to, bytes)) = ends[at].poll_transmit() {
                let other = &mut ends[1 - at];
                if to == other.node {
                    other
                        .handle_message(millis(ms), node(u8::try_from(at).unwrap()), &bytes)
                        .unwrap();
                    check_all(other, millis(ms), &mut |_| Judgement::Accept).unwrap();
                    said = true;
                    digests +=
                        usize::from(matches!(Message::decode(&bytes), Ok(Message::Digest(_))));
                }
            }
        }
        if !said {
            return digests;
        }
    }
}

#[test]
fn neighbours_agree_as_soon_as_they_have_told_each_other_all() {
    for (of_one, of_other) in [(0..3, 3..6), (0..3, 0..6), (0..600, 300..900)] {
        let mut ends = [Flooding::new(node(0)), Flooding::new(node(1))];
        for (end, numbers) in ends.iter_mut().zip([of_one, of_other]) {
            end.handle_neighbour_up(millis(0), node(99), true);
            numbers.for_each(|number| tell(end, 1, &numbered(number, 1)));
        }
        for (at, other) in [(0, 1), (1, 0)] {
            ends[at].handle_neighbour_up(millis(10), node(other), true);
        }
        let digests: usize = (10..500).map(|ms| talk(&mut ends, ms)).sum();
        for (at, other) in [(0, 1), (1, 0)] {
            assert_eq!(ends[at].digest_agrees(node(other)), Some(true), "{at}");
        }
        // One each when the link comes up, and one each at the end.
        assert!(digests <= 4, "{digests}");
        // They differ again when one has said what the other one lacks, and nothing is said of that.
        tell(&mut ends[0], 600, &numbered(7000, 1));
        assert_eq!(ends[0].digest_agrees(node(1)), Some(true), "as of the digest that was heard");
        assert_eq!((600..900).map(|ms| talk(&mut ends, ms)).sum::<usize>(), 0);
    }
}

/// The neighbour was ahead when it said its last digest.
#[test]
fn what_makes_the_databases_equal_makes_neighbours_agree() {
    let mut ends = [Flooding::new(node(0)), Flooding::new(node(1))];
    for end in &mut ends {
        end.handle_neighbour_up(millis(0), node(99), true);
        end.handle_neighbour_up(millis(0), node(2), true);
    }
    tell(&mut ends[1], 1, &numbered(3, 1));
    let digest = Message::encode_digest(ends[1].lsdb().digest());
    ends[0].handle_message(millis(2), node(2), &digest).unwrap();
    assert_eq!(ends[0].digest_agrees(node(2)), Some(false));
    tell(&mut ends[0], 3, &numbered(3, 1));
    assert_eq!(ends[0].digest_agrees(node(2)), Some(true));
    tell(&mut ends[0], 4, &numbered(3, 2));
    assert_eq!(ends[0].digest_agrees(node(2)), Some(true), "until it says another digest");
}

#[test]
fn the_border_of_a_thousand_nodes_meets_no_limit() {
    let mut ends = [Flooding::new(node(0)), Flooding::new(node(1))];
    for end in &mut ends {
        end.handle_neighbour_up(millis(0), node(99), true);
    }
    // Each side knows what the other has said before they parted, and half of all have spoken since.
    for number in 0..NODES {
        let newer = usize::try_from(number % 2).unwrap();
        tell(&mut ends[newer], 1, &numbered(number, 2));
        tell(&mut ends[1 - newer], 1, &numbered(number, 1));
    }
    let (mut ms, mut spoken) = (0, 2);
    for _ in 0..20 {
        // The link comes and goes, as while many links of a border come back.
        for (at, other) in [(0, 1), (1, 0)] {
            ends[at].handle_neighbour_up(millis(ms), node(other), true);
        }
        for _ in 0..700 {
            ms += 1;
            if ms % 10 == 0 {
                spoken += 1;
                let number = u32::try_from(ms).unwrap() % NODES;
                tell(
                    &mut ends[usize::try_from(ms / 10 % 2).unwrap()],
                    ms,
                    &numbered(number, spoken),
                );
            }
            talk(&mut ends, ms);
        }
    }
    for _ in 0..20_000 {
        ms += 1;
        talk(&mut ends, ms);
    }
    assert_eq!(ends[0].lsdb().digest(), ends[1].lsdb().digest());
    assert_eq!(ends[0].lsdb().len(), usize::try_from(NODES).unwrap());
    for end in &ends {
        let limited: Vec<_> = end.rejects().filter(|(name, _)| *name != "stale").collect();
        assert_eq!(limited, []);
    }
}
