//! What nodes hold of streams, as configured.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use tempfile::TempDir;

use crate::link_mode::pair;
use crate::process::{Guarded, Node, run, wait_for};

/// Messages of `--raw` have at most as much.
const MESSAGE_BYTES: u64 = 64 << 10;

/// Publishes so many bytes at `a`, which nobody takes yet.
fn publish(a: &Node, directory: &TempDir, bytes: usize) -> (Guarded, Vec<u8>) {
    let sent: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
    let input = directory.path().join("input");
    std::fs::write(&input, &sent).unwrap();
    let stdin = Stdio::from(File::open(&input).unwrap());
    (a.spawn(&["stream", "pub", "s", "--raw"], stdin), sent)
}

/// What a node holds of the stream `s`, once that is as much as `least`; and still, after all of another
/// stream has come from one end to the other.
fn held(a: &Node, b: &Node, (at, role): (&Node, &str), least: u64) -> u64 {
    let held = || at.stream("s", role).and_then(|stream| stream["buffered_bytes"].as_u64());
    wait_for("the bound to be reached", || held().filter(|bytes| *bytes >= least));
    a.run(&["stream", "open", "beside", "--to", "b"]).ok();
    a.feed(&["stream", "pub", "beside"], b"one\n").ok();
    b.run(&["stream", "sub", "beside", "--count", "1"]).ok();
    held().unwrap()
}

fn take(b: &Node, mut publisher: Guarded, sent: &[u8]) {
    let mut subscriber = b.spawn(&["stream", "sub", "s", "--raw"], Stdio::null());
    let mut received = vec![0; sent.len()];
    subscriber.0.stdout.as_mut().unwrap().read_exact(&mut received).unwrap();
    assert!(received == sent, "the bytes differ");
    assert_eq!(publisher.wait(), Some(0));
}

#[test]
fn a_destination_holds_the_window_that_it_is_configured_with() {
    const WINDOW: u64 = 256 << 10;
    let (directory, a, b) = pair("", "[streams]\nwindow_bytes = 262_144\n");
    let (publisher, sent) = publish(&a, &directory, 1 << 20);
    let held = held(&a, &b, (&b, "destination"), WINDOW - MESSAGE_BYTES);
    assert!(held <= WINDOW + MESSAGE_BYTES, "{held} bytes");
    take(&b, publisher, &sent);
}

#[test]
fn a_source_holds_the_outbox_that_it_is_configured_with() {
    const OUTBOX: u64 = 2 << 20;
    let (directory, a, b) = pair("[streams]\noutbox_bytes = 2_097_152\n", "");
    let (publisher, sent) = publish(&a, &directory, 8 << 20);
    let held = held(&a, &b, (&a, "source"), OUTBOX - MESSAGE_BYTES);
    assert!(held <= OUTBOX + MESSAGE_BYTES, "{held} bytes");
    take(&b, publisher, &sent);
}

#[test]
fn the_least_bounds_carry_the_largest_messages() {
    const LEAST: &str = "[streams]\nwindow_bytes = 262_144\noutbox_bytes = 2_097_152\n[links]\n\
        queue_bytes = 4_194_304\nmark_bytes = 65_536\nunacked_bytes = 4_194_304\n\
        credit_bytes = 8_388_608\n";
    let (_directory, a, b) = pair(LEAST, LEAST);
    let mut subscriber = b.spawn(&["stream", "sub", "s", "--count", "24"], Stdio::null());
    let line = |letter: u8| [vec![letter; (1 << 20) - 1], vec![b'\n']].concat();
    let sent: Vec<u8> = (b'a'..).take(24).flat_map(line).collect();
    let received = std::thread::spawn(move || subscriber.output());
    a.feed(&["stream", "pub", "s"], &sent).ok();
    let (code, received) = received.join().unwrap();
    assert_eq!(code, Some(0));
    assert!(received == sent, "lines differ");
}

#[test]
fn bounds_that_cannot_be_are_refused() {
    let check = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hawser.toml");
        std::fs::write(&path, text).unwrap();
        run(&["config", "check", "--config", path.to_str().unwrap()])
    };
    let low = check("[links]\nqueue_bytes = 1\nunacked_bytes = 1\ncredit_bytes = 8_388_607\n");
    low.refused(7, &["links.queue_bytes", "from 4194304 to 1073741824", "found 1"]);
    low.refused(7, &["links.unacked_bytes", "links.credit_bytes", "found 8388607"]);
    let high = check("[streams]\nwindow_bytes = 2_000_000_000\noutbox_bytes = 1_000_000\n");
    high.refused(7, &["streams.window_bytes", "from 262144 to 1073741824", "found 2000000000"]);
    high.refused(7, &["streams.outbox_bytes", "from 2097152", "found 1000000"]);
    let marks = check("[links]\nmark_bytes = 2_000_000\nqueue_bytes = 4_194_304\n");
    marks.refused(7, &["links.mark_bytes", "links.queue_bytes", "1048576", "found 2000000"]);
    check("[links]\nmark_bytes = 1_048_576\nqueue_bytes = 4_194_304\n").ok();
}
