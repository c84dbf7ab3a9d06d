//! Holding a port.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};

/// Holds a port, named in errors by the config field that chose it (`node.grpc`). Must be called in a tokio runtime.
///
/// `SO_REUSEADDR` is set, so that a restart doesn't wait for the last run's connections to time out.
///
/// # Errors
///
/// Names the address, the field and the usual cause: in use, no right to a low port, not an address of this machine.
pub fn bind(field: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        #[cfg(unix)] // elsewhere it would let two processes share the port
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    listener().map_err(|error| (hint(&error), error)).map_or_else(
        |(hint, error)| Err(error).with_context(|| format!("listen on {address} ({field}{hint})")),
        Ok,
    )
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another process holds this port, stop it or choose another port",
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need a right of their own, choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => ": this machine has no such address, 0.0.0.0 means all of its own",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_field_and_remedy() {
        let held = bind("node.grpc", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        let error = format!("{:#}", bind("sync.http", address).unwrap_err());
        assert!(error.contains(&address.to_string()) && error.contains("sync.http"), "{error}");
        assert!(error.contains("choose another port"), "{error}");
    }
}
