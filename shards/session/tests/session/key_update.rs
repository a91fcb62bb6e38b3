//! Past the number of records that one traffic key may protect (RFC 8446 §5.5), with a suite whose
//! bound is small enough to be met in a test.

use std::sync::Arc;

use hawser_session::{LaneSession, Role};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{
    CipherSuiteCommon, ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite,
    Tls13CipherSuite, version,
};

use crate::far::Far;
use crate::pair::{Cuts, Member, Pair, carry, messages};
use crate::records::{Forger, KEY_UPDATE};

/// AES-256-GCM that asks for new keys after so many records.
fn suite(records: u64) -> SupportedCipherSuite {
    let real = cipher_suite::TLS13_AES_256_GCM_SHA384.tls13().unwrap();
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: real.common.suite,
            hash_provider: real.common.hash_provider,
            confidentiality_limit: records,
        },
        hkdf_provider: real.hkdf_provider,
        aead_alg: real.aead_alg,
        quic: None,
    })))
}

fn configs(records: u64) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let member = Member::new();
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite(records)];
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(member.authority)).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(member.key.pkcs8().to_vec()));
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(member.certificate)], key)
        .unwrap();
    server.send_tls13_tickets = 0;
    (Arc::new(client), Arc::new(server))
}

fn connected(records: u64) -> Pair {
    let mut pair = Pair::new(configs(records));
    pair.handshake(&mut Cuts::whole());
    pair
}

fn message(number: u32) -> Vec<u8> {
    let mut message = number.to_le_bytes().to_vec();
    message.resize(4 + (number as usize * 37) % 3000, number as u8);
    message
}

const MESSAGES: u32 = 3000;

#[test]
fn thousands_of_messages_both_ways_need_many_keys() {
    let Pair { mut client, mut server } = connected(64);
    let mut cuts = Cuts::new(vec![1, 500, 20_000]);
    for number in 0..MESSAGES {
        client.send_message(&message(number)).unwrap();
        server.send_message(&message(number + 1)).unwrap();
        let mut got = [Vec::new(), Vec::new()];
        carry(&mut client, &mut server, &mut cuts, |server| got[0].extend(messages(server)));
        carry(&mut server, &mut client, &mut cuts, |client| got[1].extend(messages(client)));
        assert_eq!(got, [[message(number)], [message(number + 1)]]);
    }
}

#[test]
fn one_way_is_enough_to_need_new_keys_even_if_the_other_reads_late() {
    let one_way = |from: &mut LaneSession, to: &mut LaneSession| {
        // Nothing is read, not even the peer's answers, before all is sent.
        for number in 0..MESSAGES {
            from.send_message(&message(number)).unwrap();
        }
        let mut got = Vec::new();
        carry(from, to, &mut Cuts::new(vec![4096]), |to| got.extend(messages(to)));
        assert!(got == (0..MESSAGES).map(message).collect::<Vec<_>>());
        // The answers to all the key updates are in the way of what the other sends.
        to.send_message(b"behind them").unwrap();
        carry(to, from, &mut Cuts::whole(), |_| {});
        assert_eq!(messages(from), [b"behind them".to_vec()]);
        from.send_message(b"and back").unwrap();
        from.send_close();
        carry(from, to, &mut Cuts::whole(), |_| {});
        assert_eq!(messages(to), [b"and back".to_vec()]);
        assert!(to.inbox().is_closed());
    };
    let Pair { mut client, mut server } = connected(64);
    one_way(&mut client, &mut server);
    let Pair { mut client, mut server } = connected(64);
    one_way(&mut server, &mut client);
}

#[test]
fn a_message_of_more_records_than_a_key_may_protect_still_arrives() {
    let Pair { mut client, mut server } = connected(16);
    let large: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
    for _ in 0..10 {
        for session in [&mut client, &mut server] {
            session.send_message(&large).unwrap();
        }
        let mut got = [Vec::new(), Vec::new()];
        carry(&mut client, &mut server, &mut Cuts::whole(), |to| got[0].extend(messages(to)));
        carry(&mut server, &mut client, &mut Cuts::whole(), |to| got[1].extend(messages(to)));
        assert!(got == [[large.clone()], [large.clone()]]);
    }
}

#[test]
fn new_keys_do_not_get_in_the_way_of_pings() {
    let Pair { mut client, mut server } = connected(8);
    for number in 0..200_u32 {
        client.send_message(&number.to_le_bytes()).unwrap();
        carry(&mut client, &mut server, &mut Cuts::new(vec![2, 30]), |_| {});
        assert_eq!(messages(&mut server), [number.to_le_bytes().to_vec()]);
        // An empty read makes the server send what it owes.
        server.process().unwrap();
        carry(&mut server, &mut client, &mut Cuts::whole(), |_| {});
        assert_eq!(messages(&mut client), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn rustls_follows_from_key_to_key() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut far) = Far::connected_through(role, configs(16));
        let mut sent = 0;
        for number in 0..MESSAGES {
            near.send_message(&message(number)).unwrap();
            sent += message(number).len();
            if number % 40 == 0 {
                far.read_from(&mut near);
            }
        }
        far.read_from(&mut near);
        assert!(far.plaintext().len() > sent, "{role:?}: headers, too");
    }
}

#[test]
fn a_key_protects_as_many_records_as_it_may_and_its_last_says_so() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected_through(role, configs(16));
        let earlier = forger.opened();
        for _ in 0..20 {
            near.send_message(b"x").unwrap();
        }
        let sent = forger.answers(&mut near);
        assert_eq!(sent.last().unwrap(), &KEY_UPDATE);
        assert_eq!(earlier + sent.len() as u64, 16, "{role:?}");
    }
}
