//! One connection: reads requests, has them answered, writes what there is to say.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::{Buf as _, BytesMut};
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    clients::{Client, Clients},
    codec::{Kept, Parser},
    flow::{Flow, Stalled},
    session::{Next, Session},
};
use crate::node::{Hop, Node};

/// Bytes to have room for before reading.
const READ: usize = 16 << 10;
/// Bytes of replies that are written before more requests are looked at.
const WRITE: usize = 256 << 10;
/// Room that is kept for the next replies.
const KEEP: usize = 16 << 10;
/// What an idle connection has; more is counted (`node.resp_memory`).
const IDLE: usize = READ + KEEP;
/// A change in what a connection holds that is not counted yet.
const UNCOUNTED: usize = 8 << 10;
/// How long a client that has said goodbye may take no byte of its last replies.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(10);

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
    let mut connection = Connection {
        stream,
        buffer: BytesMut::with_capacity(READ),
        room: READ,
        parser: Parser::default(),
        flow: Flow::new(session.output_limit()),
        counted: 0,
        session,
    };
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
    /// Bytes that `buffer` has taken from the allocator at most.
    room: usize,
    parser: Parser,
    flow: Flow,
    /// What of it is counted as held.
    counted: usize,
    session: Session,
}

impl Connection {
    async fn serve(&mut self, close: &CancellationToken) -> io::Result<()> {
        let client = self.session.client.clone();
        let (mut closed, mut killed) =
            (std::pin::pin!(close.cancelled()), std::pin::pin!(client.close.cancelled()));
        let patience = self.session.node.config.caller_timeout;
        let mut begun = None;
        loop {
            let whole = Box::pin(self.answer()).await?;
            self.write()?;
            if self.session.ends {
                return self.part().await;
            }
            // The beginning of a request that is still to come as a whole.
            if self.buffer.is_empty() || whole > 0 {
                begun = None;
            }
            if !self.buffer.is_empty() {
                begun.get_or_insert_with(Instant::now);
            }
            let late = begun.map(|begun| begun + patience);
            self.make_room();
            self.count();
            let waits = !self.session.reply.bytes.is_empty();
            let (mut reader, writer) = self.stream.split();
            tokio::select! { // all are safe to drop
                biased;
                () = &mut killed => return Err(killed_error()),
                () = &mut closed => return self.part().await,
                () = client.mail.notified() => {}
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.session.node.resp.metrics.late.inc();
                    return Err(io::Error::other("closed: half a request, and the rest did not come (node.caller_timeout)"));
                }
                ready = writer.writable(), if waits => ready?,
                read = reader.read_buf(&mut self.buffer) => match read? {
                    0 => return self.part().await,
                    read => self.session.heard(read),
                },
            }
        }
    }

    /// Answers all requests that are there as a whole; returns their bytes.
    async fn answer(&mut self) -> io::Result<usize> {
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
                Next::First => {
                    // What was asked before must be answered before; then it is asked again.
                    self.settle().await?;
                    // The request's arguments are still those of the parser; its bytes begin where it began to look.
                    let start = used - self.parser.length();
                    let next = self.session.begin(self.parser.arguments(&self.buffer[start..]));
                    Box::pin(self.go_on(next)).await?;
                }
                Next::Done => {}
                next => Box::pin(self.go_on(next)).await?,
            }
            self.parser.next();
            if self.session.is_to_settle() {
                self.settle().await?;
            }
            self.make_way().await?;
        }
        self.buffer.advance(used);
        self.settle().await?;
        Ok(used)
    }

    /// Waits for what a request waits for, with nothing waiting before it.
    async fn go_on(&mut self, next: Next) -> io::Result<()> {
        match next {
            Next::Done | Next::First => Ok(()),
            Next::Slow(slow) => {
                let node = self.session.node.clone();
                let done = self.attend(slow.run(&node)).await?;
                self.session.finish(done);
                Ok(())
            }
            Next::Exec(commands) => self.execute(commands).await,
        }
    }

    /// Carries out the commands of a transaction; their replies are one.
    async fn execute(&mut self, commands: Vec<Kept>) -> io::Result<()> {
        self.session.execute(commands.len());
        for command in commands {
            let mut next = self.session.begin(command.arguments());
            if matches!(next, Next::First) {
                self.settle().await?;
                next = self.session.begin(command.arguments());
            }
            Box::pin(self.go_on(next)).await?;
            if self.session.is_to_settle() {
                self.settle().await?;
            }
            self.make_way().await?;
        }
        self.settle().await?;
        self.session.executed();
        Ok(())
    }

    /// Waits for all reads under way, and writes each reply as soon as it is its turn.
    async fn settle(&mut self) -> io::Result<()> {
        let (node, reads) = (self.session.node.clone(), self.session.reads());
        let mut under_way = FuturesOrdered::new();
        let (mut begun, mut came) = (0, 0);
        loop {
            while self.session.write_next(&reads) {
                self.make_way().await?;
            }
            if came == reads.len() {
                self.session.settled();
                return Ok(());
            }
            while begun < reads.len() && under_way.len() < self.session.together() {
                let read = &reads[begun];
                under_way.push_back(node.get_key(&read.key, Hop::First, read.options));
                begun += 1;
            }
            let Some(result) = self.attend(under_way.next()).await? else { return Ok(()) };
            self.session.arrived(&reads[came], result);
            came += 1;
        }
    }

    /// Waits, and meanwhile sends what the client is to be told.
    async fn attend<T>(&mut self, wait: impl Future<Output = T>) -> io::Result<T> {
        let client = self.session.client.clone();
        let mut wait = std::pin::pin!(wait);
        loop {
            let waits = !self.session.reply.bytes.is_empty();
            tokio::select! { // `wait` goes on
                biased;
                done = &mut wait => return Ok(done),
                () = client.close.cancelled() => return Err(killed_error()),
                () = client.mail.notified() => {}
                ready = self.stream.writable(), if waits => ready?,
            }
            self.write()?;
        }
    }

    /// Writes what has been answered; while more waits than may, waits until the client takes some.
    async fn make_way(&mut self) -> io::Result<()> {
        let limit = self.session.output_limit();
        if self.session.reply.bytes.len() < WRITE.min(limit) {
            return Ok(());
        }
        self.write()?;
        self.flow.limit(limit);
        if !self.flow.is_full(self.session.reply.bytes.len()) {
            // So much was answered in one go: others have their turn.
            tokio::task::yield_now().await;
            return Ok(());
        }
        self.flow.wait();
        let client = self.session.client.clone();
        while self.flow.is_full(self.session.reply.bytes.len()) {
            tokio::select! { // all are safe to drop
                biased;
                () = client.close.cancelled() => return Err(killed_error()),
                ready = self.stream.writable() => {
                    ready?;
                    self.write()?;
                }
                () = sleep_until(self.flow.until()) => if self.flow.stalled() == Stalled::GiveUp {
                    self.session.node.resp.overflowed(&client, self.session.reply.bytes.len());
                    return Err(io::Error::other("closed: it takes no replies"));
                },
            }
        }
        Ok(())
    }

    /// Writes as much as goes out at once of what is answered, and of what the client is to be told after it.
    fn write(&mut self) -> io::Result<()> {
        loop {
            // Of a client that takes nothing, what it is to be told is kept where it is bounded by itself: `node.tracking_queue`.
            if self.session.reply.bytes.len() < WRITE {
                self.session.deliver();
            }
            let bytes = &mut self.session.reply.bytes;
            if bytes.is_empty() {
                break;
            }
            match self.stream.try_write(bytes) {
                Ok(written) => {
                    bytes.advance(written);
                    self.session.node.resp.metrics.sent.inc_by(written as u64);
                    self.flow.went_out(bytes.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let bytes = &mut self.session.reply.bytes;
        if bytes.is_empty() {
            if bytes.capacity() > KEEP {
                *bytes = BytesMut::with_capacity(KEEP);
            } else {
                bytes.clear();
            }
        }
        self.count();
        Ok(())
    }

    /// Writes the rest, as long as the client takes it, and ends the connection.
    async fn part(&mut self) -> io::Result<()> {
        let client = self.session.client.clone();
        self.write()?;
        while !self.session.reply.bytes.is_empty() {
            tokio::select! { // all are safe to drop
                biased;
                () = client.close.cancelled() => return Err(killed_error()),
                ready = timeout(GOODBYE, self.stream.writable()) => ready??,
            }
            self.write()?;
        }
        self.stream.shutdown().await
    }

    /// Has room for the next requests, and no more of it than they need.
    fn make_room(&mut self) {
        if self.room > READ && self.buffer.len() < READ / 2 {
            let mut small = BytesMut::with_capacity(READ);
            small.extend_from_slice(&self.buffer);
            (self.buffer, self.room) = (small, READ);
            self.parser.shrink();
        } else if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            self.buffer.reserve(READ);
            self.room = self.room.max(self.buffer.capacity());
        }
    }

    /// Counts what this connection holds, beyond what an idle one has.
    fn count(&mut self) {
        let client = &self.session.client;
        client.unread.store(self.buffer.len(), Relaxed);
        client.waiting.store(self.session.reply.bytes.len(), Relaxed);
        let held = (self.room + self.parser.holds() + self.session.holds()).saturating_sub(IDLE);
        if held.abs_diff(self.counted) > UNCOUNTED || (held == 0) != (self.counted == 0) {
            self.counted = held;
            let session = &self.session;
            session.node.resp.holds(&session.client, held);
        }
    }
}

fn killed_error() -> io::Error {
    io::Error::other("closed: by another, or because it can't be told any more what is invalid")
}
