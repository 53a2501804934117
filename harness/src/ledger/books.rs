//! The books: what was handed over against what was seen. Pure, so that tests can write both.

use std::collections::{BTreeMap, BTreeSet};

use super::follow::{End, Recipient, Transaction};
use super::sightings::{Place, Sighting};
use crate::scenario::Span;

/// Everything that is known when the books are balanced.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// What was handed over.
    pub transactions: Vec<Transaction>,
    /// What was seen.
    pub sightings: Vec<Sighting>,
    /// How tokens of the case begin.
    pub prefix: String,
    /// The target's log lines; empty: not visible.
    pub log: Vec<String>,
    /// Whether every line of it would be there.
    pub log_is_seen: bool,
    /// Which addresses have a known place.
    pub places: Places,
    /// Tokens that the queue holds.
    pub queued: Vec<String>,
    /// Whether mail may wait where nobody can look.
    pub queue_is_hidden: bool,
    /// The target was killed: what arrives twice is no error.
    pub repeats_allowed: bool,
}

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `ledger.lost` …
    pub id: &'static str,
    /// The step that sent the message.
    pub span: Span,
    /// In words.
    pub expected: String,
    /// In words.
    pub seen: String,
    /// Time may cure it.
    pub may_pass: bool,
    /// It is in the queue: at the end of the time that is good enough.
    pub kept: bool,
}

/// The addresses whose mail has one known place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    mailbox: Option<String>,
    sinks: Vec<String>,
}

impl Places {
    /// From the case's names; a case that changes rows leaves no mailbox known.
    #[must_use]
    pub fn new(names: &BTreeMap<String, String>, rows_change: bool) -> Self {
        let mailbox = names.get("domain").filter(|_| !rows_change);
        let sinks = ["elsewhere", "sender", "transport"];
        Self {
            mailbox: mailbox.map(|domain| format!("address@{domain}").to_ascii_lowercase()),
            sinks: sinks
                .iter()
                .filter(|_| !rows_change)
                .filter_map(|&name| names.get(name).map(|domain| domain.to_ascii_lowercase()))
                .collect(),
        }
    }

    fn is_mailbox(&self, address: &str) -> bool {
        self.mailbox
            .as_deref()
            .is_some_and(|mailbox| same(mailbox, address))
    }

    fn is_known(&self, address: &str) -> bool {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.is_mailbox(address) || self.sinks.iter().any(|sink| same(sink, domain))
    }
}

/// Domains do not mind case, and no mailbox of a case differs from another by case alone.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

impl Books {
    /// Everything that does not add up.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for transaction in &self.transactions {
            let Some(token) = &transaction.token else {
                continue;
            };
            let of_it: Vec<&Sighting> = self
                .sightings
                .iter()
                .filter(|seen| seen.is_of(token))
                .collect();
            match &transaction.end {
                End::Accepted(reply) => {
                    for recipient in &transaction.recipients {
                        if recipient.granted() {
                            findings.extend(self.lost(
                                transaction,
                                token,
                                recipient,
                                reply,
                                &of_it,
                            ));
                        } else {
                            findings.extend(self.slipped(transaction, recipient, &of_it));
                        }
                    }
                }
                End::Refused(reply) => {
                    findings.extend(arrived(
                        transaction,
                        &of_it,
                        &format!("refused with {reply}"),
                    ));
                }
                End::Unfinished => {
                    findings.extend(arrived(transaction, &of_it, "never sent to its end"));
                }
                // The end of data left and no reply came: both ends are honest.
                End::Unknown => {}
            }
            if !self.repeats_allowed {
                findings.extend(doubled(transaction, &of_it));
            }
            findings.extend(both(transaction, &of_it));
            findings.extend(changed(transaction, &of_it));
        }
        findings.extend(self.smuggled());
        findings
    }

    /// An accepted recipient of whom nothing was seen.
    fn lost(
        &self,
        transaction: &Transaction,
        token: &String,
        recipient: &Recipient,
        reply: &str,
        of_it: &[&Sighting],
    ) -> Option<Finding> {
        let address = &recipient.address;
        let attributed = of_it.iter().any(|seen| seen.is_for(address));
        let anywhere = !self.places.is_known(address)
            && of_it
                .iter()
                .any(|seen| !self.is_of_another(transaction, address, seen));
        // A mailbox that is there has its mail; what is for elsewhere may wait in a queue out of sight.
        let hidden = self.queue_is_hidden && !self.places.is_mailbox(address);
        let logged = || self.logged(reply, address, recipient, transaction);
        if attributed || anywhere || hidden || logged() {
            return None;
        }
        let kept = self.queued.contains(token);
        // The server says that it put the message off: there is nothing to wait for.
        let put_off = kept && self.log_has(reply, address, "status=deferred");
        Some(Finding {
            id: "ledger.lost",
            span: transaction.span,
            expected: format!(
                "the message for <{address}>, answered {reply}, to be delivered, reported or kept"
            ),
            seen: "no trace of it".into(),
            may_pass: !put_off,
            kept,
        })
    }

    /// Whether a sighting is explained by another recipient with a place of his own.
    fn is_of_another(&self, transaction: &Transaction, address: &str, seen: &Sighting) -> bool {
        transaction.recipients.iter().any(|other| {
            !same(&other.address, address)
                && self.places.is_known(&other.address)
                && seen.is_for(&other.address)
        })
    }

    /// A failed delivery that nobody is to hear of (null sender, NOTIFY without FAILURE) and mail that a
    /// `discard:` row throws away leave their trace in the log alone. Where that cannot be seen, nothing
    /// can be said of the former, unless it was for a mailbox that is there.
    fn logged(
        &self,
        reply: &str,
        address: &str,
        recipient: &Recipient,
        transaction: &Transaction,
    ) -> bool {
        let silent = transaction.from.is_empty() || recipient.wants_no_failure();
        let unseen = !self.log_is_seen && !self.places.is_mailbox(address);
        (silent && (unseen || self.log_has(reply, address, "status=bounced")))
            || self.log_has(reply, address, "relay=discard")
            || self.log_has(reply, address, "/discard[")
    }

    /// A log line with the queue id of the reply that speaks of this recipient, or of what he was
    /// rewritten to.
    fn log_has(&self, reply: &str, address: &str, what: &str) -> bool {
        let Some(id) = queue_id(reply) else {
            return false;
        };
        let (named, only) = (
            format!("<{address}>").to_ascii_lowercase(),
            format!(" {id}: "),
        );
        self.log.iter().any(|line| {
            line.contains(&only)
                && line.contains(what)
                && line.to_ascii_lowercase().contains(&named)
        })
    }

    /// A refused recipient who got the message all the same.
    fn slipped(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
        of_it: &[&Sighting],
    ) -> Option<Finding> {
        let address = &recipient.address;
        // Asked twice and granted once is granted.
        if transaction
            .recipients
            .iter()
            .any(|other| other.granted() && same(&other.address, address))
        {
            return None;
        }
        let seen = of_it.iter().find(|seen| {
            !matches!(seen.place, Place::Bounce { .. })
                && seen.is_for(address)
                // An alias of another recipient may lead to the same mailbox.
                && !transaction.recipients.iter().any(|other| other.granted() && seen.is_for(&other.address))
                && (self.places.is_known(address) || seen.names(address))
        })?;
        Some(Finding {
            id: "ledger.refused",
            span: transaction.span,
            expected: format!(
                "nothing for <{address}>, who was answered {}",
                recipient.code
            ),
            seen: format!("the message {}", seen.place),
            may_pass: false,
            kept: false,
        })
    }

    /// Messages of the case that nobody handed over: smuggled within another one's content.
    fn smuggled(&self) -> Vec<Finding> {
        let known: BTreeSet<&str> = self
            .transactions
            .iter()
            .filter_map(|one| one.token.as_deref())
            .collect();
        let stray = self.sightings.iter().filter(|seen| {
            seen.token
                .as_deref()
                .is_some_and(|token| token.starts_with(&self.prefix) && !known.contains(token))
        });
        let span = self
            .transactions
            .first()
            .map_or_else(Span::default, |one| one.span);
        stray
            .map(|seen| Finding {
                id: "ledger.refused",
                span,
                expected: "no message that was not handed over as one".into(),
                seen: format!("a message that stood within another {}", seen.place),
                may_pass: false,
                kept: false,
            })
            .collect()
    }
}

fn arrived(transaction: &Transaction, of_it: &[&Sighting], why: &str) -> Option<Finding> {
    let seen = of_it.first()?;
    Some(Finding {
        id: "ledger.refused",
        span: transaction.span,
        expected: format!("nothing of a message that was {why}"),
        seen: format!("the message {}", seen.place),
        may_pass: false,
        kept: false,
    })
}

fn doubled(transaction: &Transaction, of_it: &[&Sighting]) -> Vec<Finding> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seen in of_it {
        *counts
            .entry(seen.place.to_string().to_ascii_lowercase())
            .or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(place, count)| Finding {
            id: "ledger.doubled",
            span: transaction.span,
            expected: "the message once".into(),
            seen: format!("{count} times {place}"),
            may_pass: false,
            kept: false,
        })
        .collect()
}

/// Delivered to and reported as failed for the same final recipient.
fn both(transaction: &Transaction, of_it: &[&Sighting]) -> Vec<Finding> {
    let delivered: BTreeSet<String> = of_it
        .iter()
        .filter_map(|seen| match &seen.place {
            Place::Maildir(address) => Some(seen.delivered_to.as_ref().unwrap_or(address)),
            Place::Sink(address) => Some(address),
            Place::Bounce { .. } => None,
        })
        .map(|address| address.to_ascii_lowercase())
        .collect();
    of_it
        .iter()
        .filter_map(|seen| match &seen.place {
            Place::Bounce { recipient, .. }
                if delivered.contains(&recipient.to_ascii_lowercase()) =>
            {
                Some(Finding {
                    id: "ledger.both",
                    span: transaction.span,
                    expected: format!("the message for <{recipient}> delivered or reported"),
                    seen: "it was delivered and reported as failed".into(),
                    may_pass: false,
                    kept: false,
                })
            }
            _ => None,
        })
        .collect()
}

/// Another body than the one that was sent. A next hop may be one for seven bits: what has eight is
/// compared in Maildirs alone.
fn changed(transaction: &Transaction, of_it: &[&Sighting]) -> Option<Finding> {
    let sent = transaction.body.as_ref()?;
    let compared = of_it.iter().filter(|seen| match seen.place {
        Place::Maildir(_) => true,
        Place::Sink(_) => sent.is_seven_bit(),
        Place::Bounce { .. } => false,
    });
    compared.into_iter().find_map(|seen| {
        let difference = match &seen.body {
            Some(arrived) => sent.difference(arrived)?,
            None => "no body below a header".to_owned(),
        };
        Some(Finding {
            id: "ledger.changed",
            span: transaction.span,
            expected: "the body as it was sent".into(),
            seen: format!("{}: {difference}", seen.place),
            // It may still be being written.
            may_pass: true,
            kept: false,
        })
    })
}

/// The queue id in `250 2.0.0 Ok: queued as 4ABC`.
#[must_use]
pub fn queue_id(reply: &str) -> Option<&str> {
    let (_, behind) = reply.split_once("queued as ")?;
    let id = behind
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .next()?;
    (!id.is_empty()).then_some(id)
}
