//! The mesh's life at this node: seed, join, stop, start, leave.

use std::sync::Arc;
use std::time::Duration;

use hawser_admission::{Acceptor, AdmissionError, JoinOptions, LocalNode, join};
use hawser_identity::{Credentials, JoinToken, MeshAuthority, NodeKey, random_id};
use hawser_store::{MemberRecord, MeshRecord, StoreError};
use hawser_wire::{CloseReason, Incarnation, JoinReply, LifeNonce, MeshId, MonoTime, printable};
use zeroize::Zeroizing;

use crate::control::{Continuation, Control, Listening, Mesh, unix_s};
use crate::handle::Answer;
use crate::{EventKind, PlaneError};

/// A node's certificate is good for so long.
pub(crate) const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(730 * 24 * 60 * 60);
/// Lanes stay open for so long after this node said that it leaves.
const FAREWELL: Duration = Duration::from_millis(100);

/// This node has said that it leaves, and is about to.
pub(crate) struct Leaving {
    pub(crate) due: MonoTime,
    answers: Vec<Answer<()>>,
}

impl Mesh {
    /// Makes TLS of what the store keeps.
    ///
    /// # Errors
    /// [`PlaneError::Identity`] if key, certificate and authority do not belong together.
    pub(crate) fn new(
        record: MeshRecord,
        key: &NodeKey,
        name: &str,
        incarnation: Incarnation,
        life: LifeNonce,
    ) -> Result<Self, PlaneError> {
        let credentials = Credentials::new(key, &record.certificate, &record.authority)?;
        let local = LocalNode {
            node: key.node_id(),
            name: name.to_owned(),
            mesh: record.mesh,
            incarnation,
            life,
            client: credentials.lane_client_config(),
            server: credentials.lane_server_config(),
            barred: Arc::default(),
        };
        Ok(Self { record, credentials, local: Arc::new(local) })
    }
}

impl Control {
    pub(crate) fn seed_mesh(&mut self, name: String, description: String, answer: Answer<()>) {
        match self.prepare_seed(name, description) {
            Ok((mesh, acceptor)) => self.store_entered(mesh, acceptor, None, answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn prepare_seed(
        &self,
        name: String,
        description: String,
    ) -> Result<(Mesh, Option<Acceptor>), PlaneError> {
        self.check_may_enter()?;
        check_mesh_name(&name)?;
        let now = unix_s();
        let mesh = MeshId::from_bytes(random_id()?);
        let authority = MeshAuthority::generate(mesh, &name, now)?;
        let csr = self.key.csr(&self.config.node_name)?;
        let (_own, certificate) =
            authority.sign_csr(&csr, &self.config.node_name, now, CERTIFICATE_VALIDITY)?;
        let record = MeshRecord {
            mesh,
            name,
            description,
            certificate,
            authority: authority.certificate_der().to_vec(),
            authority_key: Some(Zeroizing::new(authority.key_pkcs8().to_vec())),
            stopped: false,
        };
        let mesh = self.mesh_of(record)?;
        let acceptor = self.bind(&mesh)?;
        Ok((mesh, acceptor))
    }

    pub(crate) fn mesh_of(&self, record: MeshRecord) -> Result<Mesh, PlaneError> {
        Mesh::new(record, &self.key, &self.config.node_name, self.incarnation(), self.life)
    }

    fn check_may_enter(&self) -> Result<(), PlaneError> {
        if let Some(mesh) = &self.mesh {
            return Err(PlaneError::AlreadyInMesh { name: mesh.record.name.clone() });
        }
        if self.entering {
            return Err(PlaneError::AlreadyInMesh { name: "being entered".to_owned() });
        }
        Ok(())
    }

    /// Listens for lanes, if that is configured.
    pub(crate) fn bind(&self, mesh: &Mesh) -> Result<Option<Acceptor>, PlaneError> {
        let Some(address) = &self.config.listen else { return Ok(None) };
        let (limits, sockets) = (self.config.limits, self.config.sockets);
        Acceptor::bind(address, Arc::clone(&mesh.local), limits, sockets)
            .map(Some)
            .map_err(|error| plane_error(address, error))
    }

    /// Keeps a mesh that was seeded or joined, then takes part in it.
    fn store_entered(
        &mut self,
        mesh: Mesh,
        acceptor: Option<Acceptor>,
        dialled: Option<String>,
        answer: Answer<()>,
    ) {
        self.entering = true;
        let record = mesh.record.clone();
        let own = MemberRecord {
            node: self.node,
            name: self.config.node_name.clone(),
            certificate: record.certificate.clone(),
            joined_unix_s: unix_s(),
        };
        let peer = dialled.clone();
        self.store.run(
            move |store| {
                if record.authority_key.is_some() {
                    store.put_member(&own)?;
                }
                if let Some(address) = peer {
                    store.put_peer(&address)?;
                }
                store.set_mesh(&record)
            },
            move |control, stored: Result<(), StoreError>| {
                control.entering = false;
                if let Err(error) = stored {
                    return drop(answer.send(Err(error.into())));
                }
                let joined = dialled.is_some();
                control.peers.extend(dialled);
                control.take_part(mesh, acceptor);
                if joined {
                    control.settle(Some(answer));
                } else {
                    let _caller_gone = answer.send(Ok(()));
                }
            },
        );
    }

    /// Dials, accepts and advertises from now on, unless the mesh is stopped.
    pub(crate) fn take_part(&mut self, mesh: Mesh, acceptor: Option<Acceptor>) {
        let now = self.now();
        self.run = self.run.wrapping_add(1);
        self.api_credentials.send_replace(Some(mesh.credentials.api_server_config()));
        self.know_own_certificate(&mesh.record);
        self.mesh = Some(mesh);
        self.bar_all_evicted();
        if !self.is_running() {
            return;
        }
        self.listening = acceptor.map(|acceptor| {
            let address = acceptor.local_addr();
            let task = tokio::spawn(acceptor.run(self.accepted.clone())).abort_handle();
            tracing::info!(%address, "accepting lanes");
            Listening { address, task }
        });
        for address in self.config.dial.iter().chain(&self.peers) {
            self.dialler.add(now, address);
        }
        self.originate();
    }

    /// Neither dials nor accepts any more; every lane is closed.
    pub(crate) fn withdraw(&mut self) {
        self.run = self.run.wrapping_add(1);
        self.listening = None;
        self.abort_attempts();
        self.dialler.clear();
        self.wishes.clear();
        self.close_lanes(CloseReason::Shutdown);
        self.clear_topology();
    }

    pub(crate) fn join_mesh(&mut self, token: &str, address: Option<String>, answer: Answer<()>) {
        let prepared = self.check_may_enter().and_then(|()| self.prepare_join(token, address));
        let (token, address, csr) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.entering = true;
        let name = self.config.node_name.clone();
        let options = JoinOptions {
            proxy: self.config.proxy.clone(),
            limits: self.config.limits,
            sockets: self.config.sockets,
        };
        self.spawn(async move {
            let result = join(&token, &address, csr, &name, &options).await;
            let done: Continuation = Box::new(move |control| {
                control.handle_joined(address, result, answer);
            });
            done
        });
    }

    fn prepare_join(
        &self,
        token: &str,
        address: Option<String>,
    ) -> Result<(JoinToken, String, Vec<u8>), PlaneError> {
        let token = JoinToken::parse(token)
            .map_err(|error| PlaneError::TokenInvalid { detail: error.to_string() })?;
        if let Some(bound) = token.node.filter(|&bound| bound != self.node) {
            let detail = format!("it is for node {bound}, this node is {}", self.node);
            return Err(PlaneError::TokenInvalid { detail });
        }
        let address =
            address.filter(|address| !address.is_empty()).unwrap_or_else(|| token.address.clone());
        if address.is_empty() {
            let detail = "it names no address to dial: give one".to_owned();
            return Err(PlaneError::TokenInvalid { detail });
        }
        self.check_listen()?;
        let csr = self.key.csr(&self.config.node_name)?;
        Ok((token, address, csr))
    }

    /// Finds out whether lanes could be accepted as configured, without accepting any.
    pub(crate) fn check_listen(&self) -> Result<(), PlaneError> {
        let Some(address) = &self.config.listen else { return Ok(()) };
        match std::net::TcpListener::bind(address) {
            Ok(_closed_again) => Ok(()),
            Err(error) => {
                Err(PlaneError::Listen { address: address.clone(), detail: error.to_string() })
            }
        }
    }

    fn handle_joined(
        &mut self,
        address: String,
        result: Result<JoinReply, AdmissionError>,
        answer: Answer<()>,
    ) {
        self.entering = false;
        let mesh = result.map_err(|error| plane_error(&address, error)).and_then(|reply| {
            check_mesh_name(&reply.mesh_name)?;
            self.mesh_of(MeshRecord {
                mesh: reply.mesh,
                name: reply.mesh_name,
                description: String::new(),
                certificate: reply.certificate,
                authority: reply.authority,
                authority_key: None,
                stopped: false,
            })
        });
        match mesh {
            Ok(mesh) => {
                // The port was free before the token was used; a node that lost it since is a
                // member all the same, and can dial.
                let acceptor = self.bind(&mesh).unwrap_or_else(|error| {
                    self.events.emit(EventKind::Refused, None, error.to_string());
                    None
                });
                self.store_entered(mesh, acceptor, Some(address), answer);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    pub(crate) fn stop_mesh(&mut self, answer: Answer<()>) {
        self.store_stopped(true, None, answer);
    }

    pub(crate) fn start_mesh(&mut self, answer: Answer<()>) {
        if self.is_running() {
            return drop(answer.send(Ok(())));
        }
        let startable = self.mesh.as_ref().ok_or(PlaneError::NoMesh).and_then(|mesh| {
            let name = || mesh.record.name.clone();
            if self.is_evicted() {
                Err(PlaneError::Evicted { mesh: name() })
            } else {
                self.bind(mesh)
            }
        });
        match startable {
            Ok(acceptor) => self.store_stopped(false, acceptor, answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn store_stopped(&self, stopped: bool, acceptor: Option<Acceptor>, answer: Answer<()>) {
        let Some(mesh) = &self.mesh else { return drop(answer.send(Err(PlaneError::NoMesh))) };
        let (record, run) = (MeshRecord { stopped, ..mesh.record.clone() }, self.run);
        self.store.run(
            move |store| store.set_mesh(&record),
            move |control, stored| {
                if stored.is_ok()
                    && control.run == run
                    && let Some(mut mesh) = control.mesh.take()
                {
                    mesh.record.stopped = stopped;
                    if stopped {
                        control.withdraw();
                    }
                    control.take_part(mesh, acceptor);
                    control.settle(None);
                }
                let _caller_gone = answer.send(stored.map_err(PlaneError::from));
            },
        );
    }

    /// Says farewell to the mesh; [`Self::leave_due`] does the rest.
    pub(crate) fn leave_mesh(&mut self, answer: Answer<()>) {
        if self.mesh.is_none() {
            return drop(answer.send(Err(PlaneError::NoMesh)));
        }
        let now = self.now();
        if let Some(leaving) = &mut self.leaving {
            leaving.answers.push(answer);
            return;
        }
        let farewell = if self.is_running() { FAREWELL } else { Duration::ZERO };
        let due = now.saturating_add(farewell);
        self.leaving = Some(Leaving { due, answers: vec![answer] });
        // Told at once, and to be flooded before the lanes close.
        self.originate();
    }

    /// Takes this node out of transit or lets it in again, durably.
    pub(crate) fn drain(&mut self, drained: bool, answer: Answer<()>) {
        self.store.run(
            move |store| store.set_drained(drained),
            move |control, stored| {
                if stored.is_ok() && control.drained != drained {
                    control.drained = drained;
                    // Told at once: the caller's next look shows it.
                    if control.is_running() {
                        control.originate();
                    }
                }
                let _caller_gone = answer.send(stored.map_err(PlaneError::from));
            },
        );
    }

    /// Forgets the mesh once its neighbours have had time to hear the farewell.
    pub(crate) fn leave_due(&mut self) {
        let now = self.now();
        let Some(leaving) = self.leaving.take_if(|leaving| leaving.due <= now) else { return };
        self.withdraw();
        self.clear_streams();
        self.certificates.clear();
        self.operator_routes.clear();
        self.clear_lane_rules();
        self.evictions.clear();
        self.links.clear_evicted();
        self.refused_as_evicted = None;
        self.mesh = None;
        self.peers.clear();
        self.entering = true;
        self.api_credentials.send_replace(None);
        self.store.run(
            |store| store.clear_mesh(),
            move |control, cleared| {
                control.entering = false;
                for answer in leaving.answers {
                    let cleared = cleared.clone().map_err(PlaneError::from);
                    let _caller_gone = answer.send(cleared);
                }
            },
        );
    }
}

/// The rule for names of meshes.
fn check_mesh_name(name: &str) -> Result<(), PlaneError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
        let value = name.chars().take(64).collect();
        let rule = "1 to 63 characters of a-z, 0-9, `-`";
        return Err(PlaneError::NameInvalid { what: "mesh name", value, rule });
    }
    Ok(())
}

/// What admission's error means to a caller of the plane.
pub(crate) fn plane_error(address: &str, error: AdmissionError) -> PlaneError {
    let address = address.to_owned();
    match error {
        AdmissionError::Refused { reason, detail, .. }
        | AdmissionError::Unacceptable { reason, detail, .. } => {
            PlaneError::Refused { address, reason, detail }
        }
        AdmissionError::Bind { address, source } => {
            PlaneError::Listen { address, detail: source.to_string() }
        }
        AdmissionError::Address { address: value, why } => {
            PlaneError::NameInvalid { what: "address", value, rule: why }
        }
        AdmissionError::Identity(error) => PlaneError::Identity(error),
        AdmissionError::Unreachable { source, .. } => {
            PlaneError::Unreachable { address, detail: source.to_string() }
        }
        // Some of it may be the other side's words.
        AdmissionError::Handshake { fault, .. } => {
            PlaneError::Unreachable { address, detail: printable(&fault.to_string()) }
        }
        error => PlaneError::Unreachable { address, detail: printable(&error.to_string()) },
    }
}
