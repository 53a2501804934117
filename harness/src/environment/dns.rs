//! The name server of a run: MX and A records for the names that its cases own.
//!
//! A name of a case has its mail exchanger in the case's sink: `MX 10 mail.NAME`, `A` of `mail.NAME`
//! is the sink's address; so have all names below it. The first label of a name below can ask for
//! something else:
//!
//! | label | answer |
//! |---|---|
//! | `mail` | an address and no MX, as the tutorial's `mail.transport.com` |
//! | `nomx` | an address and no MX |
//! | `nohost` | the name exists, without MX and without an address |
//! | `nxdomain` | the name does not exist |
//! | `nullmx` | `MX 0 .` (RFC 7505: takes no mail), and an address |
//! | `twomx` | `MX 10` an address where nobody listens, `MX 20 mail` |
//! | `deadmx` | `MX 10` an address where nobody listens |
//! | `servfail`, `refused` | that response code |
//! | `silent` | no answer at all |
//! | `garbled` | the answer's head, and then octets that mean nothing |
//!
//! A transport domain (`$transport`, transport.com) has nothing but the names below it: only its row
//! in the table `transport` leads anywhere. Everything else does not exist. Every query is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex};

use simple_dns::rdata::{A, MX, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::sink::lock;

/// A loopback address at which nothing ever listens.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 254);
/// The last octets of the addresses in 127.9.0.0/24 with whose port 53 runs help themselves.
const USUAL: std::ops::RangeInclusive<u8> = 53..=99;

/// Octets before the question (RFC 1035 §4.1.1).
const HEAD: usize = 12;

/// A running name server. Dropping it ends it.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    zones: Arc<Mutex<Zones>>,
    serving: JoinHandle<()>,
    /// On port 53.
    usual: Option<JoinHandle<()>>,
}

/// What is known, and what was asked.
#[derive(Debug, Default)]
pub struct Zones {
    /// Names in lower case, with the address of their sink.
    sinks: BTreeMap<String, Ipv4Addr>,
    /// Those of them that have neither MX nor address themselves.
    bare: BTreeSet<String>,
    /// Single hosts.
    hosts: BTreeMap<String, Ipv4Addr>,
    queries: Vec<(String, String)>,
}

impl Dns {
    /// Listens on a free port of 127.0.0.1, or where it is asked for.
    pub fn start(at: Option<SocketAddr>) -> io::Result<Self> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = StdSocket::bind(at.unwrap_or(free))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let address = socket.local_addr()?;
        let zones = Arc::new(Mutex::new(Zones::default()));
        let serving = tokio::spawn(serve(socket, Arc::clone(&zones)));
        Ok(Self {
            address,
            zones,
            serving,
            usual: None,
        })
    }

    /// Listens on port 53 too, at an address of its own, for servers that know no other port; where
    /// that is. Needs the right to: root.
    pub fn also_on_port_53(&mut self) -> io::Result<Ipv4Addr> {
        let mut taken = io::Error::other("no address is left");
        for last in USUAL {
            let address = Ipv4Addr::new(127, 9, 0, last);
            match StdSocket::bind((address, 53)) {
                Ok(socket) => {
                    socket.set_nonblocking(true)?;
                    let socket = UdpSocket::from_std(socket)?;
                    let zones = Arc::clone(&self.zones);
                    self.usual = Some(tokio::spawn(serve(socket, zones)));
                    return Ok(address);
                }
                // Another run beside this one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// Where it listens (UDP).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `name` and everything below it have their mail exchanger at `sink`.
    pub fn add(&self, name: &str, sink: Ipv4Addr) {
        lock(&self.zones)
            .sinks
            .insert(name.to_ascii_lowercase(), sink);
    }

    /// `name` itself gets neither MX nor address, only what is below it: a server that does not
    /// look into its transport table finds nobody.
    pub fn leave_bare(&self, name: &str) {
        lock(&self.zones).bare.insert(name.to_ascii_lowercase());
    }

    /// A host with an address.
    pub fn add_host(&self, name: &str, address: Ipv4Addr) {
        lock(&self.zones)
            .hosts
            .insert(name.to_ascii_lowercase(), address);
    }

    /// `name` does not exist any more.
    pub fn remove(&self, name: &str) {
        let name = name.to_ascii_lowercase();
        let mut zones = lock(&self.zones);
        zones.sinks.remove(&name);
        zones.bare.remove(&name);
    }

    /// What was asked about `name` and names below it, in order: `MX mail.example.test`.
    #[must_use]
    pub fn queries(&self, name: &str) -> Vec<String> {
        let zones = lock(&self.zones);
        let asked = zones
            .queries
            .iter()
            .filter(|(asked, _)| below(asked, name).is_some());
        asked.map(|(name, kind)| format!("{kind} {name}")).collect()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.serving.abort();
        if let Some(usual) = &self.usual {
            usual.abort();
        }
    }
}

async fn serve(socket: UdpSocket, zones: Arc<Mutex<Zones>>) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let reply = lock(&zones).answer(&buffer[..length]);
        if let Some(reply) = reply {
            // A client that does not wait for its answer asks again.
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

/// The labels of `name` before `zone`: empty for the zone itself, `None` outside.
fn below<'a>(name: &'a str, zone: &str) -> Option<&'a str> {
    let before = name.strip_suffix(zone)?;
    if before.is_empty() {
        Some("")
    } else {
        before.strip_suffix('.')
    }
}

impl Zones {
    /// The reply to a packet; `None`: none is due.
    pub fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Packet::parse(query).ok()?;
        if query.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let question = query.questions.first()?;
        let name = question.qname.to_string().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let QTYPE::TYPE(kind) = question.qtype else {
            return None;
        };
        self.queries.push((name.to_owned(), format!("{kind:?}")));

        let (code, data) = self.look_up(name, kind)?;
        let mut reply = Packet::new_reply(query.id());
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
        if query.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        *reply.rcode_mut() = code;
        let owner = question.qname.clone();
        reply.answers = data
            .into_iter()
            .map(|data| ResourceRecord::new(owner.clone(), CLASS::IN, 0, data))
            .collect();
        reply.questions = vec![question.clone()];
        let mut octets = reply.build_bytes_vec().ok()?;
        if name.starts_with("garbled.") {
            // A name whose first label is longer than what is left.
            octets.truncate(HEAD);
            octets.extend([0x3f; 8]);
        }
        Some(octets)
    }

    fn look_up(&self, name: &str, kind: TYPE) -> Option<(RCODE, Vec<RData<'static>>)> {
        let address = |address: Ipv4Addr| match kind {
            TYPE::A => vec![RData::A(A::from(address))],
            _ => Vec::new(),
        };
        if let Some(host) = self.hosts.get(name) {
            return Some((RCODE::NoError, address(*host)));
        }
        let found = self
            .sinks
            .iter()
            .find_map(|(zone, sink)| Some((below(name, zone)?, zone, *sink)));
        let Some((before, zone, sink)) = found else {
            return Some((RCODE::NameError, Vec::new()));
        };
        let exchangers = |list: &[(u16, String)]| match kind {
            TYPE::MX => list
                .iter()
                .filter_map(|(preference, host)| mx(*preference, host))
                .collect(),
            _ => Vec::new(),
        };
        let records = match before.split('.').next().unwrap_or_default() {
            "mail" | "nomx" => address(sink),
            "dead" => address(DEAD),
            "nohost" => Vec::new(),
            // An address too, which nobody may use (RFC 7505 §3).
            "nullmx" if kind == TYPE::A => address(sink),
            "nullmx" => exchangers(&[(0, String::new())]),
            "deadmx" => exchangers(&[(10, format!("dead.{zone}"))]),
            "twomx" => exchangers(&[(10, format!("dead.{zone}")), (20, format!("mail.{zone}"))]),
            "nxdomain" => return Some((RCODE::NameError, Vec::new())),
            "servfail" => return Some((RCODE::ServerFailure, Vec::new())),
            "refused" => return Some((RCODE::Refused, Vec::new())),
            "silent" => return None,
            "" if self.bare.contains(zone) => Vec::new(),
            _ => exchangers(&[(10, format!("mail.{name}"))]),
        };
        Some((RCODE::NoError, records))
    }
}

fn mx(preference: u16, host: &str) -> Option<RData<'static>> {
    let exchange = Name::new(host).ok()?.into_owned();
    Some(RData::MX(MX {
        preference,
        exchange,
    }))
}
