//! Redis clients: a client of a few lines that sees every byte.

mod commands;
mod queue;
mod tools;
mod topology;
mod tracking;
mod tracking_order;
mod tracking_races;
mod transaction;
mod wire;

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::stack::Running;

/// Long enough for a busy machine, short enough to notice.
const WAIT: Duration = Duration::from_secs(20);

/// What a node wrote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(String),
    Null,
    Array(Vec<Value>),
    Map(Vec<Value>),
    Push(Vec<Value>),
}

impl Value {
    pub(crate) fn is_error(&self, begins: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(begins))
    }
}

pub(crate) fn bulk(text: impl Into<String>) -> Value {
    Value::Bulk(text.into())
}

pub(crate) fn invalidated(keys: &[&str]) -> Value {
    Value::Push(vec![bulk("invalidate"), Value::Array(keys.iter().map(|key| bulk(*key)).collect())])
}

pub(crate) fn all_invalidated() -> Value {
    Value::Push(vec![bulk("invalidate"), Value::Null])
}

/// A connection.
pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
    /// Pushes that came while a reply was waited for.
    pub(crate) pushes: VecDeque<Value>,
}

impl Redis {
    pub(crate) async fn to(running: &Running) -> Self {
        let stream = TcpStream::connect(&running.member.resp).await.unwrap();
        Self { stream: BufReader::new(stream), pushes: VecDeque::new() }
    }

    /// One that speaks RESP3 and is told of invalidations.
    pub(crate) async fn tracking(running: &Running, options: &str) -> Self {
        let mut redis = Self::to(running).await;
        assert!(matches!(redis.ask("HELLO 3").await, Value::Map(_)));
        assert_eq!(redis.ask(&format!("CLIENT TRACKING ON {options}")).await, Value::Simple("OK".into()));
        redis
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    /// Sends bytes, unless the node does not take them in time or ends the connection.
    pub(crate) async fn send_in_time(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match timeout(WAIT, self.stream.get_mut().write_all(bytes)).await {
            Ok(sent) => sent,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends words as a request.
    pub(crate) async fn request(&mut self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(bytes, "${}\r\n{word}\r\n", word.len());
        }
        self.send(bytes.as_bytes()).await;
    }

    /// Sends words and returns the reply.
    pub(crate) async fn ask(&mut self, words: &str) -> Value {
        self.request(words).await;
        self.reply().await
    }

    /// The next reply; pushes before it are kept.
    pub(crate) async fn reply(&mut self) -> Value {
        loop {
            match self.next().await {
                push @ Value::Push(_) => self.pushes.push_back(push),
                other => return other,
            }
        }
    }

    /// The next push, come already or to come.
    pub(crate) async fn push(&mut self) -> Value {
        match self.pushes.pop_front() {
            Some(push) => push,
            None => self.next().await,
        }
    }

    /// Whatever comes next, in the order of the bytes.
    pub(crate) async fn next(&mut self) -> Value {
        timeout(WAIT, Box::pin(self.read())).await.expect("something comes in time")
    }

    /// Waits until the node has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let all = async {
            let mut rest = Vec::new();
            let _ = self.stream.read_to_end(&mut rest).await; // a reset is an end too
        };
        timeout(WAIT, all).await.expect("the connection is closed in time");
    }

    async fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        assert!(line.ends_with("\r\n"), "the connection was closed: {line:?}");
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap();
        match kind {
            "+" => Value::Simple(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(number()),
            "_" => Value::Null,
            "$" | "=" if number() < 0 => Value::Null,
            "$" | "=" => {
                let mut bytes = vec![0; usize::try_from(number()).unwrap() + 2];
                self.stream.read_exact(&mut bytes).await.unwrap();
                bytes.truncate(bytes.len() - 2);
                bulk(String::from_utf8_lossy(&bytes).trim_start_matches("txt:"))
            }
            "*" | "~" | ">" | "%" => {
                let count = if kind == "%" { number() * 2 } else { number() };
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(Box::pin(self.read()).await);
                }
                match kind {
                    ">" => Value::Push(items),
                    "%" => Value::Map(items),
                    _ => Value::Array(items),
                }
            }
            _ => panic!("{line:?} is no reply"),
        }
    }
}
