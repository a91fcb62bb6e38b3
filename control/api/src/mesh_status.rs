//! The control plane's views as the API's messages.

use std::time::Duration;

use hawser_plane::{
    EventView, EvictionView, LaneEventView, LaneView, LinkView, Liveness, NodeRef, NodeView,
    StatusView, StreamState, StreamStatusView,
};
use hawser_proto::v1;
use hawser_wire::TrafficClass;

pub(crate) fn mesh_status(view: StatusView) -> v1::MeshStatus {
    let (mesh_id, name) =
        view.mesh.map_or_else(Default::default, |mesh| (mesh.mesh.to_string(), mesh.name));
    v1::MeshStatus {
        mesh_id,
        name,
        state: view.state.name().to_owned(),
        node_id: view.node.to_string(),
        node_name: view.node_name,
        nodes: view.nodes.into_iter().map(node_status).collect(),
        links: view.links.into_iter().map(link_status).collect(),
        route_generation: view.route_generation,
        lsdb_digest: format!("{:016x}", view.lsdb_digest),
        lsdb_size: u64::try_from(view.lsdb_size).unwrap_or(u64::MAX),
        raft_health: String::new(),
        version: view.version,
        io_driver: view.io_driver,
        shards: u32::from(view.shards),
        link_state_rejects: reject_counts(view.link_state_rejects),
        evictions: view.evictions.into_iter().map(eviction).collect(),
        refused_as_evicted: view.refused_as_evicted.unwrap_or_default(),
        membership_rejects: reject_counts(view.membership_rejects),
        stream_rejects: reject_counts(view.stream_rejects),
        datagram_rejects: reject_counts(view.datagram_rejects),
        one_sided_links: u64::try_from(view.one_sided_links).unwrap_or(u64::MAX),
    }
}

fn reject_counts(rejects: Vec<(&'static str, u64)>) -> Vec<v1::RejectCount> {
    let count = |(reason, count): (&str, u64)| v1::RejectCount { reason: reason.to_owned(), count };
    rejects.into_iter().map(count).collect()
}

fn eviction(view: EvictionView) -> v1::Eviction {
    v1::Eviction {
        node_id: view.node.node.to_string(),
        name: view.node.name,
        by_id: view.by.node.to_string(),
        by_name: view.by.name,
        unix_s: view.evicted_unix_s,
        reason: view.reason,
    }
}

fn node_status(view: NodeView) -> v1::NodeStatus {
    v1::NodeStatus {
        node_id: view.node.to_string(),
        name: view.name,
        reachable: view.reachable,
        liveness: view.liveness.map(Liveness::name).unwrap_or_default().to_owned(),
        incarnation: view.incarnation.0,
        hops: view.hops,
        address: view.address,
        drained: view.drained,
        stub: view.stub,
    }
}

pub(crate) fn link_status(view: LinkView) -> v1::LinkStatus {
    v1::LinkStatus {
        a: view.a.node.to_string(),
        b: view.b.node.to_string(),
        b_name: view.b.name,
        up: view.up,
        lanes: view.lanes,
        rtt_us: micros(view.rtt),
        sent_bytes: view.sent_bytes,
        received_bytes: view.received_bytes,
        queued_bytes: view.queued_bytes,
        adjacency_index: view.adjacency_index.map_or(0, |index| index.0),
        a_name: view.a.name,
        bandwidth_kbps: view.metrics.bandwidth_kbps,
        loss_ppm: view.metrics.loss_ppm,
        utilization_permille: u32::from(view.metrics.utilization_permille),
        digest_agrees: view.digest_agrees,
        mode: view.mode.map(|mode| mode.name().to_owned()),
        control_dropped_frames: view.control_dropped_frames,
        dropped_frames: view.dropped_frames,
    }
}

pub(crate) fn lane_status(view: LaneView) -> v1::LaneStatus {
    let lane_class = match view.class {
        TrafficClass::Control => "control",
        TrafficClass::Priority => "priority",
        TrafficClass::Bulk => "bulk",
    };
    v1::LaneStatus {
        peer_id: view.peer.node.to_string(),
        peer_name: view.peer.name,
        lane_id: u32::from(view.lane.0),
        lane_class: lane_class.to_owned(),
        epoch: view.epoch.0,
        dialled: view.dialled,
        remote_address: view.remote.to_string(),
        shard: u32::from(view.shard.0),
        sent_bytes: view.sent_bytes,
        received_bytes: view.received_bytes,
        sent_frames: view.sent_frames,
        received_frames: view.received_frames,
        rtt_us: micros(view.rtt),
    }
}

pub(crate) fn stream_status(view: StreamStatusView) -> v1::StreamStatus {
    let state = match view.state {
        StreamState::Open => "open",
        StreamState::Closing => "closing",
        StreamState::Closed => "closed",
    };
    v1::StreamStatus {
        stream_id: view.stream.to_string(),
        name: view.name,
        tenant_id: view.tenant,
        src_node: node_text(&view.source),
        dst_nodes: view.destinations.iter().map(node_text).collect(),
        qos: i32::from(view.qos),
        state: state.to_owned(),
        role: view.role.name().to_owned(),
        last_seq: view.last_seq,
        acked_seq: view.acked_seq,
        buffered_bytes: view.buffered_bytes,
        striped: view.striped,
        traffic_class: view.class.name().to_owned(),
    }
}

pub(crate) fn mesh_event(view: EventView) -> v1::MeshEvent {
    v1::MeshEvent {
        seq: view.seq,
        kind: view.kind.name().to_owned(),
        node_id: view.node.map(|node| node.to_string()).unwrap_or_default(),
        detail: view.detail,
        unix_us: view.unix_us,
    }
}

pub(crate) fn lane_event(view: LaneEventView) -> v1::LaneEvent {
    let input = |(name, value): (&str, String)| v1::LaneEventInput { name: name.to_owned(), value };
    v1::LaneEvent {
        seq: view.seq,
        peer_id: view.peer.node.to_string(),
        peer_name: view.peer.name,
        name: view.name.to_owned(),
        inputs: view.inputs.into_iter().map(input).collect(),
        unix_us: view.unix_us,
    }
}

/// A node as a request may name it: by its human name if that is known.
fn node_text(node: &NodeRef) -> String {
    if node.name.is_empty() { node.node.to_string() } else { node.name.clone() }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
