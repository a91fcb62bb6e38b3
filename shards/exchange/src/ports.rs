use std::sync::Arc;

use hawser_wire::ShardId;

use crate::{
    ApiData, ApiToShard, ControlToShard, Doorbell, Receiver, RoutePublisher, RouteReader, Sender,
    ShardToApi, ShardToApiData, ShardToControl, ShardToShard, ring, route_cell,
};

/// Slots of a ring that carries lanes, acknowledgements, credit, events.
const CONTROL_SLOTS: usize = 1024;
/// Slots of a ring that only credited data enters. A slot holds a whole record or batch, so that
/// the credit, not the ring, bounds the memory behind it.
const DATA_SLOTS: usize = 1024;

/// The ends of every ring of a process, by the thread that owns them. `C` is the session of a lane
/// that is handed over.
#[derive(Debug)]
pub struct Exchange<C> {
    /// For the control thread.
    pub control: ControlPorts<C>,
    /// For each shard, by its number.
    pub shards: Vec<ShardPorts<C>>,
    /// For each API thread, by its number.
    pub apis: Vec<ApiPorts>,
}

/// What the control thread owns.
#[derive(Debug)]
pub struct ControlPorts<C> {
    /// Wakes the control thread.
    pub bell: Arc<Doorbell>,
    /// By the shard's number.
    pub shards: Vec<ControlShardPort<C>>,
    /// Route snapshots to every shard.
    pub routes: RoutePublisher,
}

/// The control thread's rings with one shard.
#[derive(Debug)]
pub struct ControlShardPort<C> {
    /// To the shard.
    pub to: Sender<ControlToShard<C>>,
    /// From the shard.
    pub from: Receiver<ShardToControl>,
}

/// What a shard owns.
#[derive(Debug)]
pub struct ShardPorts<C> {
    /// Its number, from 0.
    pub shard: ShardId,
    /// Shards of this process.
    pub shard_count: u16,
    /// Wakes this shard.
    pub bell: Arc<Doorbell>,
    /// Rings with the control thread.
    pub control: ShardControlPort<C>,
    /// Rings with the API threads, by their number.
    pub apis: Vec<ShardApiPort>,
    /// Rings with the other shards, by their number; `None` at this shard's own.
    pub peers: Vec<Option<ShardPeerPort>>,
    /// Route snapshots.
    pub routes: RouteReader,
}

/// A shard's rings with the control thread.
#[derive(Debug)]
pub struct ShardControlPort<C> {
    /// From the control thread.
    pub from: Receiver<ControlToShard<C>>,
    /// To the control thread.
    pub to: Sender<ShardToControl>,
}

/// A shard's rings with one API thread. The control ring is drained first.
#[derive(Debug)]
pub struct ShardApiPort {
    /// Opens, credit, confirmations.
    pub control_from: Receiver<ApiToShard>,
    /// Published messages.
    pub data_from: Receiver<ApiData>,
    /// Answers, credit, progress.
    pub control_to: Sender<ShardToApi>,
    /// Delivered messages.
    pub data_to: Sender<ShardToApiData>,
}

/// A shard's rings with one other shard. The control ring is drained first, then that of priority.
#[derive(Debug)]
pub struct ShardPeerPort {
    /// Acknowledgements and notices.
    pub control_from: Receiver<ShardToShard>,
    /// Acknowledgements and notices.
    pub control_to: Sender<ShardToShard>,
    /// Records of priority.
    pub priority_from: Receiver<ShardToShard>,
    /// Records of priority.
    pub priority_to: Sender<ShardToShard>,
    /// Records of bulk.
    pub data_from: Receiver<ShardToShard>,
    /// Records of bulk.
    pub data_to: Sender<ShardToShard>,
}

/// What an API thread owns.
#[derive(Debug)]
pub struct ApiPorts {
    /// Its number, from 0.
    pub api: u16,
    /// Wakes this thread.
    pub bell: Arc<Doorbell>,
    /// By the shard's number.
    pub shards: Vec<ApiShardPort>,
}

/// An API thread's rings with one shard. The control ring is drained first.
#[derive(Debug)]
pub struct ApiShardPort {
    /// Opens, credit, confirmations.
    pub control_to: Sender<ApiToShard>,
    /// Published messages.
    pub data_to: Sender<ApiData>,
    /// Answers, credit, progress.
    pub control_from: Receiver<ShardToApi>,
    /// Delivered messages.
    pub data_from: Receiver<ShardToApiData>,
}

/// Makes the rings between the control thread, `shards` shards (at least 1) and `apis` API threads.
#[must_use]
pub fn exchange<C>(shards: u16, apis: u16) -> Exchange<C> {
    let (publisher, reader) = route_cell();
    let mut control = ControlPorts { bell: Arc::default(), shards: Vec::new(), routes: publisher };
    let mut api_ports: Vec<ApiPorts> =
        (0..apis).map(|api| ApiPorts { api, bell: Arc::default(), shards: Vec::new() }).collect();
    let mut shard_ports: Vec<ShardPorts<C>> = Vec::new();
    for shard in 0..shards.max(1) {
        let bell = Arc::<Doorbell>::default();
        let (to_shard, from_control) =
            ring(CONTROL_SLOTS, Arc::clone(&bell), Arc::clone(&control.bell));
        let (to_control, from_shard) =
            ring(CONTROL_SLOTS, Arc::clone(&control.bell), Arc::clone(&bell));
        control.shards.push(ControlShardPort { to: to_shard, from: from_shard });

        let mut peers = Vec::new();
        for earlier in &mut shard_ports {
            let (theirs, ours) = peer_rings(&earlier.bell, &bell);
            earlier.peers.push(Some(theirs));
            peers.push(Some(ours));
        }
        peers.push(None);

        shard_ports.push(ShardPorts {
            shard: ShardId(shard),
            shard_count: shards.max(1),
            control: ShardControlPort { from: from_control, to: to_control },
            apis: api_ports.iter_mut().map(|api| api_rings(api, &bell)).collect(),
            peers,
            routes: reader.clone(),
            bell,
        });
    }
    Exchange { control, shards: shard_ports, apis: api_ports }
}

/// The rings between two shards: the ends of the first, the ends of the second.
fn peer_rings(first: &Arc<Doorbell>, second: &Arc<Doorbell>) -> (ShardPeerPort, ShardPeerPort) {
    let to_second = |slots| ring(slots, Arc::clone(second), Arc::clone(first));
    let to_first = |slots| ring(slots, Arc::clone(first), Arc::clone(second));
    let (control_to_second, control_from_first) = to_second(CONTROL_SLOTS);
    let (priority_to_second, priority_from_first) = to_second(DATA_SLOTS);
    let (data_to_second, data_from_first) = to_second(DATA_SLOTS);
    let (control_to_first, control_from_second) = to_first(CONTROL_SLOTS);
    let (priority_to_first, priority_from_second) = to_first(DATA_SLOTS);
    let (data_to_first, data_from_second) = to_first(DATA_SLOTS);
    let first = ShardPeerPort {
        control_from: control_from_second,
        control_to: control_to_second,
        priority_from: priority_from_second,
        priority_to: priority_to_second,
        data_from: data_from_second,
        data_to: data_to_second,
    };
    let second = ShardPeerPort {
        control_from: control_from_first,
        control_to: control_to_first,
        priority_from: priority_from_first,
        priority_to: priority_to_first,
        data_from: data_from_first,
        data_to: data_to_first,
    };
    (first, second)
}

/// The rings between an API thread, which gets its ends, and a shard, whose ends come back.
fn api_rings(api: &mut ApiPorts, shard: &Arc<Doorbell>) -> ShardApiPort {
    let (control_to_shard, control_from_api) =
        ring(CONTROL_SLOTS, Arc::clone(shard), Arc::clone(&api.bell));
    let (data_to_shard, data_from_api) = ring(DATA_SLOTS, Arc::clone(shard), Arc::clone(&api.bell));
    let (control_to_api, control_from_shard) =
        ring(CONTROL_SLOTS, Arc::clone(&api.bell), Arc::clone(shard));
    let (data_to_api, data_from_shard) = ring(DATA_SLOTS, Arc::clone(&api.bell), Arc::clone(shard));
    api.shards.push(ApiShardPort {
        control_to: control_to_shard,
        data_to: data_to_shard,
        control_from: control_from_shard,
        data_from: data_from_shard,
    });
    ShardApiPort {
        control_from: control_from_api,
        data_from: data_from_api,
        control_to: control_to_api,
        data_to: data_to_api,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use hawser_wire::{NodeId, StreamId};

    use super::*;
    use crate::{RoutedFrame, SessionId};

    fn stream(tag: u8) -> StreamId {
        StreamId::from_bytes([tag; 16])
    }

    fn frame(tag: u8) -> ShardToShard {
        let frame = RoutedFrame {
            kind: hawser_wire::FrameKind::StreamAck,
            class: hawser_wire::TrafficClass::Control,
            flags: hawser_wire::FrameFlags::default(),
            via: None,
            body: bytes::Bytes::new(),
        };
        ShardToShard::Egress { peer: NodeId::from_bytes([tag; 16]), frame }
    }

    fn tag_of(message: &ShardToShard) -> Option<u8> {
        match message {
            ShardToShard::Egress { peer, .. } => peer.as_bytes().first().copied(),
            ShardToShard::Ingress { .. } | ShardToShard::Link { .. } => None,
        }
    }

    #[test]
    fn every_ordered_pair_of_shards_has_rings_of_its_own() {
        let mut wired = exchange::<()>(3, 1);
        for from in 0..3_u8 {
            for to in 0..3_u8 {
                let port = &mut wired.shards[usize::from(from)].peers[usize::from(to)];
                assert_eq!(port.is_none(), from == to);
                if let Some(port) = port {
                    port.control_to.try_send(frame(from * 16 + to)).unwrap();
                    port.priority_to.try_send(frame(from * 16 + to + 64)).unwrap();
                    port.data_to.try_send(frame(from * 16 + to + 128)).unwrap();
                }
            }
        }
        for to in 0..3_u8 {
            for from in (0..3_u8).filter(|&from| from != to) {
                let shard = &mut wired.shards[usize::from(to)];
                let port = shard.peers[usize::from(from)].as_mut().unwrap();
                let pair = from * 16 + to;
                for (ring, tag) in [
                    (&mut port.control_from, pair),
                    (&mut port.priority_from, pair + 64),
                    (&mut port.data_from, pair + 128),
                ] {
                    assert_eq!(ring.try_recv().as_ref().and_then(tag_of), Some(tag));
                    assert!(ring.is_empty());
                }
            }
        }
    }

    #[test]
    fn control_and_api_threads_reach_each_shard() {
        let mut wired = exchange::<()>(2, 2);
        for shard in 0..2_u8 {
            let port = &mut wired.control.shards[usize::from(shard)];
            port.to.try_send(ControlToShard::CloseStream(stream(shard))).unwrap();
            for api in 0..2_u8 {
                let port = &mut wired.apis[usize::from(api)].shards[usize::from(shard)];
                let session = SessionId(u64::from(api * 16 + shard));
                let end = ApiData::EndPublish { session, stream: stream(0), abandoned: true };
                port.data_to.try_send(end).unwrap();
                let end = ApiToShard::EndSubscribe { session, stream: stream(0) };
                port.control_to.try_send(end).unwrap();
            }
        }
        for number in 0..2_u8 {
            let shard = &mut wired.shards[usize::from(number)];
            assert_eq!((shard.shard, shard.shard_count), (ShardId(u16::from(number)), 2));
            let message = shard.control.from.try_recv();
            assert!(matches!(message, Some(ControlToShard::CloseStream(s)) if s == stream(number)));
            let node = NodeId::from_bytes([number; 16]);
            let message = ShardToControl::StreamUnknownAt { stream: stream(number), node };
            shard.control.to.try_send(message).unwrap();
            for (api, port) in (0_u8..).zip(&mut shard.apis) {
                let pair = SessionId(u64::from(api * 16 + number));
                let message = port.control_from.try_recv();
                assert!(matches!(
                    message,
                    Some(ApiToShard::EndSubscribe { session, .. }) if session == pair
                ));
                let message = port.data_from.try_recv();
                assert!(matches!(
                    message,
                    Some(ApiData::EndPublish { session, .. }) if session == pair
                ));
                port.control_to.try_send(ShardToApi::CommitDone { session: pair }).unwrap();
                let end = crate::SubscribeEnd::StreamEnded;
                port.data_to.try_send(ShardToApiData::End { session: pair, end }).unwrap();
            }
        }
        for shard in 0..2_u8 {
            let message = wired.control.shards[usize::from(shard)].from.try_recv();
            assert!(matches!(
                message,
                Some(ShardToControl::StreamUnknownAt { stream: s, .. }) if s == stream(shard)
            ));
            for api in &mut wired.apis {
                let pair = SessionId(u64::from(api.api * 16) + u64::from(shard));
                let port = &mut api.shards[usize::from(shard)];
                let message = port.control_from.try_recv();
                assert!(matches!(
                    message,
                    Some(ShardToApi::CommitDone { session }) if session == pair
                ));
                let message = port.data_from.try_recv();
                assert!(matches!(
                    message,
                    Some(ShardToApiData::End { session, .. }) if session == pair
                ));
            }
        }
    }

    #[test]
    fn each_ring_wakes_the_thread_at_its_other_end() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::task::{Context, Wake, Waker};

        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let wakes = |bell: &Doorbell, ring: &dyn Fn()| {
            let woken = Arc::new(Woken(AtomicBool::new(false)));
            let waker = Waker::from(Arc::clone(&woken));
            assert!(bell.poll_sleep(&mut Context::from_waker(&waker), || false).is_pending());
            ring();
            woken.0.load(Ordering::SeqCst)
        };

        let wired = exchange::<()>(2, 1);
        let [first, second] = wired.shards.as_slice() else { panic!("two shards") };
        let api = &wired.apis[0];
        let control = &wired.control;
        assert!(wakes(&first.bell, &|| control.shards[0].to.ring()));
        assert!(wakes(&second.bell, &|| control.shards[1].to.ring()));
        assert!(!wakes(&second.bell, &|| control.shards[0].to.ring()));
        assert!(wakes(&control.bell, &|| second.control.to.ring()));
        assert!(wakes(&second.bell, &|| first.peers[1].as_ref().unwrap().control_to.ring()));
        assert!(wakes(&second.bell, &|| first.peers[1].as_ref().unwrap().priority_to.ring()));
        assert!(wakes(&second.bell, &|| first.peers[1].as_ref().unwrap().data_to.ring()));
        assert!(wakes(&first.bell, &|| second.peers[0].as_ref().unwrap().control_to.ring()));
        assert!(wakes(&first.bell, &|| second.peers[0].as_ref().unwrap().priority_to.ring()));
        assert!(wakes(&first.bell, &|| second.peers[0].as_ref().unwrap().data_to.ring()));
        assert!(wakes(&first.bell, &|| api.shards[0].control_to.ring()));
        assert!(wakes(&second.bell, &|| api.shards[1].data_to.ring()));
        assert!(wakes(&api.bell, &|| first.apis[0].control_to.ring()));
        assert!(wakes(&api.bell, &|| second.apis[0].data_to.ring()));
    }

    #[test]
    fn ports_move_to_their_threads() {
        const fn assert_send<T: Send>() {}
        assert_send::<ControlPorts<()>>();
        assert_send::<ShardPorts<()>>();
        assert_send::<ApiPorts>();
    }

    #[test]
    fn no_shards_means_one() {
        let wired = exchange::<()>(0, 0);
        assert_eq!((wired.shards.len(), wired.control.shards.len()), (1, 1));
        assert_eq!(wired.shards[0].shard_count, 1);
    }

    #[test]
    fn every_shard_sees_the_routes_that_the_control_thread_publishes() {
        let mut wired = exchange::<()>(2, 0);
        let snapshot = hawser_routing::RouteSnapshot::new(1, 0, [], []);
        wired.control.routes.publish(Arc::new(snapshot));
        for shard in &mut wired.shards {
            assert!(shard.routes.refresh());
            assert_eq!(shard.routes.current().generation, 1);
        }
    }
}
