mod publishing;

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_delivery::{
    ConsumerError, ConsumerStart, DeliveryLimits, PathKey, PathWindows, RecordOutcome, RefusedBy,
    SentLog, StreamReceiver, StreamSender,
};
use hawser_exchange::{
    Refusal, ShardToApi, ShardToApiData, ShardToControl, StreamReport, StreamSpec, SubscribeEnd,
    SubscribeRequest,
};
use hawser_wire::{
    FrameFlags, MonoTime, NodeId, PathId, ProducerId, RecordView, StreamId, StreamOffset, TenantId,
};

use crate::breaches::Breaches;
use crate::outward::Outward;
use crate::path_choice::Way;
use crate::publishers::{CallId, Publishers};
use crate::stream_paths::{LOCAL_PATH, Paths};
use crate::subscriptions::{Subscription, Subscriptions};

/// What consumers confirmed is handed to the store at most this often.
const COMMITS_EVERY: Duration = Duration::from_millis(50);

/// One stream at this node: its source, its destination, or both, and the calls of applications.
#[derive(Debug)]
pub(crate) struct StreamHost {
    stream: StreamId,
    /// Where it comes from, if this node is a destination.
    /// Whose it is: known once the stream was specified.
    pub(crate) tenant: Option<TenantId>,
    source: Option<NodeId>,
    pub(crate) sender: Option<StreamSender>,
    pub(crate) receiver: Option<StreamReceiver>,
    publishers: Publishers,
    subscriptions: Subscriptions,
    /// Calls that wait until the stream knows where it goes on.
    opening: Vec<(CallId, ProducerId)>,
    /// Present path to each other node of the stream.
    pub(crate) paths: Paths,
    /// Last known path to the source.
    way_back: Option<PathId>,
    commits: BTreeMap<Box<str>, StreamOffset>,
    commits_at: Option<MonoTime>,
    ended: bool,
    /// Its records take all bulk lanes of each link.
    striped: bool,
    /// Which way its messages went.
    pub(crate) sent: SentLog,
    /// What its ends have done that they may not.
    breaches: Breaches,
}

impl StreamHost {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            tenant: None,
            source: None,
            sender: None,
            receiver: None,
            publishers: Publishers::default(),
            subscriptions: Subscriptions::default(),
            opening: Vec::new(),
            paths: Paths::new(),
            way_back: None,
            commits: BTreeMap::new(),
            commits_at: None,
            ended: false,
            striped: false,
            sent: SentLog::default(),
            breaches: Breaches::default(),
        }
    }

    /// Takes the stream's specification; roles that it has already stay as they are.
    pub(crate) fn handle_spec(&mut self, spec: &StreamSpec, limits: DeliveryLimits) {
        self.tenant = Some(spec.tenant);
        if let Some(source) = &spec.source
            && self.sender.is_none()
        {
            let mut sender = StreamSender::new(
                spec.tenant,
                spec.stream,
                spec.epoch,
                &source.destinations,
                source.fresh,
                limits,
            );
            if source.closing {
                sender.handle_close();
            }
            self.sender = Some(sender);
            self.striped = source.striped;
            self.paths.class = source.class;
        }
        if let Some(destination) = &spec.destination
            && self.receiver.is_none()
        {
            self.source = Some(destination.source);
            let consumers =
                destination.consumers.iter().map(|(name, offset)| (name.as_str(), *offset));
            let (tenant, stream, epoch) = (spec.tenant, spec.stream, spec.epoch);
            let restored = destination.restored;
            let receiver = StreamReceiver::new(tenant, stream, epoch, restored, consumers, limits);
            self.receiver = Some(receiver);
        }
    }

    /// Of the frames that its records leave in.
    pub(crate) fn record_flags(&self) -> FrameFlags {
        if self.striped { FrameFlags::STRIPED } else { FrameFlags::default() }
    }

    /// The node that the stream comes from, if it ends here.
    pub(crate) const fn source(&self) -> Option<NodeId> {
        self.source
    }

    /// Looks at the paths to the stream's other nodes: `choose` gives the one to take instead of the
    /// present one, and `back` the one to the source.
    pub(crate) fn handle_routes(
        &mut self,
        now: MonoTime,
        local: NodeId,
        windows: &mut PathWindows,
        mut choose: impl FnMut(Way, Option<PathId>, &PathWindows) -> Option<PathId>,
        back: impl FnOnce(NodeId) -> Option<PathId>,
    ) {
        if let Some(sender) = &mut self.sender {
            let nodes: Vec<NodeId> = sender.destinations().collect();
            for node in nodes {
                let before = self.paths.path_to(node);
                let way = Way { class: self.paths.class, to: node };
                let path =
                    if node == local { Some(LOCAL_PATH) } else { choose(way, before, &*windows) };
                if !self.paths.take(sender, windows, node, path) {
                    continue;
                }
                if before.is_some() && path.is_some() {
                    sender.handle_path_left(now, node);
                } else {
                    sender.handle_path(node, path.is_some());
                }
            }
        }
        if let (Some(receiver), Some(source)) = (&mut self.receiver, self.source)
            && source != local
        {
            let path = back(source);
            if std::mem::replace(&mut self.way_back, path) != path && path.is_some() {
                receiver.handle_path();
            }
        }
    }

    /// At a barrier it is the turn of another path, which `next` gives, where this one has carried its
    /// chunk.
    pub(crate) fn take_turns(
        &mut self,
        windows: &mut PathWindows,
        mut next: impl FnMut(Way, &PathWindows) -> Option<PathId>,
    ) {
        let Some(sender) = &mut self.sender else { return };
        let mut last = None;
        while let Some(PathKey { destination, class, .. }) = self.paths.next_spent(last) {
            last = Some(destination);
            if sender.is_settled(destination) {
                self.paths.begin_chunk(destination);
                let path = next(Way { class, to: destination }, &*windows);
                self.paths.take(sender, windows, destination, path);
            }
        }
    }

    pub(crate) fn handle_subscribe(
        &mut self,
        now: MonoTime,
        api: usize,
        request: SubscribeRequest,
        outward: &mut Outward,
    ) {
        let call = (api, request.session);
        let Some(receiver) = &mut self.receiver else {
            outward.refuse(call, Refusal::UnknownStream);
            return;
        };
        let start = match request.start {
            hawser_exchange::ConsumerStart::Resume => ConsumerStart::Resume,
            hawser_exchange::ConsumerStart::At(offset) => ConsumerStart::At(offset),
        };
        match receiver.attach(&request.consumer, start) {
            Ok(next) => {
                // A new consumer holds the stream from now on, also after a restart.
                if let Some(confirmed) = receiver.confirmed(&request.consumer) {
                    self.note_commit(now, &request.consumer, confirmed);
                }
                let subscription = Subscription {
                    consumer: request.consumer,
                    manual_commit: request.manual_commit,
                    granted_bytes: request.granted_bytes,
                    delivered_bytes: 0,
                    ended: false,
                };
                if let Some(earlier) = self.subscriptions.open(call, subscription) {
                    outward.end_subscription(earlier, SubscribeEnd::TakenOver);
                }
                let session = request.session;
                outward.push_api(api, ShardToApi::SubscribeOpened { session, next });
            }
            Err(error) => outward.refuse(call, refusal_of_consumer(error)),
        }
    }

    pub(crate) fn handle_subscribe_credit(&mut self, call: CallId, granted_bytes: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(call) {
            subscription.granted_bytes = subscription.granted_bytes.max(granted_bytes);
        }
    }

    pub(crate) fn handle_handed_out(&mut self, now: MonoTime, call: CallId, next: StreamOffset) {
        let Some(subscription) = self.subscriptions.get_mut(call) else { return };
        if subscription.manual_commit {
            return;
        }
        let consumer = subscription.consumer.clone();
        // Beyond what was received cannot be: it was handed out.
        let _never_ahead = self.commit(now, &consumer, next);
    }

    pub(crate) fn handle_commit(
        &mut self,
        now: MonoTime,
        call: CallId,
        consumer: &str,
        next: StreamOffset,
        outward: &mut Outward,
    ) {
        if self.receiver.is_none() {
            outward.refuse(call, Refusal::UnknownStream);
            return;
        }
        let (api, session) = call;
        match self.commit(now, consumer, next) {
            Ok(()) => outward.push_api(api, ShardToApi::CommitDone { session }),
            Err(error) => outward.refuse(call, refusal_of_consumer(error)),
        }
    }

    fn commit(
        &mut self,
        now: MonoTime,
        consumer: &str,
        next: StreamOffset,
    ) -> Result<(), ConsumerError> {
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        if receiver.handle_commit(now, consumer, next)? {
            self.note_commit(now, consumer, next);
        }
        Ok(())
    }

    fn note_commit(&mut self, now: MonoTime, consumer: &str, next: StreamOffset) {
        match self.commits.get_mut(consumer) {
            Some(noted) => *noted = next,
            None => {
                self.commits.insert(consumer.into(), next);
            }
        }
        self.commits_at.get_or_insert_with(|| now.saturating_add(COMMITS_EVERY));
    }

    pub(crate) fn handle_end_subscribe(&mut self, call: CallId) {
        // One that another call has taken over is not there any more.
        if let Some(ended) = self.subscriptions.remove(call)
            && let Some(receiver) = &mut self.receiver
        {
            receiver.detach(&ended.consumer);
        }
    }

    pub(crate) fn handle_close(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.handle_close();
        }
    }

    /// A record arrived, in a frame with these flags.
    pub(crate) fn handle_record(
        &mut self,
        now: MonoTime,
        view: &RecordView<'_>,
        flags: FrameFlags,
    ) -> RecordOutcome {
        match &mut self.receiver {
            Some(receiver) => receiver.handle_record(now, view, flags),
            None => RecordOutcome::Refused,
        }
    }

    /// Something has happened to the source's half that concerns the path to `node`.
    pub(crate) fn settle_path(&mut self, now: MonoTime, node: NodeId, windows: &mut PathWindows) {
        if let (Some(sender), Some(key)) = (&mut self.sender, self.paths.window_to(node)) {
            windows.settle(now, key, sender);
        }
    }

    /// Likewise, that may concern all of its paths.
    pub(crate) fn settle_paths(&mut self, now: MonoTime, windows: &mut PathWindows) {
        let Some(sender) = &mut self.sender else { return };
        for key in self.paths.windows() {
            windows.settle(now, key, sender);
        }
    }

    /// The host is about to be forgotten.
    pub(crate) fn leave_paths(&mut self, windows: &mut PathWindows) {
        let Some(sender) = &mut self.sender else { return };
        let nodes: Vec<NodeId> = sender.destinations().collect();
        for key in nodes.into_iter().filter_map(|node| self.paths.window_to(node)) {
            windows.leave(key, sender);
        }
    }

    /// Ends every call, publishers with `refusal`, subscriptions with `end`.
    pub(crate) fn end_calls(
        &mut self,
        refusal: &Refusal,
        end: SubscribeEnd,
        outward: &mut Outward,
    ) {
        for (call, _) in std::mem::take(&mut self.opening) {
            outward.refuse(call, refusal.clone());
        }
        for call in self.publishers.drain() {
            outward.refuse(call, refusal.clone());
        }
        for call in self.subscriptions.drain() {
            outward.end_subscription(call, end);
        }
    }

    /// Hands out what the machines have come to, towards applications and control.
    pub(crate) fn settle(&mut self, now: MonoTime, outward: &mut Outward) {
        self.settle_refusals(now, outward);
        self.settle_publishers(outward);
        self.deliver(outward);
        if self.commits_at.is_some_and(|at| at <= now) {
            self.commits_at = None;
            let stream = self.stream;
            for (consumer, next) in std::mem::take(&mut self.commits) {
                outward.control.push(ShardToControl::Committed { stream, consumer, next });
            }
        }
        let finished = self.sender.as_ref().is_none_or(StreamSender::is_finished)
            && self.receiver.as_ref().is_none_or(StreamReceiver::is_finished)
            && (self.sender.is_some() || self.receiver.is_some());
        if finished && !self.ended && self.subscriptions.is_empty() && self.commits.is_empty() {
            self.ended = true;
            let at_source = self.sender.as_ref().map(StreamSender::end);
            let here = self.receiver.as_ref().and_then(StreamReceiver::end);
            let (stream, end) = (self.stream, at_source.or(here).unwrap_or_default());
            outward.control.push(ShardToControl::StreamEnded { stream, end });
        }
    }

    /// Tells the control thread of ends that broke the rules, and publishers that nothing more is taken.
    fn settle_refusals(&mut self, now: MonoTime, outward: &mut Outward) {
        let (stream, breaches) = (self.stream, &mut self.breaches);
        if let (Some(receiver), Some(source)) = (&mut self.receiver, self.source)
            && let Some(violation) = receiver.poll_violation()
        {
            let detail = Some(violation.to_string());
            let report = breaches.add(now, stream, source, violation.refusal(), detail);
            report.into_iter().for_each(|report| {
                outward.control.push(ShardToControl::StreamRefused(report));
            });
        }
        let Some(sender) = &mut self.sender else { return };
        while let Some((node, by)) = sender.poll_refused() {
            let detail = match by {
                RefusedBy::Source(violation) => Some(violation.to_string()),
                RefusedBy::Destination(_) => None,
            };
            let reason = by.refusal();
            let report = breaches.add(now, stream, node, reason, detail);
            report.into_iter().for_each(|report| {
                outward.control.push(ShardToControl::StreamRefused(report));
            });
            for call in self.publishers.drain() {
                outward.refuse(call, Refusal::StreamRefused { node, reason });
            }
        }
    }

    fn deliver(&mut self, outward: &mut Outward) {
        let Some(receiver) = &mut self.receiver else { return };
        let mut over = Vec::new();
        for ((api, session), subscription) in self.subscriptions.iter_mut() {
            while subscription.delivered_bytes < subscription.granted_bytes
                && let Some(record) = receiver.poll_deliver(&subscription.consumer)
            {
                subscription.delivered_bytes =
                    subscription.delivered_bytes.saturating_add(record.charge_bytes());
                let record = Box::new(record);
                outward.push_api_data(api, ShardToApiData::Deliver { session, record });
            }
            // What was handed out last is still to be confirmed, so the subscription stays until the
            // API thread ends it.
            if receiver.is_exhausted(&subscription.consumer)
                && !std::mem::replace(&mut subscription.ended, true)
            {
                over.push((api, session));
            }
        }
        for call in over {
            outward.end_subscription(call, SubscribeEnd::StreamEnded);
        }
    }

    /// The next time that the stream wants to be looked at without another event.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        let sender = self.sender.as_ref().and_then(StreamSender::poll_timeout);
        let receiver = self.receiver.as_ref().and_then(StreamReceiver::poll_timeout);
        [sender, receiver, self.commits_at].into_iter().flatten().min()
    }

    pub(crate) fn reports(&self) -> impl Iterator<Item = StreamReport> + '_ {
        let source = self.sender.as_ref().map(|sender| StreamReport {
            stream: self.stream,
            source: true,
            end: sender.end(),
            acked: sender.acked(),
            buffered_bytes: sender.buffered_bytes(),
        });
        let destination = self.receiver.as_ref().map(|receiver| StreamReport {
            stream: self.stream,
            source: false,
            end: receiver.frontier(),
            acked: receiver.consumed(),
            buffered_bytes: receiver.buffered_bytes(),
        });
        source.into_iter().chain(destination)
    }
}

const fn refusal_of_consumer(error: ConsumerError) -> Refusal {
    match error {
        ConsumerError::OutOfRange { floor } => Refusal::OutOfRange { floor },
        ConsumerError::TooMany { max } => Refusal::TooMany { what: "consumers", max },
        ConsumerError::Ahead { end } => Refusal::CommitAhead { end },
    }
}

#[cfg(test)]
mod tests;
