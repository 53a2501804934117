//! What is done to the world around the target, and where the mail is looked for.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use super::{Done, Journal, Run, Stage, Stop};
use crate::ledger::sightings;
use crate::probe::watch::Watch;
use crate::probe::{self, Look, owner};
use crate::scenario::words::VERBS;
use crate::scenario::{MailboxAction, Span, StepKind};

/// How long an action of the world may take.
pub(super) const ACTION: Duration = Duration::from_secs(30);

impl<S: Stage> Run<'_, S> {
    /// What is done to the world.
    pub(super) async fn act(&mut self, kind: &StepKind) -> Result<Done, Stop> {
        match kind {
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
            _ => Ok(Done::Action),
        }
    }

    /// What is done to a mailbox behind the target's back.
    fn mailbox(&mut self, address: &str, what: &MailboxAction) -> Result<Done, String> {
        self.journal.note(match what {
            MailboxAction::EmptyOut => format!("maildir {address} empty-out"),
            MailboxAction::ThrowOut => format!("maildir {address} throw-out"),
            MailboxAction::Put(path, size) => {
                format!("maildir {address} put {} {size} bytes", path.raw)
            }
            other => format!("maildir {address} {other:?}").to_lowercase(),
        });
        match what {
            MailboxAction::EmptyOut | MailboxAction::ThrowOut => {
                let counted = *what == MailboxAction::EmptyOut;
                let read = owner::empty_out(self.stage, address, counted)?;
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

    pub(super) async fn probe(
        &mut self,
        kind: &StepKind,
        span: Span,
        evidence: bool,
    ) -> Result<Done, Stop> {
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
