//! A TCP connection that has a place, and loses it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Shared, seats::Seat};

/// An accepted connection. It ends by itself when it does not begin in time, when its peer takes nothing of what is written, or when another
/// one needs its place: reads then find the end, and writes fail.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    seat: Arc<Seat>,
    of: Arc<Shared>,
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Bytes that are to come yet before the greeting is over.
    awaited: usize,
    /// When the greeting is late.
    late: Option<Pin<Box<Sleep>>>,
    /// When a write that waits has waited for too long.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, seat: Arc<Seat>, of: Arc<Shared>) -> Self {
        let (lost, awaited) = (Box::pin(seat.lost.clone().cancelled_owned()), of.limits.greeting);
        let late = (awaited > 0).then(|| Box::pin(sleep(of.limits.patience)));
        Self { stream, seat, of, lost, awaited, late, stalled: None }
    }

    /// The address that the peer connected to.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Cancelled when another connection has this one's place. For who holds the connection where nothing reads from it for a while.
    pub fn lost(&self) -> CancellationToken {
        self.seat.lost.clone()
    }

    /// Why the connection is to end, if it is.
    fn ended(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        if self.lost.as_mut().poll(context).is_ready() {
            return Some(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "its place was needed for another connection",
            ));
        }
        None
    }

    /// A write went on, or waits.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.stalled = None;
                self.of.seats.used(&self.seat);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let patience = self.of.limits.patience;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(stalled.as_mut().poll(context));
                self.of.stalled.inc();
                let text = format!("the peer took nothing of its replies for {patience:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.ended(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            this.of.seats.used(&this.seat);
        }
        if let Some(late) = &mut this.late {
            this.awaited = this.awaited.saturating_sub(bytes);
            if this.awaited == 0 {
                this.late = None;
            } else if late.as_mut().poll(context).is_ready() {
                this.of.late.inc();
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer did not begin in time",
                )));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(error) = this.ended(context) {
            return Poll::Ready(Err(error));
        }
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(error) = this.ended(context) {
            return Poll::Ready(Err(error));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.seats.leave(&self.seat);
        self.of.open.dec();
    }
}
