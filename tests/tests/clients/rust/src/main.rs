//! The crates `redis` and `fred`, each as a cluster client.

use std::{env, process::Command, time::Instant};

use fred::prelude::{Builder, ClientLike as _, Config, KeysInterface as _, Server, ServerConfig};

fn change(city: &str, id: u32) {
    let sql = format!("UPDATE users SET city = '{city}' WHERE id = {id}");
    assert!(Command::new(env::var("SQL").unwrap()).arg(sql).status().unwrap().success());
}

fn redis_crate(nodes: &[String]) -> redis::RedisResult<()> {
    let urls: Vec<String> = nodes.iter().map(|node| format!("redis://{node}")).collect();
    let mut cluster = redis::cluster::ClusterClient::new(urls)?.get_connection()?;
    let mut get = |id: u32| redis::cmd("GET").arg(format!("user:{id}")).query::<Option<String>>(&mut cluster);
    for id in 1..60 {
        assert!(get(id)?.unwrap().contains(&format!("\"id\":{id},")));
    }
    assert_eq!(get(424_242)?, None);
    change("Crateville", 19);
    let began = Instant::now();
    while !get(19)?.unwrap().contains("Crateville") {
        assert!(began.elapsed().as_secs() < 30, "the change was not read in time");
    }
    // One node, which fetches foreign keys; pipelines, which are written whole before they are read.
    let mut one = redis::Client::open(format!("redis://{}", nodes[0]))?.get_connection()?;
    redis::cmd("READONLY").exec(&mut one)?;
    for atomic in [false, true] {
        let mut pipe = redis::pipe();
        if atomic {
            pipe.atomic();
        }
        for id in 1..60 {
            pipe.cmd("GET").arg(format!("user:{id}"));
        }
        let values: Vec<String> = pipe.query(&mut one)?;
        assert!(values.iter().zip(1..60).all(|(value, id)| value.contains(&format!("\"id\":{id},"))));
    }
    let long = "x".repeat(1000);
    let mut pipe = redis::pipe();
    for _ in 0..40_000 {
        pipe.cmd("ECHO").arg(&long);
    }
    let values: Vec<String> = pipe.query(&mut one)?;
    assert!(values.len() == 40_000 && values.iter().all(|value| *value == long));
    Ok(())
}

async fn fred_crate(nodes: &[String]) -> Result<(), fred::error::Error> {
    let hosts = nodes.iter().map(|node| {
        let (host, port) = node.rsplit_once(':').unwrap();
        Server::new(host, port.parse().unwrap())
    });
    let server = ServerConfig::Clustered { hosts: hosts.collect(), policy: Default::default() };
    let client = Builder::from_config(Config { server, ..Config::default() }).build()?;
    client.init().await?;
    for id in 1..60 {
        let value: Option<String> = client.get(format!("user:{id}")).await?;
        assert!(value.unwrap().contains(&format!("\"id\":{id},")));
    }
    let absent: Option<String> = client.get("user:424242").await?;
    assert_eq!(absent, None);
    client.quit().await
}

#[tokio::main]
async fn main() {
    let nodes: Vec<String> = env::var("NODES").unwrap().split(',').map(str::to_owned).collect();
    match env::args().nth(1).as_deref() {
        Some("fred") => {
            println!("fred 10.1.0");
            fred_crate(&nodes).await.unwrap();
        }
        _ => {
            println!("redis (crate) 1.8.1");
            tokio::task::spawn_blocking(move || redis_crate(&nodes).unwrap()).await.unwrap();
        }
    }
}
