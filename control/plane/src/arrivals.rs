//! Streams that end here: announced, taken or refused, withdrawn; and what their consumers confirm.

use hawser_store::{StoreError, StreamState};
use hawser_wire::{NodeId, StreamId, StreamOffset};

use crate::EventKind;
use crate::catalogue::{STREAMS_MAX, announced_record, check_stream_name};
use crate::control::Control;
use crate::datagram::{Datagram, RefuseReason, StreamAnnounce};

impl Control {
    /// A source tells of a stream that ends here, over the neighbour `via`.
    pub(crate) fn handle_announce(
        &mut self,
        (from, via): (NodeId, NodeId),
        announce: StreamAnnounce,
    ) {
        let stream = announce.stream;
        if self.storing.contains(&stream) {
            return;
        }
        if let Some(record) = self.catalogue.get(stream) {
            if record.source == from && from != self.node {
                self.send_datagram(from, &Datagram::StreamConfirm(stream));
            } else {
                self.refuse_stream((from, via), stream, RefuseReason::Invalid, "the id is taken");
            }
            return;
        }
        let names = check_stream_name("tenant", &announce.tenant)
            .and_then(|()| check_stream_name("stream", &announce.name));
        if let Err(error) = names {
            self.refuse_stream((from, via), stream, RefuseReason::Invalid, &error.to_string());
            return;
        }
        if !announce.destinations.contains(&self.node) || from == self.node {
            let detail = "the stream does not lead to this node";
            self.refuse_stream((from, via), stream, RefuseReason::Invalid, detail);
            return;
        }
        if self.catalogue.is_full() {
            let detail = format!("this node has {STREAMS_MAX} streams already");
            self.refuse_stream((from, via), stream, RefuseReason::TooMany, &detail);
            return;
        }
        let record = announced_record(from, announce);
        let (kept, run) = (record.clone(), self.run);
        self.catalogue.insert(record);
        self.storing.insert(stream);
        self.store.run(
            move |store| {
                store.put_stream(&kept)?;
                store.consumers(stream)
            },
            move |control, stored| {
                if control.run == run {
                    control.handle_announced_stored(via, stream, stored);
                }
            },
        );
    }

    /// A stream that ends here is durable, or cannot be.
    fn handle_announced_stored(
        &mut self,
        via: NodeId,
        stream: StreamId,
        stored: Result<Vec<(String, StreamOffset)>, StoreError>,
    ) {
        self.storing.remove(&stream);
        let Some(record) = self.catalogue.get(stream).cloned() else { return };
        match stored {
            Ok(consumers) => {
                // With consumers of an earlier life it is a stream that this node had forgotten.
                self.host(&record, consumers.is_empty(), consumers);
                let detail = format!("stream {} ({stream}) to here", record.name);
                self.events.emit(EventKind::StreamOpened, Some(record.source), detail);
                self.send_datagram(record.source, &Datagram::StreamConfirm(stream));
            }
            Err(error) => {
                self.catalogue.remove(stream);
                let detail = error.to_string();
                self.refuse_stream(
                    (record.source, via),
                    stream,
                    RefuseReason::StoreFailed,
                    &detail,
                );
            }
        }
    }

    fn refuse_stream(
        &mut self,
        (to, via): (NodeId, NodeId),
        stream: StreamId,
        reason: RefuseReason,
        why: &str,
    ) {
        let counted = match reason {
            RefuseReason::TooMany => "stream-too-many",
            RefuseReason::Invalid | RefuseReason::Unknown(_) => "stream-invalid",
            RefuseReason::StoreFailed => "stream-not-kept",
        };
        self.refuse_datagram((to, via), counted, format!("stream {stream}: {why}"));
        let detail = why.to_owned();
        self.send_datagram(to, &Datagram::StreamRefuse { stream, reason, detail });
    }

    /// A source has no such stream any more: it has ended, or an application opened it and it was
    /// taken back.
    pub(crate) fn handle_gone(&mut self, from: NodeId, stream: StreamId) {
        let Some(record) = self.catalogue.get(stream).filter(|record| record.source == from) else {
            return;
        };
        if record.state != StreamState::Closed {
            let detail = format!("stream {} ({stream}) to here", record.name);
            self.events.emit(EventKind::StreamClosed, Some(from), detail);
        }
        self.forget_stream(stream);
    }

    /// Writes what consumers have confirmed, if it is time.
    pub(crate) fn write_commits(&mut self) {
        let now = self.now();
        if let Some(commits) = self.commits.take_due(now) {
            self.store.run(
                move |store| store.put_consumers(&commits),
                |control, stored| {
                    let now = control.now();
                    let is_news = control.commits.handle_written(now, stored.is_err());
                    if let Err(error) = stored
                        && is_news
                    {
                        let detail = format!("consumers' progress is not kept yet: {error}");
                        control.events.emit(EventKind::Refused, None, detail);
                    }
                },
            );
        }
    }
}
