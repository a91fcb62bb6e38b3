//! A client that knows an address and what server reflection tells it: no generated code.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::node::{NAME, Node};

/// Messages of one method, by their descriptors.
struct DynamicCodec(MethodDescriptor);

struct DynamicEncoder;

struct DynamicDecoder(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.output())
    }
}

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), input)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// What a node told about itself.
struct Client {
    channel: Channel,
    types: DescriptorPool,
}

impl Client {
    fn method(&self, name: &str) -> MethodDescriptor {
        let mut methods = self.types.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods
        });
        methods.find(|method| method.name() == name).unwrap()
    }

    fn request(&self, method: &str, fields: &[(&str, Value)]) -> DynamicMessage {
        let mut message = DynamicMessage::new(self.method(method).input());
        for (name, value) in fields {
            message.try_set_field_by_name(name, value.clone()).unwrap();
        }
        message
    }

    async fn ready(&self, method: &str) -> (Grpc<Channel>, PathAndQuery, DynamicCodec) {
        let method = self.method(method);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        (grpc, path.parse().unwrap(), DynamicCodec(method))
    }

    async fn unary(
        &self,
        method: &str,
        fields: &[(&str, Value)],
    ) -> Result<DynamicMessage, Status> {
        let (mut grpc, path, codec) = self.ready(method).await;
        let request = Request::new(self.request(method, fields));
        grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
    }

    async fn server_streaming(
        &self,
        method: &str,
        fields: &[(&str, Value)],
    ) -> Streaming<DynamicMessage> {
        let (mut grpc, path, codec) = self.ready(method).await;
        let request = Request::new(self.request(method, fields));
        grpc.server_streaming(request, path, codec).await.unwrap().into_inner()
    }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn field(message: &DynamicMessage, name: &str) -> Value {
    message.get_field_by_name(name).unwrap().into_owned()
}

/// Opens a stream, publishes on it and reads it back.
async fn use_the_node(client: &Client) {
    let destinations = Value::List(vec![text(NAME)]);
    let open = [("name", text("reflected")), ("dst_nodes", destinations)];
    let opened = client.unary("OpenClientDataStream", &open).await.unwrap();
    let stream = ("stream_id", field(&opened, "stream_id"));
    assert_eq!(field(&opened, "pending_dst_nodes"), Value::List(vec![]));

    for (seq, payload) in [(1, "one"), (2, "two")] {
        let payload = Value::Bytes(Bytes::from_static(payload.as_bytes()));
        let chunk = [stream.clone(), ("seq", Value::U64(seq)), ("payload", payload)];
        let result = client.unary("PublishClientData", &chunk).await.unwrap();
        assert_eq!(field(&result, "acked_seq"), Value::U64(seq));
        assert_eq!(field(&result, "next_seq"), Value::U64(seq + 1));
    }
    let skipped = [stream.clone(), ("seq", Value::U64(9))];
    let status = client.unary("PublishClientData", &skipped).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");

    let from = [stream.clone(), ("from_seq", Value::U64(1))];
    let mut messages = client.server_streaming("SubscribeClientData", &from).await;
    for (seq, payload) in [(1, "one"), (2, "two")] {
        let message = messages.message().await.unwrap().unwrap();
        assert_eq!(field(&message, "stream_id"), stream.1);
        assert_eq!(field(&message, "seq"), Value::U64(seq));
        let payload = Bytes::from_static(payload.as_bytes());
        assert_eq!(field(&message, "payload"), Value::Bytes(payload));
        assert_eq!(message.unknown_fields().count(), 0);
    }
}

macro_rules! a_client_without_generated_code {
    ($test:ident, $version:ident) => {
        mod $version {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            use super::*;

            async fn ask(
                reflection: &mut ServerReflectionClient<Channel>,
                request: MessageRequest,
            ) -> MessageResponse {
                let host = String::new();
                let request = ServerReflectionRequest { host, message_request: Some(request) };
                let answers = reflection.server_reflection_info(tokio_stream::iter([request]));
                let answer = answers.await.unwrap().into_inner().message().await.unwrap().unwrap();
                answer.message_response.unwrap()
            }

            /// Every type that the services of the node need, from the node alone.
            pub(super) async fn learn(channel: Channel) -> DescriptorPool {
                let mut reflection = ServerReflectionClient::new(channel);
                let list = MessageRequest::ListServices(String::new());
                let listed = match ask(&mut reflection, list).await {
                    MessageResponse::ListServicesResponse(listed) => listed,
                    other => panic!("{other:?}"),
                };
                let services: BTreeSet<_> =
                    listed.service.into_iter().map(|service| service.name).collect();
                for name in ["hawser.v1.MeshService", "hawser.v1.MeshDataService"] {
                    assert!(services.contains(name), "{services:?}");
                }
                let mut files = BTreeMap::new();
                let mut wanted: Vec<_> =
                    services.into_iter().map(MessageRequest::FileContainingSymbol).collect();
                while let Some(request) = wanted.pop() {
                    let found = match ask(&mut reflection, request).await {
                        MessageResponse::FileDescriptorResponse(found) => found,
                        other => panic!("{other:?}"),
                    };
                    for encoded in found.file_descriptor_proto {
                        let file = FileDescriptorProto::decode(encoded.as_slice()).unwrap();
                        let missing =
                            file.dependency.iter().filter(|&name| !files.contains_key(name));
                        wanted.extend(missing.cloned().map(MessageRequest::FileByFilename));
                        files.insert(file.name().to_owned(), file);
                    }
                }
                let mut types = DescriptorPool::new();
                types.add_file_descriptor_protos(files.into_values()).unwrap();
                types
            }
        }

        #[tokio::test]
        async fn $test() {
            let (node, _stream) = Node::with_stream().await;
            let channel = node.channel().await;
            let types = $version::learn(channel.clone()).await;
            use_the_node(&Client { channel, types }).await;
        }
    };
}

a_client_without_generated_code!(reflection_v1_is_enough, v1);
a_client_without_generated_code!(reflection_v1alpha_is_enough, v1alpha);
