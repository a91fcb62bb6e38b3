//! Streams that begin here: opened, announced, confirmed, closed, ended; and the datagrams between
//! control planes that say so.

use std::sync::Arc;

use hawser_exchange::{ControlToShard, StreamRefusedReport};
use hawser_identity::random_id;
use hawser_store::{StoreError, StreamRecord, StreamState};
use hawser_wire::{CloseReason, DrillProbe, NodeId, StreamId, StreamOffset};

use crate::catalogue::{STREAMS_MAX, announcement, check_class, check_stream_name};
use crate::control::{Control, unix_s};
use crate::datagram::{DESTINATIONS_MAX, Datagram, RefuseReason, membership_message};
use crate::directory::resolve_node;
use crate::handle::Answer;
use crate::{EventKind, OpenStream, OpenedStream, PlaneError, StreamView};

const TENANT_DEFAULT: &str = "default";

impl Control {
    /// Opens a stream from this node, or finds the one that is open.
    pub(crate) fn open_stream(&mut self, request: OpenStream, answer: Answer<OpenedStream>) {
        let again = self.settling.is_some().then(|| request.clone());
        match self.prepare_stream(request) {
            Ok((record, true)) => self.store_opened(record, answer),
            Ok((record, false)) => {
                let now = self.now();
                self.opens.add(now, record.stream, answer);
                self.answer_opens(record.stream);
            }
            Err(error @ PlaneError::UnknownNode { .. }) => {
                // The map of the mesh may be on its way still.
                match (self.settling.as_mut(), again) {
                    (Some(settling), Some(request)) => settling.hold_open(request, answer),
                    _ => drop(answer.send(Err(error))),
                }
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// The stream that is wanted, and whether it is new.
    fn prepare_stream(&self, request: OpenStream) -> Result<(StreamRecord, bool), PlaneError> {
        let OpenStream { tenant, name, destinations: wanted, qos, striped, class } = request;
        match &self.mesh {
            Some(mesh) if mesh.record.stopped => return Err(PlaneError::MeshStopped),
            Some(_) if self.leaving.is_none() => {}
            _ => return Err(PlaneError::NoMesh),
        }
        let tenant = if tenant.is_empty() { TENANT_DEFAULT.to_owned() } else { tenant };
        check_stream_name("tenant", &tenant)?;
        check_stream_name("stream", &name)?;
        match qos {
            0 => {}
            1 => return Err(PlaneError::Unsupported { what: "quality of service at_most_once" }),
            _ => return Err(PlaneError::Unsupported { what: "quality of service quorum" }),
        }
        check_class(class, striped)?;
        let mut destinations = Vec::new();
        for node in wanted {
            let lsdb = self.flooding.lsdb();
            let node = resolve_node(lsdb, self.node, &self.config.node_name, node.trim())?;
            if !destinations.contains(&node) {
                destinations.push(node);
            }
        }
        if destinations.is_empty() {
            let (what, value) = ("destination", String::new());
            let rule = "a stream needs at least one destination node";
            return Err(PlaneError::NameInvalid { what, value, rule });
        }
        if destinations.len() > DESTINATIONS_MAX {
            return Err(PlaneError::TooMany { what: "destinations", max: DESTINATIONS_MAX });
        }
        destinations.sort_unstable();
        if let Some(record) = self.catalogue.own(&tenant, &name) {
            if record.state != StreamState::Open {
                return Err(PlaneError::StreamClosing { name });
            }
            if record.destinations != destinations {
                return Err(PlaneError::StreamDiffers { name, what: "destinations" });
            }
            if record.qos != qos {
                return Err(PlaneError::StreamDiffers { name, what: "quality of service" });
            }
            if record.class != class {
                return Err(PlaneError::StreamDiffers { name, what: "traffic class" });
            }
            if record.striped != striped {
                return Err(PlaneError::StreamDiffers { name, what: "striping" });
            }
            return Ok((record.clone(), false));
        }
        if self.catalogue.is_full() {
            return Err(PlaneError::TooMany { what: "streams", max: STREAMS_MAX });
        }
        let record = StreamRecord {
            stream: StreamId::from_bytes(random_id()?),
            tenant,
            name,
            source: self.node,
            destinations,
            qos,
            state: StreamState::Open,
            confirmed: Vec::new(),
            created_unix_s: unix_s(),
            striped,
            class,
        };
        Ok((record, true))
    }

    fn store_opened(&mut self, record: StreamRecord, answer: Answer<OpenedStream>) {
        let (now, stream, run) = (self.now(), record.stream, self.run);
        self.catalogue.insert(record.clone());
        self.storing.insert(stream);
        self.opens.add(now, stream, answer);
        self.store.run(
            move |store| store.put_stream(&record),
            move |control, stored| {
                if control.run == run {
                    control.handle_stored(stream, stored);
                }
            },
        );
    }

    /// A new stream of this node is durable, or cannot be.
    fn handle_stored(&mut self, stream: StreamId, stored: Result<(), StoreError>) {
        self.storing.remove(&stream);
        if let Err(error) = stored {
            self.catalogue.remove(stream);
            for answer in self.opens.take(stream) {
                let _caller_gone = answer.send(Err(error.clone().into()));
            }
            return;
        }
        let Some(record) = self.catalogue.get(stream).cloned() else { return };
        self.host(&record, true, Vec::new());
        self.announce(&record);
        let detail = format!("stream {} ({stream}) from here", record.name);
        self.events.emit(EventKind::StreamOpened, Some(self.node), detail);
        self.answer_opens(stream);
    }

    /// Tells the shard what this node does for a stream.
    pub(crate) fn host(
        &mut self,
        record: &StreamRecord,
        fresh: bool,
        consumers: Vec<(String, StreamOffset)>,
    ) {
        let spec = self.catalogue.spec(record, self.boot_epoch(), fresh, consumers);
        self.shards.send_to_stream(record.stream, ControlToShard::OpenStream(Box::new(spec)));
    }

    /// Every destination that has not confirmed is told of the stream until it answers.
    pub(crate) fn announce(&mut self, record: &StreamRecord) {
        let now = self.now();
        for &node in &record.destinations {
            if node != self.node && !record.confirmed.contains(&node) {
                self.announcements.add(now, record.stream, node);
            }
        }
    }

    /// Sends the announcements that are due to destinations that can be reached, and asks the
    /// sources of streams that have ended here whether they still need an answer.
    pub(crate) fn announce_due(&mut self) {
        let now = self.now();
        for (stream, node) in self.announcements.poll_due(now) {
            if let Some(record) = self.catalogue.get(stream) {
                let message = if record.source == self.node {
                    Datagram::StreamAnnounce(announcement(record))
                } else {
                    Datagram::StreamConfirm(stream)
                };
                self.send_datagram(node, &message);
            }
        }
    }

    /// Answers calls that wait for a stream, if everybody has confirmed it.
    fn answer_opens(&mut self, stream: StreamId) {
        if self.storing.contains(&stream) || self.announcements.pending(stream).next().is_some() {
            return;
        }
        for answer in self.opens.take(stream) {
            let _caller_gone = answer.send(Ok(OpenedStream { stream, pending: Vec::new() }));
        }
    }

    /// Answers calls that have waited long enough.
    pub(crate) fn answer_overdue_opens(&mut self) {
        let now = self.now();
        for (stream, answer) in self.opens.take_overdue(now) {
            let pending = self.announcements.pending(stream).collect();
            let _caller_gone = answer.send(Ok(OpenedStream { stream, pending }));
        }
    }

    /// Sends a message to another node's control plane, if there is a path to it now.
    pub(crate) fn send_datagram(&mut self, to: NodeId, message: &Datagram) {
        self.send_datagram_body(to, message.encode());
    }

    /// As [`Self::send_datagram`], encoded by the caller.
    pub(crate) fn send_datagram_body(&mut self, to: NodeId, body: Vec<u8>) {
        let routes = Arc::clone(&self.routes);
        let first_hop = routes
            .route_to(to)
            .and_then(|route| route.hops.first())
            .and_then(|&index| routes.neighbour(index));
        if let Some(neighbour) = first_hop {
            let body = body.into();
            self.shards.send_to_link(neighbour, ControlToShard::Datagram { to, body });
        }
    }

    /// Another node's control plane says something, over the neighbour `via`.
    pub(crate) fn handle_datagram(&mut self, (from, via): (NodeId, NodeId), body: &[u8]) {
        if !self.is_running() {
            return;
        }
        if let Some(message) = membership_message(body) {
            return self.handle_membership(from, message);
        }
        match Datagram::decode(body) {
            Ok(Some(Datagram::StreamAnnounce(announce))) => {
                self.handle_announce((from, via), announce);
            }
            Ok(Some(Datagram::StreamConfirm(stream))) => self.handle_confirm(from, stream),
            Ok(Some(Datagram::StreamGone(stream))) => self.handle_gone(from, stream),
            Ok(Some(Datagram::StreamRefuse { stream, reason, detail })) => {
                self.handle_refuse((from, via), stream, reason, &detail);
            }
            Ok(Some(Datagram::DialBack(request))) => {
                self.handle_dial_back((from, via), &request);
            }
            Ok(Some(Datagram::Probe(DrillProbe { drill, probe }))) => {
                self.handle_probe(from, drill, probe);
            }
            Ok(Some(Datagram::ProbeAnswer(DrillProbe { drill, probe }))) => {
                self.handle_probe_answer(from, drill, probe);
            }
            Ok(None) => tracing::debug!(%from, "datagram of unknown kind"),
            Err(error) => {
                self.refuse_datagram((from, via), "malformed", format!("datagram: {error}"));
            }
        }
    }

    /// A destination has the stream.
    fn handle_confirm(&mut self, from: NodeId, stream: StreamId) {
        if self.catalogue.get(stream).is_none() {
            self.send_datagram(from, &Datagram::StreamGone(stream));
            return;
        }
        if !self.announcements.settle(stream, from) {
            return;
        }
        if let Some(record) = self.catalogue.get_mut(stream) {
            record.confirmed.push(from);
            let record = record.clone();
            self.keep_stream(record);
        }
        let hosted = ControlToShard::StreamHostedAt { stream, node: from };
        self.shards.send_to_stream(stream, hosted);
        self.answer_opens(stream);
    }

    /// A destination will not have the stream. A stream that is just being opened is taken back;
    /// otherwise the destination is asked again, at the slowest pace.
    fn handle_refuse(
        &mut self,
        (from, via): (NodeId, NodeId),
        stream: StreamId,
        reason: RefuseReason,
        detail: &str,
    ) {
        let Some(record) = self.catalogue.get(stream) else { return };
        if record.source != self.node || !record.destinations.contains(&from) {
            return;
        }
        let name = record.name.clone();
        let text = format!("stream {name} ({stream}): {detail}");
        let fresh = self.opens.is_waited_for(stream) && record.confirmed.is_empty();
        self.refuse_datagram((from, via), "stream-refused", text);
        if reason == RefuseReason::StoreFailed || !fresh {
            return;
        }
        for answer in self.opens.take(stream) {
            let address = self.node_name(from);
            let reason = match reason {
                RefuseReason::TooMany => CloseReason::RateLimited,
                _ => CloseReason::ProtocolViolation,
            };
            let detail = detail.to_owned();
            let _caller_gone = answer.send(Err(PlaneError::Refused { address, reason, detail }));
        }
        self.withdraw_stream(stream);
    }

    /// Takes back a stream that nobody has published on.
    fn withdraw_stream(&mut self, stream: StreamId) {
        let destinations = self.catalogue.get(stream).map(|record| record.destinations.clone());
        self.forget_stream(stream);
        // This node itself may be among them: there is no path to it, and nothing is sent.
        for node in destinations.into_iter().flatten() {
            self.send_datagram(node, &Datagram::StreamGone(stream));
        }
    }

    /// A destination's shard does not know a stream that it had confirmed.
    pub(crate) fn handle_stream_unknown(&mut self, stream: StreamId, node: NodeId) {
        let now = self.now();
        let Some(record) = self.catalogue.get_mut(stream) else { return };
        if record.source != self.node || !record.destinations.contains(&node) {
            return;
        }
        let before = record.confirmed.len();
        record.confirmed.retain(|&confirmed| confirmed != node);
        if record.confirmed.len() < before {
            let record = record.clone();
            self.keep_stream(record);
            self.announcements.add(now, stream, node);
        }
    }

    /// The application ends a stream that begins here.
    pub(crate) fn close_stream(&mut self, stream: StreamId, answer: Answer<()>) {
        let record = match self.catalogue.get_mut(stream) {
            None => Err(PlaneError::UnknownStream { stream: stream.to_string(), nearest: None }),
            Some(record) if record.source != self.node => {
                Err(PlaneError::NotSource { stream, source_node: record.source })
            }
            Some(record) => Ok(record),
        };
        let record = match record {
            Ok(record) if record.state == StreamState::Open => record,
            Ok(_closed_before) => return drop(answer.send(Ok(()))),
            Err(error) => return drop(answer.send(Err(error))),
        };
        record.state = StreamState::Closing;
        let (record, run) = (record.clone(), self.run);
        self.store.run(
            move |store| store.put_stream(&record),
            move |control, stored| {
                let closed = stored.map_err(PlaneError::from).map(|()| {
                    if control.run == run {
                        control.handle_closed(stream);
                    }
                });
                if closed.is_err()
                    && let Some(record) = control.catalogue.get_mut(stream)
                {
                    record.state = StreamState::Open;
                }
                let _caller_gone = answer.send(closed);
            },
        );
    }

    fn handle_closed(&mut self, stream: StreamId) {
        self.shards.send_to_stream(stream, ControlToShard::CloseStream(stream));
        let name = self.catalogue.get(stream).map_or("", |record| record.name.as_str());
        let detail = format!("stream {name} ({stream}) from here");
        self.events.emit(EventKind::StreamClosed, Some(self.node), detail);
    }

    /// One end of a stream broke its rules, and the other one has nothing more of it.
    pub(crate) fn handle_stream_refused(&mut self, report: &StreamRefusedReport) {
        let StreamRefusedReport { stream, peer, reason, detail, times } = report;
        let count = self.streams_refused.entry(reason.name()).or_default();
        *count = count.saturating_add(*times);
        let name = self.catalogue.get(*stream).map_or("", |record| record.name.as_str());
        let (other, reason) = (self.node_name(*peer), reason.text());
        let text = match detail {
            Some(detail) => {
                format!("stream {name} ({stream}) of {other} refused: {reason}: {detail}")
            }
            None => format!("stream {name} ({stream}) refused by {other}: {reason}"),
        };
        self.events.emit(EventKind::StreamRefused, Some(*peer), text);
    }

    /// A shard has delivered the last of a closed stream.
    ///
    /// At the source that is the end of it. A destination has to go on answering for the stream
    /// until its source has the last acknowledgement: one that had forgotten it would be taken for
    /// one that never had it, and be given messages again. So it asks its source until that says
    /// that the stream is gone.
    pub(crate) fn handle_stream_ended(&mut self, stream: StreamId, end: StreamOffset) {
        let now = self.now();
        let Some(record) = self.catalogue.get_mut(stream) else { return };
        if record.state == StreamState::Closed {
            return; // As before a restart.
        }
        record.state = StreamState::Closed;
        let record = record.clone();
        self.catalogue.note_ended(record.clone(), end);
        if record.source == self.node {
            self.forget_stream(stream);
            return;
        }
        self.announcements.add(now, stream, record.source);
        let detail = format!("stream {} ({stream}) to here", record.name);
        self.events.emit(EventKind::StreamClosed, Some(record.source), detail);
        self.keep_stream(record);
    }

    /// Forgets a stream here and at its shard.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.shards.send_to_stream(stream, ControlToShard::DropStream(stream));
        self.catalogue.remove(stream);
        self.announcements.forget(stream);
        self.commits.forget(stream);
        self.answer_opens(stream);
        self.store.run(
            move |store| store.remove_stream(stream),
            move |_control, removed| {
                if let Err(error) = removed {
                    tracing::error!(%stream, %error, "an ended stream stays in the store");
                }
            },
        );
    }

    /// Writes a record whose change nobody waits for; a failure costs an announcement or a question
    /// at the next start.
    fn keep_stream(&self, record: StreamRecord) {
        let stream = record.stream;
        self.store.run(
            move |store| store.put_stream(&record),
            move |_control, stored| {
                if let Err(error) = stored {
                    tracing::warn!(%stream, %error, "a stream's progress is not kept");
                }
            },
        );
    }

    /// The stream that an application names.
    pub(crate) fn resolve_stream(&self, stream: &str) -> Result<StreamView, PlaneError> {
        self.catalogue.resolve(stream).map(|record| self.catalogue.view(record))
    }

    /// Forgets every stream, here and at the shards.
    pub(crate) fn clear_streams(&mut self) {
        let streams: Vec<_> = self.catalogue.iter().map(|record| record.stream).collect();
        for stream in streams {
            self.shards.send_to_stream(stream, ControlToShard::DropStream(stream));
            for answer in self.opens.take(stream) {
                let _caller_gone = answer.send(Err(PlaneError::NoMesh));
            }
        }
        self.catalogue.clear();
        self.announcements.clear();
        self.storing.clear();
        let _dropped = self.commits.drain();
    }
}
