//! `hawser stream`.

use clap::{Subcommand, ValueEnum};
use hawser_proto::v1::{OpenClientDataStreamReq, QualityOfService, StreamHandle, StreamStatus};
use serde::Serialize;

pub(crate) mod input;
pub(crate) mod publish;
mod receive;
mod subscribe;

use super::client::{Mesh, Target};
use super::failure::Failure;
use super::output::{Output, bytes_text, say};
use super::table::{Align, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Open a stream from this node. The same name again gives the same stream.
    Open {
        /// Name: 1 to 128 characters of A-Z a-z 0-9 . _ -
        name: String,
        /// Destination node, by name or id; several with commas, or said again.
        #[arg(long, required = true, value_delimiter = ',', value_name = "NODE")]
        to: Vec<String>,
        /// Tenant; empty means "default".
        #[arg(long, default_value = "")]
        tenant: String,
        /// Quality of service.
        #[arg(long, value_enum, default_value = "local")]
        qos: Qos,
        /// Carry it over all bulk lanes of each link on its way, in place of one.
        #[arg(long)]
        stripe: bool,
        /// Priority goes before bulk on every link, over a lane of its own.
        #[arg(long, value_enum, default_value = "bulk", conflicts_with = "stripe")]
        class: StreamClass,
    },
    /// End a stream: what was published is still delivered, then subscriptions end.
    Close {
        /// The stream, by name or id.
        stream: String,
    },
    /// List the streams that begin or end at this node.
    Ls,
    /// Publish lines of standard input, raw bytes of it, or a directory.
    Pub(publish::PublishArgs),
    /// Receive messages as lines, as raw bytes, or as a directory.
    Sub(subscribe::SubscribeArgs),
}

/// How sure a message is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Qos {
    /// Kept at the source until every consumer has it.
    Local,
    /// Sent once.
    AtMostOnce,
    /// Kept at several nodes.
    Quorum,
}

impl From<Qos> for QualityOfService {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::Local => Self::Local,
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::Quorum => Self::Quorum,
        }
    }
}

/// The class of a stream.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StreamClass {
    /// Before bulk, over a lane of its own.
    Priority,
    /// Over a bulk lane, or all of them.
    Bulk,
}

impl StreamClass {
    /// As the API names it.
    const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Bulk => "bulk",
        }
    }
}

/// # Errors
/// Whatever the node answers, and what the command's own files do.
pub(crate) async fn run(
    command: StreamCommand,
    target: Target,
    out: Output,
) -> Result<(), Failure> {
    match command {
        StreamCommand::Open { name, to, tenant, qos, stripe, class } => {
            let request = OpenClientDataStreamReq {
                tenant_id: tenant,
                name,
                dst_nodes: to,
                qos: QualityOfService::from(qos).into(),
                stripe,
                traffic_class: class.name().to_owned(),
            };
            let handle = open(&mut target.mesh().await?, request).await?;
            let row = OpenedRow {
                stream_id: handle.stream_id,
                pending_dst_nodes: handle.pending_dst_nodes,
            };
            out.value(&row, || format!("{}\n", row.stream_id))?;
            if !row.pending_dst_nodes.is_empty() && !out.is_json() {
                let pending = row.pending_dst_nodes.join(", ");
                say(&format!("not confirmed yet, told when reachable: {pending}"));
            }
            Ok(())
        }
        StreamCommand::Close { stream } => {
            let handle = StreamHandle { stream_id: stream.clone(), pending_dst_nodes: Vec::new() };
            target.mesh().await?.close_client_data_stream(handle).await?;
            out.value(&ClosedRow { stream: &stream, closed: true }, || format!("closed {stream}\n"))
        }
        StreamCommand::Ls => list(target, out).await,
        StreamCommand::Pub(args) => publish::run(args, target, out).await,
        StreamCommand::Sub(args) => subscribe::run(args, target, out).await,
    }
}

/// Opens a stream.
///
/// # Errors
/// Whatever the node answers.
pub(crate) async fn open(
    mesh: &mut Mesh,
    request: OpenClientDataStreamReq,
) -> Result<StreamHandle, Failure> {
    Ok(mesh.open_client_data_stream(request).await?.into_inner())
}

#[derive(Serialize)]
struct OpenedRow {
    stream_id: String,
    pending_dst_nodes: Vec<String>,
}

#[derive(Serialize)]
struct ClosedRow<'a> {
    stream: &'a str,
    closed: bool,
}

#[derive(Serialize)]
struct StreamRow<'a> {
    stream_id: &'a str,
    name: &'a str,
    tenant_id: &'a str,
    src_node: &'a str,
    dst_nodes: &'a [String],
    qos: &'static str,
    state: &'a str,
    role: &'a str,
    last_seq: u64,
    acked_seq: u64,
    buffered_bytes: u64,
    striped: bool,
    traffic_class: &'a str,
}

impl<'a> From<&'a StreamStatus> for StreamRow<'a> {
    fn from(stream: &'a StreamStatus) -> Self {
        Self {
            stream_id: &stream.stream_id,
            name: &stream.name,
            tenant_id: &stream.tenant_id,
            src_node: &stream.src_node,
            dst_nodes: &stream.dst_nodes,
            qos: match stream.qos() {
                QualityOfService::Local => "local",
                QualityOfService::AtMostOnce => "at-most-once",
                QualityOfService::Quorum => "quorum",
            },
            state: &stream.state,
            role: &stream.role,
            last_seq: stream.last_seq,
            acked_seq: stream.acked_seq,
            buffered_bytes: stream.buffered_bytes,
            striped: stream.striped,
            traffic_class: &stream.traffic_class,
        }
    }
}

async fn list(target: Target, out: Output) -> Result<(), Failure> {
    let streams = target.mesh().await?.list_streams(()).await?.into_inner().streams;
    let rows: Vec<StreamRow<'_>> = streams.iter().map(StreamRow::from).collect();
    out.rows(&rows, || {
        let mut table = Table::new(
            &[
                ("NAME", Align::Left),
                ("ID", Align::Left),
                ("TENANT", Align::Left),
                ("ROLE", Align::Left),
                ("FROM", Align::Left),
                ("TO", Align::Left),
                ("QOS", Align::Left),
                ("CLASS", Align::Left),
                ("LANES", Align::Left),
                ("STATE", Align::Left),
                ("LAST", Align::Right),
                ("ACKED", Align::Right),
                ("BUFFERED", Align::Right),
            ],
            "no streams",
        );
        for row in &rows {
            table.row([
                row.name.to_owned(),
                row.stream_id.to_owned(),
                row.tenant_id.to_owned(),
                row.role.to_owned(),
                row.src_node.to_owned(),
                row.dst_nodes.join(","),
                row.qos.to_owned(),
                row.traffic_class.to_owned(),
                if row.striped { "all" } else { "one" }.to_owned(),
                row.state.to_owned(),
                row.last_seq.to_string(),
                row.acked_seq.to_string(),
                bytes_text(row.buffered_bytes),
            ]);
        }
        table
    })
}
