//! Certificates that advertisements name are fetched from the neighbours that sent those.

use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

use super::{check_all, drain, lsa, millis, node};
use crate::message::Message;
use crate::{
    CertificateFault, CertificateHash, Flooding, Judgement, Lsa, ReceivedCertificate, Refusal,
    RejectReason,
};

/// Everything that is to be sent now, but for digests.
fn told(flooding: &mut Flooding) -> Vec<(NodeId, Message)> {
    let mut sent = drain(flooding);
    sent.retain(|(_, message)| !matches!(message, Message::Digest(_)));
    sent
}

fn needs(_: &Lsa) -> Judgement {
    Judgement::NeedsCertificate
}

fn hash(number: u8) -> CertificateHash {
    CertificateHash([number; 32])
}

fn asks(to: u8, number: u8) -> (NodeId, Message) {
    (node(to), Message::CertificateRequest(vec![hash(number)]))
}

/// Node 1 beside 2, 3 and 4; 2 has sent what 9 says, whose certificate node 1 has asked 2 for.
fn waiting() -> (Flooding, Vec<u8>) {
    let mut flooding = Flooding::new(node(1));
    for neighbour in [2, 3, 4] {
        flooding.handle_neighbour_up(MonoTime::ZERO, node(neighbour), true);
    }
    told(&mut flooding);
    let mut encoding = Vec::new();
    lsa(9, 1, 1, &[]).encode(&mut encoding);
    let message = Message::encode_lsa(Duration::from_secs(3600), &encoding);
    flooding.handle_message(millis(10), node(2), &message).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10), &mut needs), Ok(false));
    assert_eq!(told(&mut flooding), [asks(2, 9)], "and no acknowledgement");
    (flooding, message)
}

fn count(flooding: &Flooding, name: &str) -> u64 {
    flooding.rejects().find(|(reason, _)| *reason == name).map_or(0, |(_, count)| count)
}

#[test]
fn it_is_asked_of_the_sender_and_then_the_advertisement_is_taken() {
    let (mut flooding, message) = waiting();
    flooding.handle_message(millis(11), node(3), &message).unwrap();
    assert!(flooding.poll_check().is_none(), "it is here already");
    let certificate = Message::encode_certificate(hash(9), b"der");
    flooding.handle_message(millis(12), node(2), &certificate).unwrap();
    assert_eq!(
        flooding.poll_certificate(),
        Some(ReceivedCertificate { from: node(2), hash: hash(9), der: b"der"[..].into() })
    );
    assert!(flooding.lsdb().is_empty());
    assert_eq!(flooding.handle_certificate(millis(13), node(2), hash(9), Ok(())), Ok(()));
    assert_eq!(check_all(&mut flooding, millis(13), &mut |_| Judgement::Accept), Ok(true));
    let sent = told(&mut flooding);
    let acks = |to| sent.iter().any(|sent| matches!(sent, (node, Message::Ack(_)) if *node == to));
    assert!(acks(node(2)) && acks(node(3)), "whoever sent it: {sent:?}");
    let lsas = sent.iter().filter(|(_, message)| matches!(message, Message::Lsa { .. }));
    assert_eq!(lsas.map(|(to, _)| *to).collect::<Vec<_>>(), [node(4)]);
    assert_eq!(flooding.poll_certificate(), None);
    flooding.handle_message(millis(14), node(3), &certificate).unwrap();
    assert_eq!(flooding.poll_certificate(), None, "nobody asked");
}

#[test]
fn it_is_asked_for_again_of_all_senders_and_given_up() {
    let (mut flooding, message) = waiting();
    flooding.handle_message(millis(11), node(3), &message).unwrap();
    assert_eq!(flooding.poll_timeout(), Some(millis(1000)), "the unanswered digests");
    for second in 1..10 {
        flooding.handle_timeout(millis(second * 1000 + 10));
        assert_eq!(told(&mut flooding), [asks(2, 9), asks(3, 9)], "{second}");
    }
    assert_eq!(count(&flooding, "certificate-missing"), 0);
    flooding.handle_timeout(millis(10_010));
    assert_eq!(told(&mut flooding), []);
    assert_eq!(count(&flooding, "certificate-missing"), 1);
    // It may come again.
    flooding.handle_message(millis(10_020), node(3), &message).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10_020), &mut needs), Ok(false));
    assert_eq!(told(&mut flooding), [asks(3, 9)]);
}

#[test]
fn a_wrong_one_is_the_neighbours_fault_and_a_foreign_one_the_origins() {
    let (mut flooding, _) = waiting();
    let wrong = Err(CertificateFault::OtherHash);
    assert_eq!(
        flooding.handle_certificate(millis(11), node(2), hash(9), wrong),
        Err(RejectReason::WrongCertificate { from: node(2) })
    );
    assert_eq!(told(&mut flooding), [], "it still may come");
    let foreign = Err(CertificateFault::NotOfThisMesh);
    let refusal = Refusal::CertificateInvalid;
    assert_eq!(
        flooding.handle_certificate(millis(12), node(2), hash(9), foreign),
        Err(RejectReason::Refused { origin: node(9), refusal })
    );
    let sent = told(&mut flooding);
    assert!(matches!(&sent[..], [(_, Message::Ack(_))]), "{sent:?}");
    assert!(flooding.lsdb().is_empty() && flooding.poll_check().is_none());
    let counts: Vec<_> = flooding.rejects().collect();
    assert_eq!(counts, [("certificate-invalid", 1), ("wrong-certificate", 1)]);
}

#[test]
fn one_that_a_neighbour_asks_for_is_sent() {
    let mut flooding = Flooding::new(node(1));
    flooding.handle_neighbour_up(MonoTime::ZERO, node(2), true);
    told(&mut flooding);
    let request = Message::encode_certificate_request(&[hash(5), hash(6)]);
    flooding.handle_message(millis(1), node(2), &request).unwrap();
    for number in [5, 6] {
        assert_eq!(flooding.poll_certificate_request(), Some((node(2), hash(number))));
    }
    assert_eq!(flooding.poll_certificate_request(), None);
    flooding.send_certificate(node(2), hash(5), b"five"[..].into());
    flooding.send_certificate(node(2), hash(6), vec![0; 8193].into());
    flooding.send_certificate(node(7), hash(5), b"five"[..].into());
    let five = Message::Certificate { hash: hash(5), der: b"five"[..].into() };
    assert_eq!(told(&mut flooding), [(node(2), five)], "neither a long one nor to a stranger");
}

#[test]
fn neighbours_that_ask_are_served_in_turn() {
    let mut flooding = Flooding::new(node(1));
    for neighbour in [2, 3, 4] {
        flooding.handle_neighbour_up(MonoTime::ZERO, node(neighbour), true);
    }
    let numbered = |number: u16| {
        let mut hash = CertificateHash::default();
        hash.0[..2].copy_from_slice(&number.to_be_bytes());
        hash
    };
    let all: Vec<CertificateHash> = (0..6400).map(numbered).collect();
    for hashes in all.chunks(64) {
        let request = Message::encode_certificate_request(hashes);
        flooding.handle_message(millis(1), node(3), &request).unwrap();
    }
    for (neighbour, number) in [(2, 100), (4, 101), (4, 100)] {
        let request = Message::encode_certificate_request(&[hash(number)]);
        flooding.handle_message(millis(1), node(neighbour), &request).unwrap();
    }
    let served: Vec<_> = std::iter::from_fn(|| flooding.poll_certificate_request()).collect();
    let expected = [(2, hash(100)), (3, all[0]), (4, hash(100)), (3, all[1]), (4, hash(101))];
    assert_eq!(served[..5], expected.map(|(neighbour, hash)| (node(neighbour), hash)));
    assert_eq!(served.len(), 3 + 1024, "the rest is asked for again");
}

/// What is told of neighbours that withhold certificates.
fn withheld(flooding: &mut Flooding) -> Vec<(NodeId, RejectReason)> {
    std::iter::from_fn(|| flooding.poll_withheld()).collect()
}

#[test]
fn who_withholds_certificates_is_at_fault_and_looked_at_less() {
    let (mut flooding, message) = waiting();
    // Neighbour 4 has said the same just now: it is asked, and does not have to have answered yet.
    flooding.handle_message(millis(9000), node(4), &message).unwrap();
    let missing = |origin| RejectReason::CertificateMissing { origin: node(origin) };
    for round in 1..=16 {
        let ms = round * 10_010;
        flooding.handle_timeout(millis(ms));
        assert_eq!(withheld(&mut flooding), [(node(2), missing(9))], "{round}");
        assert_eq!(count(&flooding, "certificate-missing"), round);
        flooding.handle_message(millis(ms), node(2), &message).unwrap();
        assert_eq!(check_all(&mut flooding, millis(ms), &mut needs), Ok(false));
    }
    // Many at once use up the patience with it, and with nobody else.
    let others = |flooding: &mut Flooding, from: u8, ms| {
        let said = (20..60).map(|origin| {
            let mut encoding = Vec::new();
            lsa(origin, 1, u64::from(from), &[]).encode(&mut encoding);
            let message = Message::encode_lsa(Duration::from_secs(3600), &encoding);
            flooding.handle_message(millis(ms), node(from), &message)
        });
        let refused = said.filter(Result::is_err).count();
        check_all(flooding, millis(ms), &mut needs).unwrap();
        refused
    };
    assert_eq!(others(&mut flooding, 2, 180_000), 0);
    flooding.handle_timeout(millis(190_000));
    assert_eq!(withheld(&mut flooding).len(), 1, "told once");
    assert_eq!((others(&mut flooding, 2, 190_000), others(&mut flooding, 3, 190_000)), (40, 0));
}

#[test]
fn who_cannot_have_sent_a_certificate_is_not_at_fault() {
    // Its link broke: what it had been asked is lost, and it may have begun anew.
    let (mut flooding, _) = waiting();
    flooding.handle_neighbour_down(millis(100), node(2));
    flooding.handle_neighbour_up(millis(200), node(2), true);
    flooding.handle_timeout(millis(10_010));
    assert_eq!((count(&flooding, "certificate-missing"), withheld(&mut flooding)), (1, vec![]));
    // It was busy with another one.
    let (mut flooding, message) = waiting();
    let mut encoding = Vec::new();
    lsa(8, 1, 1, &[]).encode(&mut encoding);
    let other = Message::encode_lsa(Duration::from_secs(3600), &encoding);
    flooding.handle_message(millis(20), node(2), &other).unwrap();
    assert_eq!(check_all(&mut flooding, millis(20), &mut needs), Ok(false));
    assert_eq!(flooding.handle_certificate(millis(5000), node(2), hash(8), Ok(())), Ok(()));
    flooding.handle_timeout(millis(10_010));
    assert_eq!((count(&flooding, "certificate-missing"), withheld(&mut flooding)), (1, vec![]));
    // That excuse does not last.
    flooding.handle_message(millis(10_020), node(2), &message).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10_020), &mut needs), Ok(false));
    flooding.handle_timeout(millis(20_020));
    assert_eq!(withheld(&mut flooding).len(), 1);
}

#[test]
fn a_certificate_awaited_for_long_is_awaited_for_others_as_long() {
    let (mut flooding, _) = waiting();
    // Another of the same origin names the same certificate, nine seconds later.
    let mut encoding = Vec::new();
    lsa(9, 1, 2, &[]).encode(&mut encoding);
    let later = Message::encode_lsa(Duration::from_secs(3600), &encoding);
    flooding.handle_message(millis(9000), node(3), &later).unwrap();
    assert_eq!(check_all(&mut flooding, millis(9000), &mut needs), Ok(false));
    flooding.handle_timeout(millis(10_010));
    assert_eq!(withheld(&mut flooding).len(), 1, "the first sender");
    let certificate = Message::encode_certificate(hash(9), b"der");
    flooding.handle_message(millis(10_020), node(2), &certificate).unwrap();
    assert_eq!(flooding.poll_certificate(), None, "not asked any more");
    flooding.handle_message(millis(10_020), node(3), &certificate).unwrap();
    assert!(flooding.poll_certificate().is_some());
    assert_eq!(flooding.handle_certificate(millis(10_020), node(3), hash(9), Ok(())), Ok(()));
    assert_eq!(check_all(&mut flooding, millis(10_020), &mut |_| Judgement::Accept), Ok(true));
}
