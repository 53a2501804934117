//! One connection of a case: the wire, the follower of what it carries, and the transcript.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64ct::{Base64, Encoding};

use super::Journal;
use crate::environment::TargetFacts;
use crate::environment::manners::{Guard, Manners};
use crate::ledger::follow::{Follower, Transaction};
use crate::scenario::{Entry, Handshake, Span};
use crate::wire::reply::shown;
use crate::wire::{Heard, Reply, Trust, Wire};

/// How long connecting, sending and handshaking may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a connection needs to know of its target.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub source: IpAddr,
    /// To where.
    pub address: SocketAddr,
    /// The way in.
    pub entry: Entry,
    /// Which certificates are the target's.
    pub trust: Trust,
    /// The name in the certificate.
    pub hostname: String,
    /// What the target is spared.
    pub manners: Option<Manners>,
}

impl Peer {
    /// This target, reached so.
    #[must_use]
    pub fn new(facts: TargetFacts, source: IpAddr, address: SocketAddr, entry: Entry) -> Self {
        Self {
            source,
            address,
            entry,
            trust: facts.trust,
            hostname: facts.hostname,
            manners: facts.manners,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection<'a> {
    /// `None` once it is closed.
    wire: Option<Wire>,
    peer: Peer,
    follower: Follower,
    journal: &'a Journal,
    name: String,
    last: Option<Reply>,
    secret: bool,
    utf8: bool,
    guard: Option<Guard>,
}

impl<'a> Connection<'a> {
    /// TCP, and TLS on 465. The error is in words.
    pub async fn open(peer: Peer, number: usize, journal: &'a Journal) -> Result<Self, String> {
        let name = if number == 0 {
            String::new()
        } else {
            format!("{} ", number + 1)
        };
        if let Some(pace) = peer
            .manners
            .as_ref()
            .and_then(|manners| manners.pace.as_ref())
        {
            pace.turn().await;
        }
        let guard = peer
            .manners
            .as_ref()
            .map(|manners| Guard::new(&manners.domains));
        journal.note(format!(
            "{name}connect to {} from {}",
            peer.address, peer.source
        ));
        let mut wire = Wire::connect(peer.source, peer.address, journal.limit(PATIENCE))
            .await
            .map_err(|error| format!("no connection to {}: {error}", peer.address))?;
        if peer.entry == Entry::Smtps {
            (wire, _) = wire
                .handshake(
                    &peer.trust,
                    &peer.hostname,
                    Handshake::Usual,
                    journal.limit(PATIENCE),
                )
                .await
                .map_err(|error| format!("no TLS on {}: {error}", peer.address))?;
            journal.note(format!("{name}TLS"));
        }
        Ok(Self {
            wire: Some(wire),
            peer,
            follower: Follower::default(),
            journal,
            name,
            last: None,
            secret: false,
            utf8: false,
            guard,
        })
    }

    /// The reply that was read last.
    #[must_use]
    pub fn last(&self) -> Option<&Reply> {
        self.last.as_ref()
    }

    /// Whether the client asked for SMTPUTF8: then replies may hold UTF-8 (RFC 6531 §3.7.4.2).
    #[must_use]
    pub fn asked_utf8(&self) -> bool {
        self.utf8
    }

    /// Sends one segment; the error says why it may not be sent.
    pub async fn send(&mut self, octets: &[u8], span: Span) -> Result<(), String> {
        if let Some(guard) = &mut self.guard {
            guard.passes(octets)?;
        }
        self.note_sent(octets);
        self.utf8 |= octets
            .windows(8)
            .any(|word| word.eq_ignore_ascii_case(b"SMTPUTF8"));
        self.follower.sent(octets, span);
        let limit = self.journal.limit(PATIENCE);
        if let Some(wire) = &mut self.wire {
            wire.send(octets, limit).await;
        }
        Ok(())
    }

    /// Reads one reply.
    pub async fn hear(&mut self, limit: Duration) -> Heard {
        let Some(wire) = &mut self.wire else {
            return Heard::Closed(crate::wire::End::Eof, Vec::new());
        };
        let heard = wire.hear(self.journal.limit(limit)).await;
        match &heard {
            Heard::Reply(reply) => {
                for (i, line) in reply.shown().split(" / ").enumerate() {
                    let mark = if i == 0 { "S:" } else { "  " };
                    self.journal.note(format!("{}{mark} {line}", self.name));
                }
                self.follower.heard(reply);
                if let (Some(guard), Some(granted)) = (&mut self.guard, self.follower.granted()) {
                    guard.granted(&granted);
                }
                self.secret = reply.code == 334;
                self.last = Some(reply.clone());
            }
            Heard::Alert(..) => self
                .journal
                .note(format!("{}S: {}", self.name, told(&heard))),
            Heard::Closed(end, rest) => {
                self.journal
                    .note(format!("{}S: {end}{}", self.name, behind(rest)));
                self.wire = None;
            }
            Heard::Silence(rest) => {
                self.journal
                    .note(format!("{}S: nothing{}", self.name, behind(rest)));
            }
        }
        heard
    }

    /// The handshake after STARTTLS. The error is in words: what was expected, what there was.
    pub async fn tls(&mut self, how: Handshake) -> Result<(), (String, String)> {
        let expected = || "a TLS handshake".to_owned();
        let Some(wire) = self.wire.take() else {
            return Err((expected(), "the connection is closed".into()));
        };
        let limit = self.journal.limit(PATIENCE);
        let (wire, clear) = wire
            .handshake(&self.peer.trust, &self.peer.hostname, how, limit)
            .await
            .map_err(|error| (expected(), format!("no TLS: {error}")))?;
        self.wire = Some(wire);
        self.follower.handshake();
        self.journal.note(format!("{}TLS", self.name));
        if clear.is_empty() {
            return Ok(());
        }
        let clear = shown(&clear);
        self.journal.note(format!(
            "{}S: {clear} (in clear, behind the reply to STARTTLS)",
            self.name
        ));
        Err((
            "nothing in clear behind the reply to STARTTLS".into(),
            clear,
        ))
    }

    /// A command and its reply, for start states: the error says what was answered instead.
    pub async fn ask(&mut self, line: &str, good: u16) -> Result<Reply, String> {
        self.send(format!("{line}\r\n").as_bytes(), Span::default())
            .await?;
        let verb = line.split(' ').next().unwrap_or_default();
        match self.hear(Duration::from_secs(10)).await {
            Heard::Reply(reply) if reply.code == good => Ok(reply),
            other => Err(format!("{verb} was answered {}", told(&other))),
        }
    }

    /// Greeting, EHLO, and STARTTLS and EHLO where the entry says so.
    pub async fn greet(&mut self, client: &str) -> Result<(), String> {
        match self.hear(Duration::from_secs(10)).await {
            Heard::Reply(reply) if reply.code == 220 => {}
            other => return Err(format!("the greeting was {}", told(&other))),
        }
        self.ask(&format!("EHLO {client}"), 250).await?;
        if self.peer.entry == Entry::StartTls {
            self.ask("STARTTLS", 220).await?;
            self.tls(Handshake::Usual)
                .await
                .map_err(|(expected, seen)| format!("{seen} instead of {expected}"))?;
            self.ask(&format!("EHLO {client}"), 250).await?;
        }
        Ok(())
    }

    /// AUTH PLAIN (RFC 4616).
    pub async fn authenticate(&mut self, user: &str, password: &str) -> Result<(), String> {
        let response = Base64::encode_string(format!("\0{user}\0{password}").as_bytes());
        self.ask(&format!("AUTH PLAIN {response}"), 235)
            .await
            .map(|_| ())
    }

    /// Whether the target has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.wire.is_none()
    }

    /// Ends the connection as a broken line does, and says which transactions it carried.
    pub fn cut(self) -> Vec<Transaction> {
        if let Some(wire) = self.wire {
            wire.cut();
            self.journal.note(format!("{}close at once", self.name));
        }
        self.follower.ended()
    }

    /// Ends the connection, and says which transactions it carried.
    pub async fn close(self) -> Vec<Transaction> {
        if let Some(wire) = self.wire {
            wire.close().await;
            self.journal.note(format!("{}close", self.name));
        }
        self.follower.ended()
    }

    /// Ends the connection by RST, and says which transactions it carried.
    pub fn reset(self) -> Vec<Transaction> {
        if let Some(wire) = self.wire {
            wire.reset();
            self.journal.note(format!("{}close reset", self.name));
        }
        self.follower.ended()
    }

    /// Sends no more; what the server says can still be heard.
    pub async fn finish(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.finish().await;
            self.journal.note(format!("{}close half", self.name));
        }
    }

    fn note_sent(&mut self, octets: &[u8]) {
        const SHOWN: usize = 24;
        let lines: Vec<&[u8]> = octets.split_inclusive(|&octet| octet == b'\n').collect();
        let many = lines.len() > SHOWN;
        for line in lines.iter().take(if many { SHOWN - 4 } else { SHOWN }) {
            let whole = line.ends_with(b"\r\n");
            let mut text = if whole {
                shown(line)
            } else {
                line.escape_ascii().to_string()
            };
            if self.secret {
                text = "(not shown: an answer to 334)".into();
                self.secret = false;
            } else if text
                .get(..5)
                .is_some_and(|verb| verb.eq_ignore_ascii_case("AUTH "))
            {
                let words: Vec<&str> = text.splitn(3, ' ').collect();
                if let [verb, mechanism, _] = words.as_slice() {
                    text = format!("{verb} {mechanism} (not shown)");
                }
            }
            if text.len() > 400 {
                let cut = (0..=400)
                    .rev()
                    .find(|&at| text.is_char_boundary(at))
                    .unwrap_or(0);
                text = format!(
                    "{}… ({} octets)",
                    text.get(..cut).unwrap_or_default(),
                    line.len()
                );
            }
            let mark = if whole { "C:" } else { "bytes" };
            self.journal.note(format!("{}{mark} {text}", self.name));
        }
        if many {
            let rest = lines.len() - (SHOWN - 4);
            self.journal.note(format!(
                "{}C: … {rest} more lines, {} octets in all",
                self.name,
                octets.len()
            ));
        }
    }
}

fn behind(rest: &[u8]) -> String {
    if rest.is_empty() {
        String::new()
    } else {
        format!(", after {}", shown(rest))
    }
}

/// How [`told`] begins where nothing came in time.
pub const SILENCE: &str = "nothing";

/// What came, in words.
#[must_use]
pub fn told(heard: &Heard) -> String {
    match heard {
        Heard::Reply(reply) => reply.shown(),
        Heard::Alert(level, what) => format!("a TLS alert, level {level}, {what}"),
        Heard::Closed(end, rest) => format!("{end}{}", behind(rest)),
        Heard::Silence(rest) => format!("{SILENCE}{}", behind(rest)),
    }
}
