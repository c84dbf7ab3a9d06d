//! A Redis client that keeps what it reads, and is told what to forget: as much of RESP3 as the tour needs.

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// A connection with CLIENT TRACKING ON.
pub(super) struct Tracking(BufReader<TcpStream>);

impl Tracking {
    pub(super) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        let mut tracking = Self(BufReader::new(stream));
        tracking.ask("HELLO 3").await?;
        tracking.ask("CLIENT TRACKING ON").await?;
        Ok(tracking)
    }

    /// The value of a key, which the client may keep until its invalidation.
    pub(super) async fn get(&mut self, key: &str) -> anyhow::Result<String> {
        self.ask(&format!("GET {key}")).await?.pop().context("read a value")
    }

    /// Waits for the next push, and returns the keys that are invalid.
    pub(super) async fn invalidated(&mut self) -> anyhow::Result<Vec<String>> {
        let (kind, mut texts) = self.reply().await?;
        ensure!(kind == '>' && texts[0] == "invalidate", "be told what is invalid: got {kind}{texts:?}");
        Ok(texts.split_off(1))
    }

    /// One command in the form that people type.
    async fn ask(&mut self, command: &str) -> anyhow::Result<Vec<String>> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.context("ask a node")?;
        let (kind, texts) = self.reply().await?;
        ensure!(kind != '-' && kind != '>', "{command}: got {kind}{texts:?}");
        Ok(texts)
    }

    /// The kind of what comes next, and all texts in it; maps and arrays only say how many follow.
    async fn reply(&mut self) -> anyhow::Result<(char, Vec<String>)> {
        let (mut first, mut texts, mut left) = (None, Vec::new(), 1);
        while left > 0 {
            left -= 1;
            let mut line = String::new();
            self.0.read_line(&mut line).await.context("hear from a node")?;
            let Some((kind, rest)) = line.trim_end().split_at_checked(1) else { bail!("the node hung up") };
            first = first.or_else(|| kind.chars().next());
            match kind {
                "%" => left += 2 * rest.parse::<usize>()?,
                "*" | ">" => left += rest.parse::<usize>()?,
                "$" => {
                    let mut text = vec![0; rest.parse::<usize>()? + "\r\n".len()];
                    self.0.read_exact(&mut text).await.context("hear from a node")?;
                    text.truncate(text.len() - "\r\n".len());
                    texts.push(String::from_utf8(text)?);
                }
                _ => texts.push(rest.to_owned()),
            }
        }
        Ok((first.context("hear from a node")?, texts))
    }
}
