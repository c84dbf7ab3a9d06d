//! One server in a container, on a host port that stays the same when the server is restarted.

use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    core::{ContainerPort, IntoContainerPort},
    runners::AsyncRunner,
};

use crate::port::free_port;

/// A running container.
#[derive(Debug)]
pub struct Server {
    container: ContainerAsync<GenericImage>,
    /// The port on 127.0.0.1 under which the server answers.
    pub port: u16,
}

impl Server {
    /// Starts `request` in `network` under the host name `name`, with `inside` mapped to a free port of the host, which `configure`
    /// is told so that the server can advertise it.
    pub async fn start(
        request: GenericImage,
        network: &str,
        name: &str,
        inside: u16,
        configure: impl FnOnce(ContainerRequest<GenericImage>, u16) -> ContainerRequest<GenericImage>,
    ) -> Server {
        let port = free_port();
        let mapped: ContainerPort = inside.tcp();
        let request = configure(
            request
                .with_network(network)
                .with_container_name(format!("{network}-{name}"))
                .with_hostname(format!("{network}-{name}"))
                .with_label("org.freshline.tests", "1")
                .with_mapped_port(port, mapped),
            port,
        );
        let container = request.start().await.unwrap_or_else(|error| panic!("start {name}: {error}"));
        Server { container, port }
    }

    /// Stops the server at once, as a crash would.
    pub async fn kill(&self) {
        self.container.stop_with_timeout(Some(0)).await.expect("the engine stops a running container");
    }

    /// Starts the stopped server again, with its data.
    pub async fn start_again(&self) {
        self.container.start().await.expect("the engine starts a stopped container");
    }

    /// Freezes all processes of the server.
    pub async fn pause(&self) {
        self.container.pause().await.expect("the engine pauses a running container");
    }

    /// Lets a frozen server go on.
    pub async fn unpause(&self) {
        self.container.unpause().await.expect("the engine resumes a paused container");
    }
}
