use std::time::Instant;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;

const WAIT: Duration = Duration::from_secs(10);

struct Port {
    listener: TcpListener,
    connections: Connections,
    registry: Registry,
}

impl Port {
    fn new(most: usize, patience: Duration, greeting: usize) -> Self {
        let mut registry = Registry::default();
        let limits = Limits { most, field: "node.http_connections", patience, greeting };
        let connections = Connections::new("http", limits, &Metrics::register(&mut registry));
        let listener = crate::bind("node.http", "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { listener, connections, registry }
    }

    async fn pair(&self) -> (TcpStream, Connection) {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (connection, address) = self.connections.accept(&self.listener).await;
        assert_eq!(address, peer.local_addr().unwrap());
        (peer, connection)
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn when_there_are_too_many_the_one_that_was_silent_for_longest_makes_room() {
    let port = Port::new(3, WAIT, 0);
    let (mut first, mut first_here) = port.pair().await;
    let (_second, mut second_here) = port.pair().await;
    tokio::time::advance(Duration::from_millis(1100)).await; // what counts as idle
    let (_third, _third_here) = port.pair().await;
    first.write_all(b"x").await.unwrap();
    first_here.read_u8().await.unwrap();

    let (_fourth, fourth_here) = port.pair().await;
    let error = timeout(WAIT, second_here.read_u8()).await.expect("it is woken").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
    assert!(second_here.write_u8(1).await.is_err());
    assert_eq!(port.metric("connections_ended_total{port=\"http\",reason=\"idle\"}"), 1);

    // All that are left have just been used.
    let mut refused = TcpStream::connect(port.listener.local_addr().unwrap()).await.unwrap();
    let accept = port.connections.accept(&port.listener);
    tokio::select! {
        _ = accept => panic!("there is no room"),
        read = refused.read_u8() => assert!(read.is_err()),
    }
    assert_eq!(port.metric("connections_ended_total{port=\"http\",reason=\"refused\"}"), 1);
    drop((first_here, second_here, fourth_here));
    assert_eq!(port.metric("connections_open{port=\"http\"}"), 1);
    port.pair().await;
}

#[tokio::test]
async fn who_does_not_begin_in_time_ends_and_who_has_begun_may_be_silent() {
    let port = Port::new(3, Duration::from_millis(100), 4);
    for (sent, late) in [(&b""[..], true), (b"PRI", true), (b"PRI * HTTP", false)] {
        let begun = Instant::now();
        let (mut peer, mut here) = port.pair().await;
        peer.write_all(sent).await.unwrap();
        let read = async {
            let mut all = [0; 64];
            loop {
                if let Err(error) = here.read(&mut all).await {
                    return error;
                }
            }
        };
        let read = timeout(if late { WAIT } else { Duration::from_millis(400) }, read).await;
        assert_eq!(read.is_ok_and(|error| error.kind() == io::ErrorKind::TimedOut), late, "{sent:?}");
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }
    assert_eq!(port.metric("connections_ended_total{port=\"http\",reason=\"late\"}"), 2);
}

#[tokio::test]
async fn who_takes_nothing_of_its_replies_ends_and_who_takes_some_goes_on() {
    let port = Port::new(3, Duration::from_secs(3), 0);
    let megabytes = vec![0; 32 << 20];
    let (_peer, mut here) = port.pair().await;
    let error = timeout(WAIT, here.write_all(&megabytes)).await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert_eq!(port.metric("connections_ended_total{port=\"http\",reason=\"stalled\"}"), 1);

    let (mut peer, mut here) = port.pair().await;
    let taken = async {
        let (mut taken, mut bytes) = (0, vec![0; 4 << 20]);
        while taken < 32 << 20 {
            tokio::time::sleep(Duration::from_millis(20)).await; // a reader that is slow, and reads
            taken += peer.read(&mut bytes).await.unwrap();
        }
    };
    let (written, ()) =
        timeout(WAIT, async { tokio::join!(here.write_all(&megabytes), taken) }).await.unwrap();
    written.unwrap();
}
