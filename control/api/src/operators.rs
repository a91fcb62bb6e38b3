//! Who may make which call. What changes the node or the mesh is for its operators: whoever may open
//! the unix socket, and over TCP the members that the node was told of. Calls that read, and those
//! that streams are used with, are for every member.
//!
//! **Invariant:** a call that is not listed here is an operator's. One that is added to the service
//! is closed to members until somebody lists it.

use std::sync::Arc;

use hawser_wire::NodeId;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Request, Status};

use crate::connection::ApiPeer;

/// Calls that every member may make. Those of a stream change nothing but streams.
const FOR_MEMBERS: &[&str] = &[
    "/hawser.v1.MeshService/OpenClientDataStream",
    "/hawser.v1.MeshService/CloseClientDataStream",
    "/hawser.v1.MeshService/PublishClientData",
    "/hawser.v1.MeshService/PublishClientDataBatches",
    "/hawser.v1.MeshService/GetMeshStatus",
    "/hawser.v1.MeshService/WatchMeshEvents",
    "/hawser.v1.MeshService/ListLinks",
    "/hawser.v1.MeshService/ListLanes",
    "/hawser.v1.MeshService/ListStreams",
    "/hawser.v1.MeshService/ListRoutes",
    "/hawser.v1.MeshService/ExplainRoute",
    "/hawser.v1.MeshService/ExplainMessage",
    "/hawser.v1.MeshService/GetCoverage",
    "/hawser.v1.MeshService/GetTopology",
    "/hawser.v1.MeshService/WatchLaneEvents",
    "/hawser.v1.MeshDataService/SubscribeNodeUpdates",
    "/hawser.v1.MeshDataService/SubscribeMeshUpdates",
    "/hawser.v1.MeshDataService/SubscribeInternalDBUpdates",
    "/hawser.v1.MeshDataService/SubscribeClientData",
    "/hawser.v1.MeshDataService/SubscribeClientDataBatches",
    "/hawser.v1.MeshDataService/CommitConsumer",
];

/// Services that tell what there is to call and whether it is served.
const SERVICES_FOR_MEMBERS: &[&str] = &["/grpc.health.v1.", "/grpc.reflection.v1"];

/// Found in the extensions of a request that is to be refused, with the reason.
#[derive(Clone)]
struct Refused(String);

/// Marks requests that their sender may not make, for [`refuse`] behind it, which does not see whom a
/// request is for.
pub(crate) fn mark_refused(
    operators: Arc<[NodeId]>,
) -> impl Fn(http::Request<Body>) -> http::Request<Body> + Clone {
    move |mut request| {
        let path = request.uri().path();
        if let Err(reason) = check(request.extensions().get(), path, &operators) {
            request.extensions_mut().insert(Refused(reason));
        }
        request
    }
}

/// Refuses what [`mark_refused`] has marked.
///
/// # Errors
/// PERMISSION_DENIED; nothing was called.
pub(crate) fn refuse(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<Refused>() {
        Some(Refused(reason)) => Err(Status::permission_denied(reason.clone())),
        None => Ok(request),
    }
}

fn check(peer: Option<&ApiPeer>, path: &str, operators: &[NodeId]) -> Result<(), String> {
    let for_members = FOR_MEMBERS.contains(&path)
        || SERVICES_FOR_MEMBERS.iter().any(|service| path.starts_with(service));
    match peer {
        _ if for_members => Ok(()),
        Some(ApiPeer::Local) => Ok(()),
        Some(ApiPeer::Member { node, .. }) if operators.contains(node) => Ok(()),
        Some(peer @ ApiPeer::Member { node, .. }) => {
            let call = path.rsplit('/').next().unwrap_or_default();
            tracing::warn!(call, %peer, "control call refused: its sender is no operator");
            Err(format!(
                "{call} is for operators: use the node's unix socket, or have {node} listed in its \
                 api.operators"
            ))
        }
        None => Err("the call has lost its sender".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use hawser_proto::FILE_DESCRIPTOR_SET;
    use prost_reflect::DescriptorPool;

    use super::*;

    fn member(byte: u8) -> ApiPeer {
        let node = NodeId::from_bytes([byte; 16]);
        ApiPeer::Member { node, name: "m".to_owned(), remote: ([127, 0, 0, 1], 1).into() }
    }

    #[test]
    fn calls_that_change_the_node_are_for_operators() {
        let operators = [NodeId::from_bytes([7; 16])];
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut for_operators = Vec::new();
        let mut for_members = 0;
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            assert_eq!(check(Some(&ApiPeer::Local), &path, &operators), Ok(()), "{path}");
            assert_eq!(check(Some(&member(7)), &path, &operators), Ok(()), "{path}");
            if check(Some(&member(8)), &path, &operators).is_err() {
                assert!(check(None, &path, &operators).is_err(), "{path}");
                for_operators.push(method.name().to_owned());
            } else {
                for_members += 1;
            }
        }
        // Whoever adds a call decides here whose it is.
        assert_eq!(
            for_operators,
            [
                "SeedMesh",
                "JoinMesh",
                "StartMesh",
                "StopMesh",
                "LeaveMesh",
                "EvictNode",
                "DrainNode",
                "UndrainNode",
                "IssueToken",
                "AddRoute",
                "DropRoute",
                "SendNodeUpdate",
                "SendMeshUpdate",
                "SendInternalDBUpdate",
                "DrillLink",
                "SetLinkMode",
                "SetLanePolicy",
            ]
        );
        assert_eq!(for_members, FOR_MEMBERS.len(), "each listed call is there");
    }

    #[test]
    fn what_is_not_known_is_an_operators() {
        for path in ["/hawser.v1.MeshService/New", "/", "", "/hawser.v1.MeshService/getmeshstatus"]
        {
            assert!(check(Some(&member(8)), path, &[]).is_err(), "{path}");
        }
        assert_eq!(check(Some(&member(8)), "/grpc.health.v1.Health/Check", &[]), Ok(()));
    }
}
