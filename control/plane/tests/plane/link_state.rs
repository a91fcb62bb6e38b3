//! What neighbours flood is taken from members alone, and what is refused is told once.

use std::time::Duration;

use hawser_admission::{AdmissionLimits, JoinOptions, SocketOptions, join};
use hawser_exchange::ShardToControl;
use hawser_identity::{JoinToken, MeshAuthority, NodeKey, fingerprint};
use hawser_plane::{EventKind, StatusView};
use hawser_routing::{CertificateHash, Lsa, LsaFlags, OperatorRoute};
use hawser_wire::{Incarnation, MeshId, NodeId, StreamId};

use crate::node::{Node, chain, event, try_start};

/// A member of the mesh that has no daemon.
pub(crate) struct Member {
    pub(crate) key: NodeKey,
    pub(crate) certificate: Vec<u8>,
    /// The certificate of the authority that has made it.
    pub(crate) authority: Vec<u8>,
}

impl Member {
    /// Lets a node in that is not there.
    pub(crate) async fn admit(authority: &Node, name: &str) -> Self {
        let issued = authority.handle.issue_token(Duration::ZERO, None, None).await;
        let token = JoinToken::parse(&issued.expect("token").0).expect("a token");
        let key = NodeKey::generate().expect("key");
        let csr = key.csr(name).expect("request");
        let options = JoinOptions {
            proxy: None,
            limits: AdmissionLimits::default(),
            sockets: SocketOptions::default(),
        };
        let reply = join(&token, &token.address, csr, name, &options).await.expect("admitted");
        Self { key, certificate: reply.certificate, authority: reply.authority }
    }

    /// A node of an authority's mesh that nobody has let in.
    pub(crate) fn signed_by(authority: &MeshAuthority, name: &str) -> Self {
        let key = NodeKey::generate().expect("key");
        let csr = key.csr(name).expect("request");
        let (_node, certificate) = authority
            .sign_csr(&csr, name, 1_700_000_000, Duration::from_secs(1 << 30))
            .expect("issued");
        Self { key, certificate, authority: authority.certificate_der().to_vec() }
    }

    /// What a neighbour's control plane says when it floods what the member says of itself: the
    /// advertisement, then the certificate that it is asked for.
    pub(crate) fn flooded(&self, name: &str, address: &str) -> [Vec<u8>; 2] {
        self.flooded_with(name, address, Vec::new())
    }

    /// The same, with routes that an operator has set.
    fn flooded_with(&self, name: &str, address: &str, routes: Vec<OperatorRoute>) -> [Vec<u8>; 2] {
        let hash = fingerprint(&self.certificate);
        // A link message that floods.
        let mut advertisement = vec![1];
        advertisement.extend(as_message(&self.lsa(1, name, address, routes)));
        [advertisement, [&[1, 7], &hash[..], &self.certificate].concat()]
    }

    /// What it says of itself in its first life.
    fn lsa(&self, sequence: u64, name: &str, address: &str, routes: Vec<OperatorRoute>) -> Lsa {
        let mut lsa = Lsa {
            origin: self.key.node_id(),
            incarnation: Incarnation(1),
            sequence,
            public_key: self.key.public_key(),
            certificate: CertificateHash(fingerprint(&self.certificate)),
            flags: LsaFlags::default(),
            name: name.to_owned(),
            address: address.to_owned(),
            adjacencies: Vec::new(),
            routes,
            signature: [0; 64],
        };
        lsa.signature = self.key.sign(&lsa.signed_bytes());
        lsa
    }
}

/// A flooding message that advertises, with an hour of life.
fn as_message(lsa: &Lsa) -> Vec<u8> {
    let mut message = vec![1, 0x10, 0x0e];
    lsa.encode(&mut message);
    message
}

fn knows(status: &StatusView, node: NodeId) -> bool {
    status.nodes.iter().any(|known| known.node == node)
}

#[tokio::test]
async fn only_members_are_believed_and_refusals_are_told_once() {
    let (a, b, c) = chain().await;
    let mut events = a.handle.events();
    let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
    let say = |flooded: [Vec<u8>; 2]| {
        for body in flooded {
            a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
        }
    };
    let mut members = Vec::new();
    for name in ["d", "e", "f", "g"] {
        members.push(Member::admit(&b, name).await);
    }
    let foreign = MeshAuthority::generate(MeshId::from_bytes([9; 16]), "other", 1_700_000_000)
        .expect("authority");
    let stranger = Member::signed_by(&foreign, "s");
    for _ in 0..3 {
        say(members[0].flooded("evil\x1b[2J\r\n", ""));
    }
    say(members[1].flooded("e", "e\x07:7480"));
    say(stranger.flooded("s", ""));
    // What another node sends is not to be steered.
    let steered = OperatorRoute { from: c.id(), to: a.id(), via: vec![members[3].key.node_id()] };
    say(members[3].flooded_with("g", "", vec![steered]));
    say(members[2].flooded("f", "f.example:7480"));
    // All of it is handled in this order: what has been said by then is all that is said.
    let mut refused = Vec::new();
    loop {
        let event = events.recv().await.expect("the plane runs");
        match event.kind {
            EventKind::Refused => refused.push(event.detail),
            EventKind::NodeJoined => {
                assert_eq!(event.node, Some(members[2].key.node_id()));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(refused[0].ends_with("its name is not its certificate's"), "{refused:?}");
    assert!(refused[1].ends_with("its address is none"), "{refused:?}");
    assert!(refused[2].ends_with("its certificate is not one of this mesh"), "{refused:?}");
    assert!(refused[3].contains("its operator routes are not for its own traffic"), "{refused:?}");
    let status = a.handle.status().await.expect("status");
    let known = |member: &Member| knows(&status, member.key.node_id());
    assert_eq!(members.iter().map(known).collect::<Vec<_>>(), [false, false, true, false]);
    assert!(!known(&stranger));
    let rejects = &status.link_state_rejects;
    let counts = [
        ("address-invalid", 1),
        ("certificate-invalid", 1),
        ("name-of-other", 3),
        ("route-invalid", 1),
    ];
    assert_eq!(rejects[..], counts, "{rejects:?}");

    // Whoever says it, and whatever for.
    let lane = a.handle.lanes().await.expect("lanes").remove(0).lane;
    a.lose_lane((from, lane), "closed by the peer: \x1b]0;x\x07", None);
    let told = event(&mut events, EventKind::LaneDown).await;
    assert!(told.detail.ends_with("closed by the peer: \\u{1b}]0;x\\u{7}"), "{told:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_forged_one_among_many_is_refused_alone() {
    let (a, b, c) = chain().await;
    let mut events = a.handle.events();
    let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
    let say =
        |body: Vec<u8>| a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    let mut members = Vec::new();
    for name in (0..10).map(|number| format!("m{number}")) {
        let member = Member::admit(&b, &name).await;
        for body in member.flooded(&name, "") {
            say(body);
        }
        event(&mut events, EventKind::NodeJoined).await;
        members.push((name, member));
    }
    // Certificates are known now: the signatures of one message are verified in one batch. A link
    // message that floods several, each behind its length.
    let mut several = vec![1, 9];
    for (number, (name, member)) in members.iter().enumerate() {
        let mut lsa = member.lsa(2, name, "m.example:7480", Vec::new());
        if number == 4 {
            lsa.signature = members[3].1.key.sign(&lsa.signed_bytes());
        }
        let message = as_message(&lsa);
        several.extend(u16::try_from(message.len()).expect("short").to_le_bytes());
        several.extend(message);
    }
    say(several);
    let told = event(&mut events, EventKind::Refused).await;
    assert!(told.detail.contains(&members[4].1.key.node_id().to_string()), "{told:?}");
    let status = a.handle.status().await.expect("status");
    for (number, (_, member)) in members.iter().enumerate() {
        let known = status.nodes.iter().find(|known| known.node == member.key.node_id());
        let expected = if number == 4 { "" } else { "m.example:7480" };
        assert_eq!(known.map(|known| &known.address[..]), Some(expected), "{number}");
    }
    assert_eq!(status.link_state_rejects[..], [("forged", 1)]);
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn what_was_on_its_way_when_the_link_went_down_is_no_fault() {
    let (a, b, c) = chain().await;
    let from = b.id();
    let [advertisement, _] = Member::admit(&b, "d").await.flooded("d", "");
    let mut events = a.handle.events();
    for lane in a.handle.lanes().await.expect("lanes") {
        a.lose_lane((from, lane.lane), "closed by the peer", None);
    }
    a.say_of_link(from, ShardToControl::LinkControl { from, body: advertisement.into() });
    event(&mut events, EventKind::LinkDown).await;
    // What the shard says of the next lane it says behind that.
    event(&mut events, EventKind::LinkUp).await;
    let status = a.handle.status().await.expect("status");
    assert_eq!(status.link_state_rejects, []);
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn requests_for_certificates_take_no_time_of_checks() {
    let (a, b, c) = chain().await;
    let member = Member::admit(&b, "d").await;
    let mut events = a.handle.events();
    let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
    // Certificates that nobody has. If the advertisement waited behind them, its certificate, which
    // comes once and at once, would not be awaited yet.
    let hashes = (0..64).flat_map(|number| [number; 32]);
    let request: Vec<u8> = [1, 6, 64].into_iter().chain(hashes).collect();
    let [advertisement, certificate] = member.flooded("d", "d.example:7480");
    for body in [request, advertisement, certificate] {
        a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    }
    let joined = event(&mut events, EventKind::NodeJoined).await;
    assert_eq!(joined.node, Some(member.key.node_id()));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn nodes_agree_about_the_mesh_and_say_so() {
    let (a, b, c) = chain().await;
    b.until("agreeing with both", |status| {
        let mut own = status.links.iter().filter(|link| link.a.node == status.node);
        own.all(|link| link.digest_agrees == Some(true))
    })
    .await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_drained_node_is_no_transit_until_it_is_undrained() {
    let (a, b, c) = chain().await;
    let reaches = |status: &StatusView, node: NodeId| {
        status.nodes.iter().any(|known| known.node == node && known.reachable)
    };
    let drained = |status: &StatusView, node: NodeId| {
        status.nodes.iter().any(|known| known.node == node && known.drained)
    };
    let (relay, far) = (b.id(), c.id());
    b.handle.drain(true).await.expect("drained");
    a.until("without the way through b", |status| {
        drained(status, relay) && reaches(status, relay) && !reaches(status, far)
    })
    .await;
    // It is durable.
    let (setup, directory) = b.stop().await;
    a.until_reaches(0).await;
    let b = try_start(setup, directory).await.expect("starts");
    a.until("with b, still drained", |status| {
        drained(status, relay) && reaches(status, relay) && !reaches(status, far)
    })
    .await;
    b.handle.drain(true).await.expect("drained already");
    b.handle.drain(false).await.expect("undrained");
    a.until("with a way through b", |status| !drained(status, relay) && reaches(status, far)).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}
