use std::collections::BTreeSet;
use std::sync::Barrier;

use hawser_wire::{AdjacencyIndex, StreamOffset};
use tempfile::TempDir;

use super::{after_a_crash, member_record, mesh_record, node, node_record, stream, stream_record};
use crate::{Admitted, LaneRuleRecord, MemberPut, MemberRecord, Store, StreamState, TokenRecord};

const TOKEN: TokenRecord = TokenRecord { expires_unix_s: 1000, node: None };

fn fill(store: &Store) {
    store.set_node(&node_record()).unwrap();
    store.set_mesh(&mesh_record()).unwrap();
    store.put_token([1; 32], TOKEN).unwrap();
    assert_eq!(store.put_member(&member_record(2)).unwrap(), MemberPut::Inserted);
    assert_eq!(store.put_member(&member_record(1)).unwrap(), MemberPut::Inserted);
    store.put_peer("b.example:7480").unwrap();
    store.put_peer("a.example:7480").unwrap();
    store.put_operator_route(node(5), &[node(7), node(6)]).unwrap();
    store.put_operator_route(node(4), &[node(9)]).unwrap();
    store.put_operator_route(node(4), &[]).unwrap();
    store.put_lane_rule(node(5), &lane_rule(Some(3), Some("off"))).unwrap();
    store.put_lane_rule(node(5), &lane_rule(Some(2), None)).unwrap();
    store.put_lane_rule(node(4), &lane_rule(None, Some("dry-run"))).unwrap();
    store.put_lane_rule(node(6), &lane_rule(Some(1), None)).unwrap();
    store.put_lane_rule(node(6), &lane_rule(None, None)).unwrap();
    store.put_eviction(node(8), b"first").unwrap();
    store.put_eviction(node(8), b"second").unwrap();
    store.put_stream(&stream_record(4)).unwrap();
    store.put_stream(&stream_record(3)).unwrap();
    let confirmed =
        |number, name: &str, offset| (stream(number), name.to_owned(), StreamOffset(offset));
    store
        .put_consumers(&[confirmed(3, "b", 9), confirmed(3, "a", 5), confirmed(4, "", 1)])
        .unwrap();
}

fn lane_rule(bulk_lanes_max: Option<u8>, policy: Option<&str>) -> LaneRuleRecord {
    LaneRuleRecord { bulk_lanes_max, policy: policy.map(str::to_owned) }
}

fn check_filled(store: &Store) {
    assert_eq!(store.node().unwrap(), Some(node_record()));
    assert_eq!(store.mesh().unwrap(), Some(mesh_record()));
    assert_eq!(store.members().unwrap(), [member_record(1), member_record(2)]);
    assert_eq!(store.peers().unwrap(), ["a.example:7480", "b.example:7480"]);
    let routes = [(node(4), vec![]), (node(5), vec![node(7), node(6)])];
    assert_eq!(store.operator_routes().unwrap(), routes);
    let rules = [(node(4), lane_rule(None, Some("dry-run"))), (node(5), lane_rule(Some(2), None))];
    assert_eq!(store.lane_rules().unwrap(), rules);
    assert_eq!(store.evictions().unwrap(), [(node(8), b"first".to_vec())]);
    assert_eq!(store.streams().unwrap(), [stream_record(3), stream_record(4)]);
    let offsets = [("a".to_owned(), StreamOffset(5)), ("b".to_owned(), StreamOffset(9))];
    assert_eq!(store.consumers(stream(3)).unwrap(), offsets);
    assert_eq!(store.consumers(stream(4)).unwrap(), [(String::new(), StreamOffset(1))]);
}

fn check_no_mesh(store: &Store) {
    assert_eq!(store.mesh().unwrap(), None);
    assert_eq!(store.members().unwrap(), []);
    assert_eq!(store.peers().unwrap(), [""; 0]);
    assert_eq!(store.operator_routes().unwrap(), []);
    assert_eq!(store.lane_rules().unwrap(), []);
    assert_eq!(store.evictions().unwrap(), []);
    assert_eq!(store.streams().unwrap(), []);
    assert_eq!(store.consumers(stream(3)).unwrap(), []);
    assert_eq!(store.admit([1; 32], 0, &member_record(1)).unwrap(), Admitted::TokenUnknown);
}

#[test]
fn a_new_store_is_empty() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.node().unwrap(), None);
    assert_eq!(store.adjacencies().unwrap(), []);
    check_no_mesh(&store);
}

#[test]
fn a_restart_keeps_everything() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    check_filled(&store);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    check_filled(&store);
    assert_eq!(store.admit([1; 32], 0, &member_record(1)).unwrap(), Admitted::Granted);
}

#[test]
fn a_write_is_on_disk_when_it_returns() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    let (_dir, crashed) = after_a_crash(&store);
    check_filled(&crashed);
    for boot in 1..=3 {
        assert_eq!(store.next_boot().unwrap(), boot);
        let (_dir, crashed) = after_a_crash(&store);
        assert_eq!(crashed.next_boot().unwrap(), boot + 1);
    }
    assert_eq!(store.admit([1; 32], 0, &member_record(1)).unwrap(), Admitted::Granted);
    let (_dir, crashed) = after_a_crash(&store);
    assert_eq!(crashed.admit([1; 32], 0, &member_record(1)).unwrap(), Admitted::TokenUsed);
}

#[test]
fn records_are_replaced() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    let mut mesh = mesh_record();
    (mesh.stopped, mesh.authority_key) = (true, None);
    store.set_mesh(&mesh).unwrap();
    assert_eq!(store.mesh().unwrap(), Some(mesh));
    for state in [StreamState::Closing, StreamState::Closed, StreamState::Open] {
        let mut changed = stream_record(3);
        (changed.state, changed.confirmed) = (state, vec![]);
        store.put_stream(&changed).unwrap();
        assert_eq!(store.streams().unwrap(), [changed, stream_record(4)]);
    }
    assert!(store.remove_peer("a.example:7480").unwrap());
    assert!(!store.remove_peer("a.example:7480").unwrap());
    store.put_peer("b.example:7480").unwrap();
    assert_eq!(store.peers().unwrap(), ["b.example:7480"]);
}

#[test]
fn keys_are_not_shown() {
    let text = format!("{:?} {:?}", node_record(), mesh_record());
    assert!(
        text.contains("harbour") && !text.contains("[3, 3") && !text.contains("97, 32"),
        "{text}"
    );
}

#[test]
fn a_name_belongs_to_one_member() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put_member(&member_record(1)).unwrap();
    let mut second = member_record(2);
    second.name = member_record(1).name;
    assert_eq!(store.put_member(&second).unwrap(), MemberPut::NameTaken { by: node(1) });
    assert_eq!(store.members().unwrap(), [member_record(1)]);
    // The same node may come again, and under another name frees the old one.
    let mut renamed = member_record(1);
    renamed.certificate = vec![9];
    assert_eq!(store.put_member(&renamed).unwrap(), MemberPut::Inserted);
    renamed.name = "other".to_owned();
    assert_eq!(store.put_member(&renamed).unwrap(), MemberPut::Inserted);
    assert_eq!(store.put_member(&second).unwrap(), MemberPut::Inserted);
    assert_eq!(store.members().unwrap(), [renamed, second]);
}

#[test]
fn a_token_is_used_once() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bound = TokenRecord { expires_unix_s: 1000, node: Some(node(5)) };
    store.put_token([1; 32], TOKEN).unwrap();
    store.put_token([2; 32], bound).unwrap();
    store.put_token([3; 32], TOKEN).unwrap();
    let admit = |token, by, now| store.admit([token; 32], now, &member_record(by)).unwrap();
    assert_eq!(admit(9, 5, 0), Admitted::TokenUnknown);
    assert_eq!(admit(1, 5, 1000), Admitted::TokenExpired);
    assert_eq!(store.members().unwrap(), []);
    assert_eq!(admit(1, 5, 999), Admitted::Granted);
    assert_eq!(store.members().unwrap(), [member_record(5)]);
    assert_eq!(admit(1, 5, 999), Admitted::TokenUsed);
    assert_eq!(admit(1, 6, 2000), Admitted::TokenUsed);
    assert_eq!(admit(2, 6, 0), Admitted::TokenOfOther);
    assert_eq!(store.members().unwrap(), [member_record(5)]);
    assert_eq!(admit(2, 5, 0), Admitted::Granted);
    assert_eq!(admit(3, 7, 0), Admitted::Granted);
}

#[test]
fn a_taken_name_leaves_the_token_unused() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put_member(&member_record(1)).unwrap();
    store.put_token([1; 32], TOKEN).unwrap();
    let impostor = MemberRecord { name: member_record(1).name, ..member_record(2) };
    let refused = Admitted::NameTaken { by: node(1) };
    assert_eq!(store.admit([1; 32], 0, &impostor).unwrap(), refused);
    assert_eq!(store.admit([9; 32], 0, &impostor).unwrap(), Admitted::TokenUnknown, "no names");
    let (_dir, crashed) = after_a_crash(&store);
    for store in [store, crashed] {
        assert_eq!(store.members().unwrap(), [member_record(1)]);
        assert_eq!(store.admit([1; 32], 0, &member_record(2)).unwrap(), Admitted::Granted);
    }
}

#[test]
fn a_node_is_let_in_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put_token([1; 32], TOKEN).unwrap();
    store.sync().unwrap();
    // Not on the disk when the power fails: neither of the two is left.
    let deferred = store.deferred();
    assert_eq!(deferred.admit([1; 32], 0, &member_record(1)).unwrap(), Admitted::Granted);
    let (_dir, crashed) = after_a_crash(&store);
    assert_eq!(crashed.members().unwrap(), []);
    assert_eq!(crashed.admit([1; 32], 0, &member_record(2)).unwrap(), Admitted::Granted);
    // On the disk: both are.
    store.sync().unwrap();
    let (_dir, crashed) = after_a_crash(&store);
    assert_eq!(crashed.members().unwrap(), [member_record(1)]);
    assert_eq!(crashed.admit([1; 32], 0, &member_record(2)).unwrap(), Admitted::TokenUsed);
}

#[test]
fn of_many_attempts_at_once_one_is_granted() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for token in 0..5 {
        store.put_token([token; 32], TOKEN).unwrap();
        let barrier = Barrier::new(8);
        let answers = std::thread::scope(|scope| {
            let attempt = |by| {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    store.admit([token; 32], 0, &member_record(by)).unwrap()
                })
            };
            let attempts: Vec<_> = (0..8).map(attempt).collect();
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect::<Vec<_>>()
        });
        let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
        assert_eq!((count(Admitted::Granted), count(Admitted::TokenUsed)), (1, 7), "{answers:?}");
    }
}

#[test]
fn an_adjacency_index_is_never_given_twice() {
    let dir = TempDir::new().unwrap();
    let mut given = BTreeSet::new();
    let mut store = Store::open(dir.path()).unwrap();
    for round in 0..4 {
        for neighbour in 0..5 {
            let index = store.adjacency_index(node(round * 5 + neighbour)).unwrap();
            assert!(given.insert(index), "{index}");
            assert_eq!(store.adjacency_index(node(round * 5 + neighbour)).unwrap(), index);
        }
        store.set_mesh(&mesh_record()).unwrap();
        store.clear_mesh().unwrap();
        if round % 2 == 1 {
            drop(store);
            store = Store::open(dir.path()).unwrap();
        }
    }
    assert_eq!(store.adjacency_index(node(0)).unwrap(), AdjacencyIndex(1), "kept all the while");
    let listed: BTreeSet<_> = store.adjacencies().unwrap().into_iter().collect();
    assert_eq!(listed.len(), 20);
    assert!(listed.contains(&(AdjacencyIndex(1), node(0))));
}

#[test]
fn leaving_forgets_the_mesh_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    assert_eq!(store.next_boot().unwrap(), 1);
    let index = store.adjacency_index(node(9)).unwrap();
    assert!(!store.drained().unwrap());
    store.set_drained(true).unwrap();
    store.clear_mesh().unwrap();
    check_no_mesh(&store);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    check_no_mesh(&store);
    assert_eq!(store.node().unwrap(), Some(node_record()));
    assert_eq!(store.next_boot().unwrap(), 2);
    assert!(store.drained().unwrap());
    store.set_drained(false).unwrap();
    assert!(!store.drained().unwrap());
    assert_eq!(store.adjacency_index(node(9)).unwrap(), index);
    fill(&store);
    check_filled(&store);
}

#[test]
fn a_stream_takes_its_consumers_along() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    assert!(store.remove_stream(stream(3)).unwrap());
    assert!(!store.remove_stream(stream(3)).unwrap());
    assert_eq!(store.consumers(stream(3)).unwrap(), []);
    assert_eq!(store.consumers(stream(4)).unwrap().len(), 1);
    // A confirmation that comes late leaves nothing behind.
    store.put_consumers(&[(stream(3), "late".to_owned(), StreamOffset(1))]).unwrap();
    assert_eq!(store.consumers(stream(3)).unwrap(), []);
}

#[test]
fn what_is_confirmed_only_grows() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fill(&store);
    for (offset, kept) in [(4, 5), (6, 6), (0, 6), (7, 7)] {
        store.put_consumers(&[(stream(3), "a".to_owned(), StreamOffset(offset))]).unwrap();
        assert_eq!(store.consumers(stream(3)).unwrap()[0].1, StreamOffset(kept));
    }
}
