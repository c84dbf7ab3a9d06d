//! The table whose rows are updated.

use std::{
    fmt::Write as _,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sqlx::MySqlPool;

/// The note that the update of a row leaves.
pub(super) fn note(id: u64) -> String {
    format!("changed {id}")
}

/// Puts `rows` rows in.
pub(super) async fn fill(pool: &MySqlPool, rows: u64) -> anyhow::Result<()> {
    let ids: Vec<u64> = (1..=rows).collect();
    for ids in ids.chunks(500) {
        let mut statement = "INSERT INTO orders VALUES ".to_owned();
        for (index, id) in ids.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(
                statement,
                "{comma}({id},{},1,'EUR',129.90,3,'7 Harbour Row','Reykjavik','IS',NULL,NOW(3),NOW(6))",
                id % 100 + 1
            );
        }
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.context("fill the table")?;
    }
    Ok(())
}

/// Updates rows at a steady rate, each in a transaction of its own, for `most` at most; returns when each commit came back.
pub(super) async fn update(
    pool: &MySqlPool,
    ids: RangeInclusive<u64>,
    rate: f64,
    most: Duration,
) -> anyhow::Result<Vec<(u64, Instant)>> {
    let mut connection = pool.acquire().await.context("connect to mysql")?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.clamp(0.1, 10_000.0)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut commits = Vec::new();
    for id in ids {
        ticks.tick().await;
        if begun.elapsed() > most {
            break;
        }
        sqlx::query("UPDATE orders SET status = status + 1, note = ?, updated_at = NOW(6) WHERE id = ?")
            .bind(note(id))
            .bind(id)
            .execute(&mut *connection)
            .await
            .context("update a row")?;
        commits.push((id, Instant::now()));
    }
    Ok(commits)
}
