//! Ports for a test's servers, which only those servers take.

use std::{
    net::TcpListener,
    ops::Range,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Below the ports that the usual systems give to outgoing connections and to listeners on port 0 (32768 on Linux, 49152 elsewhere).
/// A port out of those may be another connection's before the server that it was meant for listens, or while it is restarted.
const PORTS: Range<u32> = 20_000..32_000;

/// How many ports this process was given.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A TCP port of the loopback address that nobody listens on, given once in the life of this process.
pub fn free_port() -> u16 {
    // Suites that run at once begin at places of their own.
    let first = std::process::id().wrapping_mul(97);
    loop {
        let given = GIVEN.fetch_add(1, Relaxed);
        assert!(
            given < PORTS.end - PORTS.start,
            "every port from {} to {} was tried",
            PORTS.start,
            PORTS.end
        );
        let port = PORTS.start + first.wrapping_add(given) % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("the range holds ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let threads: Vec<_> =
            (0..4).map(|_| thread::spawn(|| (0..200).map(|_| free_port()).collect::<Vec<_>>())).collect();
        let mut seen = HashSet::new();
        for port in threads.into_iter().flat_map(|t| t.join().unwrap()) {
            assert!(seen.insert(port), "{port} was given twice");
        }
    }

    #[test]
    fn a_given_port_is_none_that_the_system_gives_to_others() {
        for _ in 0..100 {
            let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port = free_port();
            assert!(PORTS.contains(&port.into()));
            assert!(
                !PORTS.contains(&other.into()),
                "this system gives {other} to anyone, so a test's server may lose its port: have net.ipv4.ip_local_port_range begin at {}",
                PORTS.end
            );
        }
    }
}
