//! What the control plane shows of itself, put together from reports and its own state.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_exchange::{LinkReport, ShardReport, StreamReport};
use hawser_routing::LsaFlags;
use hawser_store::StreamRecord;
use hawser_wire::{Eviction, NodeId, StreamId, printable};

use crate::control::Control;
use crate::directory::{has_left, members, node_ref};
use crate::reports::ReportUse;
use crate::{
    EvictionView, LaneView, LinkView, MeshState, MeshView, NodeRef, NodeView, StatusView,
    StreamRole, StreamStatusView,
};

/// By reason, in the order of the names.
fn counts(refused: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    refused.iter().map(|(&why, &count)| (why, count)).collect()
}

impl Control {
    /// Begins and ends rounds of reports.
    pub(crate) fn advance_reports(&mut self) {
        let now = self.now();
        if let Some((reports, uses)) = self.reports.poll_end(now) {
            for wanted in uses {
                self.serve_reports(&reports, wanted);
            }
        }
        if self.reports.poll_begin(now, self.shards.count()) {
            self.shards.send_to_all(|| hawser_exchange::ControlToShard::Report);
        }
    }

    fn serve_reports(&mut self, reports: &[ShardReport], wanted: ReportUse) {
        // A caller that is gone needs no answer.
        match wanted {
            ReportUse::Status(answer) => drop(answer.send(Ok(self.status(reports)))),
            ReportUse::Links(answer) => drop(answer.send(Ok(self.own_links(reports)))),
            ReportUse::Lanes(answer) => drop(answer.send(Ok(self.lanes(reports)))),
            ReportUse::Streams(answer) => drop(answer.send(Ok(self.stream_rows(reports)))),
            ReportUse::Metrics => self.handle_metrics(reports),
        }
    }

    pub(crate) fn node_ref(&self, node: NodeId) -> NodeRef {
        if node == self.node {
            return NodeRef { node, name: self.config.node_name.clone() };
        }
        let mut found = node_ref(self.flooding.lsdb(), node);
        if found.name.is_empty()
            && let Some(name) = self.peer_names.get(&node)
        {
            found.name.clone_from(name);
        }
        found
    }

    /// A node's name, or its id if that is not known.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        let found = self.node_ref(node);
        if found.name.is_empty() { node.to_string() } else { found.name }
    }

    fn status(&self, reports: &[ShardReport]) -> StatusView {
        let lsdb = self.flooding.lsdb();
        let state = match &self.mesh {
            None => MeshState::None,
            Some(_) if self.is_evicted() => MeshState::Evicted,
            Some(mesh) if mesh.record.stopped => MeshState::Stopped,
            Some(_) => MeshState::Running,
        };
        StatusView {
            node: self.node,
            node_name: self.config.node_name.clone(),
            incarnation: self.incarnation(),
            state,
            mesh: self.mesh.as_ref().map(|mesh| MeshView {
                mesh: mesh.record.mesh,
                name: mesh.record.name.clone(),
                description: mesh.record.description.clone(),
                authority: mesh.record.authority_key.is_some(),
            }),
            listening: self.listening.as_ref().map(|listening| listening.address),
            nodes: self.nodes(),
            links: self.all_links(reports),
            route_generation: self.routes.generation,
            lsdb_digest: lsdb.digest(),
            lsdb_size: lsdb.len(),
            link_state_rejects: self.rejects(reports),
            membership_rejects: self.membership_rejects(),
            stream_rejects: counts(&self.streams_refused),
            datagram_rejects: counts(&self.datagrams_refused),
            one_sided_links: lsdb.one_sided_links(),
            evictions: self.evictions.iter().map(|eviction| self.eviction_view(eviction)).collect(),
            refused_as_evicted: self.refused_as_evicted.clone(),
            version: self.config.version.clone(),
            io_driver: self.config.io_driver.clone(),
            shards: self.shards.count(),
        }
    }

    /// What of neighbours was not taken, by reason, in the order of the names.
    fn rejects(&self, reports: &[ShardReport]) -> Vec<(&'static str, u64)> {
        let lanes = self.lanes_refused.iter().map(|(&name, &count)| (name, count));
        let links = reports.iter().flat_map(|report| &report.links);
        let dropped = links.map(|link| link.control_dropped_frames).fold(0, u64::saturating_add);
        let dropped = (dropped > 0).then_some(("control-dropped", dropped));
        let all: BTreeMap<_, _> = self.flooding.rejects().chain(lanes).chain(dropped).collect();
        all.into_iter().collect()
    }

    fn eviction_view(&self, eviction: &Eviction) -> EvictionView {
        EvictionView {
            node: NodeRef { node: eviction.node, name: printable(&eviction.name) },
            by: self.node_ref(eviction.by),
            evicted_unix_s: eviction.evicted_unix_s,
            reason: printable(&eviction.reason),
        }
    }

    fn nodes(&self) -> Vec<NodeView> {
        members(self.flooding.lsdb())
            .map(|lsa| {
                let hops = self.hops.get(&lsa.origin);
                let known = self.liveness.as_ref().and_then(|watch| watch.member(lsa.origin));
                NodeView {
                    node: lsa.origin,
                    name: lsa.name.clone(),
                    reachable: lsa.origin == self.node || hops.is_some(),
                    liveness: known.map(|(liveness, _)| liveness),
                    incarnation: lsa
                        .incarnation
                        .max(known.map(|(_, version)| version.incarnation).unwrap_or_default()),
                    hops: hops.map_or(0, |&hops| u32::try_from(hops).unwrap_or(u32::MAX)),
                    address: lsa.address.clone(),
                    drained: lsa.flags.contains(LsaFlags::OVERLOADED),
                    stub: lsa.flags.contains(LsaFlags::STUB),
                }
            })
            .collect()
    }

    /// This node's links, in the order of the peers' ids.
    fn own_links(&self, reports: &[ShardReport]) -> Vec<LinkView> {
        let reported: BTreeMap<NodeId, &LinkReport> =
            reports.iter().flat_map(|report| &report.links).map(|link| (link.peer, link)).collect();
        self.adjacencies
            .neighbours()
            .map(|(peer, adjacency_index)| {
                let report = reported.get(&peer);
                LinkView {
                    a: self.node_ref(self.node),
                    b: self.node_ref(peer),
                    up: self.links.is_link_up(peer),
                    mode: self.links.is_link_up(peer).then(|| self.links.mode(peer)),
                    lanes: report.map_or(0, |link| link.lanes),
                    rtt: report.map_or(Duration::ZERO, |link| link.rtt),
                    sent_bytes: report.map_or(0, |link| link.sent_bytes),
                    received_bytes: report.map_or(0, |link| link.received_bytes),
                    queued_bytes: report.map_or(0, |link| link.queued_bytes),
                    dropped_frames: report.map_or(0, |link| link.dropped_frames),
                    control_dropped_frames: report.map_or(0, |link| link.control_dropped_frames),
                    adjacency_index,
                    digest_agrees: self.flooding.digest_agrees(peer),
                    metrics: self.adjacencies.told_of(peer),
                }
            })
            .collect()
    }

    /// This node's links, then those between other nodes, each once.
    fn all_links(&self, reports: &[ShardReport]) -> Vec<LinkView> {
        let lsdb = self.flooding.lsdb();
        let mut links = self.own_links(reports);
        let others = members(lsdb).filter(|lsa| lsa.origin != self.node).flat_map(|lsa| {
            lsa.adjacencies
                .iter()
                .filter(|far| far.neighbour != self.node)
                .map(|far| (lsa.origin, far))
        });
        for (origin, far) in others {
            let back = lsdb
                .get(far.neighbour)
                .and_then(|lsa| lsa.adjacencies.iter().find(|near| near.neighbour == origin));
            // Both ends list a link that is up: it is shown from the smaller id. One to a node
            // that has left is none.
            let left = lsdb.get(far.neighbour).is_some_and(has_left);
            if left || (back.is_some() && far.neighbour < origin) {
                continue;
            }
            links.push(LinkView {
                a: self.node_ref(origin),
                b: self.node_ref(far.neighbour),
                up: back.is_some(),
                mode: None,
                lanes: 0,
                rtt: Duration::from_micros(u64::from(far.metrics.latency_us).saturating_mul(2)),
                sent_bytes: 0,
                received_bytes: 0,
                queued_bytes: 0,
                dropped_frames: 0,
                control_dropped_frames: 0,
                adjacency_index: Some(far.index),
                digest_agrees: None,
                metrics: far.metrics,
            });
        }
        links
    }

    fn lanes(&self, reports: &[ShardReport]) -> Vec<LaneView> {
        let mut lanes: Vec<LaneView> = reports
            .iter()
            .flat_map(|report| report.lanes.iter().map(|lane| (report.shard, lane)))
            .map(|(shard, lane)| LaneView {
                peer: self.node_ref(lane.peer),
                lane: lane.lane,
                class: lane.class,
                epoch: lane.epoch,
                dialled: lane.dialled,
                remote: lane.remote,
                shard,
                sent_bytes: lane.sent_bytes,
                received_bytes: lane.received_bytes,
                sent_frames: lane.sent_frames,
                received_frames: lane.received_frames,
                rtt: lane.rtt,
            })
            .collect();
        lanes.sort_by_key(|lane| (lane.peer.node, lane.lane));
        lanes
    }

    /// What this node is to a stream.
    fn roles(&self, record: &StreamRecord) -> impl Iterator<Item = StreamRole> + use<> {
        let source = (record.source == self.node).then_some(StreamRole::Source);
        let destination =
            record.destinations.contains(&self.node).then_some(StreamRole::Destination);
        source.into_iter().chain(destination)
    }

    /// A row without figures.
    fn stream_row(&self, record: &StreamRecord, role: StreamRole) -> StreamStatusView {
        StreamStatusView {
            stream: record.stream,
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            source: self.node_ref(record.source),
            destinations: record.destinations.iter().map(|&node| self.node_ref(node)).collect(),
            qos: record.qos,
            striped: record.striped,
            class: record.class,
            state: record.state,
            role,
            last_seq: 0,
            acked_seq: 0,
            buffered_bytes: 0,
            pending: Vec::new(),
        }
    }

    fn stream_rows(&self, reports: &[ShardReport]) -> Vec<StreamStatusView> {
        let reported: BTreeMap<(StreamId, bool), &StreamReport> = reports
            .iter()
            .flat_map(|report| &report.streams)
            .map(|stream| ((stream.stream, stream.source), stream))
            .collect();
        let mut rows = Vec::new();
        for record in self.catalogue.iter() {
            for role in self.roles(record) {
                let is_source = role == StreamRole::Source;
                let report = reported.get(&(record.stream, is_source));
                let pending = if is_source {
                    self.announcements.pending(record.stream).collect()
                } else {
                    Vec::new()
                };
                rows.push(StreamStatusView {
                    last_seq: report.map_or(0, |stream| stream.end.0),
                    acked_seq: report.map_or(0, |stream| stream.acked.0),
                    buffered_bytes: report.map_or(0, |stream| stream.buffered_bytes),
                    pending,
                    ..self.stream_row(record, role)
                });
            }
        }
        for (record, end) in self.catalogue.ended() {
            rows.extend(self.roles(record).map(|role| StreamStatusView {
                last_seq: end.0,
                acked_seq: end.0,
                ..self.stream_row(record, role)
            }));
        }
        rows.sort_by(|a, b| (&a.name, a.stream, a.role).cmp(&(&b.name, b.stream, b.role)));
        rows
    }
}
