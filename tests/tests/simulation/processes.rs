//! What runs on the hosts: the real node, the real sync service, and an application with the real client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cache_node::{Node, Parts, serve_connections};
use client::{Client, Peers, ReadOptions};
use loader::{Limits, Loader};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use ring::NodeId;
use sync_service::{Service, config::Sync, offsets::Offsets};
use tokio::time::{sleep, timeout};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::Without, clock::Party, database::Rows, direct::Direct, etcd::millis, kafka::Consumer, membership,
    plain, stream::connector, trace, truth::Asked, world::Shared,
};

/// How calls are made, by everybody.
fn calls(shared: &Shared, from: Party) -> client::Config {
    client::Config {
        deadline: Duration::from_millis(400),
        silence: Duration::from_millis(120),
        read_from: shared.scenario.read_from,
        retries: 2,
        connect_timeout: Duration::from_millis(150),
        keep_alive: Duration::from_millis(400),
        keep_alive_timeout: Duration::from_millis(250),
        breaker_failures: 3,
        breaker_cool_down: Duration::from_millis(200),
        refresh: Duration::from_millis(400),
        connector: Some(connector(&shared.network, from)),
        ..client::Config::default()
    }
}

fn seed(shared: &Shared, party: Party, life: u64) -> u64 {
    let (Party::Node(number) | Party::Sync(number) | Party::Client(number)) = party else { return 0 };
    shared.scenario.seed.wrapping_mul(1_000_003) ^ (u64::from(number) << 8) ^ (life << 16)
}

/// A cache node, until it is told to leave.
pub(crate) async fn node(shared: Arc<Shared>, party: Party, life: u64, leave: CancellationToken) {
    let scenario = &shared.scenario;
    let id = NodeId::from(party.to_string());
    let config = cache_node::Config {
        id: party.to_string(),
        quarantine: if shared.without == Without::Quarantine { Duration::ZERO } else { scenario.quarantine },
        fenced: scenario.fenced,
        memory: daemon::config::ByteSize(1 << 20),
        max_value: daemon::config::ByteSize(64 << 10),
        removal_log: 64,
        sweep: Duration::from_millis(500),
        catch_up: Duration::from_millis(250),
        spread: Duration::from_millis(250),
        handover: Duration::from_millis(400),
        leave: Duration::from_millis(60),
        grace: Duration::from_millis(200),
        mirror_lease: scenario.mirror_lease.unwrap_or_default(),
        hot_rate: 0.0,
        hot_sample: 1,
        ..cache_node::Config::default()
    };
    let rows = Rows {
        party,
        network: shared.network.clone(),
        truth: shared.truth.clone(),
        pace: shared.pace.clone(),
        rng: Mutex::new(SmallRng::seed_from_u64(seed(&shared, party, life))),
    };
    let limits = Limits { deadline: Duration::from_millis(1200), ..Limits::default() };
    let made_of = Parts {
        catalog: shared.catalog.clone(),
        loader: Loader::new(Arc::new(rows), limits, loader::Metrics::default()),
        membership: membership::view(&shared, party),
        registration: membership::registration(&shared, party),
        peers: Peers::new(calls(&shared, party)),
        id,
    };
    let (patience, grace) = (config.leave, config.grace);
    let node = Node::start(config, made_of, &mut Registry::default());
    let connections = UnboundedReceiverStream::new(shared.network.listen(party)).map(Ok::<_, std::io::Error>);
    tokio::spawn(serve_connections(node.clone(), connections));
    tokio::select! {
        () = node.join() => leave.cancelled().await,
        () = leave.cancelled() => {}
    }
    // As `Server::serve` does.
    if timeout(Duration::from_secs(1), node.retire()).await.is_err() {
        trace::note(format_args!("{party}: could not say that it leaves"));
    }
    sleep(patience).await;
    node.shutdown(grace).await;
}

/// An instance of the sync service.
pub(crate) async fn sync(
    shared: Arc<Shared>,
    party: Party,
    life: u64,
    offsets: Arc<Mutex<Option<Arc<Offsets>>>>,
    leave: CancellationToken,
) {
    let config = Sync {
        batch_messages: 8,
        request_timeout: Duration::from_millis(250),
        slow_after: Duration::from_millis(80),
        heartbeat_interval: Duration::from_millis(60),
        commit_interval: Duration::from_millis(30),
        drain: Duration::from_millis(200),
        ..Sync::default()
    };
    let source =
        Consumer { party, life, network: shared.network.clone(), kafka: shared.kafka.clone(), offsets };
    let service = Service::new(
        config,
        shared.catalog.clone(),
        membership::view(&shared, party),
        Peers::new(calls(&shared, party)),
        source,
        &mut Registry::default(),
    );
    service.run(leave).await.expect("the sync service goes on");
}

/// An application: reads keys, and has every answer checked.
pub(crate) async fn application(shared: Arc<Shared>, party: Party, quiet: Arc<AtomicBool>) {
    let view = membership::view(&shared, party);
    let client = if party == Party::Client(1) {
        Client::from_membership(view.clone(), calls(&shared, party))
    } else {
        let seeds: Vec<_> = (1..=crate::scenario::NODES).map(|node| format!("http://n{node}:7400")).collect();
        loop {
            match Client::from_seeds(seeds.clone(), calls(&shared, party)).await {
                Ok(client) => break client,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let client = Arc::new(client);
    for reader in 0..2 {
        tokio::spawn(read(shared.clone(), client.clone(), party, reader, quiet.clone()));
    }
    if shared.scenario.plain {
        // A try that was held up must not be carried out behind a write that came after the next one.
        let calls = client::Config { retries: 0, ..calls(&shared, party) };
        let once = Arc::new(Client::from_membership(view.clone(), calls));
        for user in 0..3 {
            tokio::spawn(plain::use_plain(shared.clone(), once.clone(), party, user, quiet.clone()));
        }
    }
    loop {
        sleep(Duration::from_millis(10)).await;
        if shared.settled.load(SeqCst) && party == Party::Client(1) {
            let peers = Peers::new(calls(&shared, party));
            look_last(&shared, &peers).await;
            if shared.scenario.plain {
                plain::look_last(&shared, &peers).await;
            }
            shared.looked.store(true, SeqCst);
            return;
        }
    }
}

async fn read(shared: Arc<Shared>, client: Arc<Client>, party: Party, reader: u64, quiet: Arc<AtomicBool>) {
    let mut rng = SmallRng::seed_from_u64(seed(&shared, party, 1000 + reader));
    let quarantine = millis(shared.scenario.quarantine);
    let keys = shared.truth.lock().keys();
    let every = shared.scenario.reads_every;
    let direct = shared.scenario.mirror_lease.map(|_| Direct::new(&shared, party));
    loop {
        sleep(Duration::from_millis(rng.random_range(every.0..=every.1))).await;
        if quiet.load(SeqCst) {
            continue;
        }
        let recent = shared.recent.lock().clone().filter(|_| rng.random_bool(0.5));
        let wanted = match recent {
            Some(key) => vec![key],
            None if rng.random_bool(0.2) => keys.choose_multiple(&mut rng, 3).cloned().collect(),
            None => vec![keys.choose(&mut rng).expect("keys").clone()],
        };
        let accepted = rng.random_bool(0.2).then(|| Duration::from_millis(rng.random_range(30..400)));
        let options = ReadOptions { max_staleness: accepted, ..ReadOptions::default() };
        let asked: Vec<_> = wanted.iter().map(|key| shared.truth.lock().ask(key)).collect();
        let any = direct.as_ref().filter(|_| accepted.is_none() && rng.random_bool(0.6));
        if let (Some(direct), [key]) = (any, wanted.as_slice()) {
            match direct.get(rng.random_range(1..=crate::scenario::NODES), key).await {
                Ok(answer) => judge(&shared, party, key, asked[0], &answer, None, quarantine),
                Err(error) => {
                    trace::note(format_args!("{party}: {key}: {error}"));
                    shared.failed();
                }
            }
            continue;
        }
        let answers = if let [key] = wanted.as_slice() {
            vec![client.get_with(key, options).await]
        } else {
            client.get_many_with(&wanted, options).await
        };
        for ((key, asked), answer) in wanted.iter().zip(asked).zip(answers) {
            match answer {
                Ok(answer) => judge(&shared, party, key, asked, &answer, accepted, quarantine),
                Err(error) => {
                    trace::note(format_args!("{party}: {key}: {error}"));
                    shared.failed();
                }
            }
        }
    }
}

/// Has an answer checked.
fn judge(
    shared: &Shared,
    party: Party,
    key: &str,
    asked: Asked,
    answer: &client::Answer,
    accepted: Option<Duration>,
    quarantine: u64,
) {
    trace::note(format_args!(
        "{party}: {key} = {} from {} ({}, age {:?})",
        answer.value.as_ref().map_or("none".into(), |value| String::from_utf8_lossy(value)),
        answer.node,
        answer.outcome.as_str(),
        answer.age
    ));
    shared.answered(answer.outcome);
    if let Err(broken) = shared.truth.lock().check(key, asked, answer, accepted, quarantine) {
        shared.broken(broken.what);
    }
}

/// Asks every node for every key, after all is over: nothing old may be left.
async fn look_last(shared: &Shared, peers: &Peers) {
    let ring = membership::ring(shared);
    for member in ring.members() {
        let keys = shared.truth.lock().keys();
        for key in keys {
            let answer = match peers.get(member, &key, ReadOptions::default()).await {
                Ok(answer) => answer,
                Err(error) => {
                    shared.broken(format!("{key}: at the end {} does not answer: {error}", member.id));
                    continue;
                }
            };
            trace::note(format_args!("last: {key} from {} ({})", answer.node, answer.outcome.as_str()));
            shared.looked_at(answer.outcome);
            if let Err(broken) = shared.truth.lock().check_last(&key, &answer) {
                shared.broken(broken.what);
            }
        }
    }
}
