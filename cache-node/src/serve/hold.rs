//! Keeps what a reply takes counted until it is sent, or its caller is gone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::http::{Extensions, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::replies::Reserved;

#[derive(Clone)]
struct Until(#[expect(dead_code, reason = "held for its drop")] Arc<Reserved>);

/// Bytes of a body that go on being counted where they wait to be written: a body ends before its bytes are sent.
struct Waiting {
    bytes: Bytes,
    _until: Until,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Says in a response what it takes, if that is counted.
pub(super) fn until_sent(response: &mut Extensions, reserved: Option<Reserved>) {
    if let Some(reserved) = reserved {
        response.insert(Until(Arc::new(reserved)));
    }
}

/// The layer of the gRPC port.
pub(super) fn grpc(mut response: Response<tonic::body::Body>) -> Response<tonic::body::Body> {
    match response.extensions_mut().remove::<Until>() {
        Some(until) => response.map(|body| tonic::body::Body::new(Held { body, until })),
        None => response,
    }
}

/// The layer of the HTTP port.
pub(super) async fn http(mut response: Response<axum::body::Body>) -> Response<axum::body::Body> {
    match response.extensions_mut().remove::<Until>() {
        Some(until) => response.map(|body| axum::body::Body::new(Held { body, until })),
        None => response,
    }
}

struct Held<B> {
    body: B,
    until: Until,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let counted = |bytes| Bytes::from_owner(Waiting { bytes, _until: this.until.clone() });
        Pin::new(&mut this.body).poll_frame(context).map_ok(|frame| frame.map_data(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
