//! Notices to the sender (bounce(8)): failed, delayed, delivered (RFC 3461, RFC 3462, RFC 3464).
//!
//! One notice a round and kind, for all recipients it is about. It goes from the null sender, so
//! it is never answered by another; where a message from the null sender fails, that is logged and
//! the message dropped. A notice is in the queue, flushed, before its recipients count as done: a
//! crash in between repeats the notice, never loses it.

use std::fmt::Write as _;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use tokio::task::spawn_blocking;
use vmaild_protocol::session::{Notify, Ret};
use vmaild_protocol::{Mailbox, ReversePath, xtext};

use crate::aliases::Unexpanded;
use crate::config::Params;
use crate::log;
use crate::message;
use crate::queue::file::{Reason, Recipient, Record, State};
use crate::queue::schedule::Active;
use crate::queue::{Queue, Untaken, zoned};

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It will not arrive.
    Failed,
    /// It has not arrived yet.
    Delayed,
    /// It has arrived, or left for a host that does not report.
    Delivered,
}

/// One recipient in a notice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    index: usize,
    recipient: &'a Recipient,
    reason: &'a Reason,
}

/// Tells the sender what this round came to. True if a notice could not be queued.
pub(crate) async fn notify(queue: &Arc<Queue>, params: &Params, active: &mut Active) -> bool {
    let mut again = false;
    for kind in [Kind::Failed, Kind::Delivered, Kind::Delayed] {
        if kind == Kind::Delayed && !is_late(params, &active.record) {
            continue;
        }
        let record = active.record.clone();
        let (told, untold) = entries(kind, &record);
        if let (ReversePath::Mailbox(sender), false) = (&record.sender, told.is_empty()) {
            let returned = returned(params, kind, &record, active.content.reader()).await;
            let notice = Notice {
                params,
                kind,
                record: &record,
                entries: &told,
            };
            let text = |id: &str, when: &Zoned| notice.text(sender, id, when, &returned);
            let result = queue.submit(sender, record.smtputf8, text).await;
            match result {
                Ok(id) => {
                    let what = match kind {
                        Kind::Failed => "sender non-delivery notification",
                        Kind::Delayed => "sender delay notification",
                        Kind::Delivered => "sender delivery status notification",
                    };
                    log!("bounce", "{}: {what}: {id}", record.id);
                }
                Err(error) => {
                    let id = &record.id;
                    log!("bounce", "{id}: warning: cannot queue a notice: {error}");
                    // A sender whose address leads nowhere will not hear of it next time either.
                    if !matches!(error, Untaken::Aliases(Unexpanded::TooDeep(_))) {
                        again = true;
                        continue;
                    }
                }
            }
            if kind == Kind::Delayed {
                active.mark_warned();
            }
        } else if kind == Kind::Failed && !told.is_empty() {
            log!("bounce", "{}: undeliverable notice dropped", record.id);
        }
        if kind != Kind::Delayed {
            let entries = told.iter().chain(&untold);
            active.mark(entries.map(|entry| (entry.index, State::Done)).collect());
        }
    }
    again
}

/// Whether it is time to say that it takes longer (postconf(5) delay_warning_time).
fn is_late(params: &Params, record: &Record) -> bool {
    !params.delay_warning_time.is_zero()
        && !record.warned
        && record.age() >= params.delay_warning_time
}

/// The recipients of a kind: of whom the sender wants to hear, and of whom not (RFC 3461 §4.1).
pub(crate) fn entries(kind: Kind, record: &Record) -> (Vec<Entry<'_>>, Vec<Entry<'_>>) {
    let of_kind = record
        .recipients
        .iter()
        .enumerate()
        .filter_map(|(index, recipient)| match (&recipient.state, kind) {
            (State::Failed(reason), Kind::Failed)
            | (State::PutOff(reason), Kind::Delayed)
            | (State::Sent(reason), Kind::Delivered) => Some(Entry {
                index,
                recipient,
                reason,
            }),
            _ => None,
        });
    let wanted = |notify: Option<Notify>| match kind {
        Kind::Failed => notify.is_none_or(|notify| notify.failure),
        Kind::Delayed => notify.is_none_or(|notify| notify.delay),
        Kind::Delivered => notify.is_some_and(|notify| notify.success),
    };
    of_kind.partition(|entry| wanted(entry.recipient.notify))
}

/// What comes back of the message: all of it, or its headers alone.
pub(crate) struct Returned {
    pub(crate) text: Vec<u8>,
    pub(crate) whole: bool,
}

/// RET= (RFC 3461 §4.3) and postconf(5) bounce_size_limit decide; only failures return it whole.
async fn returned(
    params: &Params,
    kind: Kind,
    record: &Record,
    content: Box<dyn Read + Send>,
) -> Returned {
    let limit = params.bounce_size_limit;
    let whole = kind == Kind::Failed && record.ret != Some(Ret::Headers) && record.size <= limit;
    let read = spawn_blocking(move || {
        let mut text = Vec::new();
        // What cannot be read is left out; the notice goes all the same.
        let _ = content.take(limit).read_to_end(&mut text);
        text
    });
    let mut text = read.await.unwrap_or_default();
    if !whole {
        let end = text.windows(2).position(|two| two == b"\n\n");
        text.truncate(end.map_or(text.len(), |at| at + 1));
    }
    Returned { text, whole }
}

/// A notice that is being written.
pub(crate) struct Notice<'a> {
    pub(crate) params: &'a Params,
    pub(crate) kind: Kind,
    pub(crate) record: &'a Record,
    pub(crate) entries: &'a [Entry<'a>],
}

impl Notice<'_> {
    /// Its headers and body.
    pub(crate) fn text(
        &self,
        sender: &Mailbox,
        id: &str,
        when: &Zoned,
        returned: &Returned,
    ) -> Vec<u8> {
        let (record, host) = (self.record, &self.params.myhostname);
        let global = record.smtputf8;
        let boundary = format!("{}.{}/{host}", record.id, when.timestamp().as_second());
        let subject = match self.kind {
            Kind::Failed => "Undelivered Mail Returned to Sender",
            Kind::Delayed => "Delayed Mail (still being retried)",
            Kind::Delivered => "Successful Mail Delivery Report",
        };
        let mut text = format!(
            "Date: {}\n\
             From: Mail Delivery System <MAILER-DAEMON@{host}>\n\
             Subject: {subject}\n\
             {}\
             Auto-Submitted: auto-replied\n\
             MIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=delivery-status;\n\
             \tboundary=\"{boundary}\"\n\
             Content-Transfer-Encoding: 8bit\n\
             Message-Id: <{}.{id}@{host}>\n\
             \n\
             This is a MIME-encapsulated message.\n\
             \n\
             --{boundary}\n\
             Content-Description: Notification\n\
             Content-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: 8bit\n\
             \n",
            message::date(when),
            folded(&format!("To: {sender}")),
            when.strftime("%Y%m%d%H%M%S"),
        );
        self.explain(&mut text);
        let report = if global {
            "message/global-delivery-status\nContent-Transfer-Encoding: 8bit"
        } else {
            "message/delivery-status"
        };
        let _ = write!(
            text,
            "\n--{boundary}\nContent-Description: Delivery report\nContent-Type: {report}\n\n"
        );
        self.report(&mut text);
        let kind = match (returned.whole, global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        let description = match (returned.whole, self.kind) {
            (true, _) => "Undelivered Message",
            (false, Kind::Delivered) => "Message Headers",
            (false, _) => "Undelivered Message Headers",
        };
        let _ = write!(
            text,
            "\n--{boundary}\n\
             Content-Description: {description}\n\
             Content-Type: {kind}\n\
             Content-Transfer-Encoding: 8bit\n\
             \n\
             {}",
            folded(&format!("Return-Path: {}", record.sender))
        );
        let mut octets = text.into_bytes();
        octets.extend_from_slice(&returned.text);
        if !octets.ends_with(b"\n") {
            octets.push(b'\n');
        }
        octets.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
        octets
    }

    /// The part for people.
    fn explain(&self, text: &mut String) {
        let host = &self.params.myhostname;
        let lifetime = days(self.params.maximal_queue_lifetime);
        let _ = write!(text, "This is the mail server {host}.\n\n");
        let _ = match self.kind {
            Kind::Failed => text.write_str(
                "Your message could not be delivered to the recipients below, and this\n\
                 server has stopped trying. What it was told about each of them stands\n\
                 behind the address; your message, or its headers, is attached.\n",
            ),
            Kind::Delayed => write!(
                text,
                "THIS IS ONLY A WARNING: YOU NEED NOT SEND YOUR MESSAGE AGAIN.\n\n\
                 Your message has not been delivered to the recipients below yet. This\n\
                 server goes on trying until the message is {lifetime} old.\n"
            ),
            Kind::Delivered => text.write_str(
                "Your message has been delivered to the recipients below. Where it was\n\
                 handed to another server you may still hear from that one.\n",
            ),
        };
        text.push_str("\nFor help write to postmaster, and include this report.\n");
        for entry in self.entries {
            let (recipient, reason) = (entry.recipient, entry.reason);
            let original = if recipient.original.key() == recipient.mailbox.key() {
                String::new()
            } else {
                format!(" (expanded from <{}>)", recipient.original)
            };
            let line = format!("<{}>{original}: {}", recipient.mailbox, reason.text);
            text.push('\n');
            // A next hop's words are its own; a line of ours is not.
            text.push_str(&folded(&line.replace(char::is_control, "?")));
        }
    }

    /// The part for programs (RFC 3464 §2).
    fn report(&self, text: &mut String) {
        let record = self.record;
        // It is 7-bit (RFC 3464 §2.1), unless the message itself needs more (RFC 6533 §3).
        let fits = |letter: char| !letter.is_control() && (letter.is_ascii() || record.smtputf8);
        let mut field = |name: &str, value: &str| {
            let value = value.replace(|letter| !fits(letter), "?");
            // Without a name, the empty line between the groups.
            let line = if name.is_empty() {
                value
            } else {
                format!("{name}: {value}")
            };
            text.push_str(&folded(&line));
        };
        field("Reporting-MTA", &format!("dns; {}", self.params.myhostname));
        if let Some(envid) = record.envid.as_deref().and_then(xtext::decode) {
            field("Original-Envelope-Id", &envid);
        }
        field("X-Vmaild-Queue-ID", &record.id);
        if let ReversePath::Mailbox(sender) = &record.sender {
            field("X-Vmaild-Sender", &address(sender));
        }
        field("Arrival-Date", &message::date(&zoned(record.arrived)));
        for entry in self.entries {
            let (recipient, reason) = (entry.recipient, entry.reason);
            field("", "");
            field("Final-Recipient", &address(&recipient.mailbox));
            if let Some(original) = recipient.orcpt.as_deref().and_then(original_recipient) {
                // Only what the sender gave (RFC 3461 §6.3).
                field("Original-Recipient", &original);
            }
            let action = match self.kind {
                Kind::Failed => "failed",
                Kind::Delayed => "delayed",
                Kind::Delivered if recipient.expanded => "expanded",
                Kind::Delivered if reason.mta.is_some() => "relayed",
                Kind::Delivered => "delivered",
            };
            field("Action", action);
            field("Status", &reason.status);
            if let Some(mta) = &reason.mta {
                field("Remote-MTA", &format!("dns; {mta}"));
            }
            if reason.reply.is_empty() {
                field("Diagnostic-Code", &format!("X-Vmaild; {}", reason.text));
            } else {
                field("Diagnostic-Code", &format!("smtp; {}", reason.reply));
            }
            if self.kind == Kind::Delayed {
                let lifetime = self.params.maximal_queue_lifetime.as_micros();
                let lifetime = u64::try_from(lifetime).unwrap_or(u64::MAX);
                let until = zoned(record.arrived.saturating_add(lifetime));
                field("Will-Retry-Until", &message::date(&until));
            }
        }
    }
}

/// `rfc822; user@domain` (RFC 3464 §2.3.2).
fn address(mailbox: &Mailbox) -> String {
    let kind = if mailbox.is_ascii() {
        "rfc822"
    } else {
        "utf-8"
    };
    format!("{kind}; {mailbox}")
}

/// ORCPT= decoded (RFC 3461 §4.2).
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    if !address.is_ascii() {
        // utf-8, and as it is already (RFC 6533 §3).
        return Some(orcpt.to_owned());
    }
    Some(format!("{kind};{}", xtext::decode(address)?))
}

fn days(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 86_400 => format!("{} day(s)", seconds / 86_400),
        seconds => format!("{} hour(s)", seconds / 3600),
    }
}

/// Letters that a line of 998 octets has room for, whatever they are (RFC 5322 §2.1.1).
const LETTERS_LIMIT: usize = 998 / 4;

/// A line, continued on the next where it is longer than 78 columns and has a blank (RFC 5322
/// §2.1.1), and where a word is longer than a line may be.
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (number, word) in line.split(' ').enumerate() {
        if number > 0 {
            let length = word.chars().count();
            let long = column + length >= 78 && !word.is_empty();
            text.push_str(if long { "\n    " } else { " " });
            column = if long { 4 } else { column + 1 };
        }
        for letter in word.chars() {
            if column == LETTERS_LIMIT {
                text.push_str("\n    ");
                column = 4;
            }
            text.push(letter);
            column += 1;
        }
    }
    text.push('\n');
    text
}
