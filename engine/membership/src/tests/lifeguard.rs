//! What Lifeguard adds to SWIM, seen at one machine that is driven by hand: it knows how well it does
//! itself, and who is suspected hears so.

use std::time::Duration;

use hawser_wire::{Incarnation, MonoTime, NodeId};

use super::{claim, millis, node, suspect, version};
use crate::{Claim, ClaimState, Config, Liveness, Membership, Message, MessageBody, RejectReason};

/// Node 0 among these others, each second one probe. It has heard all that there is.
fn machine(others: u16) -> Membership {
    let mut machine =
        Membership::new(MonoTime::ZERO, node(0), Incarnation(1), Config::default(), 1);
    for number in 1..=others {
        machine.admit(MonoTime::ZERO, node(number), Incarnation(1)).unwrap();
    }
    say(&mut machine, MonoTime::ZERO, node(1), MessageBody::Sync, vec![]).unwrap();
    machine
}

fn say(
    machine: &mut Membership,
    now: MonoTime,
    from: NodeId,
    body: MessageBody,
    claims: Vec<Claim>,
) -> Result<(), RejectReason> {
    let message = Message { sender: version(1, 0), round: 0, body, claims };
    machine.handle_message(now, from, &message.encode())
}

/// All that it sends, until `end`: when, to whom, what.
fn run(machine: &mut Membership, end: MonoTime) -> Vec<(MonoTime, NodeId, Message)> {
    let mut sent = Vec::new();
    let mut now = MonoTime::ZERO;
    loop {
        while let Some((to, bytes)) = machine.poll_transmit() {
            sent.push((now, to, Message::decode(&bytes).unwrap()));
        }
        let Some(due) = machine.poll_timeout().filter(|due| *due <= end) else { return sent };
        now = due.max(now);
        machine.handle_timeout(now);
    }
}

fn is_probe(body: MessageBody) -> bool {
    matches!(body, MessageBody::Ping { sequence } if sequence > 0)
}

/// Who was probed first after `begin`, and what relays were asked for it: when, whom, with which
/// sequence.
struct Probed {
    at: MonoTime,
    target: NodeId,
    relays: Vec<(MonoTime, NodeId, u32)>,
}

/// Runs until the first probe has been relayed.
fn probe(machine: &mut Membership) -> Probed {
    let sent = run(machine, millis(1_000));
    let (at, target) =
        sent.iter().find(|sent| is_probe(sent.2.body)).map(|sent| (sent.0, sent.1)).unwrap();
    let mut sent = sent;
    sent.extend(run(machine, at.saturating_add(Duration::from_millis(300))));
    let relays = sent.iter().filter_map(|(at, to, message)| match message.body {
        MessageBody::PingRequest { sequence, .. } => Some((*at, *to, sequence)),
        _ => None,
    });
    let relays = relays.collect();
    Probed { at, target, relays }
}

#[test]
fn relays_that_say_nothing_point_at_the_node_itself_and_nacks_do_not() {
    for (nacks, multiplier) in [(0, 4), (1, 3), (2, 2), (3, 1)] {
        let mut machine = machine(10);
        let Probed { at, relays, .. } = probe(&mut machine);
        assert_eq!(relays.len(), 3);
        for &(asked, relay, sequence) in relays.iter().take(nacks) {
            say(&mut machine, asked, relay, MessageBody::Nack { sequence }, vec![]).unwrap();
        }
        run(&mut machine, at.saturating_add(Duration::from_millis(799)));
        assert_eq!(machine.awareness(), 1, "the probe is under way");
        run(&mut machine, at.saturating_add(Duration::from_millis(800)));
        assert_eq!(machine.awareness(), multiplier, "{nacks} nacks");
    }
}

#[test]
fn a_nack_counts_for_its_probe_and_from_its_relay_alone() {
    let mut machine = machine(10);
    let Probed { at, target, relays } = probe(&mut machine);
    let (_, relay, sequence) = relays[0];
    let unasked = |from| Err(RejectReason::Unasked { from });
    let now = relays[0].0;
    let nack = |sequence| MessageBody::Nack { sequence };
    assert_eq!(say(&mut machine, now, relay, nack(sequence + 1), vec![]), unasked(relay));
    assert_eq!(say(&mut machine, now, target, nack(sequence), vec![]), unasked(target));
    // One that comes too late counts for nothing, and is nobody's fault but once.
    let late = at.saturating_add(Duration::from_millis(800));
    run(&mut machine, late);
    for &(_, relay, sequence) in &relays {
        assert_eq!(say(&mut machine, late, relay, nack(sequence), vec![]), Ok(()));
        assert_eq!(say(&mut machine, late, relay, nack(sequence), vec![]), unasked(relay));
    }
    assert_eq!(machine.awareness(), 4, "three were silent");
    assert_eq!((machine.rejected().unasked, machine.rejected().answers_late), (5, 3));
}

#[test]
fn whoever_was_asked_may_answer_late_and_once() {
    // Answered by the target, or by a relay, or by nobody in time.
    for first in [0, 1, usize::MAX] {
        let mut machine = machine(10);
        let Probed { at, target, relays } = probe(&mut machine);
        let (now, sequence) = (relays[0].0, relays[0].2);
        let asked: Vec<NodeId> = [target].into_iter().chain(relays.iter().map(|r| r.1)).collect();
        let ack = MessageBody::Ack { sequence };
        let now = match asked.get(first) {
            Some(&by) => {
                say(&mut machine, now, by, ack, vec![]).unwrap();
                now
            }
            None => {
                let over = at.saturating_add(Duration::from_millis(800));
                run(&mut machine, over);
                over
            }
        };
        let awareness = machine.awareness();
        let others = asked.iter().enumerate().filter(|(number, _)| *number != first);
        for (_, &other) in others {
            assert_eq!(say(&mut machine, now, other, ack, vec![]), Ok(()), "{first}");
        }
        for &node in &asked {
            let unasked = Err(RejectReason::Unasked { from: node });
            assert_eq!(say(&mut machine, now, node, ack, vec![]), unasked, "{first}: again");
        }
        assert_eq!(machine.awareness(), awareness);
    }
}

#[test]
fn a_relays_target_may_answer_late_and_once() {
    let mut machine = machine(10);
    run(&mut machine, millis(1));
    let (requester, target) = (node(1), node(2));
    let ask = MessageBody::PingRequest { sequence: 77, target };
    say(&mut machine, millis(2), requester, ask, vec![]).unwrap();
    let sent = run(&mut machine, millis(3));
    let pings = sent.iter().find_map(|(_, to, message)| match message.body {
        MessageBody::Ping { sequence } if *to == target => Some(sequence),
        _ => None,
    });
    let sequence = pings.unwrap();
    // The machine looks at what is over when it has something to do.
    run(&mut machine, millis(5_000));
    let ack = MessageBody::Ack { sequence };
    assert_eq!(say(&mut machine, millis(5_000), target, ack, vec![]), Ok(()));
    let unasked = Err(RejectReason::Unasked { from: target });
    assert_eq!(say(&mut machine, millis(5_000), target, ack, vec![]), unasked);
}

#[test]
fn a_node_that_does_badly_probes_more_slowly_and_waits_longer() {
    let mut machine = machine(10);
    let first = probe(&mut machine).at;
    let sent = run(&mut machine, first.saturating_add(Duration::from_secs(10)));
    let after = |at: MonoTime| at.saturating_since(first).as_millis();
    let probes = sent.iter().filter(|sent| is_probe(sent.2.body)).map(|sent| after(sent.0));
    // Four times as slow once the first probe has failed, and seven times once the second has.
    assert_eq!(probes.take(2).collect::<Vec<_>>(), [1_000, 5_000]);
    let asks = |body| matches!(body, MessageBody::PingRequest { .. });
    let relayed = sent.iter().filter(|sent| asks(sent.2.body)).map(|sent| after(sent.0));
    assert_eq!(relayed.collect::<Vec<_>>(), [2_200, 2_200, 2_200, 7_100, 7_100, 7_100]);
    assert_eq!(
        machine.awareness(),
        7,
        "the second one ended after 3,200 ms, and the third is not over"
    );
}

/// The buddy system: whoever speaks with a suspect says so.
#[test]
fn a_suspect_that_is_pinged_or_answered_hears_of_it() {
    let mut machine = machine(6);
    let suspected = |number| claim(number, version(1, 0), suspect(&[3]));
    let news = [1, 2, 4, 5, 6].map(suspected).to_vec();
    say(&mut machine, MonoTime::ZERO, node(3), MessageBody::Gossip, news).unwrap();
    // Long enough that this is no news any more.
    let sent = run(&mut machine, millis(2_500));
    let pings = sent.iter().filter(|sent| is_probe(sent.2.body) && sent.1 != node(3));
    let told: Vec<bool> =
        pings.map(|(_, to, message)| message.claims.iter().any(|c| c.subject == *to)).collect();
    assert!(told.len() >= 2 && told.iter().all(|told| *told), "{told:?}");

    let now = millis(2_500);
    say(&mut machine, now, node(1), MessageBody::Ping { sequence: 9 }, vec![]).unwrap();
    let (to, bytes) = machine.poll_transmit().unwrap();
    let ack = Message::decode(&bytes).unwrap();
    assert_eq!((to, ack.body), (node(1), MessageBody::Ack { sequence: 9 }));
    assert_eq!(ack.claims.first().map(|c| c.subject), Some(node(1)));
    assert!(matches!(ack.claims[0].state, ClaimState::Suspect(_)));
}

#[test]
fn before_a_suspect_is_dead_it_and_some_others_are_asked_once_more() {
    let mut machine = machine(6);
    let suspicion = claim(1, version(1, 0), suspect(&[2, 3, 4, 5]));
    say(&mut machine, MonoTime::ZERO, node(2), MessageBody::Gossip, vec![suspicion]).unwrap();
    // It lasts for a second, and the acks' time before its end they are asked.
    let sent = run(&mut machine, millis(999));
    assert_eq!(machine.member(node(1)).unwrap().0, Liveness::Suspect);
    let asked: Vec<_> = sent.iter().filter(|sent| sent.0 == millis(700)).collect();
    let pinged = asked.iter().filter(|sent| sent.2.body == MessageBody::Ping { sequence: 0 });
    let pinged: Vec<NodeId> = pinged.map(|sent| sent.1).collect();
    assert_eq!(pinged, [node(1)]);
    let about = |sent: &&&(MonoTime, NodeId, Message)| {
        sent.2.body == MessageBody::Gossip
            && sent.1 != node(1)
            && sent.2.claims.first().is_some_and(|first| first.subject == node(1))
    };
    assert!(asked.iter().filter(about).count() >= 3, "{asked:?}");
    let once =
        |sent: &&(MonoTime, NodeId, Message)| sent.2.body == MessageBody::Ping { sequence: 0 };
    assert_eq!(sent.iter().filter(once).count(), 1);
    run(&mut machine, millis(1_001));
    assert_eq!(machine.member(node(1)).unwrap().0, Liveness::Dead);
}

#[test]
fn who_contradicts_in_time_lives() {
    let mut machine = machine(6);
    let suspicion = claim(1, version(1, 0), suspect(&[2, 3, 4, 5]));
    say(&mut machine, MonoTime::ZERO, node(2), MessageBody::Gossip, vec![suspicion]).unwrap();
    run(&mut machine, millis(700));
    let contradiction = vec![claim(1, version(1, 1), ClaimState::Alive)];
    say(&mut machine, millis(990), node(2), MessageBody::Gossip, contradiction).unwrap();
    run(&mut machine, millis(1_500));
    assert_eq!(machine.member(node(1)), Some((Liveness::Alive, version(1, 1))));
}

/// News rides along in what is left of one packet, and never in more.
#[test]
fn claims_that_ride_along_have_at_most_1200_bytes() {
    let mut machine = machine(120);
    let news = (1..=110).map(|number| {
        let by: Vec<u16> = (111..115).collect();
        claim(number, version(1, 0), suspect(&by))
    });
    say(&mut machine, MonoTime::ZERO, node(120), MessageBody::Gossip, news.collect()).unwrap();
    let mut sent = run(&mut machine, millis(2_500));
    sent.retain(|sent| !matches!(sent.2.body, MessageBody::Sync | MessageBody::SyncRequest));
    let bytes = |claims: &[Claim]| claims.iter().map(Claim::encoded_len).sum::<usize>();
    let most = sent.iter().map(|(.., message)| bytes(&message.claims)).max();
    assert!((1_200 - 2 * Claim::LEN_MAX..=1_200).contains(&most.unwrap()), "{most:?}");
    // Also where the suspect itself is told, who stands first.
    let told = sent.iter().filter(|(_, to, message)| {
        is_probe(message.body) && message.claims.first().is_some_and(|c| c.subject == *to)
    });
    let full = told.filter(|(.., message)| bytes(&message.claims) > 1_000).count();
    assert!(full > 0);
    // Nothing is told twice in one message.
    for (.., message) in &sent {
        let mut subjects: Vec<NodeId> = message.claims.iter().map(|c| c.subject).collect();
        subjects.sort_unstable();
        assert!(subjects.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
