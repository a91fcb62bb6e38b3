//! What is said by one neighbour, or of it, is in no other one's way.

use hawser_exchange::{LinkEventReport, ShardToControl};
use hawser_plane::EventKind;
use hawser_wire::StreamId;
use tokio::time::timeout;

use crate::node::{PATIENCE, chain, event};

/// A link message of a kind that nobody knows.
const UNKNOWN: u8 = 200;
/// One that floods nothing that makes sense.
const NONSENSE: [u8; 3] = [1, 1, 2];

#[tokio::test]
async fn a_neighbour_that_says_much_keeps_no_other_waiting() {
    let (a, b, c) = chain().await;
    let (noisy, quiet) = (a.id(), c.id());
    let mut events = b.handle.events();
    // All over one ring, whatever shards the links belong to.
    let stream = StreamId::from_bytes([0; 16]);
    let say = |from, body: Vec<u8>| {
        b.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    };
    for _ in 0..300 {
        say(noisy, [&[UNKNOWN], &[0; 100 << 10][..]].concat());
    }
    say(noisy, NONSENSE.to_vec());
    say(quiet, NONSENSE.to_vec());
    let first = event(&mut events, EventKind::Refused).await;
    let second = event(&mut events, EventKind::Refused).await;
    assert_eq!((first.node, second.node), (Some(quiet), Some(noisy)), "{first:?} {second:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_link_on_which_much_happens_takes_no_other_ones_history() {
    let (a, b, c) = chain().await;
    let tell = |peer, name, count: u32| {
        for _ in 0..count {
            let report = Box::new(LinkEventReport { peer, name, inputs: Vec::new() });
            b.say_of_link(peer, ShardToControl::LinkEvent(report));
        }
    };
    tell(c.id(), "lane-quiet", 3);
    tell(a.id(), "mode-changed", 5_000);
    tell(a.id(), "lane-heard", 1);
    let all_is_told = async {
        loop {
            let told = b.handle.lane_events(Some("a".to_owned())).await.expect("known");
            if told.kept.last().is_some_and(|event| event.name == "lane-heard") {
                return told.kept.len();
            }
        }
    };
    let of_noisy = timeout(PATIENCE, all_is_told).await.expect("told in time");
    assert!((3_000..5_000).contains(&of_noisy), "{of_noisy}");
    let told = b.handle.lane_events(Some("c".to_owned())).await.expect("known");
    assert_eq!(told.kept.iter().filter(|event| event.name == "lane-quiet").count(), 3);
    for node in [a, b, c] {
        node.stop().await;
    }
}
