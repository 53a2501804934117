//! Checks before the first case: does the description fit the server?
//!
//! Each key of a target's description is looked at against the running server. A run ends with the
//! first that does not fit; `vmailspec doctor` shows them all, and what to change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::database::Store;
use super::outside::{Outside, Place};
use super::run::Run;
use super::standing::domain_of;
use super::{EnvironmentError, TargetFacts};
use crate::driver::Journal;
use crate::driver::canary::POLL;
use crate::driver::connection::{Connection, Peer, told};
use crate::names::{TOKEN_FIELD, token_of};
use crate::scenario::Entry;
use crate::wire::{Heard, Reply, Trust};

/// How long a server may take to greet, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may take to its Maildir or next hop.
const DELIVERY: Duration = Duration::from_secs(15);

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key of the description: `listen.smtp`.
    pub key: &'static str,
    /// What was found.
    pub outcome: Outcome,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As described.
    Fits(String),
    /// Not as described, and what to change.
    Wrong(String),
    /// Not looked at, and why.
    Open(String),
}

fn fits(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Fits(text.into());
    Finding { key, outcome }
}

fn wrong(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Wrong(text.into());
    Finding { key, outcome }
}

fn open(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Open(text.into());
    Finding { key, outcome }
}

fn found(key: &'static str, result: Result<String, String>) -> Finding {
    result.map_or_else(|why| wrong(key, why), |what| fits(key, what))
}

/// What kept the other checks from being made.
pub(super) fn not_entered(why: String) -> Finding {
    wrong("start", why)
}

/// The first check that failed, as the end of a run.
pub fn first_problem(findings: &[Finding]) -> Result<(), EnvironmentError> {
    for finding in findings {
        if let Outcome::Wrong(why) = &finding.outcome {
            let text = format!("{}: {why}", finding.key);
            return Err(EnvironmentError::Unavailable(text));
        }
    }
    Ok(())
}

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
            let advice = if why.contains("UnknownIssuer") || why.contains("CaUsedAsEndEntity") {
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

/// What is behind the doors: rows, Maildirs, account, vantage, next hop, log.
pub(super) async fn house(run: &Run) -> Vec<Finding> {
    let facts = &run.shared.facts;
    let mut findings = Vec::new();
    if run.shared.store.knows_names() {
        let rows = seen(run).await;
        let known = rows.is_ok();
        let key = match &run.shared.store {
            Store::Seeded(_) => "database.seed",
            _ => "database",
        };
        findings.push(found(key, rows));
        if !known {
            findings.push(open("maildirs", "the server does not see the rows"));
        } else if has(facts, "maildir") {
            findings.push(found("maildirs", delivered(run).await));
        }
    } else if let Some(account) = run.account() {
        let login = login(facts, &account.address, &account.password.0).await;
        let known = login.is_ok();
        findings.push(found("accounts", login));
        if known && has(facts, "maildir") {
            findings.push(found("maildirs", delivered(run).await));
        }
    }
    findings.push(match crate::runner::vantage(facts).await {
        None => fits(
            "clients.stranger",
            match facts.stranger {
                here if here.is_unspecified() => "this machine may not relay".to_owned(),
                here => format!("a client from {here} may not relay"),
            },
        ),
        // Said once more at every case that it keeps from being judged.
        Some(why) => open(
            "clients.stranger",
            format!("{why}: relaying cannot be judged"),
        ),
    });
    if has(facts, crate::plan::NEIGHBOUR) {
        findings.push(found("clients.neighbour", neighbour(facts).await));
    }
    if has(facts, "sink") {
        findings.push(found("sink", next_hop(run).await));
    }
    if let Some(outside) = run.description.outside() {
        for (key, path) in [("log", &outside.log), ("queue", &outside.queue)] {
            if let Some(path) = path {
                findings.push(found(key, readable(path)));
            }
        }
    }
    findings
}

fn has(facts: &TargetFacts, word: &str) -> bool {
    facts.capabilities.iter().any(|has| has == word)
}

fn readable(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let readable = if path.is_dir() {
        std::fs::read_dir(path).map(|_| ())
    } else {
        std::fs::File::open(path).map(|_| ())
    };
    readable
        .map(|()| format!("{shown} can be read"))
        .map_err(|error| {
            format!("{shown}: {error}: take it out, or run as somebody who may read it")
        })
}

async fn connected<'a>(
    facts: &TargetFacts,
    source: IpAddr,
    journal: &'a Journal,
) -> Result<Connection<'a>, String> {
    let (address, entry) = facts.way_in();
    let peer = Peer::new(facts.clone(), source, address, entry);
    let mut connection = Connection::open(peer, 0, journal).await?;
    connection
        .greet(&format!("client.{}", facts.foreign[0]))
        .await?;
    Ok(connection)
}

/// Does the server see a row that was just written?
async fn seen(run: &Run) -> Result<String, String> {
    let facts = &run.shared.facts;
    let journal = Journal::new(Duration::from_mins(1));
    let mut connection = connected(facts, facts.stranger, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    let rcpt = format!("RCPT TO:<{}>", run.canary);
    match connection.ask(&rcpt, 250).await {
        Ok(_) => {
            connection.close().await;
            Ok(format!(
                "{}: the server sees what is written there",
                run.database_name
            ))
        }
        Err(why) => Err(format!(
            "{}: the server does not see a row that was written there ({why}): is it the database that it asks?",
            run.database_name
        )),
    }
}

/// A message to the canary's mailbox, and where it lands.
async fn delivered(run: &Run) -> Result<String, String> {
    let facts = &run.shared.facts;
    let token = format!("{}-check-1", run.tokens);
    send(facts, facts.stranger, &run.canary, &token).await?;
    let root = facts.maildir_root.clone().unwrap_or_default();
    let shown = match run
        .description
        .outside()
        .and_then(|outside| outside.maildirs.as_ref())
    {
        Some(maildirs) => maildirs.path.display().to_string(),
        None => root.display().to_string(),
    };
    let (local, domain) = run.canary.split_once('@').unwrap_or_default();
    let mailbox = root.join(domain).join(local);
    let deadline = Instant::now() + DELIVERY;
    loop {
        if let Some(mirror) = &run.shared.mirror {
            mirror.refresh().await?;
        }
        for path in crate::probe::maildir::files(&mailbox.join("new")) {
            if std::fs::read(&path).is_ok_and(|text| token_of(&text).as_ref() == Some(&token)) {
                let _ = std::fs::remove_file(&path);
                return Ok(format!("{shown}: a message came to {domain}/{local}/new"));
            }
        }
        if Instant::now() > deadline {
            let reason = match std::fs::read_dir(&root) {
                Err(error) => format!("it cannot be read: {error}"),
                Ok(_) => format!(
                    "nothing came to {domain}/{local}/new within {} s",
                    DELIVERY.as_secs()
                ),
            };
            return Err(format!(
                "{shown}: the server took a message, and {reason}: are these its Maildirs (virtual_mailbox_base), in DOMAIN/LOCAL PART/?"
            ));
        }
        sleep(POLL).await;
    }
}

async fn send(facts: &TargetFacts, from: IpAddr, to: &str, token: &str) -> Result<(), String> {
    let journal = Journal::new(Duration::from_mins(1));
    let mut facts = facts.clone();
    if let Some(manners) = &mut facts.manners {
        manners.domains.push(domain_of(to).to_owned());
    }
    let mut connection = connected(&facts, from, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    connection.ask(&format!("RCPT TO:<{to}>"), 250).await?;
    connection.ask("DATA", 354).await?;
    let text = format!(
        "{TOKEN_FIELD}: {token}\r\nFrom: <check@{}>\r\nSubject: a check of vmailspec\r\n\r\ncheck\r\n.",
        facts.foreign[0]
    );
    connection.ask(&text, 250).await?;
    connection.close().await;
    Ok(())
}

/// The account's login, within TLS where that is offered.
async fn login(facts: &TargetFacts, user: &str, password: &str) -> Result<String, String> {
    let journal = Journal::new(Duration::from_mins(1));
    let (address, entry) = facts.way_in();
    let ways = if entry == Entry::Smtps {
        vec![Entry::Smtps]
    } else {
        vec![Entry::StartTls, Entry::Plain]
    };
    let mut said = String::new();
    for entry in ways {
        let peer = Peer::new(facts.clone(), facts.stranger, address, entry);
        let tried = async {
            let mut connection = Connection::open(peer, 0, &journal).await?;
            connection
                .greet(&format!("client.{}", facts.foreign[0]))
                .await?;
            connection.authenticate(user, password).await?;
            connection.close().await;
            Ok::<(), String>(())
        };
        match tried.await {
            Ok(()) => return Ok(format!("{user} can log in ({})", entry.word())),
            Err(why) => said = why,
        }
    }
    Err(format!(
        "{user} cannot log in: {said}: is the password right, and the whole address the login?"
    ))
}

/// Does it relay for the neighbour?
async fn neighbour(facts: &TargetFacts) -> Result<String, String> {
    let journal = Journal::new(Duration::from_mins(1));
    let mut connection = connected(facts, facts.neighbour, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    let rcpt = format!("RCPT TO:<nobody@{}>", facts.foreign[1]);
    let asked = connection.ask(&rcpt, 250).await;
    connection.close().await;
    asked.map_err(|why| {
        let from = facts.neighbour;
        format!("the server does not relay for {from} ({why}): it has to be in its mynetworks, or leave `neighbour` out")
    })?;
    Ok(format!("a client from {} may relay", facts.neighbour))
}

/// Does foreign mail come to our sink?
async fn next_hop(run: &Run) -> Result<String, String> {
    let facts = &run.shared.facts;
    if !has(facts, crate::plan::NEIGHBOUR) {
        return Err("it needs a client that may relay: [clients] neighbour = \"…\"".to_owned());
    }
    let (sink, address) = run.sink(0)?;
    let domain = format!("check.{}.test", run.id);
    run.dns.add(&domain, address);
    let token = format!("{}-check-2", run.tokens);
    send(facts, facts.neighbour, &format!("check@{domain}"), &token).await?;
    let came = sink
        .sunk_until(DELIVERY, |sunk| {
            sunk.iter()
                .any(|one| token_of(&one.content).as_ref() == Some(&token))
        })
        .await;
    let asked = run.dns.queries(&domain);
    run.dns.remove(&domain);
    let here = sink.address();
    if came {
        return Ok(format!("mail for others comes to {here}"));
    }
    Err(if asked.is_empty() {
        format!(
            "the server took a message for {domain} and did not ask the name server at {} for it: make it its resolver",
            run.dns.address()
        )
    } else {
        format!(
            "the server found {domain} and did not bring the message to {here}: is that its port for next hops, and reachable from it?"
        )
    })
}
