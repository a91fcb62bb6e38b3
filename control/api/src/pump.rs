use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hawser_exchange::{
    ApiData, ApiToShard, Doorbell, Lookout, Receiver, SessionId, ShardToApi, ShardToApiData, Spin,
};
use hawser_wire::StreamOffset;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::failure::CallFailure;
use crate::hub::{RECORDS_WAITING_MAX, SUBSCRIBE_WINDOW_BYTES};
use crate::outlet::Outlet;
use crate::session::{Role, Session, SessionShared, SubscribeSink, end_result};

/// Messages taken from one ring in one turn, so that the calls get their turn too.
const RING_BATCH_MAX: usize = 512;

/// Credit goes back to the shard in steps of this many payload bytes.
const CREDIT_STEP_BYTES: u64 = SUBSCRIBE_WINDOW_BYTES / 8;

/// What handlers ask of the pump.
#[derive(Debug)]
pub(crate) enum PumpRequest {
    /// A session begins.
    Register(Box<Session>),
    /// Every session ends.
    Stop,
}

/// This thread's rings with one shard.
#[derive(Debug)]
pub(crate) struct ShardPort {
    pub(crate) control_to: Outlet<ApiToShard>,
    pub(crate) data_to: Outlet<ApiData>,
    pub(crate) control_from: Receiver<ShardToApi>,
    pub(crate) data_from: Receiver<ShardToApiData>,
    /// The shard's thread has ended.
    pub(crate) gone: bool,
}

impl ShardPort {
    fn has_work(&self) -> bool {
        !self.control_from.is_empty()
            || !self.data_from.is_empty()
            || self.control_to.can_flow()
            || self.data_to.can_flow()
            || (!self.gone && self.control_from.is_abandoned())
    }

    /// Messages of the pump's own making may not overtake those of the sessions.
    fn is_clogged(&self) -> bool {
        self.control_to.is_clogged() || self.data_to.is_clogged()
    }
}

/// Owns the API thread's ends of the rings, and moves messages between them and the sessions.
///
/// It decides nothing: a session's handler says what to send, the shard says what may be sent.
#[derive(Debug)]
pub(crate) struct Pump {
    bell: Arc<Doorbell>,
    shards: Vec<ShardPort>,
    sessions: HashMap<SessionId, Session>,
    requests: mpsc::Receiver<PumpRequest>,
    notes: mpsc::Receiver<SessionId>,
    /// Sessions to look at when their shard's rings have room again; each at most once.
    deferred: VecDeque<SessionId>,
    stopping: bool,
    /// Every hub is gone: no request can come.
    closed: bool,
}

impl Pump {
    pub(crate) fn new(
        bell: Arc<Doorbell>,
        shards: Vec<ShardPort>,
        requests: mpsc::Receiver<PumpRequest>,
        notes: mpsc::Receiver<SessionId>,
    ) -> Self {
        Self {
            bell,
            shards,
            sessions: HashMap::new(),
            requests,
            notes,
            deferred: VecDeque::new(),
            stopping: false,
            closed: false,
        }
    }

    /// Runs until it was stopped, or every hub is gone, and every session has ended.
    pub(crate) async fn run(mut self, spin: Spin) {
        let (mut idle_since, mut lookout) = (None, Lookout::default());
        loop {
            if self.turn() {
                idle_since = None;
                tokio::task::yield_now().await;
            } else if self.is_done() {
                return;
            } else if !spin.budget.is_zero()
                && idle_since.get_or_insert_with(Instant::now).elapsed() < spin.budget
                && lookout.may_look(Instant::now())
            {
                lookout.relax();
                tokio::task::yield_now().await;
            } else {
                poll_fn(|cx| self.poll_sleep(cx)).await;
                idle_since = None;
            }
        }
    }

    /// No session is left, none can come, and the shards know it.
    fn is_done(&self) -> bool {
        (self.closed || self.stopping)
            && self.sessions.is_empty()
            && !self.shards.iter().any(ShardPort::is_clogged)
    }

    /// Moves what there is to move. True if there was anything.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        while let Ok(request) = self.requests.try_recv() {
            self.take_request(request);
            worked = true;
        }
        worked |= self.drain_shards();
        for port in &mut self.shards {
            worked |= port.control_to.pull();
            worked |= port.data_to.pull();
        }
        for _ in 0..self.deferred.len() {
            if let Some(id) = self.deferred.pop_front() {
                worked |= self.look_at(id);
            }
        }
        while let Ok(id) = self.notes.try_recv() {
            worked |= self.look_at(id);
        }
        for port in &mut self.shards {
            port.control_to.ring_bell();
            port.data_to.ring_bell();
        }
        worked
    }

    /// Ready when a turn has something to do.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = false;
        if !self.closed {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(request)) => {
                    self.take_request(request);
                    ready = true;
                }
                Poll::Ready(None) => (self.closed, ready) = (true, true),
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(Some(id)) = self.notes.poll_recv(cx) {
            self.deferred.push_back(id);
            ready = true;
        }
        for port in &mut self.shards {
            ready |= port.control_to.poll_pull(cx).is_ready();
            ready |= port.data_to.poll_pull(cx).is_ready();
        }
        if ready {
            return Poll::Ready(());
        }
        let shards = &self.shards;
        self.bell.poll_sleep(cx, || shards.iter().any(ShardPort::has_work))
    }

    fn take_request(&mut self, request: PumpRequest) {
        match request {
            PumpRequest::Register(mut session) => {
                let gone = self.shards.get(session.shared.shard).is_none_or(|port| port.gone);
                if self.stopping {
                    session.fail(CallFailure::Stopping);
                } else if gone {
                    session.fail(CallFailure::ShardGone);
                } else {
                    self.sessions.insert(session.shared.id, *session);
                }
            }
            PumpRequest::Stop => {
                self.stopping = true;
                // The handlers let go of their sessions then, which ends them at the shards.
                for session in self.sessions.values_mut() {
                    session.fail(CallFailure::Stopping);
                }
            }
        }
    }

    fn drain_shards(&mut self) -> bool {
        let mut worked = false;
        for (index, port) in self.shards.iter_mut().enumerate() {
            let gone = !port.gone && port.control_from.is_abandoned();
            for _ in 0..RING_BATCH_MAX {
                let Some(message) = port.control_from.try_recv() else { break };
                worked = true;
                dispatch_control(&mut self.sessions, message);
            }
            for _ in 0..RING_BATCH_MAX {
                let Some(message) = port.data_from.try_recv() else { break };
                worked = true;
                dispatch_data(&mut self.sessions, &mut port.control_to, message);
            }
            if gone && port.control_from.is_empty() && port.data_from.is_empty() {
                worked = true;
                port.gone = true;
                port.control_to.close();
                port.data_to.close();
                self.sessions.retain(|_, session| {
                    let lost = session.shared.shard == index;
                    if lost {
                        session.fail(CallFailure::ShardGone);
                    }
                    !lost
                });
            }
        }
        worked
    }

    /// Tells the shard what a session's handler has done since. False if it has to wait.
    fn look_at(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(port) = self.shards.get_mut(session.shared.shard) else { return false };
        if port.is_clogged() {
            self.deferred.push_back(id);
            return false;
        }
        session.shared.take_note();
        // Read before the numbers: what was handed out before the end must be told before it.
        let over = session.shared.is_over();
        let stream = session.shared.stream;
        match &mut session.role {
            Role::Publish(_) if over && !session.shared.is_finished() => {
                port.data_to.push(ApiData::EndPublish { session: id, stream, abandoned: true });
            }
            Role::Subscribe(sink) => {
                let (next, bytes) = session.shared.handed();
                if next > sink.told_next {
                    sink.told_next = next;
                    let next = StreamOffset(next);
                    port.control_to.push(ApiToShard::HandedOut { session: id, stream, next });
                }
                if over {
                    port.control_to.push(ApiToShard::EndSubscribe { session: id, stream });
                } else if bytes.saturating_sub(sink.told_bytes) >= CREDIT_STEP_BYTES {
                    sink.told_bytes = bytes;
                    let granted_bytes = bytes.saturating_add(SUBSCRIBE_WINDOW_BYTES);
                    let session = id;
                    port.control_to.push(ApiToShard::SubscribeCredit {
                        session,
                        stream,
                        granted_bytes,
                    });
                }
            }
            Role::Publish(_) | Role::Commit(_) => {}
        }
        if over {
            self.sessions.remove(&id);
        }
        true
    }
}

/// To the handler of the session that a shard speaks of. One that is gone needs nothing.
fn dispatch_control(sessions: &mut HashMap<SessionId, Session>, message: ShardToApi) {
    let id = match &message {
        ShardToApi::PublishOpened { session, .. }
        | ShardToApi::PublishCredit { session, .. }
        | ShardToApi::Published { session, .. }
        | ShardToApi::Refused { session, .. }
        | ShardToApi::SubscribeOpened { session, .. }
        | ShardToApi::CommitDone { session } => *session,
    };
    let Some(session) = sessions.get_mut(&id) else { return };
    match (message, &mut session.role) {
        (ShardToApi::PublishOpened { next_seq, granted_bytes, .. }, Role::Publish(progress)) => {
            progress.send_modify(|progress| {
                progress.opened_next_seq = Some(next_seq);
                progress.granted_bytes = progress.granted_bytes.max(granted_bytes);
            });
        }
        (ShardToApi::PublishCredit { granted_bytes, .. }, Role::Publish(progress)) => {
            progress.send_modify(|progress| {
                progress.granted_bytes = progress.granted_bytes.max(granted_bytes);
            });
        }
        (ShardToApi::Published { acked_seq, .. }, Role::Publish(progress)) => {
            progress.send_modify(|progress| {
                progress.acked_seq = progress.acked_seq.max(acked_seq);
            });
        }
        (ShardToApi::SubscribeOpened { .. }, Role::Subscribe(sink)) => {
            if let Some(opened) = sink.opened.take() {
                let _sent = opened.send(Ok(()));
            }
        }
        (ShardToApi::CommitDone { .. }, Role::Commit(answer)) => {
            if let Some(answer) = answer.take() {
                let _sent = answer.send(Ok(()));
            }
        }
        (ShardToApi::Refused { refusal, .. }, _) => {
            session.fail(CallFailure::Refused(*refusal));
            // The call is over at the shard: there is nobody to tell when its handler lets go.
            sessions.remove(&id);
        }
        (message, role) => {
            tracing::error!(?message, ?role, "a shard answered what was not asked");
        }
    }
}

fn dispatch_data(
    sessions: &mut HashMap<SessionId, Session>,
    control_to: &mut Outlet<ApiToShard>,
    message: ShardToApiData,
) {
    let (ShardToApiData::Deliver { session: id, .. } | ShardToApiData::End { session: id, .. }) =
        message;
    let Some(Session { shared, role: Role::Subscribe(sink) }) = sessions.get_mut(&id) else {
        return;
    };
    match message {
        ShardToApiData::Deliver { record, .. } => {
            let refused = sink.records.as_ref().map(|records| records.try_send(record));
            if let Some(Err(TrySendError::Full(_))) = refused {
                let records_max = RECORDS_WAITING_MAX;
                sink.close(shared, Err(CallFailure::TooSlow { records_max }));
                let stream = shared.stream;
                control_to.push(ApiToShard::EndSubscribe { session: id, stream });
            }
        }
        // The session stays: what its client has yet to take is still to be confirmed.
        ShardToApiData::End { end, .. } => close_sink(sink, shared, end_result(end)),
    }
}

fn close_sink(sink: &mut SubscribeSink, shared: &SessionShared, end: Result<(), CallFailure>) {
    if let Some(opened) = sink.opened.take() {
        let _sent = opened.send(end.clone());
    }
    sink.close(shared, end);
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use hawser_exchange::{Exchange, ShardApiPort, exchange};
    use hawser_wire::{ProducerId, StreamId};

    use std::time::Duration;

    use super::*;
    use crate::hub::{Hub, hub_and_pump};

    const STREAM: StreamId = StreamId::from_bytes([3; 16]);

    fn parts() -> (Hub, Pump, ShardApiPort) {
        let Exchange { mut shards, mut apis, .. } = exchange::<()>(1, 1);
        let (hub, pump) = hub_and_pump(apis.pop().unwrap());
        (hub, pump, shards.pop().unwrap().apis.pop().unwrap())
    }

    #[test]
    fn a_session_that_ends_at_once_does_not_overtake_its_own_beginning() {
        let (hub, mut pump, mut shard) = parts();
        let filler = SessionId(u64::MAX);
        let port = &mut pump.shards[0].control_to;
        while !port.is_clogged() {
            port.push(ApiToShard::EndSubscribe { session: filler, stream: STREAM });
        }
        {
            let mut opening = pin!(hub.open_publish(STREAM, ProducerId(1)));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(opening.as_mut().poll(&mut cx).is_pending());
        }
        pump.turn();
        assert!(shard.data_from.try_recv().is_none(), "the end waits for the beginning");

        let mut heard = Vec::new();
        while shard.control_from.try_recv().is_some() {}
        pump.turn();
        heard.extend(std::iter::from_fn(|| shard.control_from.try_recv()));
        let last = heard.last().unwrap();
        assert!(matches!(last, ApiToShard::OpenPublish { stream: STREAM, .. }), "{last:?}");
        let end = shard.data_from.try_recv();
        assert!(matches!(end, Some(ApiData::EndPublish { abandoned: true, .. })), "{end:?}");
        assert!(pump.sessions.is_empty());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_stopped_and_refuses_from_then_on() {
        let (hub, pump, _shard) = parts();
        let pump =
            tokio::spawn(pump.run(Spin { budget: Duration::from_millis(1), shares_core: false }));
        hub.stop().await;
        pump.await.unwrap();
        let refused = hub.open_publish(STREAM, ProducerId(1)).await;
        assert_eq!(refused.err(), Some(CallFailure::Stopping));
    }

    #[tokio::test]
    async fn a_shard_that_is_gone_fails_its_sessions() {
        let (hub, pump, shard) = parts();
        tokio::spawn(pump.run(Spin::default()));
        let opening = tokio::spawn(async move { hub.open_publish(STREAM, ProducerId(1)).await });
        tokio::task::yield_now().await;
        drop(shard);
        let refused = opening.await.unwrap();
        assert_eq!(refused.err(), Some(CallFailure::ShardGone));
    }
}
