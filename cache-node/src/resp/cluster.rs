//! CLUSTER: the ring in the words of Redis Cluster.

use std::{fmt::Write as _, sync::Arc};

use ring::{SLOTS, slot_of};

use super::{
    codec::Arguments,
    parts,
    session::Session,
    topology::{Seat, Topology, hex_id},
};

impl Session {
    pub(super) fn cluster(&mut self, arguments: Arguments<'_>) {
        let part = match parts::find("cluster", arguments) {
            Ok(part) => part,
            Err(wrong) => return self.error(wrong.text()),
        };
        match part {
            "keyslot" => {
                // Slots of bytes that are no text are asked for by nobody who then could get a value.
                let key = String::from_utf8_lossy(arguments.get(2).unwrap_or_default()).into_owned();
                self.reply.integer(i64::from(slot_of(&key).get()));
            }
            "slots" => self.slots(),
            "shards" => self.shards(),
            "nodes" => self.nodes(),
            "info" => self.cluster_info(),
            // There is no bus between nodes.
            "links" => self.reply.array(0),
            "help" => self.help("CLUSTER"),
            _ => {
                let id = hex_id(&self.node.id);
                self.reply.bulk(id.as_bytes());
            }
        }
    }

    /// Where clients reach a seat. This node says what the client has reached it by, if it does not know better.
    fn host(&self, seat: &Seat) -> (String, u16) {
        if seat.host.is_empty() || seat.port == 0 || seat.host == "0.0.0.0" || seat.host == "::" {
            (self.client.local.ip().to_string(), self.client.local.port())
        } else {
            (seat.host.clone(), seat.port)
        }
    }

    fn topology(&self) -> Arc<Topology> {
        let node = &self.node;
        let fallback = node.resp.address.lock().clone();
        node.resp.topology.of(&node.current_ring(), &node.id, &fallback)
    }

    fn slots(&mut self) {
        let topology = self.topology();
        let mut ranges: Vec<(u16, u16, usize)> = topology
            .seats
            .iter()
            .enumerate()
            .flat_map(|(at, seat)| seat.ranges.iter().map(move |(first, last)| (*first, *last, at)))
            .collect();
        ranges.sort_unstable();
        let hosts: Vec<(String, u16)> = topology.seats.iter().map(|seat| self.host(seat)).collect();
        self.reply.array(ranges.len());
        for (first, last, at) in ranges {
            self.reply.array(3);
            self.reply.integer(i64::from(first));
            self.reply.integer(i64::from(last));
            self.reply.array(4);
            self.reply.bulk(hosts[at].0.as_bytes());
            self.reply.integer(i64::from(hosts[at].1));
            self.reply.bulk(topology.seats[at].id.as_bytes());
            self.reply.array(0);
        }
    }

    fn shards(&mut self) {
        let topology = self.topology();
        self.reply.array(topology.seats.len());
        for seat in &topology.seats {
            let (host, port) = self.host(seat);
            self.reply.map(2);
            self.reply.bulk(b"slots");
            self.reply.array(seat.ranges.len() * 2);
            for (first, last) in &seat.ranges {
                self.reply.integer(i64::from(*first));
                self.reply.integer(i64::from(*last));
            }
            self.reply.bulk(b"nodes");
            self.reply.array(1);
            self.reply.map(7);
            self.pair("id", seat.id.as_bytes());
            self.reply.bulk(b"port");
            self.reply.integer(i64::from(port));
            self.pair("ip", host.as_bytes());
            self.pair("endpoint", host.as_bytes());
            self.pair("role", b"master");
            self.reply.bulk(b"replication-offset");
            self.reply.integer(topology.epoch.0 as i64);
            self.pair("health", b"online");
        }
    }

    fn nodes(&mut self) {
        let topology = self.topology();
        let mut text = String::new();
        for seat in &topology.seats {
            let (host, port) = self.host(seat);
            let flags = if seat.own { "myself,master" } else { "master" };
            // The port of the cluster's bus must be there; there is no bus.
            let _ =
                write!(text, "{} {host}:{port}@{port} {flags} - 0 0 {} connected", seat.id, topology.epoch);
            for (first, last) in &seat.ranges {
                let _ =
                    if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
            }
            text.push('\n');
        }
        self.reply.text(&text);
    }

    fn cluster_info(&mut self) {
        let topology = self.topology();
        let state = if self.node.life.live() { "ok" } else { "fail" };
        let (nodes, epoch) = (topology.seats.len(), topology.epoch);
        let size = topology.seats.iter().filter(|seat| !seat.ranges.is_empty()).count();
        let mut text = format!("cluster_enabled:1\r\ncluster_state:{state}\r\n");
        let _ = write!(
            text,
            "cluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
             cluster_known_nodes:{nodes}\r\ncluster_size:{size}\r\ncluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n"
        );
        self.reply.text(&text);
    }
}
