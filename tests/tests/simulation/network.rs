//! The network: packets with a delay of their own on links that can be slow, lossy, or cut, one way or both.
//!
//! Connections are streams of bytes, as TCP's: what is lost is sent again later, what is sent over a cut link waits until the link is
//! mended, nothing comes out of order, and nobody is told that the other side is silent but by silence. A process that died resets its
//! connections; a machine that died says nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::{self, Millis, Party},
    stream::Stream,
    trace,
};

/// How long it takes until what was lost is sent again, in milliseconds.
const RESEND: std::ops::Range<Millis> = 30..120;

/// The network. Everybody shares it.
pub(crate) struct Network {
    state: Mutex<State>,
}

/// One direction between two parties.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The least and the most milliseconds that a packet takes.
    pub(crate) latency: (Millis, Millis),
    /// The share of packets that are lost and sent again.
    pub(crate) loss: f64,
    /// Whether nothing gets through.
    pub(crate) cut: bool,
}

struct State {
    rng: SmallRng,
    usual: Link,
    links: BTreeMap<(Party, Party), Link>,
    waiting: BTreeMap<(Party, Party), VecDeque<Packet>>,
    under_way: BTreeMap<(Millis, u64), Packet>,
    sent: u64,
    listeners: BTreeMap<Party, mpsc::UnboundedSender<Stream>>,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
    /// Machines that are off: they don't even refuse.
    dark: Vec<Party>,
}

struct Packet {
    from: Party,
    to: Party,
    what: What,
}

enum What {
    /// A question to, or an answer of, one of the simulated servers.
    Message(Box<dyn FnOnce() + Send>),
    /// Of a connection, to the end of this number.
    Segment(u64, usize, Segment),
}

#[derive(Debug)]
enum Segment {
    Open,
    Opened,
    Bytes(Bytes),
    End,
    Reset,
}

struct Connection {
    /// Who opened it, who took it.
    ends: [End; 2],
}

#[expect(clippy::struct_excessive_bools, reason = "an end can be any of these at a time")]
struct End {
    party: Party,
    /// Whether the process that holds it is there.
    held: bool,
    /// Arrived and not read.
    arrived: VecDeque<Bytes>,
    ended: bool,
    reset: bool,
    reader: Option<Waker>,
    opening: Option<oneshot::Sender<io::Result<()>>>,
    /// When what it sent last arrives.
    last: Millis,
    closed: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, usual: Link) -> Arc<Self> {
        let state = State {
            rng: SmallRng::seed_from_u64(seed),
            usual,
            links: BTreeMap::new(),
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            opened: 0,
            dark: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Sends a message, which does something when it arrives.
    pub(crate) fn post(&self, from: Party, to: Party, act: impl FnOnce() + Send + 'static) {
        self.state.lock().send(Packet { from, to, what: What::Message(Box::new(act)) });
    }

    /// Asks one of the simulated servers; the answer may never come, so put a timeout around it.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        from: Party,
        to: Party,
        answer: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (reply, replied) = oneshot::channel();
        let network = self.clone();
        self.post(from, to, move || {
            let answer = answer();
            network.post(to, from, move || {
                // Who asked may have given up.
                let _ = reply.send(answer);
            });
        });
        match replied.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes connections to `party` from now on.
    pub(crate) fn listen(&self, party: Party) -> mpsc::UnboundedReceiver<Stream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().listeners.insert(party, sender);
        receiver
    }

    /// Opens a connection.
    pub(crate) async fn connect(self: Arc<Self>, from: Party, to: Party) -> io::Result<Stream> {
        let (opening, opened) = oneshot::channel();
        let stream = {
            let mut state = self.state.lock();
            let number = state.opened;
            state.opened += 1;
            let mut ends = [End::new(from), End::new(to)];
            ends[0].opening = Some(opening);
            ends[1].held = false;
            state.connections.insert(number, Connection { ends });
            state.segment(number, 0, Segment::Open);
            Stream { network: self.clone(), number, end: 0 }
        };
        opened.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))??;
        Ok(stream)
    }

    /// Delivers what has arrived by now.
    pub(crate) fn deliver(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let now = clock::now();
            let Some(first) = state.under_way.first_entry().filter(|first| first.key().0 <= now) else {
                return;
            };
            let packet = first.remove();
            if state.link(packet.from, packet.to).cut {
                state.waiting.entry((packet.from, packet.to)).or_default().push_back(packet);
                continue;
            }
            if state.dark.contains(&packet.to) {
                continue;
            }
            match packet.what {
                What::Message(act) => {
                    trace::network(packet.from, packet.to, "message");
                    drop(state);
                    act();
                }
                What::Segment(number, end, segment) => {
                    trace::network(packet.from, packet.to, segment.name());
                    let woken = state.arrive(self, number, end, segment);
                    drop(state);
                    if let Some(waker) = woken {
                        waker.wake();
                    }
                }
            }
        }
    }

    /// Changes one direction of a link.
    pub(crate) fn change(&self, from: Party, to: Party, change: impl FnOnce(&mut Link)) {
        let mut state = self.state.lock();
        let mut link = state.link(from, to);
        change(&mut link);
        let mended = !link.cut;
        state.links.insert((from, to), link);
        if mended {
            state.send_again(from, to);
        }
    }

    /// Makes all links as they were.
    pub(crate) fn mend(&self) {
        let mut state = self.state.lock();
        state.links.clear();
        let pairs: Vec<_> = state.waiting.keys().copied().collect();
        for (from, to) in pairs {
            state.send_again(from, to);
        }
    }

    /// The process of a party has died: with its machine, which says nothing, or alone, and the machine resets its connections.
    pub(crate) fn died(&self, party: Party, dark: bool) {
        let mut state = self.state.lock();
        state.listeners.remove(&party);
        if dark {
            state.dark.push(party);
        }
        let mut lost = Vec::new();
        for (number, connection) in &mut state.connections {
            for (index, end) in connection.ends.iter_mut().enumerate() {
                if end.party == party && end.held {
                    end.held = false;
                    end.reader = None;
                    end.opening = None;
                    lost.push((*number, index));
                }
            }
        }
        for (number, end) in lost {
            if !dark {
                state.segment(number, end, Segment::Reset);
            }
        }
    }

    /// A machine is on again.
    pub(crate) fn back(&self, party: Party) {
        self.state.lock().dark.retain(|dark| *dark != party);
    }

    /// Reads what has arrived at an end; `Ok(None)` if nothing has, and `waker` is to be woken when something does.
    pub(crate) fn read(
        &self,
        number: u64,
        end: usize,
        most: usize,
        waker: &Waker,
    ) -> io::Result<Option<Bytes>> {
        let mut state = self.state.lock();
        let Some(connection) = state.connections.get_mut(&number) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let end = &mut connection.ends[end];
        if end.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let Some(bytes) = end.arrived.front_mut() {
            let taken = bytes.split_to(most.min(bytes.len()));
            if bytes.is_empty() {
                end.arrived.pop_front();
            }
            return Ok(Some(taken));
        }
        if end.ended {
            return Ok(Some(Bytes::new()));
        }
        end.reader = Some(waker.clone());
        Ok(None)
    }

    /// Sends bytes from an end.
    pub(crate) fn write(&self, number: u64, end: usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.connections.get(&number) {
            Some(connection) if !connection.ends[end].reset && !connection.ends[end].closed => {
                state.segment(number, end, Segment::Bytes(Bytes::copy_from_slice(bytes)));
                Ok(())
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Says that an end sends no more.
    pub(crate) fn close(&self, number: u64, end: usize) {
        let mut state = self.state.lock();
        let Some(connection) = state.connections.get_mut(&number) else { return };
        let held = connection.ends[end].held;
        if held && !std::mem::replace(&mut connection.ends[end].closed, true) {
            state.segment(number, end, Segment::End);
        }
    }

    /// Forgets an end that was dropped.
    pub(crate) fn dropped(&self, number: u64, end: usize) {
        self.close(number, end);
        let mut state = self.state.lock();
        let Some(connection) = state.connections.get_mut(&number) else { return };
        connection.ends[end].held = false;
        connection.ends[end].arrived.clear();
    }
}

impl End {
    fn new(party: Party) -> Self {
        Self {
            party,
            held: true,
            arrived: VecDeque::new(),
            ended: false,
            reset: false,
            reader: None,
            opening: None,
            last: 0,
            closed: false,
        }
    }
}

impl Segment {
    fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Opened => "opened",
            Self::Bytes(_) => "bytes",
            Self::End => "end",
            Self::Reset => "reset",
        }
    }
}

impl State {
    fn link(&self, from: Party, to: Party) -> Link {
        self.links.get(&(from, to)).unwrap_or(&self.usual).clone()
    }

    /// When a packet that is sent now arrives.
    fn arrival(&mut self, from: Party, to: Party) -> Millis {
        let link = self.link(from, to);
        let mut after = self.rng.random_range(link.latency.0..=link.latency.1);
        while link.loss > 0.0 && self.rng.random_bool(link.loss) {
            after += self.rng.random_range(RESEND);
        }
        clock::now() + after.max(1)
    }

    fn send(&mut self, packet: Packet) {
        let at = self.arrival(packet.from, packet.to);
        self.send_at(at, packet);
    }

    fn send_at(&mut self, at: Millis, packet: Packet) {
        let at = match &packet.what {
            What::Segment(number, to, _) => match self.connections.get_mut(number) {
                Some(connection) => {
                    let sender = &mut connection.ends[1 - to];
                    sender.last = sender.last.max(at);
                    sender.last
                }
                None => at,
            },
            What::Message(_) => at,
        };
        self.sent += 1;
        self.under_way.insert((at, self.sent), packet);
    }

    fn send_again(&mut self, from: Party, to: Party) {
        for packet in self.waiting.remove(&(from, to)).unwrap_or_default() {
            let at = self.arrival(from, to) + self.rng.random_range(RESEND);
            self.send_at(at, packet);
        }
    }

    /// Sends a segment from an end to the other one.
    fn segment(&mut self, number: u64, from: usize, segment: Segment) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (sender, receiver) = (connection.ends[from].party, connection.ends[1 - from].party);
        self.send(Packet { from: sender, to: receiver, what: What::Segment(number, 1 - from, segment) });
    }

    /// A segment has arrived at an end.
    fn arrive(&mut self, network: &Arc<Network>, number: u64, at: usize, segment: Segment) -> Option<Waker> {
        let connection = self.connections.get_mut(&number)?;
        let party = connection.ends[at].party;
        if let Segment::Open = segment {
            let stream = Stream { network: network.clone(), number, end: at };
            connection.ends[at].held = true;
            let taken = match self.listeners.get(&party) {
                Some(listener) => listener.send(stream).map_err(|refused| refused.0),
                None => Err(stream),
            };
            return match taken {
                Ok(()) => {
                    self.segment(number, at, Segment::Opened);
                    None
                }
                Err(stream) => {
                    std::mem::forget(stream); // its end says nothing more than this
                    self.connections.get_mut(&number)?.ends[at].held = false;
                    self.segment(number, at, Segment::Reset);
                    None
                }
            };
        }
        let end = &mut connection.ends[at];
        if !end.held {
            // Nobody is there any more; the other side is told, unless it was it that ended.
            if !matches!(segment, Segment::Reset | Segment::End) {
                self.segment(number, at, Segment::Reset);
            }
            return None;
        }
        match segment {
            Segment::Open => {}
            Segment::Opened => {
                if let Some(opening) = end.opening.take() {
                    let _ = opening.send(Ok(()));
                }
            }
            Segment::Bytes(bytes) => end.arrived.push_back(bytes),
            Segment::End => end.ended = true,
            Segment::Reset => {
                end.reset = true;
                if let Some(opening) = end.opening.take() {
                    let _ = opening.send(Err(io::ErrorKind::ConnectionRefused.into()));
                }
            }
        }
        end.reader.take()
    }
}
