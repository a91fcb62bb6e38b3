mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use hawser_delivery::{DeliveryLimits, PathKey, PathWindows, SendRounds, WindowBudget};
use hawser_exchange::{ApiData, ApiToShard, Refusal, StreamReport, StreamSpec, SubscribeEnd};
use hawser_wire::{
    BootEpoch, FrameBody, FrameFlags, FrameKind, MonoTime, NodeId, Notice, NoticeReason,
    RecordView, StreamAck, StreamHeader, StreamId, StreamSync,
};
use tracing::debug;

use crate::dispatch::Forwarder;
use crate::host::StreamHost;
use crate::io::ShardIo;
use crate::message_ways::SENT_RUNS_MAX;
use crate::outward::Outward;
use crate::path_choice::PathChoice;
use crate::refusals::Refusals;

use self::sending::{Egress, Shared, acknowledge_from, answer_unknown, handle_dropped, send_from};

/// The streams that this shard hosts.
#[derive(Debug)]
pub(crate) struct Streams {
    limits: DeliveryLimits,
    pub(crate) hosts: BTreeMap<StreamId, StreamHost>,
    /// What may be under way on each path.
    windows: PathWindows,
    /// What may be granted to the sources of streams that end here.
    budget: WindowBudget,
    /// Which path each stream takes.
    choice: PathChoice,
    /// Streams that something happened to since they were last settled.
    touched: BTreeSet<StreamId>,
    /// Whose turn it is to send.
    rounds: SendRounds<Egress>,
    /// Those that are to be visited in the present turn, last first; empty in between.
    sending: Vec<StreamId>,
    /// Streams that want to be looked at, by time.
    timers: BTreeSet<(MonoTime, StreamId)>,
    timer_of: BTreeMap<StreamId, MonoTime>,
    /// What found no place on its way.
    refusals: Refusals,
    /// Runs in the logs of what streams have sent.
    sent_runs: usize,
    scratch: Vec<u8>,
}

impl Streams {
    /// Streams that end here may have been granted `memory_bytes` together.
    pub(crate) fn new(limits: DeliveryLimits, memory_bytes: u64) -> Self {
        Self {
            limits,
            hosts: BTreeMap::new(),
            windows: PathWindows::new(limits.path_window()),
            budget: WindowBudget::new(memory_bytes),
            choice: PathChoice::default(),
            touched: BTreeSet::new(),
            rounds: SendRounds::default(),
            sending: Vec::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            refusals: Refusals::default(),
            sent_runs: 0,
            scratch: Vec::new(),
        }
    }

    /// The host of a stream that something is about to happen to.
    fn touch(&mut self, stream: StreamId) -> Option<&mut StreamHost> {
        let host = self.hosts.get_mut(&stream)?;
        self.touched.insert(stream);
        Some(host)
    }

    pub(crate) fn handle_spec<I: ShardIo>(&mut self, spec: &StreamSpec, forwarder: &Forwarder<I>) {
        let limits = self.limits;
        let host = self.hosts.entry(spec.stream).or_insert_with(|| StreamHost::new(spec.stream));
        host.handle_spec(spec, limits);
        self.touched.insert(spec.stream);
        self.handle_routes_of(spec.stream, forwarder);
    }

    /// A destination hosts the stream from now on.
    pub(crate) fn handle_hosted(&mut self, stream: StreamId, node: NodeId) {
        if let Some(sender) = self.touch(stream).and_then(|host| host.sender.as_mut()) {
            sender.handle_hosted(node);
        }
    }

    /// The application closed the stream.
    pub(crate) fn handle_close(&mut self, stream: StreamId) {
        if let Some(host) = self.touch(stream) {
            host.handle_close();
        }
    }

    /// Forgets a stream with all that it holds, and ends its calls.
    pub(crate) fn handle_drop(&mut self, stream: StreamId, outward: &mut Outward) {
        if let Some(mut host) = self.hosts.remove(&stream) {
            host.end_calls(&Refusal::UnknownStream, SubscribeEnd::StreamDropped, outward);
            host.leave_paths(&mut self.windows);
            if let Some(sender) = &host.sender {
                self.rounds.leave(sender.key());
            }
            if let Some(receiver) = &mut host.receiver {
                receiver.leave_budget(&mut self.budget);
            }
            self.sent_runs = self.sent_runs.saturating_sub(host.sent.len());
        }
        self.touched.remove(&stream);
        self.set_timer(stream, None);
    }

    /// The route snapshot changed, or what is known of links and paths.
    pub(crate) fn handle_routes<I: ShardIo>(&mut self, forwarder: &Forwarder<I>) {
        let streams: Vec<StreamId> = self.hosts.keys().copied().collect();
        self.rounds.clear();
        for stream in streams {
            self.touched.insert(stream);
            self.handle_routes_of(stream, forwarder);
        }
    }

    fn handle_routes_of<I: ShardIo>(&mut self, stream: StreamId, forwarder: &Forwarder<I>) {
        let Self { hosts, windows, choice, .. } = self;
        let Some(host) = hosts.get_mut(&stream) else { return };
        host.handle_routes(
            forwarder.now,
            forwarder.local,
            windows,
            |way, path, windows| choice.choose(forwarder, windows, way, path),
            |source| forwarder.routes.current().route_to(source).map(|route| route.path),
        );
    }

    /// Something is wrong with a path of this node: streams take others, at once.
    fn avoid<I: ShardIo>(&mut self, path: PathKey, forwarder: &Forwarder<I>) {
        if !self.choice.avoid(forwarder.now, path) {
            return;
        }
        let uses = |host: &StreamHost| host.paths.window_to(path.destination) == Some(path);
        let streams = self.hosts.iter().filter(|(_, host)| uses(host)).map(|(&stream, _)| stream);
        for stream in streams.collect::<Vec<_>>() {
            self.touched.insert(stream);
            self.handle_routes_of(stream, forwarder);
        }
    }

    pub(crate) fn handle_api(
        &mut self,
        now: MonoTime,
        api: usize,
        message: ApiToShard,
        outward: &mut Outward,
    ) {
        match message {
            ApiToShard::OpenPublish { session, stream, producer } => match self.touch(stream) {
                Some(host) => host.handle_open_publish((api, session), producer, outward),
                None => outward.refuse((api, session), Refusal::UnknownStream),
            },
            ApiToShard::OpenSubscribe(request) => match self.touch(request.stream) {
                Some(host) => host.handle_subscribe(now, api, *request, outward),
                None => outward.refuse((api, request.session), Refusal::UnknownStream),
            },
            ApiToShard::SubscribeCredit { session, stream, granted_bytes } => {
                if let Some(host) = self.touch(stream) {
                    host.handle_subscribe_credit((api, session), granted_bytes);
                }
            }
            ApiToShard::HandedOut { session, stream, next } => {
                if let Some(host) = self.touch(stream) {
                    host.handle_handed_out(now, (api, session), next);
                }
            }
            ApiToShard::Commit { session, stream, consumer, next } => match self.touch(stream) {
                Some(host) => host.handle_commit(now, (api, session), &consumer, next, outward),
                None => outward.refuse((api, session), Refusal::UnknownStream),
            },
            ApiToShard::EndSubscribe { session, stream } => {
                if let Some(host) = self.touch(stream) {
                    host.handle_end_subscribe((api, session));
                }
            }
        }
    }

    pub(crate) fn handle_api_data(&mut self, api: usize, message: ApiData, outward: &mut Outward) {
        match message {
            ApiData::Publish { session, stream, batch } => {
                if let Some(host) = self.touch(stream) {
                    host.handle_publish((api, session), *batch, outward);
                }
            }
            ApiData::EndPublish { session, stream, abandoned } => {
                if let Some(host) = self.touch(stream) {
                    host.handle_end_publish((api, session), abandoned, outward);
                }
            }
        }
    }

    /// A frame for one of our streams arrived. `from` is what its route header says, `via` the neighbour
    /// that has brought it; only the stream's own nodes are listened to.
    #[expect(clippy::too_many_arguments, reason = "what a frame is, and what it takes to answer")]
    pub(crate) fn handle_frame<I: ShardIo>(
        &mut self,
        now: MonoTime,
        (from, via): (NodeId, Option<NonZeroU64>),
        kind: FrameKind,
        flags: FrameFlags,
        body: FrameBody<'_>,
        epoch: BootEpoch,
        forwarder: &mut Forwarder<I>,
    ) {
        match kind {
            FrameKind::StreamSync => {
                let Ok(sync) = StreamSync::decode(&body) else { return };
                match self.touch(sync.stream) {
                    Some(host) if host.source() == Some(from) => {
                        if let Some(receiver) = &mut host.receiver {
                            receiver.handle_sync(&sync, flags);
                        }
                    }
                    Some(_) => {
                        debug!(stream = %sync.stream, %from, "sync from another node than the source");
                    }
                    None => answer_unknown((from, via), &sync, epoch, forwarder),
                }
            }
            FrameKind::StreamAck => {
                let Ok(ack) = StreamAck::decode(&body) else { return };
                let Some(host) = self.hosts.get_mut(&ack.stream) else { return };
                self.touched.insert(ack.stream);
                if let Some(sender) = &mut host.sender {
                    sender.handle_ack(now, from, &ack);
                    host.settle_path(now, from, &mut self.windows);
                }
            }
            FrameKind::Notice => {
                let Ok(notice) = Notice::decode(&body) else { return };
                self.handle_notice(now, &notice, forwarder);
            }
            FrameKind::Record => self.handle_record(now, from, flags, body),
            _ => {}
        }
    }

    /// Something became of a record of a stream that begins here.
    pub(crate) fn handle_notice<I: ShardIo>(
        &mut self,
        now: MonoTime,
        notice: &Notice,
        forwarder: &mut Forwarder<I>,
    ) {
        let Some(host) = self.hosts.get_mut(&notice.stream) else { return };
        self.touched.insert(notice.stream);
        let &Notice { path, destination, reason, at, refusal, .. } = notice;
        let class = host.paths.class;
        if let Some(refusal) = refusal
            && let Some(tenant) = host.tenant
            && let Some(neighbour) = forwarder.next_hop(class, destination, path)
        {
            self.refusals.handle_notice(now, neighbour, tenant, notice, refusal);
        }
        let key = PathKey { destination, path, class };
        if reason == NoticeReason::Rerouted {
            host.note_detour(now, destination, path, at);
        } else {
            let congested = (reason == NoticeReason::Congested).then_some(key);
            handle_dropped(now, destination, congested, host, &mut self.windows);
        }
        // What streams think of a link of this node they know from the link itself.
        let is_news = reason == NoticeReason::Rerouted && at != forwarder.local;
        // Whoever knows the stream can name any path: only one that is there is worth to be avoided.
        let is_path =
            || forwarder.paths_to(class, destination).is_some_and(|set| set.get(path).is_some());
        if (is_news || reason == NoticeReason::NoAdjacency) && is_path() {
            self.avoid(key, forwarder);
        }
    }

    fn handle_record(
        &mut self,
        now: MonoTime,
        from: NodeId,
        flags: FrameFlags,
        body: FrameBody<'_>,
    ) {
        let view = match RecordView::of(body) {
            Ok(view) => view,
            Err(error) => {
                debug!(%from, %error, "record dropped");
                return;
            }
        };
        let stream = view.header.stream;
        match self.touch(stream) {
            Some(host) if host.source() == Some(from) => {
                host.handle_record(now, &view, flags);
            }
            _ => debug!(%stream, %from, "record of a stream that does not come from there"),
        }
    }

    /// Lets every touched stream deliver, acknowledge and send. True if something was sent.
    pub(crate) fn run<I: ShardIo>(
        &mut self,
        now: MonoTime,
        forwarder: &mut Forwarder<I>,
        outward: &mut Outward,
    ) -> bool {
        // A path's time is up before that of its streams, which it then takes care of.
        while let Some(lost) = self.windows.handle_timeout(now) {
            self.handle_path_timeout(now, lost);
            self.avoid(lost, forwarder);
        }
        while let Some(&(at, stream)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of.remove(&stream);
            let Some(host) = self.hosts.get_mut(&stream) else { continue };
            self.touched.insert(stream);
            if let Some(sender) = &mut host.sender {
                sender.handle_timeout(now);
                host.settle_paths(now, &mut self.windows);
            }
        }
        while let Some(report) = self.refusals.poll_report() {
            outward.push_rare_link_event(report);
        }
        self.touched.extend(std::iter::from_fn(|| self.windows.poll_woken()));
        let mut settling = std::mem::take(&mut self.touched);
        let sent = self.send(now, &mut settling, forwarder);
        for stream in settling {
            let Some(host) = self.hosts.get_mut(&stream) else { continue };
            acknowledge_from(now, host, &mut self.budget, forwarder, &mut self.scratch);
            host.settle(now, outward);
            let timer = host.poll_timeout();
            self.set_timer(stream, timer);
        }
        sent
    }

    /// Nothing has moved on a path for too long.
    fn handle_path_timeout(&mut self, now: MonoTime, lost: PathKey) {
        let node = lost.destination;
        for (&stream, host) in &mut self.hosts {
            if host.paths.window_to(node) == Some(lost)
                && let Some(sender) = &mut host.sender
            {
                sender.handle_path_timeout(now, node);
                host.settle_path(now, node, &mut self.windows);
                self.touched.insert(stream);
            }
        }
    }

    /// Lets `streams` send, and those whose turn it is, which become some of them. Those that have no way
    /// are touched again.
    fn send<I: ShardIo>(
        &mut self,
        now: MonoTime,
        streams: &mut BTreeSet<StreamId>,
        forwarder: &mut Forwarder<I>,
    ) -> bool {
        let mut sent = false;
        self.sending.extend(streams.iter().rev());
        self.rounds.begin_turn();
        loop {
            while let Some(stream) = self.sending.pop() {
                sent |= self.visit(now, stream, None, forwarder);
            }
            while let Some(stream) = self.windows.poll_woken() {
                streams.insert(stream);
                self.sending.push(stream);
            }
            if !self.sending.is_empty() {
                continue;
            }
            let next = self.rounds.next(|(neighbour, class), stream| match stream {
                Some(stream) => forwarder.has_room(neighbour, class, stream),
                None => !forwarder.is_full(neighbour, class),
            });
            let Some((egress, who)) = next else { return sent };
            streams.insert(who.stream);
            if self.hosts.get(&who.stream).is_none_or(|host| host.sender.is_none()) {
                self.rounds.leave(who);
                continue;
            }
            sent |= self.visit(now, who.stream, Some(egress), forwarder);
        }
    }

    /// Lets a stream send what it may; true if that was anything.
    fn visit<I: ShardIo>(
        &mut self,
        now: MonoTime,
        stream: StreamId,
        granted: Option<Egress>,
        forwarder: &mut Forwarder<I>,
    ) -> bool {
        let Self { hosts, windows, budget, choice, rounds, scratch, .. } = self;
        let host = hosts.get_mut(&stream);
        let Some(host) = host.filter(|host| host.sender.is_some()) else { return false };
        host.take_turns(windows, |way, windows| choice.next(forwarder, windows, way));
        let runs = host.sent.len();
        host.sent.set_may_grow(self.sent_runs < SENT_RUNS_MAX);
        rounds.begin_visit(granted);
        let shared = &mut Shared { windows, budget, rounds };
        let visit = send_from(now, host, shared, forwarder, scratch);
        self.sent_runs = self.sent_runs.saturating_sub(runs).saturating_add(host.sent.len());
        if visit.lacks_way {
            self.touched.insert(stream);
        }
        visit.sent
    }

    fn set_timer(&mut self, stream: StreamId, at: Option<MonoTime>) {
        if let Some(old) = self.timer_of.remove(&stream) {
            self.timers.remove(&(old, stream));
        }
        if let Some(at) = at {
            self.timers.insert((at, stream));
            self.timer_of.insert(stream, at);
        }
    }

    /// When a stream or a path wants to be looked at next.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        let stream = self.timers.first().map(|&(at, _)| at);
        [stream, self.windows.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn handle_shutdown(&mut self, outward: &mut Outward) {
        for host in self.hosts.values_mut() {
            host.end_calls(&Refusal::ShuttingDown, SubscribeEnd::ShuttingDown, outward);
        }
    }

    pub(crate) fn reports(&self) -> Vec<StreamReport> {
        self.hosts.values().flat_map(StreamHost::reports).collect()
    }
}

/// The stream that a routed frame is about, if it is about one.
pub(crate) fn stream_of(kind: FrameKind, body: &[u8]) -> Option<StreamId> {
    match kind {
        FrameKind::Record => StreamHeader::decode(body).ok().map(|(header, _)| header.stream),
        FrameKind::Notice => Notice::decode(body).ok().map(|notice| notice.stream),
        FrameKind::StreamSync | FrameKind::StreamAck => {
            body.first_chunk::<{ StreamId::LEN }>().map(|bytes| StreamId::from_bytes(*bytes))
        }
        _ => None,
    }
}
