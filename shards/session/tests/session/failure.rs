use hawser_session::{LaneSession, Role, SessionError};

use crate::far::Far;
use crate::pair::{Cuts, Member, Pair, deliver, messages};

/// A session that has failed takes every further call and does nothing.
fn stays_failed(session: &mut LaneSession) {
    let _alert = session.take_unsent();
    assert!(matches!(session.process(), Err(SessionError::NotReady)));
    session.read_buffer().extend_from_slice(&[23, 3, 3, 0, 1, 0]);
    assert!(matches!(session.process(), Err(SessionError::NotReady)));
    assert!(matches!(session.send_message(b"x"), Err(SessionError::NotReady)));
    assert!(matches!(session.send_plaintext(b"x"), Err(SessionError::NotReady)));
    session.send_close();
    assert!(session.unsent_is_empty());
    assert!(session.peer_certificates().is_none());
}

#[test]
fn a_changed_record_ends_the_session_and_the_peer_is_told() {
    let Pair { mut client, mut server } = Pair::connected();
    client.send_message(b"good").unwrap();
    let good = client.take_unsent();
    client.send_message(b"changed").unwrap();
    let mut changed = client.take_unsent();
    *changed.last_mut().unwrap() ^= 1;
    let both = [good, changed].concat();
    let error = deliver(&both, &mut server, &mut Cuts::whole(), |_| {}).unwrap_err();
    assert!(matches!(error, SessionError::Tls(rustls::Error::DecryptError)), "{error}");
    assert_eq!(messages(&mut server), [b"good".to_vec()], "what came before it counts");
    let alert = server.take_unsent();
    let heard = deliver(&alert, &mut client, &mut Cuts::whole(), |_| {}).unwrap_err();
    assert!(matches!(heard, SessionError::Tls(rustls::Error::AlertReceived(_))), "{heard}");
    stays_failed(&mut server);
    stays_failed(&mut client);
}

#[test]
fn bytes_that_are_no_tls_end_the_session() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let Pair { mut server, .. } = Pair::connected();
        deliver(bytes, &mut server, &mut Cuts::new(vec![7]), |_| {}).unwrap_err();
        stays_failed(&mut server);
        let (_, config) = Member::new().lane_configs();
        let mut server = LaneSession::server(config).unwrap();
        deliver(bytes, &mut server, &mut Cuts::new(vec![7]), |_| {}).unwrap_err();
        stays_failed(&mut server);
    }
}

#[test]
fn another_authority_is_refused_by_both_ends() {
    let (client, _) = Member::new().lane_configs();
    let (_, server) = Member::new().lane_configs();
    let Pair { mut client, mut server } = Pair::new((client, server));
    client.process().unwrap();
    deliver(&client.take_unsent(), &mut server, &mut Cuts::whole(), |_| {}).unwrap();
    let answer = server.take_unsent();
    let error = deliver(&answer, &mut client, &mut Cuts::whole(), |_| {}).unwrap_err();
    assert!(matches!(error, SessionError::Tls(rustls::Error::InvalidCertificate(_))), "{error}");
    let alert = client.take_unsent();
    deliver(&alert, &mut server, &mut Cuts::whole(), |_| {}).unwrap_err();
}

#[test]
fn a_key_update_is_answered() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut far) = Far::connected(role);
        for round in 0..3_u8 {
            far.tls.refresh_traffic_keys().unwrap();
            far.send(&frame(role, &[round]));
            far.write_to(&mut near);
            near.process().unwrap();
            assert_eq!(messages(&mut near), [vec![round]]);
            assert!(!near.unsent_is_empty(), "the answer");
            near.send_message(&[round; 10]).unwrap();
            far.read_from(&mut near);
            assert!(!far.plaintext().is_empty());
        }
    }
}

#[test]
fn what_comes_in_one_read_with_the_end_of_the_handshake_counts() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut far) = Far::unconnected(role);
        near.process().unwrap();
        while far.tls.is_handshaking() {
            far.read_from(&mut near);
            if far.tls.is_handshaking() {
                far.write_to(&mut near);
                near.process().unwrap();
            }
        }
        // A client's last message of the handshake has not been written yet.
        far.tls.refresh_traffic_keys().unwrap();
        far.send(&frame(role, b"x"));
        far.write_to(&mut near);
        near.process().unwrap();
        assert_eq!(messages(&mut near), [b"x"]);
        assert!(!near.unsent_is_empty(), "the answer to the key update");
        near.send_message(b"y").unwrap();
        far.read_from(&mut near);
        assert!(!far.plaintext().is_empty());
    }
}

#[test]
fn a_handshake_in_many_records_and_reads_is_done() {
    for (piece, cuts) in [(1, vec![usize::MAX]), (50, vec![1, 7, 400]), (300, vec![3, 999])] {
        let mut pair = Pair::new(Member::new().lane_configs());
        pair.client.process().unwrap();
        let hello = pair.client.take_unsent();
        // Its one record becomes many.
        let records: Vec<u8> = hello[5..]
            .chunks(piece)
            .flat_map(|body| [&[22, 3, 1][..], &(body.len() as u16).to_be_bytes(), body].concat())
            .collect();
        deliver(&records, &mut pair.server, &mut Cuts::new(cuts.clone()), |_| {}).unwrap();
        pair.handshake(&mut Cuts::new(cuts));
        pair.client.send_message(b"x").unwrap();
        deliver(&pair.client.take_unsent(), &mut pair.server, &mut Cuts::whole(), |_| {}).unwrap();
        assert_eq!(messages(&mut pair.server), [b"x"]);
    }
}

/// A whole message as the peer of `role` sends it; its mask, if any, is zero.
fn frame(role: Role, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u8;
    match role {
        Role::Client => [&[0x82, len], payload].concat(),
        Role::Server => [&[0x82, 0x80 | len, 0, 0, 0, 0], payload].concat(),
    }
}
