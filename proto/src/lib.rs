//! The gRPC interface of Hawser: what is generated from `hawser/v1`, and a client that connects
//! with the settings that the interface is fast with.
//!
//! Owns no behaviour of the node. The services are implemented in `control/api`.

pub mod client;
mod limits;

pub use limits::{
    BATCH_MESSAGES_MAX, BATCH_PAYLOAD_BYTES_MAX, CONNECTION_WINDOW_BYTES, FRAME_BYTES,
    REQUEST_BYTES_MAX, WINDOW_BYTES,
};

/// Package `hawser.v1`: messages, clients and server traits, as the comments in
/// `hawser/v1/hawser.proto` describe them.
pub mod v1 {
    #![expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::missing_errors_doc,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    tonic::include_proto!("hawser.v1");
}

/// The descriptors of `hawser.v1` and of what it imports, encoded: for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hawser.bin"));
