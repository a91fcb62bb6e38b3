//! Neighbours' control is handled in turns.

use hawser_exchange::ShardToControl;
use hawser_plane::EventKind;
use hawser_wire::StreamId;

use crate::node::{chain, event};

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
