//! One connection: reads requests, has them answered, writes what there is to say.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::{Buf as _, BytesMut};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{
    clients::{Client, Clients},
    codec::Parser,
    session::{Next, Session},
};
use crate::node::{Hop, Node};

/// Bytes to have room for before reading.
const READ: usize = 16 << 10;
/// Bytes of replies that are written before more requests are looked at.
const WRITE: usize = 256 << 10;
/// Room that is kept for the next replies.
const KEEP: usize = 1 << 20;
/// Misses of pipelined requests that wait together.
const TOGETHER: usize = 512;

/// Serves a connection until it ends.
pub(super) async fn run(
    node: Arc<Node>,
    mut stream: TcpStream,
    address: SocketAddr,
    close: CancellationToken,
) {
    let local = stream.local_addr().unwrap_or(address);
    let _ = stream.set_nodelay(true); // a socket that takes no option still works
    let Some(client) = node.resp.clients.enter(address, local, node.config.resp_connections) else {
        node.resp.metrics.refused.inc();
        let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
        return;
    };
    node.resp.metrics.accepted.inc();
    node.resp.metrics.connections.inc();
    let _left = Left { node: &node, client: &client };
    let session = Session::new(node.clone(), client.clone());
    let mut connection =
        Connection { stream, buffer: BytesMut::with_capacity(READ), parser: Parser::default(), session };
    if let Err(error) = Box::pin(connection.serve(&close)).await {
        tracing::debug!(node = %node.id, client = client.id, %address, %error, "a Redis client's connection ended");
    }
}

/// Takes a client out when its connection ends in any way.
struct Left<'a> {
    node: &'a Node,
    client: &'a Arc<Client>,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let resp = &self.node.resp;
        resp.tracking.forget(self.client);
        for redirecting in resp.clients.leave(self.client) {
            Clients::tell_broken(&redirecting, self.client.id);
        }
        resp.metrics.connections.dec();
    }
}

struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    parser: Parser,
    session: Session,
}

impl Connection {
    async fn serve(&mut self, close: &CancellationToken) -> io::Result<()> {
        let client = self.session.client.clone();
        let (mut closed, mut killed) =
            (std::pin::pin!(close.cancelled()), std::pin::pin!(client.close.cancelled()));
        loop {
            Box::pin(self.answer()).await?;
            self.flush().await?;
            if self.session.ends {
                return self.stream.shutdown().await;
            }
            if self.buffer.capacity() - self.buffer.len() < READ / 4 {
                self.buffer.reserve(READ);
            }
            tokio::select! { // all are safe to drop
                biased;
                () = &mut killed => return Err(killed_error()),
                () = &mut closed => return self.stream.shutdown().await,
                () = client.mail.notified() => {}
                read = self.stream.read_buf(&mut self.buffer) => if read? == 0 {
                    return Ok(());
                },
            }
        }
    }

    /// Answers all requests that are there as a whole.
    async fn answer(&mut self) -> io::Result<()> {
        let mut used = 0;
        while !self.session.ends {
            let rest = &self.buffer[used..];
            let next = match self.parser.parse(rest, &self.session.limits()) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    used += length;
                    self.session.begin(self.parser.arguments(rest))
                }
                Err(error) => {
                    self.settle().await?;
                    self.session.protocol_error(&error);
                    break;
                }
            };
            match next {
                Next::Done => {}
                Next::First => {
                    // What was asked before must be answered before; then it is asked again.
                    self.settle().await?;
                    used = Box::pin(self.again(used)).await?;
                }
                Next::Slow(slow) => {
                    let node = self.session.node.clone();
                    let done = self.attend(slow.run(&node)).await?;
                    self.session.finish(done);
                }
            }
            self.parser.next();
            if self.session.waiting() >= TOGETHER {
                self.settle().await?;
            }
            if self.session.reply.bytes.len() >= WRITE {
                self.flush().await?;
            }
        }
        self.buffer.advance(used);
        self.settle().await
    }

    /// Carries out the request that ends at `used`, with nothing waiting before it.
    async fn again(&mut self, used: usize) -> io::Result<usize> {
        // The request's arguments are still those of the parser; its bytes begin where it began to look.
        let start = used - self.parser.length();
        let next = self.session.begin(self.parser.arguments(&self.buffer[start..]));
        if let Next::Slow(slow) = next {
            let node = self.session.node.clone();
            let done = self.attend(slow.run(&node)).await?;
            self.session.finish(done);
        }
        Ok(used)
    }

    /// Waits for all reads under way, and writes their replies.
    async fn settle(&mut self) -> io::Result<()> {
        if self.session.waiting() == 0 {
            self.session.settle(Vec::new());
            return Ok(());
        }
        let (node, reads) = (self.session.node.clone(), self.session.reads());
        let all = join_all(reads.iter().map(|read| node.get_key(&read.key, Hop::First, read.options)));
        let results = self.attend(all).await?;
        self.session.settle(reads.into_iter().zip(results).collect());
        Ok(())
    }

    /// Waits, and meanwhile sends what the client is to be told.
    async fn attend<T>(&mut self, wait: impl Future<Output = T>) -> io::Result<T> {
        let client = self.session.client.clone();
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! { // `wait` goes on
                biased;
                done = &mut wait => return Ok(done),
                () = client.close.cancelled() => return Err(killed_error()),
                () = client.mail.notified() => {}
            }
            self.flush().await?;
        }
    }

    /// Writes all replies, and after them what the client is to be told.
    async fn flush(&mut self) -> io::Result<()> {
        self.session.deliver();
        let bytes = &mut self.session.reply.bytes;
        if bytes.is_empty() {
            return Ok(());
        }
        // Most often all of it goes at once, and nothing has to be waited for.
        match self.stream.try_write(bytes) {
            Ok(written) => bytes.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() {
            let close = &self.session.client.close;
            tokio::select! { // a connection that is dropped half written is of no use and ends
                biased;
                () = close.cancelled() => return Err(killed_error()),
                written = self.stream.write_all(bytes) => written?,
            }
        }
        if bytes.capacity() > KEEP {
            *bytes = BytesMut::with_capacity(READ);
        } else {
            bytes.clear();
        }
        Ok(())
    }
}

fn killed_error() -> io::Error {
    io::Error::other("closed: it can't be told any more what is invalid")
}
