//! Letting nodes in, at the node that holds the authority: tokens, and one decision at the store
//! for each node that asks.

use std::time::Duration;

use hawser_admission::JoinAttempt;
use hawser_identity::{JoinToken, MeshAuthority, check_node_name, fingerprint, token_digest};
use hawser_store::{Admitted, MemberRecord, MeshRecord, Store, StoreError, TokenRecord};
use hawser_wire::{CloseReason, JoinReply, JoinRequest, LaneClose, NodeId};

use crate::PlaneError;
use crate::control::{Control, unix_s};
use crate::handle::Answer;
use crate::lifecycle::CERTIFICATE_VALIDITY;

/// A token is good for so long, unless told otherwise.
const TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
/// Longest life of a token.
const TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Control {
    pub(crate) fn issue_token(
        &self,
        ttl: Duration,
        node: Option<NodeId>,
        address: Option<String>,
        answer: Answer<(String, u64)>,
    ) {
        let (token, digest) = match self.prepare_token(ttl, node, address) {
            Ok(prepared) => prepared,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let expires_unix_s = token.expires_unix_s;
        let record = TokenRecord { expires_unix_s, node };
        self.store.run(
            move |store| store.put_token(digest, record),
            move |_control, stored| {
                let issued = stored.map(|()| (token.encode(), expires_unix_s));
                let _caller_gone = answer.send(issued.map_err(PlaneError::from));
            },
        );
    }

    fn prepare_token(
        &self,
        ttl: Duration,
        node: Option<NodeId>,
        address: Option<String>,
    ) -> Result<(JoinToken, [u8; 32]), PlaneError> {
        let mesh = self.mesh.as_ref().ok_or(PlaneError::NoMesh)?;
        if mesh.record.authority_key.is_none() {
            return Err(PlaneError::NoAuthority { mesh: mesh.record.name.clone() });
        }
        let ttl = if ttl.is_zero() { TOKEN_TTL } else { ttl };
        if ttl > TOKEN_TTL_MAX {
            let (what, value) = ("token lifetime", format!("{} s", ttl.as_secs()));
            return Err(PlaneError::NameInvalid { what, value, rule: "at most 30 days" });
        }
        let address = address
            .filter(|address| !address.is_empty())
            .or_else(|| self.advertised_address())
            .ok_or(PlaneError::NoAddress)?;
        let secret = JoinToken::new_secret()?;
        let digest = token_digest(secret.as_slice());
        let token = JoinToken {
            mesh: mesh.record.mesh,
            authority_fingerprint: fingerprint(&mesh.record.authority),
            secret,
            address,
            expires_unix_s: unix_s().saturating_add(ttl.as_secs()),
            node,
        };
        Ok((token, digest))
    }

    /// A node asks to be let in.
    pub(crate) fn handle_join_attempt(&mut self, attempt: JoinAttempt) {
        let JoinAttempt { remote, request, node, answer } = attempt;
        let mesh = self.mesh.as_ref().filter(|mesh| !mesh.record.stopped);
        let Some(record) = mesh.map(|mesh| mesh.record.clone()) else {
            return drop(answer);
        };
        let name = request.name.clone();
        self.store.run(
            move |store| Ok(admit(store, &record, &request, node, unix_s())),
            move |control, decision: Result<_, StoreError>| {
                let decision = decision.unwrap_or_else(|error| Err(failed(&error)));
                if let Err(close) = &decision {
                    let detail = format!(
                        "{remote} joining as {name:?}: {}: {}",
                        close.reason.text(),
                        close.detail
                    );
                    control.tell_stranger_refused(Some(node), detail);
                } else {
                    tracing::info!(%remote, %node, name, "node admitted");
                }
                let _asker_gone = answer.send(decision);
            },
        );
    }
}

/// Decides about a node that asks to be let in. Runs on the store's thread. The token is used up
/// only for a request that is good, together with the record of the new member.
///
/// # Errors
/// What the asker is told. The token is not used up, unless the store failed.
fn admit(
    store: &Store,
    mesh: &MeshRecord,
    request: &JoinRequest,
    node: NodeId,
    now_unix_s: u64,
) -> Result<JoinReply, LaneClose> {
    let Some(key) = &mesh.authority_key else {
        let detail = "this node does not hold the certificate authority: join by way of the node \
                      that seeded the mesh";
        return Err(refusal(CloseReason::TokenRefused, detail));
    };
    check_node_name(&request.name)
        .map_err(|error| refusal(CloseReason::IdentityRefused, &error.to_string()))?;
    let (_node, certificate) = MeshAuthority::from_parts(&mesh.authority, key)
        .and_then(|authority| {
            authority.sign_csr(&request.csr, &request.name, now_unix_s, CERTIFICATE_VALIDITY)
        })
        .map_err(|error| refusal(CloseReason::IdentityRefused, &error.to_string()))?;
    let member = MemberRecord {
        node,
        name: request.name.clone(),
        certificate: certificate.clone(),
        joined_unix_s: now_unix_s,
    };
    let admitted = store.admit(token_digest(&request.secret), now_unix_s, &member);
    let (reason, detail) = match admitted.map_err(|error| failed(&error))? {
        Admitted::Granted => {
            return Ok(JoinReply {
                mesh: mesh.mesh,
                mesh_name: mesh.name.clone(),
                certificate,
                authority: mesh.authority.clone(),
            });
        }
        Admitted::TokenUnknown => {
            (CloseReason::TokenRefused, "it was not issued by this node".to_owned())
        }
        Admitted::TokenUsed => (CloseReason::TokenRefused, "it was used before".to_owned()),
        Admitted::TokenExpired => (CloseReason::TokenRefused, "it has expired".to_owned()),
        Admitted::TokenOfOther => (CloseReason::TokenRefused, "it is for another node".to_owned()),
        Admitted::Evicted => {
            (CloseReason::Evicted, "a node with this key does not come back".to_owned())
        }
        Admitted::NameTaken { by } => {
            (CloseReason::NameTaken, format!("{:?} is node {by}", request.name))
        }
    };
    Err(LaneClose { reason, detail })
}

/// What the asker is told when the store failed: not more than that.
fn failed(error: &StoreError) -> LaneClose {
    tracing::error!(%error, "a join could not be decided");
    refusal(CloseReason::Shutdown, "the node's store failed; see its log")
}

fn refusal(reason: CloseReason, detail: &str) -> LaneClose {
    LaneClose { reason, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use hawser_identity::NodeKey;
    use hawser_wire::MeshId;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const SECRET: [u8; 32] = [5; 32];

    struct Fixture {
        store: Store,
        mesh: MeshRecord,
        _directory: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("store");
        let id = MeshId::from_bytes([1; 16]);
        let authority = MeshAuthority::generate(id, "test", NOW).expect("authority");
        let mesh = MeshRecord {
            mesh: id,
            name: "test".into(),
            description: String::new(),
            certificate: Vec::new(),
            authority: authority.certificate_der().to_vec(),
            authority_key: Some(Zeroizing::new(authority.key_pkcs8().to_vec())),
            stopped: false,
        };
        let token = TokenRecord { expires_unix_s: NOW + 60, node: None };
        store.put_token(token_digest(&SECRET), token).expect("token");
        Fixture { store, mesh, _directory: directory }
    }

    fn request(key: &NodeKey, name: &str, secret: [u8; 32]) -> JoinRequest {
        let csr = key.csr("x").expect("request");
        JoinRequest { secret: secret.to_vec().into(), csr, name: name.into() }
    }

    fn check(
        fixture: &Fixture,
        key: &NodeKey,
        request: &JoinRequest,
        now: u64,
        expected: Option<CloseReason>,
    ) {
        let decision = admit(&fixture.store, &fixture.mesh, request, key.node_id(), now);
        assert_eq!(decision.as_ref().err().map(|close| close.reason), expected, "{decision:?}");
    }

    #[test]
    fn a_token_lets_one_node_in_once() {
        let fixture = fixture();
        let (first, second) =
            (NodeKey::generate().expect("key"), NodeKey::generate().expect("key"));
        check(&fixture, &first, &request(&first, "a", SECRET), NOW, None);
        let refused = Some(CloseReason::TokenRefused);
        check(&fixture, &first, &request(&first, "a", SECRET), NOW, refused);
        check(&fixture, &second, &request(&second, "b", SECRET), NOW, refused);
        let members = fixture.store.members().expect("members");
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].node, first.node_id());
    }

    #[test]
    fn a_request_that_is_refused_leaves_the_token_unused() {
        let fixture = fixture();
        let key = NodeKey::generate().expect("key");
        let taken = MemberRecord {
            node: NodeId::from_bytes([9; 16]),
            name: "taken".into(),
            certificate: Vec::new(),
            joined_unix_s: NOW,
        };
        fixture.store.put_member(&taken).expect("member");
        let name_taken = Some(CloseReason::NameTaken);
        check(&fixture, &key, &request(&key, "taken", SECRET), NOW, name_taken);
        let refused = Some(CloseReason::IdentityRefused);
        check(&fixture, &key, &request(&key, "../x", SECRET), NOW, refused);
        let malformed = JoinRequest { csr: vec![1, 2, 3], ..request(&key, "a", SECRET) };
        check(&fixture, &key, &malformed, NOW, refused);
        check(&fixture, &key, &request(&key, "a", SECRET), NOW, None);
    }

    #[test]
    fn wrong_and_old_tokens_are_refused() {
        let fixture = fixture();
        let key = NodeKey::generate().expect("key");
        let refused = Some(CloseReason::TokenRefused);
        check(&fixture, &key, &request(&key, "a", [6; 32]), NOW, refused);
        let late = NOW + Duration::from_secs(61).as_secs();
        check(&fixture, &key, &request(&key, "a", SECRET), late, refused);
        let no_authority =
            Fixture { mesh: MeshRecord { authority_key: None, ..fixture.mesh.clone() }, ..fixture };
        check(&no_authority, &key, &request(&key, "a", SECRET), NOW, refused);
    }
}
