//! Writers: each row has one, whose writes follow each other.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, MySqlPool};
use tests::history::{Clock, Moment, Write};
use tokio::task::JoinSet;

use crate::registers::{ROWS, body, digest};

/// Writers; each has every sixth row.
const WRITERS: u32 = 6;

/// What was written so far, row by row.
pub(crate) type Writes = Arc<Vec<Mutex<Vec<Write>>>>;

/// Every row with its first write, which was there from the beginning.
pub(crate) fn first() -> Writes {
    let first = Write { present: true, began: Moment(0), ended: Moment(0), delivered: Some(Moment(0)) };
    Arc::new((0..ROWS).map(|_| Mutex::new(vec![first])).collect())
}

/// Starts the writers; they end once `stop` is set.
pub(crate) fn write(
    database: &MySqlPool,
    clock: Clock,
    writes: &Writes,
    changes: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
    seed: u64,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (database, writes, stop) = (database.clone(), Arc::clone(writes), Arc::clone(stop));
        let changes = Arc::clone(changes);
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(writer));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let row = some_row(&mut random) / WRITERS * WRITERS + writer;
                let list = &writes[row as usize];
                let (number, present) = {
                    let list = list.lock().expect("no writer panics with the list");
                    (list.len() as u32, list.last().is_some_and(|write| write.present))
                };
                let present_after = !present || random.random_bool(0.9);
                let began = clock.now();
                change(&database, row, number, present, present_after).await;
                let write = Write { present: present_after, began, ended: clock.now(), delivered: None };
                list.lock().expect("no writer panics with the list").push(write);
                changes.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(random.random_range(5..25))).await;
            }
        });
    }
    tasks
}

/// A row; a third of the time one of the first few, so that some rows change and are read all the time.
pub(crate) fn some_row(random: &mut StdRng) -> u32 {
    if random.random_bool(0.33) { random.random_range(0..ROWS / 10) } else { random.random_range(0..ROWS) }
}

/// Makes write `number` of a row. Tried until the row shows it; each try changes nothing but the row as write `number - 1` left it.
async fn change(database: &MySqlPool, row: u32, number: u32, present: bool, present_after: bool) {
    let body = body(row, number);
    let digest = digest(row, number, &body);
    let before = number - 1;
    let statement = match (present, present_after) {
        (true, true) => format!(
            "UPDATE registers SET version = {number}, digest = {digest}, body = '{body}' WHERE id = {row} AND version = {before}"
        ),
        (true, false) => format!("DELETE FROM registers WHERE id = {row} AND version = {before}"),
        (false, _) => format!("INSERT IGNORE INTO registers VALUES ({row}, {number}, {digest}, '{body}')"),
    };
    loop {
        let done = match sqlx::query(AssertSqlSafe(statement.as_str())).execute(database).await {
            Ok(done) if done.rows_affected() == 1 => return,
            Ok(_) => "it changed nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        // A try that was not answered may have been made all the same.
        let version: Result<Option<u32>, _> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT version FROM registers WHERE id = {row}")))
                .fetch_optional(database)
                .await;
        match version {
            Ok(version) if version == present_after.then_some(number) => return,
            _ => eprintln!("write {number} of row {row}: {done}; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
