//! Hosts of a test's own: network namespaces with an address each, whose links can be cut one by one.
//!
//! ```text
//!   host (containers' published ports) --- bridge in a namespace of its own --- namespace of node-1
//!                                                                          \--- namespace of node-2 ...
//! ```
//!
//! The bridge lives in a namespace too, so the host's own packet filter, which container engines set to refuse, sees none of what hosts say
//! to each other. A cut is a rule in the namespace of the host that it concerns: when the namespace goes, its rules go with it. Needs root,
//! `ip` and `iptables`.

use std::{
    fmt,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

/// Begins the names of all that is made here; the process's id follows.
const PREFIX: &str = "frsh";

/// A bridge with hosts on it; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Network {
    hub: String,
    /// The machine's own address on the bridge: where hosts reach ports that containers publish.
    pub gateway: Ipv4Addr,
    hosts: AtomicU8,
}

/// A namespace with an address; gone when it is dropped.
#[derive(Debug)]
pub struct Host {
    namespace: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What a host is cut off from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// Another host, altogether.
    Host(Ipv4Addr),
    /// Ports of the machine: a server in a container.
    Ports(Ipv4Addr, Vec<u16>),
}

/// How a cut shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Packets vanish both ways.
    Silent,
    /// What the host sends vanishes; it still hears.
    Outgoing,
    /// What is sent to the host vanishes; it is still heard.
    Incoming,
    /// Connections are reset.
    Reset,
}

impl Network {
    /// Makes the bridge. What dead processes have left behind is removed first.
    ///
    /// # Errors
    ///
    /// Without root, `ip` or `iptables`: what is missing.
    pub fn create() -> Result<Self, String> {
        sweep();
        let pid = std::process::id();
        let (hub, link) = (format!("{PREFIX}{pid}-hub"), format!("{PREFIX}{pid}"));
        let third = (pid % 250) as u8;
        let gateway = Ipv4Addr::new(10, 213, third, 1);
        ip(&["netns", "add", &hub])?;
        let network = Self { hub, gateway, hosts: AtomicU8::new(10) };
        let hub = &network.hub;
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "uplink", "netns", hub])?;
        ip(&["addr", "add", &format!("{gateway}/24"), "dev", &link])?;
        ip(&["link", "set", &link, "up"])?;
        ip(&["-n", hub, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", hub, "link", "set", "br0", "up"])?;
        ip(&["-n", hub, "link", "set", "uplink", "master", "br0"])?;
        ip(&["-n", hub, "link", "set", "uplink", "up"])?;
        Ok(network)
    }

    /// Adds a host. `name` is at most 20 letters.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn host(&self, name: &str) -> Result<Host, String> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, _] = self.gateway.octets();
        let address = Ipv4Addr::new(a, b, c, number);
        let namespace = format!("{PREFIX}{}-{name}", std::process::id());
        ip(&["netns", "add", &namespace])?;
        let host = Host { namespace, address };
        let (space, port) = (&host.namespace, format!("port{number}"));
        ip(&["-n", &self.hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", space])?;
        ip(&["-n", &self.hub, "link", "set", &port, "master", "br0"])?;
        ip(&["-n", &self.hub, "link", "set", &port, "up"])?;
        ip(&["-n", space, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", space, "link", "set", "lo", "up"])?;
        ip(&["-n", space, "link", "set", "eth0", "up"])?;
        ip(&["-n", space, "route", "add", "default", "via", &self.gateway.to_string()])?;
        Ok(host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.hub);
    }
}

impl Host {
    /// A command that runs `program` on this host, under the process id that it is started with.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Cuts the host off from `remote`, until [`heal`](Self::heal).
    pub fn cut(&self, remote: &Remote, cut: Cut) {
        for rule in rules(remote, cut) {
            let mut arguments = vec!["netns", "exec", &self.namespace, "iptables", "-w", "-A"];
            arguments.extend(rule.iter().map(String::as_str));
            ip(&arguments).unwrap_or_else(|error| panic!("cut {} off: {error}", self.namespace));
        }
    }

    /// Mends all that was cut.
    pub fn heal(&self) {
        ip(&["netns", "exec", &self.namespace, "iptables", "-w", "-F"])
            .unwrap_or_else(|error| panic!("heal {}: {error}", self.namespace));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "both ways",
            Self::Outgoing => "what it sends",
            Self::Incoming => "what it hears",
            Self::Reset => "by resets",
        })
    }
}

/// The rules of a cut, as `iptables -A` takes them.
fn rules(remote: &Remote, cut: Cut) -> Vec<Vec<String>> {
    let (address, ports) = match remote {
        Remote::Host(address) => (address, None),
        Remote::Ports(address, ports) => {
            (address, Some(ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")))
        }
    };
    let rule = |chain: &str, end: &str, ports_end: &str| {
        let mut rule =
            vec![chain.to_owned(), "-p".to_owned(), "tcp".to_owned(), end.to_owned(), address.to_string()];
        if let Some(ports) = &ports {
            rule.extend(["-m", "multiport", ports_end, ports].map(ToOwned::to_owned));
        }
        rule.push("-j".to_owned());
        match cut {
            Cut::Reset => rule.extend(["REJECT", "--reject-with", "tcp-reset"].map(ToOwned::to_owned)),
            _ => rule.push("DROP".to_owned()),
        }
        rule
    };
    let outgoing = rule("OUTPUT", "-d", "--dports");
    let incoming = rule("INPUT", "-s", "--sports");
    match cut {
        Cut::Outgoing => vec![outgoing],
        Cut::Incoming => vec![incoming],
        Cut::Silent | Cut::Reset => vec![outgoing, incoming],
    }
}

/// Removes the namespaces of processes that are gone: a killed test run leaves them.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).stdin(Stdio::null()).output();
    let Ok(listed) = listed else { return };
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            remove(name);
        }
    }
}

/// Removes a namespace, and the link to it that the machine has if it is a bridge's. The kernel removes a link whose other end is gone by
/// itself, but some time later.
fn remove(namespace: &str) {
    if let Some(link) = namespace.strip_suffix("-hub") {
        let _ = ip(&["link", "del", link]);
    }
    let _ = ip(&["netns", "del", namespace]);
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}; install the package iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_written_as_rules_of_both_ends() {
        let node = Remote::Host(Ipv4Addr::new(10, 0, 0, 2));
        let text =
            |remote: &Remote, cut| rules(remote, cut).iter().map(|rule| rule.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            text(&node, Cut::Silent),
            ["OUTPUT -p tcp -d 10.0.0.2 -j DROP", "INPUT -p tcp -s 10.0.0.2 -j DROP"]
        );
        assert_eq!(text(&node, Cut::Outgoing), ["OUTPUT -p tcp -d 10.0.0.2 -j DROP"]);
        let server = Remote::Ports(Ipv4Addr::new(10, 0, 0, 1), vec![2379, 2479]);
        assert_eq!(
            text(&server, Cut::Reset)[1],
            "INPUT -p tcp -s 10.0.0.1 -m multiport --sports 2379,2479 -j REJECT --reject-with tcp-reset"
        );
    }
}
