use hawser_exchange::ConsumerStart;
use hawser_plane::{PlaneHandle, StreamView};
use hawser_proto::v1::mesh_data_service_server::MeshDataService;
use hawser_proto::v1::{
    ClientDataBatch, ConsumerCommit, DbUpdate, MeshUpdate, NodeUpdate, StreamSelector, SubscribeReq,
};
use hawser_wire::{Record, StreamOffset};
use tokio::sync::mpsc;
use tokio_stream::Empty;
use tonic::body::Body;
use tonic::{Request, Response, Status};

use crate::batch_body::BatchBody;
use crate::detour::Detour;
use crate::hub::Hub;
use crate::plane_status::plane_status;
use crate::request_check::{check_label, not_yet, or_default};
use crate::session::SessionHandle;
use crate::subscription::MessageStream;

/// `hawser.v1.MeshDataService`.
pub(crate) struct MeshDataApi {
    plane: PlaneHandle,
    hub: Hub,
}

impl MeshDataApi {
    pub(crate) const fn new(plane: PlaneHandle, hub: Hub) -> Self {
        Self { plane, hub }
    }

    async fn subscribe(
        &self,
        selector: StreamSelector,
    ) -> Result<(SessionHandle, mpsc::Receiver<Box<Record>>), Status> {
        let consumer = or_default(&selector.consumer);
        check_label("consumer", consumer)?;
        let view = self.received_here(&selector.stream_id).await?;
        // Sequences count from 1, offsets from 0.
        let start = selector
            .from_seq
            .checked_sub(1)
            .map_or(ConsumerStart::Resume, |offset| ConsumerStart::At(StreamOffset(offset)));
        self.hub
            .open_subscribe(view.stream, consumer, start, selector.manual_commit)
            .await
            .map_err(|failure| failure.status(view.stream))
    }

    /// The stream that is named, which must end at this node.
    async fn received_here(&self, named: &str) -> Result<StreamView, Status> {
        let view = self.plane.resolve_stream(named).await.map_err(|error| plane_status(&error))?;
        if view.is_destination {
            return Ok(view);
        }
        let destinations: Vec<_> = view.destinations.iter().map(ToString::to_string).collect();
        Err(Status::failed_precondition(format!(
            "stream {} does not end at this node, but at {}: subscribe there",
            view.stream,
            destinations.join(", ")
        )))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl MeshDataService for MeshDataApi {
    type SubscribeNodeUpdatesStream = Empty<Result<NodeUpdate, Status>>;
    type SubscribeMeshUpdatesStream = Empty<Result<MeshUpdate, Status>>;
    type SubscribeInternalDBUpdatesStream = Empty<Result<DbUpdate, Status>>;
    type SubscribeClientDataStream = MessageStream;
    /// The batches go another way: see [`Detour`].
    type SubscribeClientDataBatchesStream = Empty<Result<ClientDataBatch, Status>>;

    async fn subscribe_node_updates(
        &self,
        _: Request<SubscribeReq>,
    ) -> Answer<Self::SubscribeNodeUpdatesStream> {
        not_yet("SubscribeNodeUpdates", "the ordered update log of the mesh")
    }

    async fn subscribe_mesh_updates(
        &self,
        _: Request<SubscribeReq>,
    ) -> Answer<Self::SubscribeMeshUpdatesStream> {
        not_yet("SubscribeMeshUpdates", "the ordered update log of the mesh")
    }

    async fn subscribe_internal_db_updates(
        &self,
        _: Request<SubscribeReq>,
    ) -> Answer<Self::SubscribeInternalDBUpdatesStream> {
        not_yet("SubscribeInternalDBUpdates", "the ordered update log of the mesh")
    }

    async fn subscribe_client_data(
        &self,
        request: Request<StreamSelector>,
    ) -> Answer<Self::SubscribeClientDataStream> {
        let (handle, records) = self.subscribe(request.into_inner()).await?;
        Ok(Response::new(MessageStream::new(handle, records)))
    }

    async fn subscribe_client_data_batches(
        &self,
        request: Request<StreamSelector>,
    ) -> Answer<Self::SubscribeClientDataBatchesStream> {
        let (handle, records) = self.subscribe(request.into_inner()).await?;
        let mut response = Response::new(tokio_stream::empty());
        let body = Body::new(BatchBody::new(handle, records));
        response.extensions_mut().insert(Detour::new(body));
        Ok(response)
    }

    async fn commit_consumer(&self, request: Request<ConsumerCommit>) -> Answer<()> {
        let ConsumerCommit { stream_id, consumer, through_seq } = request.into_inner();
        let consumer = or_default(&consumer);
        check_label("consumer", consumer)?;
        let view = self.received_here(&stream_id).await?;
        // Through sequence n is below offset n.
        self.hub
            .commit(view.stream, consumer, StreamOffset(through_seq))
            .await
            .map_err(|failure| failure.status(view.stream))?;
        Ok(Response::new(()))
    }
}
