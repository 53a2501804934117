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

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vmaild_protocol::Mailbox;

use crate::config::Params;
use crate::log;
use crate::policy::resolve::{self, Route};
use crate::queue::file::{Reason, Recipient, Record, State};
use crate::queue::schedule::Active;
use crate::queue::{Content, Services};

/// What deliveries share.
#[derive(Debug)]
pub(crate) struct Delivery {
    maildir: Arc<maildir::Maildirs>,
    smtp: Arc<smtp::Client>,
    /// postconf(5) default_process_limit, for Maildirs and for next hops each.
    maildir_slots: Arc<Semaphore>,
    smtp_slots: Arc<Semaphore>,
}

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is where it was to go.
    Sent {
        /// What the log and a success notice say.
        reason: Reason,
        /// The next hop promised to report success itself (RFC 3461 §5.2.2).
        reported_there: bool,
    },
    /// Not now.
    PutOff {
        /// Why.
        reason: Reason,
        /// It was a lookup that failed: try again within seconds.
        soon: bool,
    },
    /// Never.
    Failed(Reason),
}

impl Verdict {
    /// It is where it was to go, as far as this server can know.
    pub(crate) fn sent(relay: &str, text: impl Into<String>) -> Self {
        Self::Sent {
            reason: Reason::new("2.0.0", relay, text),
            reported_there: false,
        }
    }

    /// Not now; with the ordinary distance.
    pub(crate) fn put_off(status: &str, relay: &str, text: impl Into<String>) -> Self {
        Self::PutOff {
            reason: Reason::new(status, relay, text),
            soon: false,
        }
    }

    /// Never.
    pub(crate) fn failed(status: &str, relay: &str, text: impl Into<String>) -> Self {
        Self::Failed(Reason::new(status, relay, text))
    }

    /// A table could not be asked: not now, but soon again.
    pub(crate) fn lookup(relay: &str, failed: &crate::tables::Failed) -> Self {
        log!("trivial-rewrite", "warning: {failed}");
        // As the two programs of Postfix say it (oracle F02, F05c).
        let (status, text) = match relay {
            "virtual" => ("4.3.5", "mail system configuration error"),
            _ => ("4.3.0", "address lookup failure"),
        };
        Self::PutOff {
            reason: Reason::new(status, relay, text),
            soon: true,
        }
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
    verdicts: Vec<(usize, Verdict)>,
    /// When the round began, and when the delivery itself did.
    queued: Instant,
    started: Instant,
    /// How long it took until the next hop was ready.
    connecting: Duration,
}

/// What one delivery needs to know of its message.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) record: Arc<Record>,
    pub(crate) content: Content,
    pub(crate) params: Arc<Params>,
}

impl Delivery {
    /// Nothing is open yet.
    pub(crate) fn new(services: &Services) -> Self {
        let limit = services.params.borrow().default_process_limit;
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            maildir: Arc::new(maildir::Maildirs::new()),
            smtp: Arc::new(smtp::Client::new(services)),
            maildir_slots: Arc::new(Semaphore::new(limit)),
            smtp_slots: Arc::new(Semaphore::new(limit)),
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
    let queued = Instant::now();
    // A client waits: what cannot begin now goes by the queue.
    let Ok(_slot) = delivery.maildir_slots.try_acquire() else {
        return false;
    };
    let Destination::Maildir(path) = destination(params, &only.mailbox).await else {
        return false;
    };
    let started = Instant::now();
    let parcel = Parcel {
        record: Arc::new(record.clone()),
        content: content.clone(),
        params: params.clone(),
    };
    let verdict = delivery.maildir.deliver(&parcel, 0, &path).await;
    let sent = matches!(verdict, Verdict::Sent { .. });
    if sent {
        let report = Report {
            started,
            ..Report::decided("virtual", Vec::new(), queued)
        };
        log_active(record);
        report.log(record, only, &verdict);
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
    let queued = Instant::now();
    let parcel = Parcel {
        record: Arc::new(active.record.clone()),
        content: active.content.clone(),
        params: params.clone(),
    };
    let mut soon = false;
    let mut running: JoinSet<Report> = JoinSet::new();
    // Recipients with the same destination, in the order of the first of each.
    let mut boxes: IndexMap<_, Vec<usize>> = IndexMap::new();
    let mut hops: IndexMap<_, Vec<usize>> = IndexMap::new();
    for (index, recipient) in parcel.record.recipients.iter().enumerate() {
        if !recipient.is_waiting() {
            continue;
        }
        let (program, verdict) = if recipient.expanded {
            (
                "cleanup",
                Verdict::sent("none", "expanded to several addresses"),
            )
        } else {
            match destination(params, &recipient.mailbox).await {
                Destination::Maildir(path) => {
                    boxes.entry(path).or_default().push(index);
                    continue;
                }
                Destination::Smtp(hop) => {
                    hops.entry(hop).or_default().push(index);
                    continue;
                }
                Destination::Decided(program, verdict) => (program, verdict),
            }
        };
        let report = Report::decided(program, vec![(index, verdict)], queued);
        soon |= record(active, report);
    }
    for (path, recipients) in boxes {
        let (maildirs, slots) = (delivery.maildir.clone(), delivery.maildir_slots.clone());
        let parcel = parcel.clone();
        running.spawn(async move {
            let _slot = slots.acquire().await;
            let started = Instant::now();
            // One copy a mailbox: what becomes of the first is what becomes of all.
            let verdict = match recipients.first() {
                Some(&first) => maildirs.deliver(&parcel, first, &path).await,
                None => return Report::decided("virtual", Vec::new(), queued),
            };
            let verdicts = recipients
                .into_iter()
                .map(|index| (index, verdict.clone()))
                .collect();
            Report {
                started,
                ..Report::decided("virtual", verdicts, queued)
            }
        });
    }
    let limit = params.smtp_destination_recipient_limit.max(1);
    for (hop, recipients) in hops {
        for recipients in recipients.chunks(limit) {
            let (client, slots) = (delivery.smtp.clone(), delivery.smtp_slots.clone());
            let (parcel, hop, recipients) = (parcel.clone(), hop.clone(), recipients.to_vec());
            running.spawn(async move {
                let turn = match client.turn(&hop, &parcel.params).await {
                    Ok(turn) => turn,
                    Err(verdict) => {
                        let verdicts = recipients.into_iter().map(|index| (index, verdict.clone()));
                        return Report::decided("smtp", verdicts.collect(), queued);
                    }
                };
                let _slot = slots.acquire().await;
                let started = Instant::now();
                let (verdicts, connecting, busy) = client.deliver(&parcel, &hop, &recipients).await;
                if busy && let Some(turn) = turn {
                    // One connection fewer, as long as the others last.
                    turn.forget();
                }
                Report {
                    program: "smtp",
                    verdicts,
                    queued,
                    started,
                    connecting,
                }
            });
        }
    }
    while let Some(report) = running.join_next().await {
        match report {
            Ok(report) => soon |= record(active, report),
            // Its recipients are as they were: they wait for the next round.
            Err(error) => log!("qmgr", "warning: a delivery ended early: {error}"),
        }
    }
    soon
}

/// What is to be done for a recipient.
enum Destination {
    /// A path below virtual_mailbox_base, as the table has it.
    Maildir(String),
    Smtp(smtp::NextHop),
    /// Nothing: it is known already.
    Decided(&'static str, Verdict),
}

async fn destination(params: &Params, mailbox: &Mailbox) -> Destination {
    let route = match resolve::route(params, mailbox).await {
        Ok(route) => route,
        Err(failed) => {
            return Destination::Decided("error", Verdict::lookup("none", &failed));
        }
    };
    match route {
        Route::Mailbox => match resolve::mailbox_path(params, mailbox).await {
            Ok(Some(path)) => Destination::Maildir(path),
            Ok(None) => {
                let text = format!("unknown user: \"{}\"", mailbox.key());
                Destination::Decided("virtual", Verdict::failed("5.1.1", "virtual", text))
            }
            Err(failed) => Destination::Decided("virtual", Verdict::lookup("virtual", &failed)),
        },
        Route::Smtp { nexthop, port } => Destination::Smtp(smtp::NextHop { nexthop, port }),
        Route::Error { status, text } => {
            Destination::Decided("error", Verdict::failed(&status, "none", text))
        }
        Route::Discard => {
            let verdict = Verdict::sent("none", mailbox.domain.clone());
            Destination::Decided("discard", verdict)
        }
        Route::Unknown(transport) => {
            log!("qmgr", "warning: no transport {transport:?} for {mailbox}");
            let verdict = Verdict::put_off("4.3.0", "none", "mail transport unavailable");
            Destination::Decided("error", verdict)
        }
    }
}

impl Report {
    fn decided(program: &'static str, verdicts: Vec<(usize, Verdict)>, queued: Instant) -> Self {
        let (started, connecting) = (Instant::now(), Duration::ZERO);
        Self {
            program,
            verdicts,
            queued,
            started,
            connecting,
        }
    }

    /// The line about a recipient.
    fn log(&self, record: &Record, recipient: &Recipient, verdict: &Verdict) {
        let (word, reason) = match verdict {
            Verdict::Sent { reason, .. } => ("sent", reason),
            Verdict::PutOff { reason, .. } => ("deferred", reason),
            Verdict::Failed(reason) => ("bounced", reason),
        };
        let original = if recipient.original.key() == recipient.mailbox.key() {
            String::new()
        } else {
            format!(" orig_to=<{}>,", recipient.original)
        };
        let age = record.age();
        let in_round = self.queued.elapsed();
        let working = self.started.elapsed();
        log!(
            self.program,
            "{}: to=<{}>,{original} relay={}, delay={}, delays={}/{}/{}/{}, dsn={}, status={word} ({})",
            record.id,
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

/// Logs and records what became of recipients. True if a failed lookup was among the reasons.
fn record(active: &mut Active, mut report: Report) -> bool {
    let mut soon = false;
    let mut changes = Vec::new();
    for (index, verdict) in std::mem::take(&mut report.verdicts) {
        let Some(recipient) = active.record.recipients.get(index) else {
            continue;
        };
        report.log(&active.record, recipient, &verdict);
        let wants_success = recipient.notify.is_some_and(|notify| notify.success);
        let state = match verdict {
            Verdict::Sent {
                reason,
                reported_there: false,
            } if wants_success => State::Sent(reason),
            Verdict::Sent { .. } => State::Done,
            Verdict::PutOff {
                reason,
                soon: quickly,
            } => {
                soon |= quickly;
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
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
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
