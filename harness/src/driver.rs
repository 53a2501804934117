//! Runs one case in its world: the start state, then the steps in order, then the ledger.
//!
//! It promises: what came before the first clause and failed blocks the case; the first surprising
//! reply ends the dialogue and leaves later clauses unreached; probes after that still run, as
//! evidence in the transcript; nothing is waited for longer than the case's limit.

pub mod canary;
pub mod connection;
mod crowd;
mod forms;
pub mod message;
mod replies;
mod score;
pub mod stage;
mod steps;

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

pub use score::{ClauseSeen, Miss};
pub use stage::Stage;
pub(crate) use steps::Stop;

use crate::event::Failure;
use crate::ledger;
use crate::names::Tokens;
use crate::plan::Case;
use crate::scenario::{Clause, Level, Span};
use crate::verdict::{Harm, Seen};
use score::Score;

/// What one case yielded, before levels make verdicts of it.
#[derive(Debug)]
pub struct Outcome {
    /// Its clauses in order, the ledger's last.
    pub clauses: Vec<ClauseSeen>,
    /// Why something could not be seen.
    pub blocked: Option<String>,
    /// Time and line.
    pub transcript: Vec<(Duration, String)>,
    /// From first connection to last probe.
    pub took: Duration,
}

/// The clock and the notebook of a case.
#[derive(Debug)]
pub struct Journal {
    began: Instant,
    deadline: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
    spoke: Mutex<Instant>,
    canary: Mutex<Option<Instant>>,
}

impl Journal {
    /// Starts the clock; no wait goes beyond `limit` from now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let began = Instant::now();
        Self {
            began,
            deadline: began + limit,
            lines: Mutex::new(Vec::new()),
            spoke: Mutex::new(began),
            canary: Mutex::new(None),
        }
    }

    /// Writes a line.
    pub fn note(&self, line: impl Into<String>) {
        let took = self.began.elapsed();
        if let Ok(mut lines) = self.lines.lock() {
            lines.push((took, line.into()));
        }
    }

    /// The case did something that may make mail move.
    pub fn spoke(&self) {
        if let Ok(mut spoke) = self.spoke.lock() {
            *spoke = Instant::now();
        }
    }

    /// A canary that set out at this time has arrived.
    pub fn shown(&self, began: Instant) {
        if let Ok(mut canary) = self.canary.lock() {
            *canary = Some(began);
        }
    }

    /// Whether a canary has arrived that set out after everything the case did.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        let (Ok(spoke), Ok(canary)) = (self.spoke.lock(), self.canary.lock()) else {
            return false;
        };
        canary.is_some_and(|canary| canary >= *spoke)
    }

    /// What was asked for, or what is left of the case's time if that is less.
    #[must_use]
    pub fn limit(&self, asked: Duration) -> Duration {
        asked.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the case's time is over.
    #[must_use]
    pub fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// What was written so far.
    #[must_use]
    pub fn lines(&self) -> Vec<(Duration, String)> {
        self.lines
            .lock()
            .map(|lines| lines.clone())
            .unwrap_or_default()
    }
}

/// How long the end of a process may take to be told.
const LAST_WORD: Duration = Duration::from_millis(150);

/// A target that ended by itself while a case ran: broken, whatever else was seen.
fn crash(how: String) -> ClauseSeen {
    ClauseSeen {
        clause: Clause {
            level: Level::Robust,
            id: "ledger.crash".into(),
            references: vec!["vmailspec:crash".into()],
            claim: "the server goes on running".into(),
            span: Span::default(),
        },
        seen: Seen::Otherwise(Harm::Done),
        failure: Some(Failure {
            place: (0, 0),
            expected: "the server to run to the end of the case".into(),
            seen: how,
        }),
    }
}

/// Runs `case` on `stage`.
pub async fn drive<S: Stage>(
    case: &Case,
    stage: &S,
    tokens: &Tokens,
    journal: &Journal,
) -> Outcome {
    let began = Instant::now();
    let mut score = Score::new(&case.scenario);
    let mut run = steps::Run::new(case, stage, tokens, journal);
    run.start(&mut score).await;
    run.steps(&case.scenario.steps, &mut score).await;
    let (transactions, earlier, closed) = run.finish().await;
    let mut outcome = score.outcome();
    if outcome.blocked.is_none() || outcome.clauses.iter().any(ClauseSeen::was_seen) {
        let watch = ledger::Watch {
            stage,
            tokens,
            journal,
            case,
            earlier,
        };
        outcome.clauses.extend(watch.settle(&transactions).await);
    }
    if closed && stage.crashed().is_none() {
        // A process that ends closes its connections before anybody hears that it has ended.
        tokio::time::sleep(LAST_WORD).await;
    }
    outcome.clauses.extend(stage.crashed().map(crash));
    outcome.transcript = journal.lines();
    outcome.took = began.elapsed();
    outcome
}
