//! Probes: they look where the mail went.
//!
//! It promises: presence is an event that was seen; absence is shown by a canary, a later message
//! on the same way that did arrive, never by waiting alone; what cannot be seen is said to be so
//! (*blocked*), never taken for absent.

pub mod maildir;
pub(crate) mod owner;
pub mod report;
pub mod sink;
pub mod sql;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::driver::canary::{self, POLL};
use crate::driver::{Journal, Miss, Stage};
use crate::names::Tokens;
use crate::scenario::text::expand;
use crate::scenario::{Span, Text, Vantage};

pub(crate) use crate::driver::Stop;

/// How long a probe waits where the scenario does not say.
const LIMIT: Duration = Duration::from_secs(10);
/// A canary that takes as long tells that the server is busy.
const LATE: Duration = Duration::from_secs(1);
/// How often a busy server is given more time, at most.
const MORE_TIME: u8 = 5;
/// How long a probe waits that only gathers evidence.
const EVIDENCE: Duration = Duration::from_secs(1);

/// What a probe looks with.
#[derive(Debug)]
pub(crate) struct Look<'a, S> {
    pub(crate) stage: &'a S,
    pub(crate) tokens: &'a Tokens,
    pub(crate) journal: &'a Journal,
    pub(crate) names: &'a BTreeMap<String, String>,
    /// Mailboxes that are watched.
    pub(crate) watches: &'a BTreeMap<String, watch::Watch>,
    /// Where the case's client stands; its canaries come from there.
    pub(crate) from: Vantage,
    /// The probe's place.
    pub(crate) span: Span,
    /// After a surprise: look, and do not wait long.
    pub(crate) evidence: bool,
}

impl<S> Look<'_, S> {
    pub(crate) fn text(&self, text: &Text) -> String {
        expand(text, self.names)
    }

    /// When waiting ends.
    pub(crate) fn deadline(&self, within: Option<Duration>) -> Instant {
        let limit = within.unwrap_or(LIMIT);
        let limit = if self.evidence {
            limit.min(EVIDENCE)
        } else {
            limit
        };
        Instant::now() + self.journal.limit(limit)
    }

    /// What was waited for has not come. While canaries are late as well, a busy server is given
    /// more time, a few times: until when; `None`: it is not the server's speed.
    pub(crate) async fn later(
        &self,
        times: &mut u8,
        canary: impl Future<Output = Result<Duration, String>>,
    ) -> Option<Instant> {
        if self.evidence || *times == MORE_TIME {
            return None;
        }
        *times += 1;
        let took = timeout(LIMIT, canary).await.ok()?.ok()?;
        (took >= LATE).then(|| Instant::now() + self.journal.limit(took))
    }
}

/// `queue N`: what the target still holds of the case.
pub(crate) async fn queue<S: Stage>(
    look: &Look<'_, S>,
    count: usize,
    within: Option<Duration>,
) -> Result<(), Stop> {
    let mut deadline = look.deadline(within);
    let mut times = 0;
    loop {
        let Some(held) = look.stage.queued(&look.tokens.prefix()).await else {
            return Err(Stop::Environment(
                "the queue of this target cannot be seen".into(),
            ));
        };
        if held == count {
            look.journal.note(format!("queue: {}", messages(held)));
            return Ok(());
        }
        if Instant::now() >= deadline {
            let canary = canary::to_maildir(look.stage, look.from, look.tokens, look.journal);
            let Some(later) = look.later(&mut times, Box::pin(canary)).await else {
                let expected = format!("{} in the queue", messages(count));
                return Err(Stop::Missed(
                    Miss::new(look.span, expected, messages(held)).harmful(),
                ));
            };
            deadline = later;
        }
        sleep(POLL).await;
    }
}

/// `log has`, `log lacks`: what the target's log says since the case began. That it will not say
/// more is shown by a canary, whose own lines come later.
pub(crate) async fn log<S: Stage>(
    look: &Look<'_, S>,
    has: bool,
    text: &Text,
    within: Option<Duration>,
) -> Result<(), Stop> {
    let text = look.text(text);
    if !has && !look.evidence {
        canary::to_maildir(look.stage, look.from, look.tokens, look.journal)
            .await
            .map_err(|why| Stop::Environment(format!("absence cannot be shown: {why}")))?;
    }
    let deadline = look.deadline(within);
    loop {
        let lines = look.stage.log();
        if lines.is_empty() && !has {
            return Err(Stop::Environment("the target's log is empty".into()));
        }
        let found = lines.iter().find(|line| line.contains(&text)).cloned();
        match (found, has) {
            (Some(_), true) | (None, false) => return Ok(()),
            (Some(line), false) => {
                let expected = format!("a log without {text}");
                return Err(Stop::Missed(Miss::new(look.span, expected, line).harmful()));
            }
            (None, true) if Instant::now() >= deadline => {
                let (expected, seen) = (format!("a log with {text}"), "no such line");
                return Err(Stop::Missed(Miss::new(look.span, expected, seen)));
            }
            (None, true) => sleep(POLL).await,
        }
    }
}

/// `no message`, `1 message`, `2 messages`
pub(crate) fn messages(count: usize) -> String {
    match count {
        0 => "no message".into(),
        1 => "1 message".into(),
        n => format!("{n} messages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_goes_on_a_few_times_while_canaries_are_late() {
        let (tokens, journal) = (Tokens::new("run", 1), Journal::new(Duration::from_mins(1)));
        let mut look = Look {
            stage: &(),
            tokens: &tokens,
            journal: &journal,
            names: &BTreeMap::new(),
            watches: &BTreeMap::new(),
            from: Vantage::Stranger,
            span: Span::default(),
            evidence: false,
        };
        let late = async || Ok(LATE);
        let mut times = 0;
        let began = Instant::now();
        assert!(look.later(&mut times, late()).await >= Some(began + LATE));
        let (soon, lost) = (Duration::ZERO, || Err("lost".to_owned()));
        assert_eq!(look.later(&mut times, async { Ok(soon) }).await, None);
        assert_eq!(look.later(&mut times, async { lost() }).await, None);
        look.evidence = true;
        assert_eq!(look.later(&mut times, late()).await, None);
        look.evidence = false;
        times = MORE_TIME;
        assert_eq!(look.later(&mut times, late()).await, None);
    }
}
