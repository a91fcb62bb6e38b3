//! The way of the two batched RPCs' bodies round tonic's codec, which copies every byte of them.
//!
//! tonic serves the calls all the same: routing, `grpc-encoding`, `grpc-timeout`, headers. Only the
//! body that carries the batches, request or response, does not pass through it: it travels in the
//! extensions between the handler and [`detach_request`] and [`attach_response`], the outermost
//! layers. [`BatchRequests`](crate::batch_requests::BatchRequests) and
//! [`BatchBody`](crate::batch_body::BatchBody) read and write it where it lies.
//!
//! **Invariant:** both layers stand in front of the services. A handler that finds no body says
//! INTERNAL.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::body::Body;
use tonic::codegen::http;

/// The call whose requests are read without tonic.
const PUBLISH_BATCHES: &str = "/hawser.v1.MeshService/PublishClientDataBatches";

/// A body beside its request or response. Extensions must be `Clone` and `Sync`, which no body is;
/// it is taken once.
#[derive(Clone)]
pub(crate) struct Detour(Arc<Mutex<Option<Body>>>);

impl Detour {
    pub(crate) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// `None` if it was taken before.
    pub(crate) fn take(&self) -> Option<Body> {
        // An option is whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Puts the body of a `PublishClientDataBatches` call beside it.
pub(crate) fn detach_request(mut request: http::Request<Body>) -> http::Request<Body> {
    if request.uri().path() == PUBLISH_BATCHES {
        let body = std::mem::take(request.body_mut());
        request.extensions_mut().insert(Detour::new(body));
    }
    request
}

/// Gives a response the body that its handler put beside it.
pub(crate) fn attach_response(mut response: http::Response<Body>) -> http::Response<Body> {
    if let Some(body) = response.extensions_mut().remove::<Detour>().and_then(|way| way.take()) {
        *response.body_mut() = body;
    }
    response
}
