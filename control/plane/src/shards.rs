//! The control thread's ends of the rings with the shards, and what waits for room in them.
//!
//! **Invariant:** messages to one shard leave in the order in which they were given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use hawser_exchange::{
    ControlPorts, ControlShardPort, ControlToShard, Doorbell, Full, RoutePublisher, ShardToControl,
};
use hawser_routing::RouteSnapshot;
use hawser_session::LaneSession;
use hawser_wire::{NodeId, ShardId, StreamId};

/// Messages that are taken from one shard before another's turn: all that its ring may hold. Most of it
/// is put aside at once.
const TAKE_MAX: usize = 1024;

/// What the control plane says to a shard.
pub(crate) type ToShard = ControlToShard<LaneSession>;

struct Port {
    rings: ControlShardPort<LaneSession>,
    waiting: VecDeque<ToShard>,
    unrung: bool,
}

/// Every shard.
pub(crate) struct Shards {
    bell: Arc<Doorbell>,
    routes: RoutePublisher,
    ports: Vec<Port>,
    count: u16,
    shut_down: bool,
}

/// A control plane that ends in whatever way, a failed start included, leaves no shard behind that
/// nobody tells to stop.
impl Drop for Shards {
    fn drop(&mut self) {
        self.shut_down();
        self.flush();
    }
}

impl Shards {
    pub(crate) fn new(ports: ControlPorts<LaneSession>) -> Self {
        let ControlPorts { bell, shards, routes } = ports;
        let count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
        let ports = shards
            .into_iter()
            .map(|rings| Port { rings, waiting: VecDeque::new(), unrung: false })
            .collect();
        Self { bell, routes, ports, count, shut_down: false }
    }

    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    /// To the shard that owns the link to `peer`.
    pub(crate) fn send_to_link(&mut self, peer: NodeId, message: ToShard) {
        self.send(ShardId::of_peer(peer, self.count), message);
    }

    /// To the shard that hosts `stream`.
    pub(crate) fn send_to_stream(&mut self, stream: StreamId, message: ToShard) {
        self.send(ShardId::of_stream(stream, self.count), message);
    }

    /// To every shard.
    pub(crate) fn send_to_all(&mut self, message: impl Fn() -> ToShard) {
        for port in &mut self.ports {
            port.waiting.push_back(message());
        }
    }

    /// Every shard is to close its lanes and end; told once.
    pub(crate) fn shut_down(&mut self) {
        if !std::mem::replace(&mut self.shut_down, true) {
            self.send_to_all(|| ControlToShard::Shutdown);
        }
    }

    fn send(&mut self, shard: ShardId, message: ToShard) {
        if let Some(port) = self.ports.get_mut(usize::from(shard.0)) {
            port.waiting.push_back(message);
        }
    }

    /// Messages that wait for room, over all shards.
    pub(crate) fn waiting(&self) -> usize {
        self.ports.iter().map(|port| port.waiting.len()).sum()
    }

    /// Makes a snapshot the current one; the bells ring with the next [`Self::flush`].
    pub(crate) fn publish(&mut self, snapshot: Arc<RouteSnapshot>) {
        self.routes.publish(snapshot);
        for port in &mut self.ports {
            port.unrung = true;
        }
    }

    /// Moves what waits into the rings as far as there is room, and wakes the shards once each.
    pub(crate) fn flush(&mut self) {
        for port in &mut self.ports {
            while let Some(message) = port.waiting.pop_front() {
                match port.rings.to.try_send(message) {
                    Ok(()) => port.unrung = true,
                    Err(Full(message)) => {
                        port.waiting.push_front(message);
                        break;
                    }
                }
            }
            if std::mem::take(&mut port.unrung) {
                port.rings.to.ring();
            }
        }
    }

    /// Ready when a shard has said something, or has room for what waits.
    ///
    /// Takes `&mut self` so that the loop may be moved between threads while it waits.
    pub(crate) fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ports = &mut self.ports;
        self.bell.poll_sleep(cx, || {
            ports.iter().any(|port| {
                !port.rings.from.is_empty()
                    || (!port.waiting.is_empty() && port.rings.to.free_slots() > 0)
            })
        })
    }

    /// What the shards have said, a bounded number from each.
    pub(crate) fn take(&mut self) -> Vec<(ShardId, ShardToControl)> {
        let mut taken = Vec::new();
        for (shard, port) in (0_u16..).zip(&mut self.ports) {
            for _ in 0..TAKE_MAX {
                let Some(message) = port.rings.from.try_recv() else { break };
                taken.push((ShardId(shard), message));
            }
        }
        taken
    }

    /// Shards whose thread is gone.
    pub(crate) fn abandoned(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0_u16..)
            .zip(&self.ports)
            .filter(|(_, port)| port.rings.to.is_abandoned())
            .map(|(shard, _)| ShardId(shard))
    }
}

#[cfg(test)]
mod tests {
    use hawser_exchange::{Exchange, exchange};

    use super::*;

    #[test]
    fn a_full_ring_delays_and_loses_nothing() {
        let Exchange { control, shards: mut ends, .. } = exchange::<LaneSession>(2, 0);
        let mut shards = Shards::new(control);
        let count = 5_000_u16;
        for id in 0..count {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&id.to_be_bytes());
            let stream = StreamId::from_bytes(bytes);
            shards.send(ShardId(1), ControlToShard::CloseStream(stream));
        }
        let mut got = Vec::new();
        while got.len() < usize::from(count) {
            shards.flush();
            let before = got.len();
            while let Some(message) = ends[1].control.from.try_recv() {
                let ControlToShard::CloseStream(stream) = message else { panic!("{message:?}") };
                got.push(u16::from_be_bytes([stream.as_bytes()[0], stream.as_bytes()[1]]));
            }
            assert!(got.len() > before, "stuck at {before}");
        }
        assert_eq!(shards.waiting(), 0);
        assert!(got.iter().copied().eq(0..count), "out of order");
        assert!(ends[0].control.from.is_empty());
    }

    #[test]
    fn who_goes_tells_the_shards_to_stop_once() {
        let Exchange { control, shards: mut ends, .. } = exchange::<LaneSession>(1, 0);
        let mut shards = Shards::new(control);
        shards.shut_down();
        drop(shards);
        let from = &mut ends[0].control.from;
        assert!(matches!(from.try_recv(), Some(ControlToShard::Shutdown)));
        assert!(from.try_recv().is_none());
    }
}
