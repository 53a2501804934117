//! The ledger: conservation of mail, checked at the end of every case without being asked for.
//!
//! It promises: a recipient that was answered 250 at the end of data is seen in exactly one of
//! Maildir, next hop, bounce to the sender, or queue, and its body is the one that was sent; what was
//! refused is seen nowhere; nothing is twice in one place, and nothing is both delivered and bounced.
//! What cannot be seen is said to be so.

pub mod body;
pub mod books;
pub mod follow;
pub mod sightings;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::driver::canary;
use crate::driver::{ClauseSeen, Journal, Stage};
use crate::event::Failure;
use crate::names::Tokens;
use crate::plan::Case;
use crate::scenario::{Clause, Level, Span, Step, StepKind, TargetAction};
use crate::verdict::{Harm, Seen};
use books::{Books, Finding};
use follow::Transaction;
use sightings::Sighting;

/// How long an accepted message may take until it is accounted for.
const LIMIT: Duration = Duration::from_secs(8);
/// How often is looked. Reading Maildirs and queue costs more than looking for one file.
const POLL: Duration = Duration::from_millis(40);

/// The ledger's clauses: id, references, claim.
pub const CLAUSES: [(&str, &[&str], &str); 5] = [
    (
        "ledger.lost",
        &["rfc5321#6.1"],
        "a message that was accepted is delivered, reported or kept",
    ),
    (
        "ledger.doubled",
        &["rfc5321#6.1"],
        "a message arrives once in one place",
    ),
    (
        "ledger.refused",
        &["rfc5321#4.2.5"],
        "a message that was refused arrives nowhere",
    ),
    (
        "ledger.both",
        &["rfc5321#6.1"],
        "a message that was delivered is not reported as failed",
    ),
    (
        "ledger.changed",
        &["rfc5321#4.5.2"],
        "a message arrives with the body that it was sent with",
    ),
];

/// What the ledger watches with.
#[derive(Debug)]
pub(crate) struct Watch<'a, S> {
    pub(crate) stage: &'a S,
    pub(crate) tokens: &'a Tokens,
    pub(crate) journal: &'a Journal,
    pub(crate) case: &'a Case,
    /// What was seen and is gone, because the case took it away.
    pub(crate) earlier: Vec<Sighting>,
}

impl<S: Stage> Watch<'_, S> {
    /// Waits until every message is accounted for, then judges.
    pub(crate) async fn settle(&self, transactions: &[Transaction]) -> Vec<ClauseSeen> {
        if transactions.is_empty() {
            return Vec::new();
        }
        // A run says so once, before its first case.
        if self.stage.unseen().contains(&"maildir") {
            self.journal.note("ledger: needs maildir");
            return Vec::new();
        }
        let blind = transactions
            .iter()
            .filter(|one| one.token.is_none())
            .count();
        if blind > 0 {
            self.journal.note(format!(
                "ledger: {blind} without a token cannot be followed"
            ));
        }
        let mut findings = match self.look(transactions).await {
            Ok(books) => books.findings(),
            Err(why) => return self.unseen(&why),
        };
        // Most are accounted for at once; the rest gets time.
        let deadline = Instant::now() + self.journal.limit(LIMIT);
        while findings.iter().any(|finding| finding.may_pass) && Instant::now() < deadline {
            sleep(POLL).await;
            match self.look(transactions).await {
                Ok(books) => findings = books.findings(),
                Err(why) => return self.unseen(&why),
            }
        }
        // What comes twice, or comes although it was refused, may come late: a canary on the same
        // way that did arrive shows that nothing is behind.
        if !self.journal.is_shown() {
            let from = self.case.from;
            let canary = canary::to_maildir(self.stage, from, self.tokens, self.journal).await;
            if let Err(why) = canary {
                self.journal.note(format!("ledger: no canary: {why}"));
            }
        }
        match self.look(transactions).await {
            Ok(books) => findings = books.findings(),
            Err(why) => return self.unseen(&why),
        }
        // What waits in the queue at the end of the time is kept, which is all that is asked.
        findings.retain(|finding| !finding.kept);
        if blind == transactions.len() && findings.is_empty() {
            // None of them could be followed, and nothing stray was seen: of them nothing is known.
            return Vec::new();
        }
        for finding in &findings {
            self.journal
                .note(format!("ledger: {}: {}", finding.id, finding.seen));
        }
        CLAUSES
            .iter()
            .map(|clause| judged(clause, &findings))
            .collect()
    }

    async fn look(&self, transactions: &[Transaction]) -> Result<Books, String> {
        // The queue first: what leaves it from now on is seen where it went.
        let mut queued = Vec::new();
        for token in transactions.iter().filter_map(|one| one.token.as_ref()) {
            if self.stage.queued(token).await.is_some_and(|held| held > 0) {
                queued.push(token.clone());
            }
        }
        let mut sightings = sightings::collect(self.stage, self.tokens, transactions).await?;
        sightings.extend(self.earlier.iter().cloned());
        Ok(Books {
            transactions: transactions.to_vec(),
            sightings,
            prefix: self.tokens.prefix(),
            log: self.stage.log(),
            log_is_seen: !self.stage.unseen().contains(&"log"),
            places: books::Places::new(self.stage.names(), changes_rows(&self.case.scenario.steps)),
            queued,
            queue_is_hidden: self.stage.unseen().contains(&"queue"),
            repeats_allowed: kills(&self.case.scenario.steps),
        })
    }

    fn unseen(&self, why: &str) -> Vec<ClauseSeen> {
        self.journal.note(format!("ledger: cannot see: {why}"));
        CLAUSES
            .iter()
            .map(|clause| ClauseSeen {
                clause: as_clause(clause),
                seen: Seen::Nothing,
                failure: None,
            })
            .collect()
    }
}

fn judged(clause: &(&str, &[&str], &str), findings: &[Finding]) -> ClauseSeen {
    let found: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.id == clause.0)
        .collect();
    let Some(first) = found.first() else {
        return ClauseSeen {
            clause: as_clause(clause),
            seen: Seen::AsSaid,
            failure: None,
        };
    };
    let seen: Vec<&str> = found.iter().map(|finding| finding.seen.as_str()).collect();
    ClauseSeen {
        clause: as_clause(clause),
        seen: Seen::Otherwise(Harm::Done),
        failure: Some(Failure {
            place: (first.span.start, first.span.len),
            expected: first.expected.clone(),
            seen: seen.join("; "),
        }),
    }
}

fn as_clause((id, references, claim): &(&str, &[&str], &str)) -> Clause {
    Clause {
        level: Level::Must,
        id: (*id).to_owned(),
        references: references.iter().map(|&text| text.to_owned()).collect(),
        claim: (*claim).to_owned(),
        span: Span::default(),
    }
}

fn any_step(steps: &[Step], wanted: &dyn Fn(&StepKind) -> bool) -> bool {
    steps.iter().any(|step| match &step.kind {
        StepKind::Repeat(_, inner) => any_step(inner, wanted),
        kind => wanted(kind),
    })
}

/// Rows that a scenario changes may send mail anywhere.
fn changes_rows(steps: &[Step]) -> bool {
    any_step(steps, &|kind| matches!(kind, StepKind::Sql(_)))
}

/// Whoever is killed between delivering and noting it delivers again: at least once is what RFC
/// 5321 §6.1 asks for, and no server can promise more.
fn kills(steps: &[Step]) -> bool {
    any_step(steps, &|kind| {
        matches!(kind, StepKind::Target(TargetAction::Kill))
    })
}
