use super::*;

fn token() -> JoinToken {
    JoinToken {
        mesh: MeshId::from_bytes([1; 16]),
        authority_fingerprint: [2; 32],
        secret: Zeroizing::new(*b"the quick brown fox jumps over a"),
        address: "node.example:7480".to_owned(),
        expires_unix_s: 1_767_225_600,
        node: Some(NodeId::from_bytes([4; 16])),
    }
}

fn fault(text: &str) -> TokenFault {
    match JoinToken::parse(text) {
        Err(IdentityError::Token(fault)) => fault,
        Err(error) => panic!("{error}"),
        Ok(token) => panic!("{token:?} was read from {text:?}"),
    }
}

fn assert_same(one: &JoinToken, other: &JoinToken) {
    assert_eq!(one.mesh, other.mesh);
    assert_eq!(one.authority_fingerprint, other.authority_fingerprint);
    assert_eq!(*one.secret, *other.secret);
    assert_eq!(one.address, other.address);
    assert_eq!(one.expires_unix_s, other.expires_unix_s);
    assert_eq!(one.node, other.node);
}

#[test]
fn text_comes_back() {
    for node in [None, Some(NodeId::from_bytes([4; 16]))] {
        for address in [String::new(), "[2001:db8::1]:7480".to_owned(), "x".repeat(255)] {
            let token = JoinToken { node, address, ..token() };
            assert_same(&JoinToken::parse(&token.encode()).unwrap(), &token);
        }
    }
}

#[test]
fn case_and_line_breaks_do_not_matter() {
    let text = token().encode();
    let (head, tail) = text.split_at(40);
    for text in [text.to_uppercase(), format!("  {text}\r\n"), format!("{head}\n  {tail}")] {
        assert_same(&JoinToken::parse(&text).unwrap(), &token());
    }
}

#[test]
fn every_changed_character_is_found() {
    let text = token().encode();
    for at in PREFIX.len()..text.len() {
        let other = if &text[at..=at] == "a" { "b" } else { "a" };
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert_eq!(fault(&changed), TokenFault::Checksum, "character {at}");
    }
}

#[test]
fn every_cut_is_found() {
    let text = token().encode();
    for end in 0..PREFIX.len() {
        assert_eq!(fault(&text[..end]), TokenFault::Prefix);
    }
    for end in PREFIX.len()..text.len() {
        assert_eq!(fault(&text[..end]), TokenFault::Checksum, "cut at {end}");
    }
    assert_eq!(fault(&format!("{text}{text}")), TokenFault::Characters);
    assert_eq!(fault(&"hawser-".repeat(10_000)), TokenFault::Characters);
}

/// Text with a right checksum over these fields.
fn sealed(fields: &[u8]) -> String {
    let bytes = [fields, &checksum(fields)].concat();
    format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
}

#[test]
fn other_texts_are_refused() {
    assert_eq!(fault(""), TokenFault::Prefix);
    assert_eq!(fault("eyJhbGciOi"), TokenFault::Prefix);
    assert_eq!(fault("hawser-1189"), TokenFault::Characters);
    assert_eq!(fault("hawser-é"), TokenFault::Characters);
    assert_eq!(fault(&sealed(&[])), TokenFault::Malformed);
    assert_eq!(fault(&sealed(&[9, 1, 2])), TokenFault::Format(9));
    assert_eq!(fault(&sealed(&[FORMAT, 1, 2])), TokenFault::Malformed);
}

#[test]
fn secret_is_not_shown() {
    let shown = format!("{:?}", token());
    assert!(shown.contains("node.example:7480"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("116, 104, 101"), "{shown}");
    let text = token().encode();
    let error = JoinToken::parse(&text[..text.len() - 1]).unwrap_err();
    let shown = format!("{error} {error:?}");
    for at in (PREFIX.len()..text.len() - 8).step_by(4) {
        assert!(!shown.contains(&text[at..at + 8]), "{shown}");
    }
}

#[test]
fn secrets_differ() {
    assert_ne!(*JoinToken::new_secret().unwrap(), *JoinToken::new_secret().unwrap());
}
