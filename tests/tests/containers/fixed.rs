//! Clusters whose members are a fixed list, without etcd.

use std::time::Duration;

use proto::v1::Outcome;
use tests::{
    cluster::{Cluster, DELIVERED},
    stack::Stack,
    wait,
};

use crate::{
    fencing::all_committed,
    shop::{self, sql, user},
};

pub(crate) async fn a_fixed_list_delivers_caches_and_commits(stack: &Stack) {
    for replicas in [1, 2] {
        let name = &format!("t_fixed{replicas}");
        let database = shop::database(stack, name).await;
        let mut cluster = Cluster::start_listed(stack, name, 3, replicas, &shop::catalog(name)).await;
        for (version, who) in ["Eve", "Flo", "Gus"].into_iter().enumerate() {
            sql(&database, &format!("UPDATE users SET name = '{who}' WHERE id = 1")).await;
            cluster.until_everywhere("user:1", &user(1, who, "ada@example.com")).await;
            wait::until("every node to have it in reach of memory", DELIVERED, async || {
                let mut outcomes = Vec::new();
                for node in &cluster.nodes {
                    outcomes.push(node.get("user:1").await.map_err(|status| status.to_string())?.outcome());
                }
                if outcomes.iter().all(|outcome| *outcome == Outcome::Hit) {
                    Ok(())
                } else {
                    Err(format!("{outcomes:?}"))
                }
            })
            .await;
            wait::until("the change to be committed", DELIVERED, async || all_committed(stack, name)).await;
            assert!(cluster.sync().metric("freshline_sync_replans_total").await < 50.0, "version {version}");
        }

        // One that is down is waited for: nobody can tell whether it is gone.
        let node = cluster.nodes.remove(0);
        let id = node.id.clone();
        node.process.kill();
        sql(&database, "UPDATE users SET name = 'Hal' WHERE id = 1").await;
        wait::until("the sync service to say whom it waits for", DELIVERED, async || {
            let said = cluster.sync().readiness().await;
            let warning = said["warnings"]["nodes"].as_str().unwrap_or_default().to_owned();
            if warning.contains(&id) { Ok(()) } else { Err(said.to_string()) }
        })
        .await;
        assert!(all_committed(stack, name).is_err(), "nothing is committed before it is back");
        let back = cluster.start_node(&id).await;
        cluster.nodes.push(back);
        cluster.until_everywhere("user:1", &user(1, "Hal", "ada@example.com")).await;
        wait::until("the change to be committed", DELIVERED, async || all_committed(stack, name)).await;
    }
}

pub(crate) async fn who_goes_by_another_list_is_told_and_acknowledged_nothing(stack: &Stack) {
    let name = "t_lists";
    let database = shop::database(stack, name).await;
    let cluster = Cluster::start_listed(stack, name, 2, 1, &shop::catalog(name)).await;
    for (other, nodes, replicas) in [("fewer", 1, 1), ("replicas", 2, 2)] {
        let stranger = cluster.sync_of_another_list(other, nodes, replicas);
        wait::until("the stranger to say what is wrong", DELIVERED, async || {
            let said = stranger.readiness().await;
            let reason = said["reasons"]["delivery"].as_str().unwrap_or_default().to_owned();
            if reason.contains("goes by another list of members") { Ok(()) } else { Err(said.to_string()) }
        })
        .await;
        let said = cluster.nodes[0].process.readiness().await;
        assert_eq!(said["status"], "ready");
        let warning = said["warnings"]["members"].as_str().unwrap_or_default();
        assert!(warning.contains("cluster.members (ids and weights)"), "{said}");
        let (before, planned) = (stranger.log().len(), stranger.metric("freshline_sync_replans_total").await);
        tokio::time::sleep(Duration::from_secs(5)).await; // a rate is measured
        assert!(stranger.log().len() - before < 4096, "{}", stranger.log());
        assert!(stranger.metric("freshline_sync_replans_total").await - planned < 20.0);
        assert!(stranger.metric("freshline_sync_commits_total").await < 1.0, "it commits nothing");
    }
    // The right one is not disturbed.
    sql(&database, "UPDATE users SET name = 'Eve' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Eve", "ada@example.com")).await;
    wait::until("the change to be committed", DELIVERED, async || all_committed(stack, name)).await;
}
