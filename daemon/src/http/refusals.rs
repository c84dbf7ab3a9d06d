//! Heads that hyper refuses before anything here sees them: its bare answers get a body that says what to do.
//!
//! hyper writes such an answer by itself, as the last thing on its connection. So what is written while no answer of ours is on its way is
//! hyper's, and in its place goes a problem detail ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). Who still sends when it is
//! refused would lose the answer to a reset, so what comes after it is read and dropped for a moment.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long, and how many bytes, a refused caller may go on sending.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1 << 20);

/// What hyper answers by itself.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// hyper's status.
    pub status: StatusCode,
    /// The problem's type.
    pub kind: &'static str,
    /// The same for people.
    pub title: &'static str,
    detail: &'static str,
}

/// All of them.
pub const REFUSALS: [Refusal; 3] = [
    Refusal {
        status: StatusCode::BAD_REQUEST,
        kind: "urn:freshline:bad-request",
        title: "this is no request of HTTP/1.1",
        detail: "the request's line or a header can't be read; write `GET /v1/keys/user:42 HTTP/1.1`, with headers of printable ASCII and a whole Content-Length",
    },
    Refusal {
        status: StatusCode::URI_TOO_LONG,
        kind: "urn:freshline:path-too-long",
        title: "the path is too long",
        detail: "a path takes less than 64 KiB; send many keys in a body, to /v1/keys:batchGet",
    },
    Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        kind: "urn:freshline:head-too-large",
        title: "the request's line and headers are too large",
        detail: "a request's line and headers take 64 KiB and 100 headers at most; leave headers out, and send many keys in a body",
    },
];

impl Refusal {
    /// The refusal that these bytes are the head of, as hyper writes it.
    fn of(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
        let status = StatusCode::from_bytes(rest.get(..3)?).ok()?;
        REFUSALS.into_iter().find(|refusal| refusal.status == status)
    }

    /// The whole answer.
    fn answer(&self) -> Vec<u8> {
        let Self { status, kind, title, detail } = self;
        let body =
            serde_json::json!({ "type": kind, "title": title, "status": status.as_u16(), "detail": detail });
        let (body, reason) = (body.to_string(), status.canonical_reason().unwrap_or_default());
        let length = body.len();
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}",
            status.as_u16()
        )
        .into_bytes()
    }
}

/// Whether answers of ours are on their way on a connection.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// Requests that are worked on, and bodies that are not handed over as a whole.
    open: Arc<AtomicUsize>,
    /// Bytes of an answer may be waiting to be written.
    waiting: Arc<AtomicBool>,
}

/// A connection and the service on it, each of which knows what the other does.
pub(super) fn watched<C, S>(connection: C, service: S) -> (Refusing<C>, Answering<S>) {
    let answers = Answers::default();
    let refusing = Refusing {
        connection,
        answers: answers.clone(),
        instead: Vec::new(),
        written: 0,
        linger: None,
        dropped: 0,
    };
    (refusing, Answering { service, answers })
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Answering<S> {
    service: S,
    answers: Answers,
}

impl<S> Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Open>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Open>, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answers.open.fetch_add(1, SeqCst);
        self.answers.waiting.store(true, SeqCst);
        let (open, answer) = (Counted(self.answers.open.clone()), self.service.call(request));
        Box::pin(async move { Ok(answer.await?.map(|body| Open { body, _open: open })) })
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A body on its way: hyper drops it when it has all of it.
#[derive(Debug)]
pub(super) struct Open {
    body: Body,
    _open: Counted,
}

impl HttpBody for Open {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Refusing<C> {
    connection: C,
    answers: Answers,
    /// What is written in the place of hyper's answer, and how much of it is.
    instead: Vec<u8>,
    written: usize,
    linger: Option<Pin<Box<Sleep>>>,
    dropped: usize,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Refusing<C> {
    /// Takes what hyper writes if it is an answer of its own.
    fn refused(&mut self, bytes: &[u8]) -> bool {
        if self.answers.waiting.load(SeqCst) || !self.instead.is_empty() {
            return !self.instead.is_empty();
        }
        let Some(refusal) = Refusal::of(bytes) else { return false };
        self.instead = refusal.answer();
        true
    }

    fn write_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.instead.len() {
            let rest = &self.instead[self.written..];
            match ready!(Pin::new(&mut self.connection).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what a refused caller still sends, until it ends or has sent for long enough.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER.0)));
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 4096];
        while self.dropped < LINGER.1 {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.connection).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.dropped += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Refusing<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Refusing<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refused(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.refused(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_instead(context))?;
        if self.answers.open.load(SeqCst) == 0 {
            self.answers.waiting.store(false, SeqCst);
        }
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.write_instead(context))?;
            ready!(Pin::new(&mut self.connection).poll_shutdown(context))?;
        }
        if self.instead.is_empty() { Poll::Ready(Ok(())) } else { self.poll_linger(context) }
    }
}
