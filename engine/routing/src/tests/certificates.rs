//! Certificates that advertisements name are fetched from the neighbours that sent those.

use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

use super::{check_all, lsa, millis, node};
use crate::message::Message;
use crate::{
    CertificateEvent, CertificateFault, CertificateHash, Flooding, Judgement, Lsa, Refusal,
    RejectReason,
};

fn drain(flooding: &mut Flooding) -> Vec<(NodeId, Message)> {
    std::iter::from_fn(|| flooding.poll_transmit())
        .map(|(to, bytes)| (to, Message::decode(&bytes).unwrap()))
        .filter(|(_, message)| !matches!(message, Message::Digest(_)))
        .collect()
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
        flooding.handle_neighbour_up(MonoTime::ZERO, node(neighbour));
    }
    drain(&mut flooding);
    let mut encoding = Vec::new();
    lsa(9, 1, 1, &[]).encode(&mut encoding);
    let message = Message::encode_lsa(Duration::from_secs(3600), &encoding);
    flooding.handle_message(millis(10), node(2), &message).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10), &mut needs), Ok(false));
    assert_eq!(drain(&mut flooding), [asks(2, 9)], "and no acknowledgement");
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
        Some(CertificateEvent::Came { from: node(2), hash: hash(9), der: b"der"[..].into() })
    );
    assert!(flooding.lsdb().is_empty());
    assert_eq!(flooding.handle_certificate(millis(13), node(2), hash(9), Ok(())), Ok(()));
    assert_eq!(check_all(&mut flooding, millis(13), &mut |_| Judgement::Accept), Ok(true));
    let sent = drain(&mut flooding);
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
        assert_eq!(drain(&mut flooding), [asks(2, 9), asks(3, 9)], "{second}");
    }
    assert_eq!(count(&flooding, "certificate-missing"), 0);
    flooding.handle_timeout(millis(10_010));
    assert_eq!(drain(&mut flooding), []);
    assert_eq!(count(&flooding, "certificate-missing"), 1);
    // It may come again.
    flooding.handle_message(millis(10_020), node(3), &message).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10_020), &mut needs), Ok(false));
    assert_eq!(drain(&mut flooding), [asks(3, 9)]);
}

#[test]
fn a_wrong_one_is_the_neighbours_fault_and_a_foreign_one_the_origins() {
    let (mut flooding, _) = waiting();
    let wrong = Err(CertificateFault::OtherHash);
    assert_eq!(
        flooding.handle_certificate(millis(11), node(2), hash(9), wrong),
        Err(RejectReason::WrongCertificate { from: node(2) })
    );
    assert_eq!(drain(&mut flooding), [], "it still may come");
    let foreign = Err(CertificateFault::NotOfThisMesh);
    let refusal = Refusal::CertificateInvalid;
    assert_eq!(
        flooding.handle_certificate(millis(12), node(2), hash(9), foreign),
        Err(RejectReason::Refused { origin: node(9), refusal })
    );
    let sent = drain(&mut flooding);
    assert!(matches!(&sent[..], [(_, Message::Ack(_))]), "{sent:?}");
    assert!(flooding.lsdb().is_empty() && flooding.poll_check().is_none());
    let counts: Vec<_> = flooding.rejects().collect();
    assert_eq!(counts, [("certificate-invalid", 1), ("wrong-certificate", 1)]);
}

#[test]
fn one_that_a_neighbour_asks_for_is_sent() {
    let mut flooding = Flooding::new(node(1));
    flooding.handle_neighbour_up(MonoTime::ZERO, node(2));
    drain(&mut flooding);
    let request = Message::encode_certificate_request(&[hash(5), hash(6)]);
    flooding.handle_message(millis(1), node(2), &request).unwrap();
    for number in [5, 6] {
        let wanted = CertificateEvent::Wanted { by: node(2), hash: hash(number) };
        assert_eq!(flooding.poll_certificate(), Some(wanted));
    }
    flooding.send_certificate(node(2), hash(5), b"five"[..].into());
    flooding.send_certificate(node(2), hash(6), vec![0; 8193].into());
    flooding.send_certificate(node(7), hash(5), b"five"[..].into());
    let five = Message::Certificate { hash: hash(5), der: b"five"[..].into() };
    assert_eq!(drain(&mut flooding), [(node(2), five)], "neither a long one nor to a stranger");
}
