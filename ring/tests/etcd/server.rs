//! A real etcd of the test's own, and a wire to it that can be cut.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

/// An etcd server in a directory of its own; it ends with this.
pub(crate) struct Etcd {
    child: Child,
    home: TempDir,
    port: Port,
    peer_port: Port,
}

impl Etcd {
    /// Starts an etcd, or says that the test is skipped since there is none: then the test has nothing to run against.
    pub(crate) async fn start() -> Option<Self> {
        let etcd = Self::start_without_waiting()?;
        etcd.answers().await;
        Some(etcd)
    }

    fn start_without_waiting() -> Option<Self> {
        if std::env::var("FRESHLINE_ETCD").as_deref() == Ok("off")
            || Command::new("etcd").arg("--version").output().is_err()
        {
            println!("skipped: no etcd binary in PATH (Debian: apt-get install etcd-server)");
            return None;
        }
        let home = TempDir::new().expect("a temporary directory");
        let (port, peer_port) = (Port::take(), Port::take());
        let child = Self::spawn(&home, port.number, peer_port.number);
        Some(Self { child, home, port, peer_port })
    }

    fn spawn(home: &TempDir, port: u16, peer_port: u16) -> Child {
        let (url, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        Command::new("etcd")
            .args(["--data-dir", home.path().join("data").to_str().expect("a plain path")])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &format!("default={peer}"),
            ])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    /// A client of the test's own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None).await.expect("a client without a user connects lazily")
    }

    async fn answers(&self) {
        let mut client = self.client().await;
        while !matches!(tokio::time::timeout(Duration::from_secs(1), client.get("up", None)).await, Ok(Ok(_)))
        {
            tokio::time::sleep(Duration::from_millis(20)).await; // etcd tells nobody when it is up
        }
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server can be waited for");
    }

    /// Starts it again on what it had stored.
    pub(crate) async fn start_again(&mut self) {
        self.child = Self::spawn(&self.home, self.port.number, self.peer_port.number);
        self.answers().await;
    }

    /// Loses all that it had stored.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.home.path().join("data")).expect("the server's data can be removed");
    }

    /// Stops the server's process without ending it; its connections stay open and silent.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends a [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .args([signal, &self.child.id().to_string()])
                .status()
                .expect("kill runs")
                .success()
        );
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on loopback on which nobody listens: no connection and no listener on port 0 is given it while this lives, and a server that
/// asks for it by its number may have it (both set `SO_REUSEADDR`, and this one does not listen).
struct Port {
    number: u16,
    _bound: TcpSocket,
}

impl Port {
    fn take() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of sockets");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Self { number: socket.local_addr().expect("an address").port(), _bound: socket }
    }
}

/// A wire to an etcd that can be cut and mended.
pub(crate) struct Wire {
    port: u16,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(etcd: &Etcd) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let wire = Arc::new(Self {
            port: listener.local_addr().expect("an address").port(),
            whole: watch::Sender::new(true),
        });
        let (whole, target) = (wire.whole.subscribe(), etcd.port.number);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut whole = whole.clone();
                tokio::spawn(async move {
                    if !*whole.borrow_and_update() {
                        return; // closed at once
                    }
                    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = whole.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        wire
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}
