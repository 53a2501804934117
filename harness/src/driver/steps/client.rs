//! What the client does: connections, octets, replies, whole messages.

use std::time::Duration;

use tokio::time::timeout;

use super::super::connection::{Connection, Peer};
use super::super::crowd::{self, Crowd};
use super::super::message::{Envelope, content};
use super::super::replies;
use super::super::score::Miss;
use super::world::ACTION;
use super::{Done, Run, Stage, Stop};
use crate::mailer::{self, Cause, GaveUp};
use crate::scenario::text::unescape;
use crate::scenario::{Closing, Entry, Message, Reply, Span, StepKind, Text, Vantage};
use crate::wire::Heard;

/// How long a reply may take where the scenario does not say.
const REPLY: Duration = Duration::from_secs(20);
/// The pause at a `<cut>`: long enough that the parts are read one by one on loopback. It proves
/// nothing and nothing depends on it.
const CUT: Duration = Duration::from_millis(20);

impl<'a, S: Stage> Run<'a, S> {
    pub(super) async fn close(&mut self, how: Closing) -> Result<Done, Stop> {
        if how == Closing::Half {
            self.current()?.finish().await;
        } else if let Some(connection) = self.connections.pop() {
            self.transactions.extend(match how {
                Closing::Reset => connection.reset(),
                Closing::AtOnce => connection.cut(),
                _ => connection.close().await,
            });
        }
        Ok(Done::Action)
    }

    pub(super) fn current(&mut self) -> Result<&mut Connection<'a>, Stop> {
        self.connections.last_mut().ok_or_else(|| {
            Stop::Environment(
                "no connection is open here: `connect` belongs before this line".into(),
            )
        })
    }

    pub(super) async fn send(&mut self, octets: &[u8], span: Span) -> Result<Done, Stop> {
        self.journal.spoke();
        let sent = self.current()?.send(octets, span).await;
        sent.map_err(Stop::Spared)?;
        Ok(Done::Action)
    }

    pub(super) async fn bytes(&mut self, segments: &[Text], span: Span) -> Result<Done, Stop> {
        for (i, segment) in segments.iter().enumerate() {
            if i > 0 {
                tokio::time::sleep(CUT).await;
            }
            let text = self.text(segment);
            let octets = unescape(&text).map_err(|error| Stop::Environment(error.to_string()))?;
            let sent = self.current()?.send(&octets, span).await;
            sent.map_err(Stop::Spared)?;
        }
        Ok(Done::Action)
    }

    pub(super) async fn reply(&mut self, expected: &Reply, span: Span) -> Result<Done, Stop> {
        let limit = expected.within.unwrap_or(REPLY);
        let connection = self.current()?;
        let heard = if expected.again {
            match connection.last() {
                Some(reply) => Heard::Reply(reply.clone()),
                None => {
                    return Err(Stop::Environment("`S=` before any reply was read".into()));
                }
            }
        } else {
            connection.hear(limit).await
        };
        let utf8 = connection.asked_utf8();
        replies::check(expected, &heard, limit, utf8, span, |text| self.text(text))?;
        Ok(Done::Met)
    }

    /// `connect`: TCP, and TLS on 465; the scenario greets by itself.
    pub(super) async fn another(
        &mut self,
        from: Option<Vantage>,
        entry: Option<Entry>,
        clear: bool,
        span: Span,
    ) -> Result<Done, Stop> {
        let from = from.unwrap_or(self.case.from);
        let entry = entry.unwrap_or(self.case.entry);
        self.connect(from, entry, clear)
            .await
            .map_err(|why| Stop::Surprise(Miss::new(span, "a connection", why).harmful()))?;
        Ok(Done::Action)
    }

    pub(super) async fn connect(
        &mut self,
        from: Vantage,
        entry: Entry,
        clear: bool,
    ) -> Result<(), String> {
        let entry = if clear {
            (entry, Entry::Plain)
        } else {
            (entry, entry)
        };
        let peer = self.peer(from, entry).await?;
        let connection = Connection::open(peer, self.opened, self.journal).await?;
        self.opened += 1;
        self.connections.push(connection);
        Ok(())
    }

    /// The way to the port of one entry, to be used as the other.
    async fn peer(&self, from: Vantage, (port, entry): (Entry, Entry)) -> Result<Peer, String> {
        let (source, address) = (self.stage.source(from), self.stage.address(port).await?);
        Ok(Peer::new(self.stage.facts(), source, address, entry))
    }

    /// `crowd`: an expectation, for each reply is looked at.
    pub(super) async fn crowd(&mut self, kind: &StepKind, span: Span) -> Result<Done, Stop> {
        let StepKind::Crowd {
            sessions,
            messages,
            to,
        } = kind
        else {
            return Ok(Done::Action);
        };
        let (sessions, messages) = (*sessions, *messages);
        let entry = (self.case.entry, self.case.entry);
        let peer = self
            .peer(self.case.from, entry)
            .await
            .map_err(Stop::Environment)?;
        let date = mailer::date();
        let letter = || {
            let envelope = Envelope {
                token: &self.tokens.next(),
                names: &self.names,
                date: &date,
            };
            content(&Message::default(), &envelope)
        };
        let letters = || {
            (0..messages)
                .map(|_| letter())
                .collect::<Result<Vec<_>, _>>()
        };
        let mail = (0..sessions)
            .map(|_| letters())
            .collect::<Result<Vec<_>, _>>();
        let sender = self.names.get("sender").map_or("example", String::as_str);
        let crowd = Crowd {
            peer,
            client: self.client(),
            from: format!("crowd@{sender}"),
            to: self.text(to),
            journal: self.journal,
            span,
            first: self.opened,
        };
        let (carried, result) = crowd::meet(&crowd, mail.map_err(Stop::Environment)?).await;
        self.opened += sessions as usize;
        self.transactions.extend(carried);
        result.map_err(|why| Stop::Surprise(Miss::new(span, "every message to be taken", why)))?;
        Ok(Done::Met)
    }

    pub(super) async fn mail(
        &mut self,
        entry: Entry,
        login: Option<&(Text, Text)>,
        from: &Text,
        to: &[Text],
        span: Span,
    ) -> Result<Done, Stop> {
        let facts = self.stage.facts();
        let address = self.stage.address(entry).await.map_err(Stop::Environment)?;
        let letter = mailer::Letter {
            source: self.stage.source(self.case.from),
            address,
            entry,
            trust: facts.trust,
            hostname: facts.hostname,
            manners: facts.manners,
            client: self.client(),
            login: login.map(|(user, password)| (self.text(user), self.text(password))),
            from: self.text(from),
            to: to.iter().map(|text| self.text(text)).collect(),
            token: self.tokens.next(),
        };
        self.journal
            .note(format!("mailer from <{}> to {:?}", letter.from, letter.to));
        let limit = self.journal.limit(ACTION);
        let result = timeout(limit, mailer::send(&letter))
            .await
            .unwrap_or_else(|_| {
                Err(GaveUp {
                    text: format!("no end after {limit:?}"),
                    cause: Cause::Unknown,
                })
            });
        self.transactions
            .push(mailer::transaction(&letter, &result, span));
        let result = result.map(|_| ());
        let word = result
            .as_ref()
            .map_or_else(|why| &*why.text, |()| "accepted");
        self.journal.note(format!("mailer: {word}"));
        match result {
            Err(why) if why.cause == Cause::HeldBack => return Err(Stop::Spared(why.text)),
            result => self.mailed = Some(result),
        }
        Ok(Done::Action)
    }

    pub(super) fn mailed(&self, accepted: bool, span: Span) -> Result<Done, Stop> {
        let Some(result) = &self.mailed else {
            return Err(Stop::Environment(
                "no `mailer` line stands before this one".into(),
            ));
        };
        let expected = match (accepted, result) {
            (true, Ok(())) => return Ok(Done::Met),
            // A connection that breaks, or a client that waits in vain, was refused by nobody.
            (false, Err(why)) if why.cause == Cause::Refused => return Ok(Done::Met),
            (true, _) => "the mailer to be accepted",
            (false, _) => "the mailer to be refused, by a reply",
        };
        let seen = match result {
            Ok(()) => "it was accepted",
            Err(why) => &why.text,
        };
        Err(Stop::Surprise(Miss::new(span, expected, seen)))
    }
}
