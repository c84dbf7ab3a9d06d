//! The tour: what Freshline does, shown on the sample shop, each step checked and timed.

mod printed;
mod tracking;

use std::time::Duration;

use anyhow::{Context, ensure};
use client::{Answer, Client, EntryState, Explanation, Outcome};
use ring::{Member, Membership, fixed::Fixed, slot_of};
use serde_json::Value;
use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::time::{Instant, timeout};

use self::tracking::Tracking;
use super::{
    database,
    files::{Files, Place},
    stack::{Ports, Stack},
};
use crate::{
    cli::Ended,
    output::{self, Output},
};

/// The tour as a whole.
const BOUND: Duration = Duration::from_secs(30);
/// A removal that takes longer than this did not happen.
const GONE: Duration = Duration::from_secs(5);
/// How often a node is asked whether an entry is gone.
const POLL: Duration = Duration::from_micros(500);

/// About as long as a node keeps nothing of a key after its removal; only saves questions.
const QUARANTINE: Duration = Duration::from_millis(20);

const USER: &str = "user:42";
const ORDERS: &str = "user:42:orders";
const NOBODY: &str = "user:4242";
/// An order that shows product 11, and one that does not.
const SHOWS: &str = "order:42:items";
const SHOWS_NOT: &str = "order:43:items";
const TRACKED: &str = "user:7";

pub(crate) async fn run(keep: bool, output: &Output) -> anyhow::Result<Ended> {
    let began = Instant::now();
    let files = Files::prepare(Place::Temporary { keep }).await?;
    let stack = Stack::start(std::sync::Arc::new(files), Ports::Free).await?;
    let toured = timeout(BOUND, async {
        stack.ready().await.context("start the stack")?;
        Tour::new(&stack, output, began).await?.walk().await
    });
    let ended = tokio::select! {
        ended = toured => ended.with_context(|| format!("end the tour within {BOUND:?}")).flatten(),
        error = stack.failed() => Err(error),
        () = daemon::shutdown::signal() => Err(anyhow::anyhow!("end the tour: interrupted")),
    };
    stack.stop().await;
    ended?;
    if !output.json {
        output.line("")?;
        output
            .line(output.green(&format!("All of it happened, in {}.", output::duration(began.elapsed()))))?;
        output.line("`freshline dev` keeps the stack running for you to try.")?;
    }
    Ok(Ended::Done)
}

struct Tour<'a> {
    stack: &'a Stack,
    output: &'a Output,
    client: Client,
    /// A client for each node that knows only that one.
    doors: Vec<(Member, Client)>,
    sql: SqliteConnection,
    began: Instant,
}

impl<'a> Tour<'a> {
    async fn new(stack: &'a Stack, output: &'a Output, began: Instant) -> anyhow::Result<Self> {
        let config = client::Config { deadline: Duration::from_secs(2), ..client::Config::default() };
        let members = stack.membership.ring().members().to_vec();
        let doors = members
            .iter()
            .map(|member| {
                let alone = std::sync::Arc::new(Fixed::new(vec![member.clone()], 1));
                (member.clone(), Client::from_membership(alone, config.clone()))
            })
            .collect();
        let seeds = members.iter().map(|member| member.grpc.clone()).collect();
        let client = Client::from_seeds(seeds, config).await.context("reach the nodes")?;
        let sql = database::open_as(&stack.files.database, &stack.schema).await?;
        Ok(Self { stack, output, client, doors, sql, began })
    }

    async fn walk(mut self) -> anyhow::Result<()> {
        let nodes: Vec<&str> = self.doors.iter().map(|(member, _)| member.id.as_str()).collect();
        self.done(
            &format!("SQLite, broker, sync service and nodes {} are up", nodes.join(", ")),
            self.began.elapsed(),
        )?;

        self.title("Read a key through a node that does not own it")?;
        let owner = self.owner(USER)?;
        let first = self.through_stranger(USER).await?;
        ensure!(
            first.outcome == Outcome::Miss && first.node == owner,
            "read {USER} as a miss filled by {owner}: got {first:?}"
        );
        let again = self.through_stranger(USER).await?;
        ensure!(
            again.outcome == Outcome::Hit && again.value == first.value,
            "read {USER} again as a hit: got {again:?}"
        );
        self.show(&again)?;

        self.title("Change its row with plain SQL")?;
        self.change("UPDATE users SET city = 'Reykjavik' WHERE id = 42", USER).await?;
        self.everywhere(USER, |value| value["city"] == "Reykjavik").await?;
        self.kept(USER).await?;

        self.title("A list follows its rows")?;
        let before = self.read(ORDERS).await?;
        let count = rows(&before);
        self.change("INSERT INTO orders(user_id, status, total_cents) VALUES (42, 'new', 1999)", ORDERS)
            .await?;
        self.everywhere(ORDERS, |value| value.as_array().map(Vec::len) == Some(count + 1)).await?;

        self.title("A row that does not exist is remembered, until it does")?;
        let missing = self.read(NOBODY).await?;
        ensure!(missing.value.is_none(), "read {NOBODY} as a row that does not exist: got {missing:?}");
        let known = self.read(NOBODY).await?;
        ensure!(
            known.outcome == Outcome::NegativeHit,
            "read {NOBODY} again from a negative entry: got {known:?}"
        );
        let insert =
            "INSERT INTO users(id, name, email, city) VALUES (4242, 'Ada', 'ada@example.com', 'Oslo')";
        self.change(insert, NOBODY).await?;
        self.everywhere(NOBODY, |value| value["name"] == "Ada").await?;

        self.title("A product's new name removes the orders that show it, by their tag")?;
        self.read(SHOWS).await?;
        self.read(SHOWS_NOT).await?;
        self.change("UPDATE products SET name = 'Iron pan' WHERE id = 11", SHOWS).await?;
        self.everywhere(SHOWS, |value| value.to_string().contains("Iron pan")).await?;
        let other = self.read_as(SHOWS_NOT, ", which does not show it").await?;
        ensure!(other.outcome == Outcome::Hit, "read {SHOWS_NOT} as a hit: got {other:?}");

        self.title("A Redis client that keeps what it reads is told what to forget")?;
        self.track(TRACKED).await
    }

    /// Reads by a Redis client that tracks, and waits for its invalidation.
    async fn track(&mut self, key: &str) -> anyhow::Result<()> {
        let ring = self.stack.membership.ring();
        let owner = ring.owner(slot_of(key)).with_context(|| format!("find the owner of {key}"))?;
        let mut client = Tracking::connect(&owner.resp).await?;
        let asked = Instant::now();
        client.get(key).await.with_context(|| format!("read {key} with CLIENT TRACKING ON"))?;
        self.done(&format!("CLIENT TRACKING ON, GET {key} from node {}", owner.id), asked.elapsed())?;

        let committed = self.run("UPDATE users SET city = 'Quito' WHERE id = 7").await?;
        let keys = timeout(GONE, client.invalidated())
            .await
            .with_context(|| format!("be told within {GONE:?} that {key} is invalid"))??;
        ensure!(keys == [key], "be told that {key} is invalid: got {keys:?}");
        self.done(
            &format!("node {} pushes \"invalidate {key}\"; after the commit:", owner.id),
            committed.elapsed(),
        )?;
        let asked = Instant::now();
        let value = client.get(key).await.with_context(|| format!("read {key} again"))?;
        ensure!(value.contains("Quito"), "read the new value of {key} by Redis: got {value}");
        self.done(&format!("GET {key} from node {}: the new value", owner.id), asked.elapsed())
    }

    /// Reads by the ring: straight from the owner.
    async fn read(&self, key: &str) -> anyhow::Result<Answer> {
        self.read_as(key, "").await
    }

    /// The same, with a word about the key.
    async fn read_as(&self, key: &str, how: &str) -> anyhow::Result<Answer> {
        let asked = Instant::now();
        let answer = self.client.get(key).await.with_context(|| format!("read {key}"))?;
        self.answered(key, &answer, how, asked.elapsed())?;
        Ok(answer)
    }

    /// Reads through a node that does not own the key, which asks the owner.
    async fn through_stranger(&self, key: &str) -> anyhow::Result<Answer> {
        let (member, client) = self.stranger(key)?;
        let asked = Instant::now();
        let answer =
            client.get(key).await.with_context(|| format!("read {key} through node {}", member.id))?;
        self.answered(key, &answer, &format!(" through {}", member.id), asked.elapsed())?;
        Ok(answer)
    }

    /// Runs a statement and measures how long the key's entry outlives the commit.
    async fn change(&mut self, sql: &str, key: &str) -> anyhow::Result<()> {
        let before = self.client.explain(key).await.with_context(|| format!("look at {key}"))?;
        ensure!(
            before.entry != EntryState::Absent,
            "find {key} in memory before its row changes: {before:?}"
        );
        let committed = self.run(sql).await?;
        let gone = timeout(GONE, self.gone(key))
            .await
            .with_context(|| format!("see {key} removed within {GONE:?} after {sql}"))??;
        let delay = committed.elapsed();
        let origin = gone.last_removal.map(|removal| removal.origin).unwrap_or_default();
        let removed = match origin.split_once(" by tag ") {
            Some((_, tag)) => format!("{key} removed by tag {tag}"),
            None => format!("{key} removed from {} by change {origin}", gone.node),
        };
        self.done(&format!("{removed}; after the commit:"), delay)
    }

    /// Runs a statement, and returns when it was committed.
    async fn run(&mut self, sql: &str) -> anyhow::Result<Instant> {
        self.aside(sql)?;
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.sql)
            .await
            .with_context(|| format!("run {sql}"))?;
        Ok(Instant::now())
    }

    /// Waits until the owner says that it has no entry.
    async fn gone(&self, key: &str) -> anyhow::Result<Explanation> {
        loop {
            let explanation = self.client.explain(key).await.with_context(|| format!("look at {key}"))?;
            if explanation.entry == EntryState::Absent {
                return Ok(explanation);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads until the value is in memory again: what is read within the quarantine after a removal is served, not kept.
    async fn kept(&self, key: &str) -> anyhow::Result<()> {
        let asked = Instant::now();
        let answer = timeout(GONE, async {
            loop {
                let answer = self.client.get(key).await.with_context(|| format!("read {key}"))?;
                if answer.outcome == Outcome::Hit {
                    return anyhow::Ok(answer);
                }
                tokio::time::sleep(QUARANTINE).await;
            }
        });
        let answer =
            answer.await.with_context(|| format!("find {key} in memory again within {GONE:?}"))??;
        self.answered(key, &answer, " once the quarantine is over", asked.elapsed())?;
        self.show(&answer)
    }

    /// Asks every node and checks what it says.
    async fn everywhere(&self, key: &str, fresh: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let asked = Instant::now();
        let mut nodes = Vec::new();
        for (member, client) in &self.doors {
            let answer =
                client.get(key).await.with_context(|| format!("read {key} through node {}", member.id))?;
            let value = parsed(&answer)?;
            ensure!(fresh(&value), "read the new value of {key} through node {}: got {value}", member.id);
            nodes.push(member.id.as_str());
        }
        self.done(
            &format!("get {key} through {}: the new value from each", nodes.join(", ")),
            asked.elapsed(),
        )
    }

    fn owner(&self, key: &str) -> anyhow::Result<String> {
        let ring = self.stack.membership.ring();
        Ok(ring.owner(slot_of(key)).with_context(|| format!("find the owner of {key}"))?.id.to_string())
    }

    fn stranger(&self, key: &str) -> anyhow::Result<&(Member, Client)> {
        let owner = self.owner(key)?;
        self.doors
            .iter()
            .find(|(member, _)| member.id.as_str() != owner)
            .context("find a node that is not the owner")
    }
}

fn parsed(answer: &Answer) -> anyhow::Result<Value> {
    match &answer.value {
        Some(value) => serde_json::from_slice(value).context("read a value as JSON"),
        None => Ok(Value::Null),
    }
}

fn rows(answer: &Answer) -> usize {
    parsed(answer).ok().and_then(|value| value.as_array().map(Vec::len)).unwrap_or_default()
}
