use std::io::Read;

use super::*;

/// A call whose other end is in the test's hands, past the greeting.
fn pair() -> (Call, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let node = std::thread::spawn(move || {
        let (mut node, _) = listener.accept().unwrap();
        let mut settings = frame_header(12, kind::SETTINGS, 0, 0).to_vec();
        for (id, value) in [(setting::INITIAL_WINDOW_SIZE, 1_000_u32), (5, 20_000)] {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        node.write_all(&settings).unwrap();
        let mut greeting = vec![0; greeting("/s/M").len() + FRAME_HEADER_BYTES];
        node.read_exact(&mut greeting).unwrap();
        assert!(greeting.starts_with(PREFACE));
        assert!(greeting.ends_with(&frame_header(0, kind::SETTINGS, flag::ACK, 0)));
        node
    });
    let call = Call::open(&path, "/s/M").unwrap();
    (call, node.join().unwrap())
}

fn data_frame(payload: &[u8]) -> Vec<u8> {
    [&frame_header(payload.len(), kind::DATA, 0, STREAM), payload].concat()
}

#[test]
fn settings_and_window_updates_move_the_window() {
    let (mut call, mut node) = pair();
    assert_eq!(call.window(), 1_000);
    call.send(&[Outgoing { head: b"h", body: &[1; 94] }]).unwrap();
    assert_eq!(call.window(), 900);
    node.write_all(&window_update(STREAM, 70_000)).unwrap();
    call.receive(Wait::Patience, |_| Ok(())).unwrap();
    assert_eq!(call.window(), 65_535 - 100, "the connection's is the smaller one now");
    node.write_all(&window_update(0, 70_000)).unwrap();
    call.receive(Wait::Patience, |_| Ok(())).unwrap();
    assert_eq!(call.window(), 70_900);
}

#[test]
fn a_message_larger_than_a_frame_is_cut() {
    let (mut call, mut node) = pair();
    let body: Vec<u8> = (0..45_000_u32).map(|n| n as u8).collect();
    call.send(&[Outgoing { head: b"head", body: &body }, Outgoing { head: b"x", body: b"" }])
        .unwrap();
    let mut wire = vec![0; 9 * 4 + 5 + 4 + 45_000 + 5 + 1];
    node.read_exact(&mut wire).unwrap();
    let (mut rest, mut lengths, mut payload) = (wire.as_slice(), Vec::new(), Vec::new());
    while let Some((header, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        lengths.push(length);
        payload.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    assert_eq!(lengths, [20_000, 20_000, 5_009, 6]);
    let expected =
        [&[0], &45_004_u32.to_be_bytes()[..], b"head", &body, &[0, 0, 0, 0, 1], b"x"].concat();
    assert_eq!(payload, expected);
}

#[test]
fn data_comes_through_however_it_is_cut() {
    let ping = [&frame_header(8, kind::PING, 0, 0), &b"12345678"[..]].concat();
    let wire = [data_frame(b"hello"), ping, data_frame(b""), data_frame(b" world")].concat();
    for step in 1..wire.len() {
        let (mut call, mut node) = pair();
        let mut heard = Vec::new();
        for piece in wire.chunks(step) {
            node.write_all(piece).unwrap();
            call.receive(Wait::Patience, |data| {
                heard.extend_from_slice(data);
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(heard, b"hello world", "step {step}");
        let mut pong = [0; 17];
        node.read_exact(&mut pong).unwrap();
        assert_eq!(&pong[..5], &[0, 0, 8, kind::PING, flag::ACK]);
        assert_eq!(&pong[9..], b"12345678");
    }
}

#[test]
fn credit_is_given_back() {
    let (mut call, mut node) = pair();
    let half = WINDOW_BYTES as usize / 2;
    let writer = std::thread::spawn(move || {
        for _ in 0..half / 1_000 + 1 {
            node.write_all(&data_frame(&[0; 1_000])).unwrap();
        }
        let mut credit = [0; 26];
        node.read_exact(&mut credit).unwrap();
        credit
    });
    let mut received = 0;
    while received < half {
        call.receive(Wait::Patience, |data| {
            received += data.len();
            Ok(())
        })
        .unwrap();
    }
    let credit = writer.join().unwrap();
    let increment = u32::from_be_bytes(credit[9..13].try_into().unwrap()) as usize;
    assert!((half..=received).contains(&increment), "{increment} of {received}");
    assert_eq!((credit[3], credit[8], credit[21]), (kind::WINDOW_UPDATE, 0, 1));
}

#[test]
fn the_end_and_an_abort_are_told() {
    let (mut call, mut node) = pair();
    assert!(!call.receive(Wait::No, |_| Ok(())).unwrap());
    assert!(!call.receive(Wait::UntilNs(now_ns() + 1_000_000), |_| Ok(())).unwrap());
    node.write_all(&frame_header(0, kind::HEADERS, flag::END_STREAM, STREAM)).unwrap();
    assert!(call.receive(Wait::UntilNs(u64::MAX / 4), |_| Ok(())).unwrap());
    assert!(call.is_ended());

    let (mut call, mut node) = pair();
    let goaway = [&frame_header(12, kind::GOAWAY, 0, 0), &[0; 8][..], b"calm"].concat();
    node.write_all(&goaway).unwrap();
    let error = call.receive(Wait::Patience, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("GOAWAY") && error.contains("calm"), "{error}");

    let (mut call, node) = pair();
    drop(node);
    let error = call.receive(Wait::Patience, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("closed the connection"), "{error}");
}
