//! Who is called what: nodes by the names that their advertisements carry.

use std::collections::BTreeSet;

use hawser_routing::{Lsa, LsaFlags, Lsdb};
use hawser_wire::NodeId;

use crate::{NodeRef, PlaneError};

/// Every node that has not left, in the order of ids.
pub(crate) fn members(lsdb: &Lsdb) -> impl Iterator<Item = &Lsa> + '_ {
    lsdb.iter().filter(|lsa| !has_left(lsa))
}

/// The advertisement is a farewell.
pub(crate) const fn has_left(lsa: &Lsa) -> bool {
    lsa.flags.contains(LsaFlags::LEFT)
}

/// The node with its name, if that is known.
pub(crate) fn node_ref(lsdb: &Lsdb, node: NodeId) -> NodeRef {
    NodeRef { node, name: lsdb.get(node).map_or_else(String::new, |lsa| lsa.name.clone()) }
}

/// The node that an application calls `name`: an id or a name, this node's own included.
///
/// # Errors
/// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`].
pub(crate) fn resolve_node(
    lsdb: &Lsdb,
    local: NodeId,
    local_name: &str,
    name: &str,
) -> Result<NodeId, PlaneError> {
    let mut candidates: BTreeSet<NodeId> =
        members(lsdb).filter(|lsa| lsa.name == name).map(|lsa| lsa.origin).collect();
    if name == local_name {
        candidates.insert(local);
    }
    let by_id = name
        .parse()
        .ok()
        .filter(|&node| node == local || members(lsdb).any(|lsa| lsa.origin == node));
    candidates.extend(by_id);
    match (candidates.pop_first(), candidates.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(first), false) => {
            let candidates = std::iter::once(first).chain(candidates).collect();
            Err(PlaneError::AmbiguousName { name: name.to_owned(), candidates })
        }
        (None, _) => {
            let names = members(lsdb).map(|lsa| lsa.name.as_str()).chain([local_name]);
            Err(PlaneError::UnknownNode { name: name.to_owned(), nearest: nearest(name, names) })
        }
    }
}

/// The most similar of `names`, if one is similar enough to be meant.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    // Every name of one letter is near to none at all.
    let distance_max = (name.chars().count() / 3).max(usize::from(!name.is_empty()));
    names
        .filter(|other| !other.is_empty())
        .map(|other| (strsim::osa_distance(name, other), other))
        .filter(|&(distance, _)| distance <= distance_max)
        .min()
        .map(|(_, other)| other.to_owned())
}

#[cfg(test)]
mod tests {
    use hawser_routing::CertificateHash;
    use hawser_wire::Incarnation;

    use super::*;

    const LOCAL: NodeId = NodeId::from_bytes([1; 16]);

    fn lsdb(nodes: &[(u8, &str, LsaFlags)]) -> Lsdb {
        let mut lsdb = Lsdb::new();
        for &(id, name, flags) in nodes {
            let _ = lsdb.insert(Lsa {
                origin: NodeId::from_bytes([id; 16]),
                incarnation: Incarnation(1),
                sequence: 1,
                public_key: [0; 32],
                certificate: CertificateHash::default(),
                flags,
                name: name.to_owned(),
                address: String::new(),
                adjacencies: Vec::new(),
                routes: Vec::new(),
                signature: [0; 64],
            });
        }
        lsdb
    }

    fn check(name: &str, expected: Result<u8, &str>) {
        let lsdb = lsdb(&[
            (1, "amsterdam", LsaFlags::default()),
            (2, "berlin", LsaFlags::default()),
            (3, "cairo", LsaFlags::default()),
            (4, "cairo", LsaFlags::default()),
            (5, "delhi", LsaFlags::LEFT),
        ]);
        match (resolve_node(&lsdb, LOCAL, "amsterdam", name), expected) {
            (Ok(node), Ok(id)) => assert_eq!(node, NodeId::from_bytes([id; 16])),
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part), "{text:?} has no {part:?}");
            }
            (found, expected) => panic!("{name}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn names_and_ids_are_found() {
        check("amsterdam", Ok(1));
        check("berlin", Ok(2));
        check(&NodeId::from_bytes([4; 16]).to_string(), Ok(4));
        check(&LOCAL.to_string(), Ok(1));
    }

    #[test]
    fn others_are_refused_with_help() {
        check("cairo", Err("shared by the nodes"));
        check("belrin", Err("did you mean \"berlin\"?"));
        check("zz", Err("no node \"zz\""));
        check("delhi", Err("no node \"delhi\""));
        check(&NodeId::from_bytes([9; 16]).to_string(), Err("no node"));
    }

    #[test]
    fn nothing_is_near_to_no_name() {
        assert_eq!(nearest("", ["a", "bb"].into_iter()), None);
        assert_eq!(nearest("b", ["a", "bb"].into_iter()).as_deref(), Some("a"));
    }

    #[test]
    fn a_lone_node_knows_itself() {
        let found = resolve_node(&Lsdb::new(), LOCAL, "amsterdam", "amsterdam");
        assert_eq!(found.ok(), Some(LOCAL));
    }
}
