//! Where a server was found: ports, greeting, EHLO, TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Finding, fits, open, wrong};
use crate::driver::Journal;
use crate::driver::connection::{Connection, Peer, told};
use crate::environment::outside::{Outside, Place};
use crate::scenario::Entry;
use crate::wire::{Heard, Reply, Trust};

/// How long a server may take to greet, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the server was found.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// The name with which it greets.
    pub name: Option<String>,
    /// Port 25.
    pub smtp: Option<SocketAddr>,
    /// Port 465.
    pub smtps: Option<SocketAddr>,
}

/// Ports, greeting, EHLO, TLS.
pub async fn doors(outside: &Outside) -> (Vec<Finding>, Doors) {
    let mut findings = Vec::new();
    let mut doors = Doors::default();
    if let Some(place) = &outside.smtp {
        match resolve(place).await {
            Err(why) => findings.push(wrong("listen.smtp", why)),
            Ok(address) => {
                doors.smtp = Some(address);
                findings.extend(plain(outside, place, address, &mut doors.name).await);
            }
        }
    }
    if let Some(place) = &outside.smtps {
        match resolve(place).await {
            Err(why) => findings.push(wrong("listen.smtps", why)),
            Ok(address) => {
                doors.smtps = Some(address);
                findings.extend(wrapped(outside, place, address, &mut doors.name).await);
            }
        }
    }
    (findings, doors)
}

async fn resolve(place: &Place) -> Result<SocketAddr, String> {
    let looked = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    let all: Vec<SocketAddr> = looked
        .map_err(|error| format!("{} has no address: {error}", place.host))?
        .collect();
    let first = all.iter().find(|one| one.is_ipv4()).or_else(|| all.first());
    first
        .copied()
        .ok_or_else(|| format!("{} has no address", place.host))
}

fn peer(outside: &Outside, address: SocketAddr, entry: Entry, trust: &Trust) -> Peer {
    let anywhere = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    Peer {
        source: outside.stranger.unwrap_or(anywhere),
        address,
        entry,
        trust: trust.clone(),
        hostname: outside.hostname.clone(),
        manners: None,
    }
}

/// Port 25: it greets in clear, answers EHLO, and STARTTLS shows the certificate.
async fn plain(
    outside: &Outside,
    place: &Place,
    address: SocketAddr,
    name: &mut Option<String>,
) -> Vec<Finding> {
    let journal = Journal::new(Duration::from_mins(1));
    let key = "listen.smtp";
    let opened = Connection::open(
        peer(outside, address, Entry::Plain, &Trust::Any),
        0,
        &journal,
    );
    let mut connection = match opened.await {
        Ok(connection) => connection,
        Err(why) => return vec![wrong(key, format!("{place}: {why}"))],
    };
    let greeting = match connection.hear(PATIENCE / 2).await {
        Heard::Reply(reply) if reply.code == 220 => {
            *name = said_name(&reply);
            reply.shown()
        }
        Heard::Reply(reply) if reply.code == 0 => {
            let why = format!("{place} does not speak SMTP: it says {}", reply.shown());
            return vec![wrong(key, why)];
        }
        Heard::Reply(reply) => {
            let why = format!("{place} does not let this client in: {}", reply.shown());
            return vec![wrong(key, why)];
        }
        other => {
            drop(connection);
            let tls = peer(outside, address, Entry::Smtps, &Trust::Any);
            let why = match Connection::open(tls, 0, &journal).await {
                Ok(_) => format!(
                    "{place} speaks TLS from the first octet: such a port belongs to `smtps` (smtps:// on the command line)"
                ),
                Err(_) => format!("{place} does not greet: {}", told(&other)),
            };
            return vec![wrong(key, why)];
        }
    };
    let mut findings = vec![fits(key, format!("{address} greets: {greeting}"))];
    let ehlo = match connection.ask("EHLO vmailspec.example", 250).await {
        Ok(reply) => reply,
        Err(why) => {
            findings.push(wrong("listen.smtp", format!("{place}: {why}")));
            return findings;
        }
    };
    if !ehlo
        .lines
        .iter()
        .any(|line| line.eq_ignore_ascii_case("STARTTLS"))
    {
        findings.push(open(
            "listen.certificates",
            format!("{place} does not offer STARTTLS"),
        ));
        return findings;
    }
    let handshake = peer(outside, address, Entry::StartTls, &outside.trust);
    let shook = async {
        let mut connection = Connection::open(handshake, 0, &journal).await?;
        connection.greet("vmailspec.example").await?;
        connection.close().await;
        Ok::<(), String>(())
    };
    findings.push(certificate(outside, place, shook.await));
    findings
}

/// The first word of a greeting (RFC 5321 §4.2).
fn said_name(greeting: &Reply) -> Option<String> {
    let word = greeting.lines.first()?.split(' ').next()?;
    (!word.is_empty()).then(|| word.to_owned())
}

/// Port 465: TLS from the first octet.
async fn wrapped(
    outside: &Outside,
    place: &Place,
    address: SocketAddr,
    name: &mut Option<String>,
) -> Vec<Finding> {
    let journal = Journal::new(Duration::from_mins(1));
    let key = "listen.smtps";
    let any = peer(outside, address, Entry::Smtps, &Trust::Any);
    let greeted = async {
        let mut connection = Connection::open(any, 0, &journal).await?;
        match connection.hear(PATIENCE).await {
            Heard::Reply(reply) if reply.code == 220 => {
                *name = said_name(&reply);
                Ok(reply.shown())
            }
            other => Err(format!("it greets {}", told(&other))),
        }
    };
    let mut findings = match greeted.await {
        Ok(greeting) => vec![fits(
            key,
            format!("{address} greets within TLS: {greeting}"),
        )],
        Err(why) => {
            let clear = peer(outside, address, Entry::Plain, &Trust::Any);
            let clear = async {
                let mut connection = Connection::open(clear, 0, &journal).await.ok()?;
                match connection.hear(PATIENCE / 2).await {
                    Heard::Reply(reply) if reply.code == 220 => Some(()),
                    _ => None,
                }
            };
            let why = match clear.await {
                Some(()) => format!(
                    "{place} greets in clear: such a port belongs to `smtp` (smtp:// on the command line)"
                ),
                None => format!("{place}: {why}"),
            };
            return vec![wrong(key, why)];
        }
    };
    let trusted = peer(outside, address, Entry::Smtps, &outside.trust);
    let shook = Connection::open(trusted, 0, &journal).await;
    findings.push(certificate(outside, place, shook.map(|_| ())));
    findings
}

fn certificate(outside: &Outside, place: &Place, shook: Result<(), String>) -> Finding {
    let key = "listen.certificates";
    let name = &outside.hostname;
    match shook {
        Ok(()) if outside.trust == Trust::Any => open(key, "any certificate is taken"),
        Ok(()) => fits(key, format!("the certificate of {place} is one for {name}")),
        Err(why) => {
            let advice = if why.contains("CaUsedAsEndEntity") {
                "it is signed by itself, and no authority's: name its own file (--certificates on the command line)"
            } else if ["UnknownIssuer", "BadSignature"]
                .iter()
                .any(|word| why.contains(word))
            {
                "name its authority's file, or \"any\" (--certificates on the command line)"
            } else if why.contains("NotValidForName") || why.contains("not valid for") {
                "say which name is in it: [listen] name = \"…\""
            } else if why.contains("xpired") || why.contains("NotValidYet") {
                "it has to be renewed; \"any\" takes it all the same"
            } else {
                "what the server says about TLS is in its log"
            };
            wrong(key, format!("{place}, as {name}: {why}: {advice}"))
        }
    }
}
