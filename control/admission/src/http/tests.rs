use super::*;

const GOOD: &str = "GET /lane HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: hawser.v2, hawser.v1\r\n\r\n";

fn status(request: &str) -> u16 {
    match answer_request(request.as_bytes()) {
        Ok(_) => 101,
        Err(refusal) => {
            let text = String::from_utf8(refusal.encode()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
            refusal.status.as_u16()
        }
    }
}

#[test]
fn own_request_is_answered_by_own_answer() {
    for (path, target) in [(LANE_PATH, Target::Lane), (JOIN_PATH, Target::Join)] {
        let (request, upgrade) = Upgrade::request("node.example:7480", path).unwrap();
        let text = String::from_utf8(request.clone()).unwrap();
        assert!(text.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: node.example:7480\r\n")));
        assert!(!text.contains("Sec-WebSocket-Extensions"), "{text}");
        let (found, answer) = answer_request(&request).unwrap();
        assert_eq!(found, target);
        upgrade.finish(&answer).unwrap();
    }
}

#[test]
fn answer_is_the_one_of_rfc_6455() {
    let (_, answer) = answer_request(GOOD.as_bytes()).unwrap();
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    // RFC 6455 §1.3.
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-protocol: hawser.v1\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"));
}

#[test]
fn other_requests_get_their_status() {
    assert_eq!(status(GOOD), 101);
    assert_eq!(status(&GOOD.replace("/lane", "/lane?x=1")), 101);
    assert_eq!(status(&GOOD.replace("/lane", "/")), 404);
    assert_eq!(status(&GOOD.replace("/lane", "/lane/")), 404);
    assert_eq!(status(&GOOD.replace("/lane", "/../lane")), 404);
    assert_eq!(status(&GOOD.replace("GET", "POST")), 405);
    assert_eq!(status(&GOOD.replace("HTTP/1.1", "HTTP/1.0")), 505);
    assert_eq!(status(&GOOD.replace("Upgrade: websocket\r\n", "")), 426);
    assert_eq!(status(&GOOD.replace("Version: 13", "Version: 8")), 426);
    assert_eq!(status(&GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")), 426);
    assert_eq!(status(&GOOD.replace("hawser.v2, hawser.v1", "hawser.v10")), 400);
    assert_eq!(status(&GOOD.replace("Sec-WebSocket-Protocol", "X-Other")), 400);
    assert_eq!(status(&GOOD.replace("Host: h:1", "Content-Length: 5")), 400);
    assert_eq!(status(&GOOD.replace("Host: h:1", "Transfer-Encoding: chunked")), 400);
    assert_eq!(status("\x16\x03\x01\r\n\r\n"), 400);
    assert_eq!(status("GET /lane\r\n\r\n"), 400);
    let many = format!("Host: h:1\r\n{}", "X: y\r\n".repeat(500)).trim_end().to_owned();
    assert_eq!(status(&GOOD.replace("Host: h:1", &many)), 400);
}

#[test]
fn every_cut_of_a_request_is_refused() {
    for end in 0..GOOD.len() {
        assert_eq!(status(&GOOD[..end]), 400, "cut at {end}");
    }
}

fn judged(change: impl FnOnce(String) -> String) -> String {
    let (request, upgrade) = Upgrade::request("h:1", LANE_PATH).unwrap();
    let (_, answer) = answer_request(&request).unwrap();
    let answer = change(String::from_utf8(answer).unwrap());
    upgrade.finish(answer.as_bytes()).unwrap_err().to_string()
}

#[test]
fn other_answers_are_refused() {
    let text = judged(|_| "HTTP/1.1 403 Forbidden\r\n\r\n".to_owned());
    assert!(text.contains("403"), "{text}");
    let text = judged(|answer| answer.replace("hawser.v1", "chat"));
    assert!(text.to_lowercase().contains("subprotocol"), "{text}");
    let text = judged(|answer| answer.replace("sec-websocket-protocol", "x-other"));
    assert!(text.to_lowercase().contains("subprotocol"), "{text}");
    judged(|answer| answer.replace("sec-websocket-accept: ", "sec-websocket-accept: x"));
    judged(|_| "220 mail.example ESMTP\r\n\r\n".to_owned());
    judged(|_| String::new());
    judged(|_| "HTTP/1.1 101".to_owned());
}

#[test]
fn refusing_text_cannot_play_with_the_terminal() {
    assert_eq!(printable(b"no\x1b[31m way\r\nsecond"), "no[31m way");
    assert_eq!(printable(&[0xff, b'a']), "\u{fffd}a");
    assert_eq!(printable(&[b'x'; 5000]).len(), 200);
    assert_eq!(printable(b""), "");
}

#[test]
fn proxy_status_is_read() {
    assert_eq!(response_status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
    assert_eq!(response_status(b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n"), Some(407));
    assert_eq!(response_status(b"SSH-2.0-x\r\n\r\n"), None);
}
