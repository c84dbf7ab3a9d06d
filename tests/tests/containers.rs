//! The main job on real parts: MySQL, Canal, Kafka and etcd in containers, cache nodes and sync service as processes.
//!
//! Tests that leave the servers alone share one stack and have a database, a topic and a cluster each. Tests that restart a server
//! have a stack of their own. Without a container engine the suite says so and skips, unless `FRESHLINE_CONTAINERS=required`.

use std::{pin::Pin, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use tests::{
    engine::{self, Engine},
    small::Small,
    sources::Sources,
    stack::Stack,
};
use tokio::{runtime::Runtime, sync::OnceCell};

#[path = "containers/bad_input.rs"]
mod bad_input;
#[path = "containers/binlog.rs"]
mod binlog;
#[path = "containers/changes.rs"]
mod changes;
#[path = "containers/fencing.rs"]
mod fencing;
#[path = "containers/fixed.rs"]
mod fixed;
#[path = "containers/freshness.rs"]
mod freshness;
#[path = "containers/gaps.rs"]
mod gaps;
#[path = "containers/handover.rs"]
mod handover;
#[path = "containers/key_types.rs"]
mod key_types;
#[path = "containers/membership.rs"]
mod membership;
#[path = "containers/outages.rs"]
mod outages;
#[path = "containers/shop.rs"]
mod shop;
#[path = "containers/sources.rs"]
mod sources;
#[path = "containers/verify.rs"]
mod verify;

type SmallTest = for<'a> fn(&'a Small) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type SourcesTest = for<'a> fn(&'a Sources) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Test = for<'a> fn(&'a Stack) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Makes `Vec<(name, Test)>` of async functions that take a stack.
macro_rules! tests {
    ($kind:ty: $($module:ident :: $name:ident),* $(,)?) => {
        vec![$((concat!(stringify!($module), "::", stringify!($name)), (|stack| Box::pin($module::$name(stack))) as $kind)),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two cores carry two clusters at a time; more would only make each other late.
    arguments.test_threads.get_or_insert(2);

    let sharing = tests![Test:
        changes::miss_then_hit_then_update_reaches_every_node,
        fixed::a_fixed_list_delivers_caches_and_commits,
        fixed::who_goes_by_another_list_is_told_and_acknowledged_nothing,
        changes::negative_entry_gives_way_to_an_insert,
        changes::changed_key_column_removes_both_keys,
        changes::delete_removes,
        changes::truncate_flushes_the_groups_that_read_the_table,
        changes::a_statement_flushes_the_groups_of_all_tables_that_it_changes,
        changes::ten_thousand_rows_in_one_transaction,
        changes::sharded_tables_map_by_pattern,
        changes::rule_with_when_changed_spares_other_updates,
        changes::list_follows_its_rows,
        changes::joined_rows_reach_the_lists_that_show_them,
        freshness::the_markers_of_transactions_hold_no_watermark_back,
        key_types::every_type_that_may_be_a_key_part,
        handover::a_planned_restart_spares_the_database,
        membership::nodes_join_and_leave_under_load,
        membership::sync_service_killed_in_mid_batch_loses_nothing,
        fencing::a_node_that_wakes_up_after_its_lease_serves_nothing_old,
        gaps::retention_overtakes_a_stopped_service,
        gaps::retention_overtakes_a_running_service,
        gaps::offsets_of_the_group_are_gone,
        gaps::a_long_backlog_is_skipped,
        gaps::a_partition_is_added,
        gaps::tables_are_altered_and_renamed,
        verify::a_change_that_mysql_does_not_log_is_named_and_repaired,
        bad_input::poison_message_goes_to_the_dead_letter_topic,
        bad_input::keys_that_are_not_canonical_are_refused,
        bad_input::unknown_table_and_missing_column_are_named_at_start,
    ];
    let own = tests![Test:
        freshness::dead_canal_shows,
        outages::mysql_restarted,
        outages::kafka_restarted,
        outages::etcd_restarted,
        outages::canal_restarted,
        outages::servers_down_at_start,
    ];
    // MySQL and etcd alone, for each.
    let small = tests![SmallTest:
        binlog::changes_reach_every_node_without_kafka_and_canal,
        binlog::a_purged_binlog_flushes,
        binlog::a_long_backlog_is_skipped,
        binlog::another_instance_takes_over,
        binlog::dropped_connections_and_compressed_transactions,
        key_types::every_type_that_may_be_a_key_part_in_the_binlog,
    ];
    // Share MySQL, MariaDB, Debezium, Maxwell and Kafka.
    let other = tests![SourcesTest:
        sources::mysql_through_debezium,
        sources::mariadb_through_debezium,
        sources::mariadb_through_maxwell,
    ];

    let skip = match engine::find() {
        Engine::Present => None,
        Engine::Skip(why) => Some(why),
        Engine::Missing(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(why) = &skip {
        println!("skipped: {why}");
    }

    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let shared = Arc::new(OnceCell::new());
    let mut trials = Vec::new();
    for (name, test) in sharing {
        let (runtime, shared) = (Arc::clone(&runtime), Arc::clone(&shared));
        trials.push(Trial::test(name, move || {
            runtime.block_on(async { test(shared.get_or_init(|| Stack::start("shared")).await).await });
            Ok(())
        }));
    }
    let others = Arc::new(OnceCell::new());
    for (name, test) in other {
        let (runtime, others) = (Arc::clone(&runtime), Arc::clone(&others));
        trials.push(Trial::test(name, move || {
            runtime.block_on(async {
                test(others.get_or_init(|| Box::pin(Sources::start("sources"))).await).await;
            });
            Ok(())
        }));
    }
    for (name, test) in own {
        let runtime = Arc::clone(&runtime);
        trials.push(Trial::test(name, move || {
            runtime.block_on(async {
                let stack = Stack::start(name.rsplit("::").next().unwrap_or(name)).await;
                test(&stack).await;
            });
            Ok(())
        }));
    }
    for (name, test) in small {
        let runtime = Arc::clone(&runtime);
        trials.push(Trial::test(name, move || {
            runtime.block_on(async {
                let stack = Small::start(name.rsplit("::").next().unwrap_or(name)).await;
                test(&stack).await;
            });
            Ok(())
        }));
    }
    if skip.is_some() {
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    // Containers are removed when their handles are dropped, which needs the runtime.
    let _entered = runtime.enter();
    drop(Arc::into_inner(shared));
    drop(Arc::into_inner(others));
    conclusion.exit_code()
}
