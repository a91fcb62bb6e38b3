//! Why a node ended a call: the lean client does not read that, so a full one makes the call again.

use std::path::Path;

use anyhow::{Error, Result, anyhow};
use hawser_proto::client;
use hawser_proto::v1::{PublishBatch, StreamSelector};
use tokio_stream::once;
use tonic::Status;

/// The error of a subscription that the node ended.
pub(crate) fn subscription(socket: &Path, selector: StreamSelector) -> Error {
    explain("subscription", async {
        let mut data = client::mesh_data(client::connect_unix(socket).await?);
        Ok(match data.subscribe_client_data_batches(selector).await {
            Ok(batches) => batches.into_inner().message().await.err(),
            Err(status) => Some(status),
        })
    })
}

/// The error of a publication that the node ended. What is published again, it knows already.
pub(crate) fn publication(socket: &Path, stream_id: &str, payload_bytes: usize) -> Error {
    let batch = PublishBatch {
        stream_id: stream_id.to_owned(),
        first_seq: 1,
        lengths: vec![u32::try_from(payload_bytes).unwrap_or(u32::MAX)],
        payload: vec![0; payload_bytes].into(),
        ..PublishBatch::default()
    };
    explain("publication", async {
        let mut mesh = client::mesh(client::connect_unix(socket).await?);
        Ok(match mesh.publish_client_data_batches(once(batch)).await {
            Ok(results) => results.into_inner().message().await.err(),
            Err(status) => Some(status),
        })
    })
}

fn explain(call: &str, again: impl Future<Output = Result<Option<Status>>>) -> Error {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(again));
    match outcome {
        Ok(Some(status)) => anyhow!(
            "the node ended the {call}, and refuses it with {:?}: {}",
            status.code(),
            status.message()
        ),
        Ok(None) => anyhow!("the node ended the {call}, and would take it again"),
        Err(error) => error.context(format!("the node ended the {call}")),
    }
}
