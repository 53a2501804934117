//! Walks the steps of a scenario.

mod client;
mod world;

use std::collections::BTreeMap;

use super::connection::Connection;
use super::message::{Envelope, content};
use super::score::{Miss, Score};
use super::{Journal, Stage};
use crate::environment::manners::FOREIGN;
use crate::ledger::follow::Transaction;
use crate::ledger::sightings::Sighting;
use crate::mailer::{self, GaveUp};
use crate::names::Tokens;
use crate::plan::Case;
use crate::plan::needs::sights;
use crate::probe::watch::Watch;
use crate::scenario::text::{PASSWORD, expand_str};
use crate::scenario::{Span, Start, Step, StepKind, Text};

/// Why a step did not go as written.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Ends the dialogue.
    Surprise(Miss),
    /// The clause does not hold; the dialogue goes on.
    Missed(Miss),
    /// Not the target's doing: nothing can be said.
    Environment(String),
    /// The target is somebody else's, and is not asked for this.
    Spared(String),
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
    mailed: Option<Result<(), GaveUp>>,
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
            let here = self.stage.unseen();
            if let Some(word) = sights(&step.kind).iter().find(|word| here.contains(word)) {
                if !score.halted() {
                    self.journal.note(format!("not looked at: needs {word}"));
                    score.unseen(word);
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
                Err(Stop::Spared(why)) => {
                    self.journal.note(format!("! {why}"));
                    score.spare(FOREIGN.to_owned());
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
            Err(Stop::Environment(why) | Stop::Spared(why)) => why,
        };
        self.journal.note(format!("evidence, line {line}: {word}"));
    }

    /// Closes what is open: every transaction, what was seen of them and is gone, and whether the
    /// target had closed a connection.
    pub(super) async fn finish(mut self) -> (Vec<Transaction>, Vec<Sighting>, bool) {
        let closed = self.connections.iter().any(Connection::is_closed);
        while let Some(connection) = self.connections.pop() {
            self.transactions.extend(connection.close().await);
        }
        (self.transactions, self.earlier, closed)
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
            StepKind::Sql(_)
            | StepKind::Database(_)
            | StepKind::Target(_)
            | StepKind::SinkAnswers { .. }
            | StepKind::SinkListens(_)
            | StepKind::Disk(..)
            | StepKind::Mailbox(..) => self.act(&step.kind).await,
            probe => self.probe(probe, span, evidence).await,
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
