//! Walks the steps of a scenario.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::{Connection, Peer};
use super::crowd::{self, Crowd};
use super::message::{Envelope, content};
use super::score::{Miss, Score};
use super::{Journal, Stage, replies};
use crate::ledger::follow::Transaction;
use crate::ledger::sightings::{self, Sighting};
use crate::mailer;
use crate::names::Tokens;
use crate::plan::Case;
use crate::probe::watch::Watch;
use crate::probe::{self, Look, owner};
use crate::scenario::text::{PASSWORD, expand_str, unescape};
use crate::scenario::words::VERBS;
use crate::scenario::{
    Closing, Entry, MailboxAction, Message, Reply, Span, Start, Step, StepKind, Text, Vantage,
};
use crate::wire::Heard;

/// How long a reply may take where the scenario does not say.
const REPLY: Duration = Duration::from_secs(20);
/// How long an action of the world may take.
const ACTION: Duration = Duration::from_secs(30);
/// The pause at a `<cut>`: long enough that the parts are read one by one on loopback. It proves
/// nothing and nothing depends on it.
const CUT: Duration = Duration::from_millis(20);

/// Why a step did not go as written.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Ends the dialogue.
    Surprise(Miss),
    /// The clause does not hold; the dialogue goes on.
    Missed(Miss),
    /// Not the target's doing: nothing can be said.
    Environment(String),
}

/// Whether the step was an expectation, and was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Action,
    Met,
}

/// One walk.
#[derive(Debug)]
pub(super) struct Run<'a, S> {
    case: &'a Case,
    stage: &'a S,
    tokens: &'a Tokens,
    journal: &'a Journal,
    names: BTreeMap<String, String>,
    connections: Vec<Connection<'a>>,
    opened: usize,
    watches: BTreeMap<String, Watch>,
    transactions: Vec<Transaction>,
    mailed: Option<Result<(), String>>,
    earlier: Vec<Sighting>,
}

impl<'a, S: Stage> Run<'a, S> {
    pub(super) fn new(
        case: &'a Case,
        stage: &'a S,
        tokens: &'a Tokens,
        journal: &'a Journal,
    ) -> Self {
        let mut names = stage.names().clone();
        names.extend(case.bindings.clone());
        Self {
            case,
            stage,
            tokens,
            journal,
            names,
            connections: Vec::new(),
            opened: 0,
            watches: BTreeMap::new(),
            transactions: Vec::new(),
            mailed: None,
            earlier: Vec::new(),
        }
    }

    /// Brings the client into the scenario's start state.
    pub(super) async fn start(&mut self, score: &mut Score) {
        let start = self.case.scenario.header.start.clone();
        if start == Start::Nothing {
            return;
        }
        let result = async {
            self.connect(self.case.from, self.case.entry, false).await?;
            if start == Start::Connected {
                return Ok(());
            }
            let client = self.client();
            let user = match &start {
                Start::Authenticated(user) => Some(self.text(user)),
                _ => None,
            };
            // Of an account that was there before, its own.
            let password = expand_str(PASSWORD, &self.names);
            let Some(connection) = self.connections.last_mut() else {
                return Ok(());
            };
            connection.greet(&client).await?;
            match user {
                Some(user) => connection.authenticate(&user, &password).await,
                None => Ok(()),
            }
        };
        if let Err(why) = result.await {
            score.block(format!("the start state could not be reached: {why}"));
        }
    }

    /// Walks steps; after a surprise only probes, as evidence.
    pub(super) async fn steps(&mut self, steps: &[Step], score: &mut Score) {
        let mut rest = steps;
        while let Some((step, behind)) = rest.split_first() {
            rest = behind;
            if self.journal.over() {
                score.block("the case's time was over".into());
            }
            if let StepKind::Clause(clause) = &step.kind {
                score.begin(clause);
                continue;
            }
            if let StepKind::Repeat(times, inner) = &step.kind {
                for n in 1..=*times {
                    self.names.insert("n".into(), n.to_string());
                    Box::pin(self.steps(inner, score)).await;
                }
                continue;
            }
            if score.halted() {
                if score.is_surprised() && is_probe(&step.kind) && !self.journal.over() {
                    self.evidence(step).await;
                }
                continue;
            }
            let result = if let StepKind::Client(first) = &step.kind {
                let mut segment = self.line(first);
                // `C:` lines that follow one another leave in one segment.
                while let Some((
                    Step {
                        kind: StepKind::Client(text),
                        ..
                    },
                    behind,
                )) = rest.split_first()
                {
                    segment.push_str(&self.line(text));
                    rest = behind;
                }
                self.send(segment.as_bytes(), step.span).await
            } else {
                self.step(step, false).await
            };
            match result {
                Ok(Done::Action) => {}
                Ok(Done::Met) => score.met(),
                Err(Stop::Environment(why)) => {
                    self.journal.note(format!("! {why}"));
                    score.block(format!("line {}: {why}", self.line_number(step.span)));
                }
                Err(Stop::Surprise(miss)) => self.missed(miss, true, score),
                Err(Stop::Missed(miss)) => self.missed(miss, false, score),
            }
        }
    }

    fn missed(&self, miss: Miss, ends: bool, score: &mut Score) {
        self.journal.note(format!(
            "! expected {}; there was {}",
            miss.expected, miss.seen
        ));
        let line = self.line_number(miss.span);
        score.missed(miss, ends, line);
    }

    /// A probe after a surprise: what it sees goes into the transcript and judges nothing.
    async fn evidence(&mut self, step: &Step) {
        let line = self.line_number(step.span);
        let word = match self.step(step, true).await {
            Ok(_) => "as the scenario says".to_owned(),
            Err(Stop::Surprise(miss) | Stop::Missed(miss)) => miss.seen,
            Err(Stop::Environment(why)) => why,
        };
        self.journal.note(format!("evidence, line {line}: {word}"));
    }

    /// Closes what is open: every transaction, and what was seen of them and is gone.
    pub(super) async fn finish(mut self) -> (Vec<Transaction>, Vec<Sighting>) {
        while let Some(connection) = self.connections.pop() {
            self.transactions.extend(connection.close().await);
        }
        (self.transactions, self.earlier)
    }

    async fn step(&mut self, step: &Step, evidence: bool) -> Result<Done, Stop> {
        let span = step.span;
        if !is_probe(&step.kind) {
            self.journal.spoke();
        }
        match &step.kind {
            StepKind::Clause(_) | StepKind::Repeat(..) => Ok(Done::Action),
            StepKind::Client(text) => {
                let line = self.line(text);
                self.send(line.as_bytes(), span).await
            }
            StepKind::Bytes(segments) => self.bytes(segments, span).await,
            StepKind::Message(message) => {
                let token = self.tokens.next();
                let date = mailer::date();
                let envelope = Envelope {
                    token: &token,
                    names: &self.names,
                    date: &date,
                };
                let octets = content(message, &envelope).map_err(Stop::Environment)?;
                self.send(&octets, span).await
            }
            StepKind::Reply(reply) => self.reply(reply, span).await,
            StepKind::Connect { from, entry, clear } => {
                self.another(*from, *entry, *clear, span).await
            }
            StepKind::Tls(how) => match self.current()?.tls(*how).await {
                Ok(()) => Ok(Done::Met),
                Err((expected, seen)) => Err(Stop::Surprise(Miss::new(span, expected, seen))),
            },
            StepKind::Close(how) => self.close(*how).await,
            StepKind::Mailer {
                entry,
                login,
                from,
                to,
            } => self.mail(*entry, login.as_ref(), from, to, span).await,
            StepKind::Crowd { .. } => self.crowd(&step.kind, span).await,
            StepKind::MailerResult(accepted) => self.mailed(*accepted, span),
            StepKind::Sql(statement) => {
                let statement = self.text(statement);
                self.journal.note(format!("sql {statement}"));
                action(self.journal, self.stage.sql(&statement)).await
            }
            StepKind::Database(fault) => {
                self.journal
                    .note(format!("database {fault:?}").to_ascii_lowercase());
                action(self.journal, self.stage.database(*fault)).await
            }
            StepKind::Target(what) => {
                self.journal
                    .note(format!("target {what:?}").to_ascii_lowercase());
                action(self.journal, self.stage.target(*what)).await
            }
            StepKind::SinkAnswers {
                verb,
                recipient,
                reply,
            } => {
                let verb = self.text(verb);
                if !VERBS.contains(&verb.as_str()) {
                    let known = VERBS.join(", ");
                    let why = format!("`sink answers {verb}`: expected one of {known}");
                    return Err(Stop::Environment(why));
                }
                let recipient = recipient.as_ref().map(|text| self.text(text));
                let reply = reply.as_ref().map(|text| self.text(text));
                let shown = reply.as_deref().unwrap_or("as usual");
                self.journal.note(format!("sink answers {verb} {shown}"));
                self.stage
                    .sink_answers(&verb, recipient.as_deref(), reply.as_deref());
                Ok(Done::Action)
            }
            StepKind::SinkListens(listens) => {
                let word = if *listens { "accepts" } else { "refuses" };
                self.journal.note(format!("sink {word}"));
                action(self.journal, self.stage.sink_listens(*listens)).await
            }
            StepKind::Disk(disk, full) => {
                let word = if *full { "full" } else { "free" };
                self.journal
                    .note(format!("disk {disk:?} {word}").to_ascii_lowercase());
                let done = self.stage.disk(*disk, *full);
                done.map(|()| Done::Action).map_err(Stop::Environment)
            }
            StepKind::Mailbox(address, what) => {
                let address = self.text(address);
                self.mailbox(&address, what).map_err(Stop::Environment)
            }
            probe => self.probe(probe, span, evidence).await,
        }
    }

    async fn close(&mut self, how: Closing) -> Result<Done, Stop> {
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

    /// What is done to a mailbox behind the target's back.
    fn mailbox(&mut self, address: &str, what: &MailboxAction) -> Result<Done, String> {
        self.journal.note(match what {
            MailboxAction::EmptyOut => format!("maildir {address} empty-out"),
            MailboxAction::Put(path, size) => {
                format!("maildir {address} put {} {size} bytes", path.raw)
            }
            other => format!("maildir {address} {other:?}").to_lowercase(),
        });
        match what {
            MailboxAction::EmptyOut => {
                let read = owner::empty_out(self.stage, address)?;
                // What its owner has read was delivered, though it is gone.
                let seen = read
                    .iter()
                    .flat_map(|content| sightings::in_mailbox(content, address));
                self.earlier.extend(seen);
            }
            MailboxAction::Shut => owner::writable(self.stage, address, false)?,
            MailboxAction::Open => owner::writable(self.stage, address, true)?,
            MailboxAction::Put(path, size) => {
                let path = self.text(path);
                owner::put(self.stage, address, &path, *size)?;
            }
            MailboxAction::Measured => {
                let octets = owner::stored(self.stage, address)?;
                self.names.insert("measured".into(), octets.to_string());
            }
            MailboxAction::Watched => {
                let watch = Watch::begin(self.stage, address)?;
                self.watches.insert(address.to_owned(), watch);
            }
        }
        Ok(Done::Action)
    }

    async fn probe(&mut self, kind: &StepKind, span: Span, evidence: bool) -> Result<Done, Stop> {
        let look = Look {
            stage: self.stage,
            tokens: self.tokens,
            journal: self.journal,
            names: &self.names,
            watches: &self.watches,
            from: self.case.from,
            span,
            evidence,
        };
        match kind {
            StepKind::Maildir {
                address,
                count,
                details,
                within,
            } => {
                let address = look.text(address);
                probe::maildir::check(&look, &address, *count, details, *within).await?;
            }
            StepKind::Sink {
                domain,
                count,
                details,
                within,
            } => {
                let domain = look.text(domain);
                probe::sink::check(&look, &domain, *count, details, *within).await?;
            }
            StepKind::SinkHeard(text, within) => {
                let text = look.text(text);
                probe::sink::heard(&look, &text, *within).await?;
            }
            StepKind::Queue(count, within) => probe::queue(&look, *count, *within).await?,
            StepKind::Rows(count, statement) => {
                probe::sql::check(&look, *count, statement).await?;
            }
            StepKind::Log(has, text, within) => probe::log(&look, *has, text, *within).await?,
            _ => return Ok(Done::Action),
        }
        Ok(Done::Met)
    }

    fn current(&mut self) -> Result<&mut Connection<'a>, Stop> {
        self.connections.last_mut().ok_or_else(|| {
            Stop::Environment(
                "no connection is open here: `connect` belongs before this line".into(),
            )
        })
    }

    async fn send(&mut self, octets: &[u8], span: Span) -> Result<Done, Stop> {
        self.journal.spoke();
        let sent = self.current()?.send(octets, span).await;
        sent.map_err(Stop::Environment)?;
        Ok(Done::Action)
    }

    async fn bytes(&mut self, segments: &[Text], span: Span) -> Result<Done, Stop> {
        for (i, segment) in segments.iter().enumerate() {
            if i > 0 {
                tokio::time::sleep(CUT).await;
            }
            let text = self.text(segment);
            let octets = unescape(&text).map_err(|error| Stop::Environment(error.to_string()))?;
            let sent = self.current()?.send(&octets, span).await;
            sent.map_err(Stop::Environment)?;
        }
        Ok(Done::Action)
    }

    async fn reply(&mut self, expected: &Reply, span: Span) -> Result<Done, Stop> {
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
    async fn another(
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

    async fn connect(&mut self, from: Vantage, entry: Entry, clear: bool) -> Result<(), String> {
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
    async fn crowd(&mut self, kind: &StepKind, span: Span) -> Result<Done, Stop> {
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

    async fn mail(
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
                Err(mailer::Refusal {
                    text: format!("no end after {limit:?}"),
                    unknown: true,
                })
            });
        self.transactions
            .push(mailer::transaction(&letter, &result, span));
        let result = result.map(|_| ()).map_err(|refusal| refusal.text);
        let word = result.as_ref().err().map_or("accepted", String::as_str);
        self.journal.note(format!("mailer: {word}"));
        self.mailed = Some(result);
        Ok(Done::Action)
    }

    fn mailed(&self, accepted: bool, span: Span) -> Result<Done, Stop> {
        match (&self.mailed, accepted) {
            (None, _) => Err(Stop::Environment(
                "no `mailer` line stands before this one".into(),
            )),
            (Some(Ok(())), true) | (Some(Err(_)), false) => Ok(Done::Met),
            (Some(Ok(())), false) => Err(Stop::Surprise(Miss::new(
                span,
                "the mailer to be refused",
                "it was accepted",
            ))),
            (Some(Err(why)), true) => Err(Stop::Surprise(Miss::new(
                span,
                "the mailer to be accepted",
                why.clone(),
            ))),
        }
    }

    fn client(&self) -> String {
        format!(
            "client.{}",
            self.names.get("sender").map_or("example", String::as_str)
        )
    }

    fn line(&self, text: &Text) -> String {
        format!("{}\r\n", self.text(text))
    }

    /// Names replaced; each `$token` is a new message's.
    fn text(&self, text: &Text) -> String {
        let mut raw = text.raw.clone();
        while let Some(place) = find_token(&raw) {
            raw.replace_range(place..place + "$token".len(), &self.tokens.next());
        }
        expand_str(&raw, &self.names)
    }

    fn line_number(&self, span: Span) -> usize {
        let before = self
            .case
            .scenario
            .source
            .get(..span.start)
            .unwrap_or_default();
        before.matches('\n').count() + 1
    }
}

/// Where `$token` stands and `$$token` does not.
fn find_token(raw: &str) -> Option<usize> {
    raw.match_indices("$token")
        .map(|(place, _)| place)
        .find(|&place| {
            let before = raw.get(..place).unwrap_or_default();
            (before.len() - before.trim_end_matches('$').len()).is_multiple_of(2)
        })
}

fn is_probe(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::Maildir { .. }
            | StepKind::Sink { .. }
            | StepKind::Queue(..)
            | StepKind::Rows(..)
            | StepKind::Log(..)
            | StepKind::SinkHeard(..)
    )
}

async fn action(
    journal: &Journal,
    future: impl Future<Output = Result<(), String>>,
) -> Result<Done, Stop> {
    let limit = journal.limit(ACTION);
    match timeout(limit, future).await {
        Ok(result) => result.map(|()| Done::Action).map_err(Stop::Environment),
        Err(_) => Err(Stop::Environment(format!("not done after {limit:?}"))),
    }
}
