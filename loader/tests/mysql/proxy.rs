//! A TCP proxy before the server, so that a test can take the database away and bring it back.

#![allow(dead_code, reason = "shared by test targets that use parts of it")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
    task::{AbortHandle, JoinSet},
};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: Arc<Mutex<String>>,
    running: Option<AbortHandle>,
    /// Bound and not listening: the address is given to nobody else while the proxy is down.
    _bound: TcpSocket,
}

impl Proxy {
    /// Takes a free port; nothing listens there before [`up`](Self::up).
    pub(crate) fn new(server: &str) -> Self {
        let bound = bind("127.0.0.1:0".parse().unwrap());
        Self {
            address: bound.local_addr().unwrap(),
            server: Arc::new(Mutex::new(server.to_owned())),
            running: None,
            _bound: bound,
        }
    }

    pub(crate) fn up(&mut self) {
        let listener = bind(self.address).listen(64).unwrap();
        let server = self.server.clone();
        let task = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = server.lock().unwrap().clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        self.running = Some(task.abort_handle());
    }

    /// Leads new connections to another server; those that are open stay where they are.
    pub(crate) fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.server.lock().unwrap());
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

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
