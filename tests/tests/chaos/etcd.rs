//! Which member of etcd's cluster leads it.

use std::time::Duration;

use tests::{server::Server, stack::Stack, wait};

/// Waits until a member says that it leads, and returns it with its number.
pub(crate) async fn leader(stack: &Stack) -> (usize, &Server) {
    let (leader, _) = wait::until("etcd to have a leader", Duration::from_mins(1), async || {
        for (number, member) in stack.etcd_members().enumerate() {
            if leads(member).await.unwrap_or(false) {
                return Ok((number, member));
            }
        }
        Err("no member leads")
    })
    .await;
    leader
}

async fn leads(member: &Server) -> Result<bool, etcd_client::Error> {
    let options = etcd_client::ConnectOptions::new()
        .with_connect_timeout(Duration::from_millis(300))
        .with_timeout(Duration::from_millis(500));
    let mut client =
        etcd_client::Client::connect([format!("127.0.0.1:{}", member.port)], Some(options)).await?;
    let status = client.status().await?;
    Ok(status.header().is_some_and(|header| header.member_id() == status.leader()))
}
