//! One round of delivery: every waiting recipient of a message is tried once.
//!
//! A message for one Maildir is delivered before it is in the queue at all (`at_once`).
//!
//! Recipients that share a Maildir, or a next hop, are one delivery. Deliveries of a round run side
//! by side; what became of each is recorded as soon as it is known. A table that fails puts off
//! (4.3.0), always: a database that is down bounces nothing.

pub mod bounce;
pub mod maildir;
pub mod quota;
pub mod smtp;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vmaild_protocol::Mailbox;

use crate::config::Params;
use crate::log;
use crate::policy::resolve::{self, Route};
use crate::queue::file::{Reason, Record, State};
use crate::queue::schedule::Active;
use crate::queue::{Content, Services};

/// What deliveries share.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    maildir: Arc<maildir::Maildirs>,
    smtp: Arc<smtp::Client>,
    /// postconf(5) default_process_limit, for Maildirs and for next hops each.
    maildir_slots: Arc<Semaphore>,
    smtp_slots: Arc<Semaphore>,
}

/// What became of one delivery, with what the log and a notice say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is where it was to go, as far as this server can know.
    Sent(Reason),
    /// The same, and the next hop promised to report success itself (RFC 3461 §5.2.2).
    SentReporting(Reason),
    /// Not now; with the ordinary distance.
    PutOff(Reason),
    /// Not now, for a lookup failed: again within seconds.
    PutOffBriefly(Reason),
    /// Never.
    Failed(Reason),
}

impl Verdict {
    pub(crate) fn sent(relay: &str, text: impl Into<String>) -> Self {
        Self::Sent(Reason::new("2.0.0", relay, text))
    }

    pub(crate) fn put_off(status: &str, relay: &str, text: impl Into<String>) -> Self {
        Self::PutOff(Reason::new(status, relay, text))
    }

    pub(crate) fn failed(status: &str, relay: &str, text: impl Into<String>) -> Self {
        Self::Failed(Reason::new(status, relay, text))
    }

    /// A table could not be asked.
    pub(crate) fn lookup(relay: &str, failed: &crate::tables::Failed) -> Self {
        log!("trivial-rewrite", "warning: {failed}");
        // As the two programs of Postfix say it (oracle F02, F05c).
        let (status, text) = match relay {
            "virtual" => ("4.3.5", "mail system configuration error"),
            _ => ("4.3.0", "address lookup failure"),
        };
        Self::PutOffBriefly(Reason::new(status, relay, text))
    }
}

impl Reason {
    /// A next hop is the reason, or that it could not be reached.
    pub(crate) fn is_remote(&self) -> bool {
        self.mta.is_some() || self.status.starts_with("4.4.")
    }

    /// A reason of this server's own.
    pub(crate) fn new(status: &str, relay: &str, text: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            relay: relay.to_owned(),
            text: text.into(),
            ..Self::default()
        }
    }
}

/// What became of the recipients of one delivery, by their index.
pub(crate) struct Report {
    /// The log's program: `virtual`, `smtp`, `error`, `discard`.
    program: &'static str,
    started: Instant,
    verdicts: Vec<(usize, Verdict)>,
    /// How long it took until the next hop was ready.
    connecting: Duration,
}

/// What one delivery needs to know of its message.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) record: Arc<Record>,
    pub(crate) content: Content,
    pub(crate) params: Arc<Params>,
    /// When the round began.
    queued: Instant,
}

impl Parcel {
    fn new(record: &Record, content: &Content, params: &Arc<Params>) -> Self {
        Self {
            record: Arc::new(record.clone()),
            content: content.clone(),
            params: params.clone(),
            queued: Instant::now(),
        }
    }
}

impl Delivery {
    /// Nothing is open yet.
    pub(crate) fn new(services: &Services) -> Self {
        let limit = services.params.borrow().default_process_limit;
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            maildir: Arc::default(),
            smtp: Arc::new(smtp::Client::new(services)),
            maildir_slots: Arc::new(Semaphore::new(limit)),
            smtp_slots: Arc::new(Semaphore::new(limit)),
        }
    }

    async fn deliver(self, parcel: Parcel, to: Destination, recipients: Vec<usize>) -> Report {
        let all = |verdict: Verdict| recipients.iter().map(|&to| (to, verdict.clone())).collect();
        match to {
            Destination::Maildir(path) => {
                let _slot = self.maildir_slots.acquire().await;
                let started = Instant::now();
                // One copy a mailbox: what becomes of the first is what becomes of all.
                let verdict = self.maildir.deliver(&parcel, &recipients, &path).await;
                Report::new("virtual", started, all(verdict))
            }
            Destination::Smtp(hop) => {
                let turn = match self.smtp.turn(&hop, &parcel.params).await {
                    Ok(turn) => turn,
                    Err(verdict) => return Report::new("smtp", Instant::now(), all(verdict)),
                };
                let _slot = self.smtp_slots.acquire().await;
                let started = Instant::now();
                let (verdicts, connecting, busy) =
                    self.smtp.deliver(&parcel, &hop, &recipients).await;
                if busy && let Some(turn) = turn {
                    // One connection fewer, as long as the others last.
                    turn.forget();
                }
                Report {
                    connecting,
                    ..Report::new("smtp", started, verdicts)
                }
            }
        }
    }
}

/// Delivers a message before it is in the queue, where its only recipient has a Maildir here: the file
/// in `new/` is as safe as one in the queue, and is one instead of two. False: it was not delivered,
/// and the queue is to take it; whatever stood in the way stands there in its first round as well.
pub(crate) async fn at_once(
    delivery: &Delivery,
    params: &Arc<Params>,
    record: &Record,
    content: &Content,
) -> bool {
    let [only] = record.recipients.as_slice() else {
        return false;
    };
    if only.expanded || only.notify.is_some_and(|notify| notify.success) {
        return false;
    }
    let parcel = Parcel::new(record, content, params);
    // A client waits: what cannot begin now goes by the queue.
    let Ok(_slot) = delivery.maildir_slots.try_acquire() else {
        return false;
    };
    let Ok(Destination::Maildir(path)) = destination(params, &only.mailbox).await else {
        return false;
    };
    let started = Instant::now();
    let verdict = delivery.maildir.deliver(&parcel, &[0], &path).await;
    let sent = matches!(verdict, Verdict::Sent(_));
    if sent {
        log_active(record);
        Report::new("virtual", started, vec![(0, verdict)]).log(&parcel);
    }
    sent
}

/// The line with which the delivery of a message begins.
pub(crate) fn log_active(record: &Record) {
    let (id, sender, size) = (&record.id, &record.sender, record.size);
    let open = record.recipients.iter().filter(|to| to.is_open()).count();
    log!(
        "qmgr",
        "{id}: from={sender}, size={size}, nrcpt={open} (queue active)"
    );
}

/// Tries every waiting recipient once. True if a failed lookup was among the reasons.
pub(crate) async fn round(delivery: &Delivery, params: &Arc<Params>, active: &mut Active) -> bool {
    let parcel = Parcel::new(&active.record, &active.content, params);
    let mut soon = false;
    // Recipients with the same destination, in the order of the first of each.
    let mut deliveries: IndexMap<_, Vec<usize>> = IndexMap::new();
    for (index, recipient) in parcel.record.recipients.iter().enumerate() {
        if !recipient.is_waiting() {
            continue;
        }
        let destination = if recipient.expanded {
            let verdict = Verdict::sent("none", "expanded to several addresses");
            Err(("cleanup", verdict))
        } else {
            destination(params, &recipient.mailbox).await
        };
        match destination {
            Ok(destination) => deliveries.entry(destination).or_default().push(index),
            Err((program, verdict)) => {
                let report = Report::new(program, Instant::now(), vec![(index, verdict)]);
                soon |= record(active, &parcel, report);
            }
        }
    }
    let limit = params.smtp_destination_recipient_limit.max(1);
    let mut running: JoinSet<Report> = JoinSet::new();
    for (to, recipients) in deliveries {
        let limit = match to {
            Destination::Maildir(_) => usize::MAX,
            Destination::Smtp(_) => limit,
        };
        for recipients in recipients.chunks(limit) {
            let delivery = delivery.clone();
            running.spawn(delivery.deliver(parcel.clone(), to.clone(), recipients.to_vec()));
        }
    }
    while let Some(report) = running.join_next().await {
        match report {
            Ok(report) => soon |= record(active, &parcel, report),
            // Its recipients are as they were: they wait for the next round.
            Err(error) => log!("qmgr", "warning: a delivery ended early: {error}"),
        }
    }
    soon
}

/// Where the mail of a recipient goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Destination {
    /// A path below virtual_mailbox_base, as the table has it.
    Maildir(String),
    Smtp(smtp::NextHop),
}

/// An error is what is known without delivering anything, and the log's program for it.
async fn destination(
    params: &Params,
    mailbox: &Mailbox,
) -> Result<Destination, (&'static str, Verdict)> {
    let route = resolve::route(params, mailbox).await;
    let route = route.map_err(|failed| ("error", Verdict::lookup("none", &failed)))?;
    Err(match route {
        Route::Mailbox => match resolve::mailbox_path(params, mailbox).await {
            Ok(Some(path)) => return Ok(Destination::Maildir(path)),
            Ok(None) => {
                let text = format!("unknown user: \"{}\"", mailbox.key());
                ("virtual", Verdict::failed("5.1.1", "virtual", text))
            }
            Err(failed) => ("virtual", Verdict::lookup("virtual", &failed)),
        },
        Route::Smtp { nexthop, port } => {
            return Ok(Destination::Smtp(smtp::NextHop { nexthop, port }));
        }
        Route::Error { status, text } => ("error", Verdict::failed(&status, "none", text)),
        Route::Discard => ("discard", Verdict::sent("none", mailbox.domain.clone())),
        Route::Unknown(transport) => {
            log!("qmgr", "warning: no transport {transport:?} for {mailbox}");
            let verdict = Verdict::put_off("4.3.0", "none", "mail transport unavailable");
            ("error", verdict)
        }
    })
}

impl Report {
    fn new(program: &'static str, started: Instant, verdicts: Vec<(usize, Verdict)>) -> Self {
        Self {
            program,
            started,
            verdicts,
            connecting: Duration::ZERO,
        }
    }

    /// The line about each recipient.
    fn log(&self, parcel: &Parcel) {
        let age = parcel.record.age();
        let in_round = parcel.queued.elapsed();
        let working = self.started.elapsed();
        for (index, verdict) in &self.verdicts {
            let Some(recipient) = parcel.record.recipients.get(*index) else {
                continue;
            };
            let (word, reason) = match verdict {
                Verdict::Sent(reason) | Verdict::SentReporting(reason) => ("sent", reason),
                Verdict::PutOff(reason) | Verdict::PutOffBriefly(reason) => ("deferred", reason),
                Verdict::Failed(reason) => ("bounced", reason),
            };
            let original = if recipient.original.key() == recipient.mailbox.key() {
                String::new()
            } else {
                format!(" orig_to=<{}>,", recipient.original)
            };
            log!(
                self.program,
                "{}: to=<{}>,{original} relay={}, delay={}, delays={}/{}/{}/{}, dsn={}, \
                 status={word} ({})",
                parcel.record.id,
                recipient.mailbox,
                reason.relay,
                seconds(age),
                seconds(age.saturating_sub(in_round)),
                seconds(in_round.saturating_sub(working)),
                seconds(self.connecting),
                seconds(working.saturating_sub(self.connecting)),
                reason.status,
                reason.text
            );
        }
    }
}

/// Logs and records what became of recipients. True if a failed lookup was among the reasons.
fn record(active: &mut Active, parcel: &Parcel, report: Report) -> bool {
    report.log(parcel);
    let mut soon = false;
    let mut changes = Vec::new();
    for (index, verdict) in report.verdicts {
        let recipient = parcel.record.recipients.get(index);
        let notify = recipient.and_then(|recipient| recipient.notify);
        let wants_success = notify.is_some_and(|notify| notify.success);
        let state = match verdict {
            Verdict::Sent(reason) if wants_success => State::Sent(reason),
            Verdict::Sent(_) | Verdict::SentReporting(_) => State::Done,
            Verdict::PutOff(reason) => State::PutOff(reason),
            Verdict::PutOffBriefly(reason) => {
                soon = true;
                State::PutOff(reason)
            }
            Verdict::Failed(reason) => State::Failed(reason),
        };
        changes.push((index, state));
    }
    active.mark(changes);
    soon
}

/// To a hundredth, which Postfix leaves out where it is 0 (postconf(5)
/// delay_logging_resolution_limit).
fn seconds(delay: Duration) -> String {
    let text = format!("{:.2}", delay.as_secs_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the operating system says, without the number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_told_to_a_hundredth_of_a_second() {
        let told = |milliseconds| seconds(Duration::from_millis(milliseconds));
        assert_eq!([0, 4, 13, 1234].map(told), ["0", "0", "0.01", "1.23"]);
    }
}
