//! A TCP proxy before the server, so that a test can take the database away and bring it back.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: String,
    running: Option<AbortHandle>,
}

impl Proxy {
    /// Takes a free port; nothing listens there before [`up`](Self::up).
    pub(crate) async fn new(server: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { address, server: server.to_owned(), running: None }
    }

    pub(crate) fn up(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        let server = self.server.clone();
        let task = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        self.running = Some(task.abort_handle());
    }

    /// Closes the port and every connection.
    pub(crate) async fn down(&mut self) {
        if let Some(task) = self.running.take() {
            task.abort();
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
    }
}
