use bytes::Bytes;
use hawser_delivery::TransmitBody;
use hawser_exchange::{ApiShardPort, Exchange, SessionId, SourceSpec, exchange};
use hawser_session::LaneSession;
use hawser_wire::{BootEpoch, StreamAck, TenantId, TrafficClass};

use hawser_exchange::PublishedBatch;

use super::*;
use crate::outlet::Outlet;
use crate::outward::ApiOutlets;

const STREAM: StreamId = StreamId::from_bytes([3; 16]);
const THERE: NodeId = NodeId::from_bytes([2; 16]);
const EPOCH: BootEpoch = BootEpoch(1);
const NOW: MonoTime = MonoTime::ZERO;

fn outward() -> (Outward, ApiShardPort) {
    let Exchange { mut shards, mut apis, .. } = exchange::<LaneSession>(1, 1);
    let shard = shards.pop().unwrap();
    let apis_out = shard.apis.into_iter().map(|api| ApiOutlets {
        control: Outlet::new(api.control_to),
        data: Outlet::new(api.data_to),
    });
    let outward = Outward::new(Outlet::new(shard.control.to), apis_out.collect());
    (outward, apis.pop().unwrap().shards.pop().unwrap())
}

/// What the destination says when it has all below `received`.
fn ack(received: u64) -> StreamAck {
    let received = StreamOffset(received);
    StreamAck {
        stream: STREAM,
        fence_epoch: EPOCH,
        receiver_epoch: EPOCH,
        received,
        seen: received,
        consumed: received,
        origin: StreamOffset(0),
        credit_bytes: 1 << 20,
        marked_bytes: 0,
        unknown: false,
        ended: false,
        forgot: false,
        producers: Vec::new(),
        refused: None,
    }
}

/// A call that has published one message, which is on its way.
fn published() -> (StreamHost, Outward, ApiShardPort, CallId) {
    let (mut outward, api) = outward();
    let mut host = StreamHost::new(STREAM);
    let source = SourceSpec {
        destinations: vec![THERE],
        fresh: true,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    };
    let spec = StreamSpec {
        stream: STREAM,
        tenant: TenantId::from_bytes([4; 16]),
        epoch: EPOCH,
        source: Some(source),
        destination: None,
    };
    host.handle_spec(&spec, DeliveryLimits::default());
    let call = (0, SessionId(1));
    host.handle_open_publish(call, ProducerId(7), &mut outward);
    let batch = PublishedBatch {
        first_seq: 1,
        count: 1,
        lengths: Bytes::from_static(&[5]),
        payload: Bytes::from_static(b"hello"),
    };
    host.handle_publish(call, batch, &mut outward);
    let sender = host.sender.as_mut().unwrap();
    sender.handle_path(THERE, true);
    let sync = sender.poll_transmit(NOW, |_| true).unwrap();
    assert!(matches!(sync.body, TransmitBody::Sync(_)), "{sync:?}");
    sender.handle_ack(NOW, THERE, &ack(0));
    let record = sender.poll_transmit(NOW, |_| true).unwrap();
    assert!(matches!(record.body, TransmitBody::Record(_)), "{record:?}");
    host.settle(NOW, &mut outward);
    (host, outward, api, call)
}

/// The newest acknowledged sequence that the call was told.
fn told(outward: &mut Outward, api: &mut ApiShardPort) -> Option<u64> {
    outward.apis[0].control.flush();
    std::iter::from_fn(|| api.control_from.try_recv())
        .filter_map(|message| match message {
            ShardToApi::Published { acked_seq, .. } => Some(acked_seq),
            _ => None,
        })
        .last()
}

#[test]
fn a_call_hears_of_the_last_acknowledgement_whichever_comes_first() {
    let (mut host, mut outward, mut api, call) = published();
    host.handle_end_publish(call, false, &mut outward);
    host.sender.as_mut().unwrap().handle_ack(NOW, THERE, &ack(1));
    host.settle(NOW, &mut outward);
    assert_eq!(told(&mut outward, &mut api), Some(1), "the end first");
    assert!(host.publishers.get(call).is_none());

    // Both in one turn of the shard: nothing is settled between them.
    let (mut host, mut outward, mut api, call) = published();
    host.sender.as_mut().unwrap().handle_ack(NOW, THERE, &ack(1));
    host.handle_end_publish(call, false, &mut outward);
    host.settle(NOW, &mut outward);
    assert_eq!(told(&mut outward, &mut api), Some(1), "the acknowledgement first");
    assert!(host.publishers.get(call).is_none());
}
