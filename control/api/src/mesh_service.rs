use std::sync::Arc;
use std::time::Duration;

use hawser_exchange::LanePolicyMode;
use hawser_plane::{LaneRuleChange, OpenStream, PlaneHandle, RoutesView};
use hawser_proto::v1::mesh_service_server::MeshService;
use hawser_proto::v1::{
    AddRouteReq, BroadcastResult, Chunk, CoverageReport, CoverageReq, DbUpdate, DrainNodeReq,
    DrillLinkReq, DrillReport, DropRouteReq, EvictNodeReq, ExplainMessageReq, ExplainRouteReq,
    Filter, IssueTokenReq, JoinMeshReq, JoinToken, LaneEvent, LaneEventsReq, LaneList,
    LanePolicyReport, LeaveMeshReq, LinkList, LinkModeReport, ListRoutesReq, MeshEvent, MeshStatus,
    MeshUpdate, MessageExplanation, NodeUpdate, OpenClientDataStreamReq, PublishBatch,
    PublishResult, QualityOfService, RouteExplanation, RouteList, SeedMeshReq, SetLanePolicyReq,
    SetLinkModeReq, StartMeshReq, StopMeshReq, StreamHandle, StreamList, SuccessStatus, Topology,
    TopologyReq, TopologyStatus, UndrainNodeReq,
};
use hawser_wire::{LinkMode, NodeId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::batch_requests::BatchRequests;
use crate::connection::ApiPeer;
use crate::detour::Detour;
use crate::event_watch::{EVENTS_WAITING, wanted_kinds, watch_events, watch_lane_events};
use crate::hub::Hub;
use crate::mesh_status::{lane_status, link_status, mesh_status, stream_status};
use crate::message_status::message_explanation;
use crate::plane_status::plane_status;
use crate::publish_call::run_publish_call;
use crate::publish_unary::UnaryPublishers;
use crate::request_check::not_yet;
use crate::route_status::{class_of, route_explanation, route_list, route_node};
use crate::survey_status::{coverage_report, drill_report, survey_turn, topology};

/// Results that wait for a publisher: they are cumulative, so few are enough.
const RESULTS_WAITING: usize = 2;
/// A drill cuts its link for so long unless the caller wants another time.
const CUT_MS_DEFAULT: u64 = 2000;

type Answer<T> = Result<Response<T>, Status>;

/// `hawser.v1.MeshService`.
pub(crate) struct MeshApi {
    plane: PlaneHandle,
    hub: Hub,
    unary: UnaryPublishers,
    /// A permit for each survey of the whole mesh that may be computed at once.
    surveys: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl MeshApi {
    pub(crate) fn new(plane: PlaneHandle, hub: Hub, stop: watch::Receiver<bool>) -> Self {
        let unary = UnaryPublishers::new(hub.clone(), plane.clone());
        let surveys = Arc::new(Semaphore::new(1));
        Self { plane, hub, unary, surveys, stop }
    }

    async fn status(&self) -> Answer<MeshStatus> {
        let view = self.plane.status().await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(mesh_status(view)))
    }

    async fn routes(&self, named: Vec<String>) -> Result<RoutesView, Status> {
        self.plane.routes(named).await.map_err(|error| plane_status(&error))
    }
}

#[tonic::async_trait]
impl MeshService for MeshApi {
    type PublishClientDataBatchesStream = ReceiverStream<Result<PublishResult, Status>>;
    type WatchLaneEventsStream = ReceiverStream<Result<LaneEvent, Status>>;
    type WatchMeshEventsStream = ReceiverStream<Result<MeshEvent, Status>>;

    async fn seed_mesh(&self, request: Request<SeedMeshReq>) -> Answer<MeshStatus> {
        note_call(&request, "SeedMesh");
        let SeedMeshReq { name, description } = request.into_inner();
        self.plane.seed_mesh(name, description).await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn join_mesh(&self, request: Request<JoinMeshReq>) -> Answer<MeshStatus> {
        note_call(&request, "JoinMesh");
        let JoinMeshReq { token, address } = request.into_inner();
        self.plane.join_mesh(token, given(address)).await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn start_mesh(&self, request: Request<StartMeshReq>) -> Answer<MeshStatus> {
        note_call(&request, "StartMesh");
        self.plane.start_mesh().await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn stop_mesh(&self, request: Request<StopMeshReq>) -> Answer<MeshStatus> {
        note_call(&request, "StopMesh");
        self.plane.stop_mesh().await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn leave_mesh(&self, request: Request<LeaveMeshReq>) -> Answer<SuccessStatus> {
        note_call(&request, "LeaveMesh");
        self.plane.leave_mesh().await.map_err(|error| plane_status(&error))?;
        let message = "left the mesh; the node keeps its identity".to_owned();
        Ok(Response::new(SuccessStatus { success: true, message }))
    }

    async fn evict_node(&self, request: Request<EvictNodeReq>) -> Answer<MeshStatus> {
        note_call(&request, "EvictNode");
        let EvictNodeReq { node, reason } = request.into_inner();
        self.plane.evict(node, reason).await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn drain_node(&self, request: Request<DrainNodeReq>) -> Answer<MeshStatus> {
        note_call(&request, "DrainNode");
        self.plane.drain(true).await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn undrain_node(&self, request: Request<UndrainNodeReq>) -> Answer<MeshStatus> {
        note_call(&request, "UndrainNode");
        self.plane.drain(false).await.map_err(|error| plane_status(&error))?;
        self.status().await
    }

    async fn issue_token(&self, request: Request<IssueTokenReq>) -> Answer<JoinToken> {
        note_call(&request, "IssueToken");
        let IssueTokenReq { ttl_seconds, node_id, address } = request.into_inner();
        let node = given(node_id).map(|text| parse_node(&text)).transpose()?;
        let ttl = Duration::from_secs(u64::from(ttl_seconds));
        let (token, expires_unix_s) = self
            .plane
            .issue_token(ttl, node, given(address))
            .await
            .map_err(|error| plane_status(&error))?;
        Ok(Response::new(JoinToken { token, expires_unix_s }))
    }

    async fn add_route(&self, request: Request<AddRouteReq>) -> Answer<TopologyStatus> {
        note_call(&request, "AddRoute");
        let AddRouteReq { from, to, via } = request.into_inner();
        let generation = self.plane.add_route(given(from), to, via).await;
        let generation = generation.map_err(|error| plane_status(&error))?;
        Ok(Response::new(TopologyStatus { generation }))
    }

    async fn drop_route(&self, request: Request<DropRouteReq>) -> Answer<TopologyStatus> {
        note_call(&request, "DropRoute");
        let DropRouteReq { from, to } = request.into_inner();
        let generation = self.plane.drop_route(given(from), to).await;
        let generation = generation.map_err(|error| plane_status(&error))?;
        Ok(Response::new(TopologyStatus { generation }))
    }

    async fn send_node_update(&self, _: Request<NodeUpdate>) -> Answer<BroadcastResult> {
        not_yet("SendNodeUpdate", "the ordered update log of the mesh")
    }

    async fn send_mesh_update(&self, _: Request<MeshUpdate>) -> Answer<BroadcastResult> {
        not_yet("SendMeshUpdate", "the ordered update log of the mesh")
    }

    async fn send_internal_db_update(&self, _: Request<DbUpdate>) -> Answer<BroadcastResult> {
        not_yet("SendInternalDBUpdate", "the ordered update log of the mesh")
    }

    async fn open_client_data_stream(
        &self,
        request: Request<OpenClientDataStreamReq>,
    ) -> Answer<StreamHandle> {
        note_call(&request, "OpenClientDataStream");
        let request = request.into_inner();
        let open = OpenStream {
            tenant: request.tenant_id,
            name: request.name,
            destinations: request.dst_nodes,
            qos: local_qos(request.qos)?,
            striped: request.stripe,
            class: class_of(&request.traffic_class)?,
        };
        let opened = self.plane.open_stream(open).await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(StreamHandle {
            stream_id: opened.stream.to_string(),
            pending_dst_nodes: opened.pending.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn close_client_data_stream(&self, request: Request<StreamHandle>) -> Answer<()> {
        note_call(&request, "CloseClientDataStream");
        let named = request.into_inner().stream_id;
        let view = self.plane.resolve_stream(&named).await.map_err(|error| plane_status(&error))?;
        self.plane.close_stream(view.stream).await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(()))
    }

    async fn publish_client_data(&self, request: Request<Chunk>) -> Answer<PublishResult> {
        self.unary.publish(request.into_inner()).await.map(Response::new)
    }

    async fn publish_client_data_batches(
        &self,
        request: Request<Streaming<PublishBatch>>,
    ) -> Answer<Self::PublishClientDataBatchesStream> {
        let (results, results_from) = mpsc::channel(RESULTS_WAITING);
        let body = request.extensions().get::<Detour>().and_then(Detour::take);
        let body = body.ok_or_else(|| Status::internal("the call has lost its requests"))?;
        let batches = BatchRequests::new(body);
        tokio::spawn(run_publish_call(self.hub.clone(), self.plane.clone(), batches, results));
        Ok(Response::new(ReceiverStream::new(results_from)))
    }

    async fn get_mesh_status(&self, _: Request<()>) -> Answer<MeshStatus> {
        self.status().await
    }

    async fn watch_mesh_events(
        &self,
        request: Request<Filter>,
    ) -> Answer<Self::WatchMeshEventsStream> {
        let kinds = wanted_kinds(request.get_ref())?;
        let (watcher, watched) = mpsc::channel(EVENTS_WAITING);
        tokio::spawn(watch_events(self.plane.events(), kinds, watcher, self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(watched)))
    }

    async fn watch_lane_events(
        &self,
        request: Request<LaneEventsReq>,
    ) -> Answer<Self::WatchLaneEventsStream> {
        let LaneEventsReq { peer, follow } = request.into_inner();
        let events =
            self.plane.lane_events(given(peer)).await.map_err(|error| plane_status(&error))?;
        let (watcher, watched) = mpsc::channel(EVENTS_WAITING);
        tokio::spawn(watch_lane_events(events, follow, watcher, self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(watched)))
    }

    async fn list_links(&self, _: Request<()>) -> Answer<LinkList> {
        let links = self.plane.links().await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(LinkList { links: links.into_iter().map(link_status).collect() }))
    }

    async fn list_lanes(&self, _: Request<()>) -> Answer<LaneList> {
        let lanes = self.plane.lanes().await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(LaneList { lanes: lanes.into_iter().map(lane_status).collect() }))
    }

    async fn list_routes(&self, request: Request<ListRoutesReq>) -> Answer<RouteList> {
        let ListRoutesReq { traffic_class, destination } = request.into_inner();
        let class = class_of(&traffic_class)?;
        let view = self.routes(given(destination).into_iter().collect()).await?;
        computed(move || Ok(route_list(&view, class))).await
    }

    async fn explain_route(&self, request: Request<ExplainRouteReq>) -> Answer<RouteExplanation> {
        let ExplainRouteReq { source, destination, paths, traffic_class } = request.into_inner();
        let class = class_of(&traffic_class)?;
        let view = self.routes(vec![source, destination]).await?;
        computed(move || route_explanation(&view, class, paths)).await
    }

    async fn explain_message(
        &self,
        request: Request<ExplainMessageReq>,
    ) -> Answer<MessageExplanation> {
        let ExplainMessageReq { stream_id, seq } = request.into_inner();
        let found = self.plane.explain_message(stream_id, seq).await;
        let view = found.map_err(|error| plane_status(&error))?;
        Ok(Response::new(message_explanation(view)))
    }

    async fn get_coverage(&self, request: Request<CoverageReq>) -> Answer<CoverageReport> {
        let CoverageReq { traffic_class, all_nodes } = request.into_inner();
        let class = class_of(&traffic_class)?;
        let view = self.routes(Vec::new()).await?;
        let turn = all_nodes.then(|| survey_turn(&self.surveys)).transpose()?;
        computed(move || {
            // Until it is computed, also if the caller is gone.
            let _turn = turn;
            coverage_report(&view, class, all_nodes)
        })
        .await
    }

    async fn get_topology(&self, _: Request<TopologyReq>) -> Answer<Topology> {
        let view = self.routes(Vec::new()).await?;
        computed(move || Ok(topology(&view))).await
    }

    async fn drill_link(&self, request: Request<DrillLinkReq>) -> Answer<DrillReport> {
        note_call(&request, "DrillLink");
        let DrillLinkReq { a, b, cut_ms, force } = request.into_inner();
        let cut_for =
            Duration::from_millis(if cut_ms == 0 { CUT_MS_DEFAULT } else { cut_ms.into() });
        let found = self.plane.drill([a, b], cut_for, force).await;
        Ok(Response::new(drill_report(found.map_err(|error| plane_status(&error))?)))
    }

    async fn set_link_mode(&self, request: Request<SetLinkModeReq>) -> Answer<LinkModeReport> {
        note_call(&request, "SetLinkMode");
        let SetLinkModeReq { peer, mode } = request.into_inner();
        let mode = mode_of(&mode)?;
        let peer = self.plane.set_link_mode(peer, mode).await;
        let peer = peer.map_err(|error| plane_status(&error))?;
        Ok(Response::new(LinkModeReport {
            peer: Some(route_node(peer)),
            mode: mode.name().to_owned(),
        }))
    }

    async fn set_lane_policy(
        &self,
        request: Request<SetLanePolicyReq>,
    ) -> Answer<LanePolicyReport> {
        note_call(&request, "SetLanePolicy");
        let SetLanePolicyReq { peer, bulk_lanes_max, policy } = request.into_inner();
        let change = lane_rule_change(bulk_lanes_max, &policy)?;
        let view = self.plane.set_lane_rule(peer, change).await;
        let view = view.map_err(|error| plane_status(&error))?;
        Ok(Response::new(LanePolicyReport {
            peer: Some(route_node(view.peer)),
            bulk_lanes_max: view.rule.bulk_lanes_max.into(),
            policy: view.rule.policy.name().to_owned(),
        }))
    }

    async fn list_streams(&self, _: Request<()>) -> Answer<StreamList> {
        let streams = self.plane.streams().await.map_err(|error| plane_status(&error))?;
        Ok(Response::new(StreamList { streams: streams.into_iter().map(stream_status).collect() }))
    }
}

/// What takes long in a large mesh is computed beside the calls.
async fn computed<T: Send + 'static>(
    compute: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Answer<T> {
    let ended = tokio::task::spawn_blocking(compute).await;
    ended.map_err(|error| Status::internal(error.to_string()))?.map(Response::new)
}

/// Logs who asked for a change.
fn note_call<T>(request: &Request<T>, call: &'static str) {
    if let Some(peer) = request.extensions().get::<ApiPeer>() {
        tracing::info!(call, %peer, "control call");
    }
}

/// Protobuf's empty string stands for "not given".
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn parse_node(text: &str) -> Result<NodeId, Status> {
    text.parse().map_err(|error| {
        Status::invalid_argument(format!("node_id {text:?} is no node's id: {error}"))
    })
}

/// What a call changes about the bulk lanes of a link.
fn lane_rule_change(bulk_lanes_max: Option<u32>, policy: &str) -> Result<LaneRuleChange, Status> {
    // What is too large for its type is too large.
    let bulk_lanes_max = bulk_lanes_max.map(|max| u8::try_from(max).unwrap_or(u8::MAX));
    let policy = match policy {
        "" => None,
        "default" => Some(None),
        name => Some(Some(LanePolicyMode::of(name).ok_or_else(|| {
            Status::invalid_argument(format!(
                "policy {name:?} is none: there are \"on\", \"dry-run\", \"off\" and \"default\""
            ))
        })?)),
    };
    Ok(LaneRuleChange { bulk_lanes_max, policy })
}

fn mode_of(name: &str) -> Result<LinkMode, Status> {
    LinkMode::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
        Status::invalid_argument(format!(
            "mode {name:?} is none: there are \"separate\" and \"collapsed\""
        ))
    })
}

fn local_qos(qos: i32) -> Result<u8, Status> {
    match QualityOfService::try_from(qos) {
        Ok(QualityOfService::Local) => Ok(0),
        Ok(QualityOfService::AtMostOnce) => {
            not_yet("qos AT_MOST_ONCE", "streams that keep nothing; use LOCAL")
        }
        Ok(QualityOfService::Quorum) => {
            not_yet("qos QUORUM", "consensus groups of a stream's nodes; use LOCAL")
        }
        Err(_unknown) => Err(Status::invalid_argument(format!(
            "qos {qos} is none: 0 is LOCAL, 1 AT_MOST_ONCE, 2 QUORUM"
        ))),
    }
}
