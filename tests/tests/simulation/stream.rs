//! One end of a connection, as tokio and tonic want it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use client::Connector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::{clock::Party, network::Network};

/// One end of a connection.
pub(crate) struct Stream {
    pub(crate) network: Arc<Network>,
    pub(crate) number: u64,
    pub(crate) end: usize,
}

/// Connects as `from`.
pub(crate) fn connector(network: &Arc<Network>, from: Party) -> Connector {
    let network = network.clone();
    Connector::new(move |to| {
        let (network, to) = (network.clone(), to.parse::<Party>());
        Box::pin(async move {
            let to = to.map_err(|()| io::Error::from(io::ErrorKind::NotFound))?;
            let stream = network.connect(from, to).await?;
            Ok(Box::new(stream) as Box<dyn client::Connection>)
        })
    })
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.network.read(self.number, self.end, buf.remaining(), cx.waker())?;
        let Some(bytes) = read else { return Poll::Pending };
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.write(self.number, self.end, bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.network.close(self.number, self.end);
        Poll::Ready(Ok(()))
    }
}

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.network.dropped(self.number, self.end);
    }
}
