//! Delivery to a next hop by SMTP (RFC 5321 §3.3, §4.5.3.2, §5).
//!
//! All recipients of a message with the same next hop share one transaction. Hosts are tried in
//! the order of their preference, as long as something is left that another host might take. What
//! a host refuses with 5yz has failed; with 4yz, or by closing, timing out or talking nonsense, it
//! is put off. After the final dot was sent nothing is tried elsewhere in the same round: the host
//! may have the message already.

mod hosts;
mod session;

#[cfg(any(test, fuzzing))]
pub(crate) use session::Encoder;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vmaild_protocol::ReversePath;
use vmaild_protocol::session::Ret;

use self::hosts::Resolver;
use self::session::Session;
use super::{Parcel, Verdict, locked};
use crate::config::Params;
use crate::log;
use crate::queue::Services;
use crate::queue::file::{Reason, Recipient, notify_text};
use crate::tls::Connector;

/// A connection to a next hop, in clear or under TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + Debug> Stream for T {}

/// postconf(5) smtp_mx_address_limit.
const HOSTS_LIMIT: usize = 5;

/// Where transport(5) or the recipient's domain sends a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NextHop {
    /// `domain` (its mail exchangers), `[host]`, `1.2.3.4`, `[1.2.3.4]`, `[IPv6:..]`.
    pub(crate) nexthop: String,
    /// Instead of smtp_tcp_port.
    pub(crate) port: Option<u16>,
}

/// Delivers to next hops.
#[derive(Debug)]
pub(crate) struct Client {
    resolver: Resolver,
    tls: Option<Connector>,
    hops: Mutex<HashMap<NextHop, Arc<Hop>>>,
}

/// What is shared by the deliveries to one next hop.
#[derive(Debug)]
struct Hop {
    turns: Arc<Semaphore>,
    /// Deliveries that wait for their turn: for them a connection is kept open.
    waiting: AtomicUsize,
    /// Deliveries under way.
    under_way: AtomicUsize,
    /// Why none of its hosts could be talked to last.
    down: Mutex<Option<Verdict>>,
    idle: Mutex<Vec<Session>>,
}

impl Client {
    pub(crate) fn new(services: &Services) -> Self {
        Self {
            resolver: Resolver::new(services),
            tls: services.tls.clone(),
            hops: Mutex::default(),
        }
    }

    fn hop(&self, hop: &NextHop, params: &Params) -> Arc<Hop> {
        let mut hops = locked(&self.hops);
        // Whom nobody delivers to, or waits for, is forgotten: turns are theirs.
        hops.retain(|_, hop| Arc::strong_count(&hop.turns) > 1);
        let limit = params.default_destination_concurrency_limit;
        let new = || {
            Arc::new(Hop {
                turns: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
                waiting: AtomicUsize::new(0),
                under_way: AtomicUsize::new(0),
                down: Mutex::default(),
                idle: Mutex::default(),
            })
        };
        hops.entry(hop.clone()).or_insert_with(new).clone()
    }

    /// Waits until there are few enough connections to the next hop. Where the hop turns out to be
    /// down meanwhile, that is the verdict: a long queue for it must not hold up other mail.
    pub(crate) async fn turn(
        &self,
        hop: &NextHop,
        params: &Params,
    ) -> Result<Option<OwnedSemaphorePermit>, Verdict> {
        let hop = self.hop(hop, params);
        if let Ok(turn) = hop.turns.clone().try_acquire_owned() {
            return Ok(Some(turn));
        }
        hop.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = hop.turns.clone().acquire_owned().await.ok();
        hop.waiting.fetch_sub(1, Ordering::Relaxed);
        match &*locked(&hop.down) {
            Some(verdict) => Err(verdict.clone()),
            None => Ok(turn),
        }
    }

    /// Delivers a message to the recipients of one next hop; says how long connecting took, and
    /// whether the hop wants no further connection beside those that it has.
    pub(crate) async fn deliver(
        &self,
        parcel: &Parcel,
        to: &NextHop,
        recipients: &[usize],
    ) -> (Vec<(usize, Verdict)>, Duration, bool) {
        let params = &parcel.params;
        let hop = self.hop(to, params);
        hop.under_way.fetch_add(1, Ordering::AcqRel);
        let (mut connecting, mut down, mut talked) = (Duration::ZERO, None, false);
        let mut letter = Letter {
            parcel,
            verdicts: BTreeMap::new(),
            left: recipients.to_vec(),
        };
        let idle = locked(&hop.idle).pop();
        if let Some(session) = idle {
            letter.attempt(session, &hop).await;
        }
        let hosts = if letter.left.is_empty() {
            Vec::new()
        } else {
            let hosts = self.resolver.hosts(to, params).await;
            hosts.unwrap_or_else(|verdict| {
                letter.decide_left(&verdict);
                Vec::new()
            })
        };
        for host in hosts.into_iter().take(HOSTS_LIMIT) {
            let start = Instant::now();
            let session = Session::open(params, &host, self.tls.as_ref()).await;
            connecting += start.elapsed();
            match session {
                Ok(session) => {
                    talked = true;
                    letter.attempt(session, &hop).await;
                }
                Err(reason) => {
                    log!("smtp", "{}: {}", parcel.record.id, reason.text);
                    let verdict = Verdict::PutOff(reason);
                    letter.decide_left(&verdict);
                    down = Some(verdict);
                }
            }
            if letter.left.is_empty() {
                break;
            }
        }
        let down = down.filter(|_| !talked);
        // One of several is the last: not all give their turn up, and somebody says that it is down.
        let others = hop.under_way.fetch_sub(1, Ordering::AcqRel) > 1;
        let busy = down.is_some() && (others || !locked(&hop.idle).is_empty());
        *locked(&hop.down) = down.filter(|_| !busy);
        // Nobody waits any more: no connection is kept.
        if hop.waiting.load(Ordering::Relaxed) == 0 {
            for session in std::mem::take(&mut *locked(&hop.idle)) {
                session.quit(params.smtp_quit_timeout);
            }
        }
        (letter.verdicts.into_iter().collect(), connecting, busy)
    }
}

/// A message on its way to the recipients of one next hop.
struct Letter<'a> {
    parcel: &'a Parcel,
    verdicts: BTreeMap<usize, Verdict>,
    /// The recipients that another host may take.
    left: Vec<usize>,
}

impl Letter<'_> {
    fn decide(&mut self, recipients: &[usize], verdict: &Verdict) {
        let decided = recipients.iter().map(|&index| (index, verdict.clone()));
        self.verdicts.extend(decided);
    }

    fn decide_left(&mut self, verdict: &Verdict) {
        self.decide(&self.left.clone(), verdict);
    }

    /// One transaction over a session; afterwards the session is kept for who waits, or closed.
    async fn attempt(&mut self, mut session: Session, hop: &Hop) {
        let mut open = self.left.clone();
        match self.transaction(&mut session, &mut open).await {
            Ok(()) => {
                if hop.waiting.load(Ordering::Relaxed) > 0 && session.reset().await {
                    locked(&hop.idle).push(session);
                } else {
                    session.quit(self.parcel.params.smtp_quit_timeout);
                }
            }
            Err(mut reason) => {
                if session.may_be_taken {
                    self.left.clear();
                    let note = " -- message may be sent more than once";
                    reason.text.push_str(note);
                }
                self.decide(&open, &Verdict::PutOff(reason));
            }
        }
        let verdicts = &self.verdicts;
        let is_open =
            |index: &usize| matches!(verdicts.get(index), None | Some(Verdict::PutOff(_)));
        self.left.retain(is_open);
    }

    /// MAIL, RCPT, DATA and the content. An error is about the recipients that are `open` still.
    async fn transaction(
        &mut self,
        session: &mut Session,
        open: &mut Vec<usize>,
    ) -> Result<(), Reason> {
        let (record, params) = (&self.parcel.record, &self.parcel.params);
        if let Some(verdict) = self.impossible(session) {
            self.decide(open, &verdict);
            return Ok(());
        }
        // The same recipient, wanting the same, is one recipient.
        let mut asked: IndexMap<String, Vec<usize>> = IndexMap::new();
        for &index in open.iter() {
            if let Some(recipient) = record.recipients.get(index) {
                let command = self.rcpt(session, recipient);
                asked.entry(command).or_default().push(index);
            }
        }
        let mail = iter::once(self.mail(session));
        let commands: Vec<_> = mail.chain(asked.keys().cloned()).collect();
        // One round trip where the host allows it (RFC 2920), else one a command.
        let group = if session.offers("PIPELINING") { 100 } else { 1 };
        let mut replies = Vec::new();
        for group in commands.chunks(group) {
            let limit = params.smtp_mail_timeout;
            session.send(group, limit, "sending MAIL FROM").await?;
            for _ in group {
                let (limit, what) = match replies.len() {
                    0 => (params.smtp_mail_timeout, "sending MAIL FROM"),
                    _ => (params.smtp_rcpt_timeout, "sending RCPT TO"),
                };
                replies.push(session.reply(limit, what).await?);
            }
            if replies.first().is_some_and(|mail| !mail.is_success()) {
                break;
            }
        }
        let mut replies = replies.into_iter();
        if let Some(mail) = replies.next().filter(|mail| !mail.is_success()) {
            self.decide(open, &session.host.said(&mail, "MAIL FROM command"));
            return Ok(());
        }
        open.clear();
        for (indices, reply) in asked.into_values().zip(replies) {
            if reply.is_success() {
                open.extend(indices);
            } else {
                self.decide(&indices, &session.host.said(&reply, "RCPT TO command"));
            }
        }
        if !open.is_empty() {
            let verdict = self.data(session).await?;
            self.decide(open, &verdict);
        }
        Ok(())
    }

    async fn data(&self, session: &mut Session) -> Result<Verdict, Reason> {
        let params = &self.parcel.params;
        let limit = params.smtp_data_init_timeout;
        let reply = session.ask("DATA", limit, "sending DATA command").await?;
        if !reply.is_intermediate() {
            return Ok(session.host.said(&reply, "DATA command"));
        }
        let seven_bit = self.is_too_wide(session);
        let content = &self.parcel.content;
        let reply = session.content(content, seven_bit, params).await?;
        if !reply.is_success() {
            return Ok(session.host.said(&reply, "end of DATA command"));
        }
        let reason = session.host.reason("2.0.0", &reply, reply.to_string());
        Ok(if session.offers("DSN") {
            Verdict::SentReporting(reason)
        } else {
            Verdict::Sent(reason)
        })
    }

    /// What this host cannot do for this message; asked before anything is sent.
    fn impossible(&self, session: &Session) -> Option<Verdict> {
        let (record, host) = (&self.parcel.record, &session.host);
        let failed = |status, text| Some(Verdict::failed(status, &host.relay(), text));
        if record.smtputf8 && !session.offers("SMTPUTF8") {
            let text = format!("SMTPUTF8 is required, but was not offered by host {host}");
            return failed("5.6.7", text);
        }
        if self.is_too_wide(session) && record.sender != ReversePath::Null {
            // Not converted, so not sent (RFC 6152 §3).
            let text = format!("8BITMIME is required, but was not offered by host {host}");
            return failed("5.6.3", text);
        }
        let size = record.size;
        let limit = session
            .size_limit()
            .filter(|&limit| limit > 0 && limit < size)?;
        let text = format!("message size {size} exceeds size limit {limit} of server {host}");
        failed("5.3.4", text)
    }

    /// It has eight bits, and the host takes seven. A notice goes there all the same, with `?` in
    /// their place: without it nobody would hear of the mail that was lost.
    fn is_too_wide(&self, session: &Session) -> bool {
        self.parcel.record.eight_bit && !session.offers("8BITMIME") && !session.offers("SMTPUTF8")
    }

    fn mail(&self, session: &Session) -> String {
        let record = &self.parcel.record;
        let mut command = format!("MAIL FROM:{}", record.sender);
        if session.offers("SIZE") {
            let _ = write!(command, " SIZE={}", record.size);
        }
        if record.eight_bit && session.offers("8BITMIME") {
            command.push_str(" BODY=8BITMIME");
        }
        if record.smtputf8 {
            command.push_str(" SMTPUTF8");
        }
        if session.offers("DSN") && record.sender != ReversePath::Null {
            match record.ret {
                Some(Ret::Full) => command.push_str(" RET=FULL"),
                Some(Ret::Headers) => command.push_str(" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = &record.envid {
                let _ = write!(command, " ENVID={envid}");
            }
        }
        command
    }

    fn rcpt(&self, session: &Session, recipient: &Recipient) -> String {
        let mut command = format!("RCPT TO:<{}>", recipient.mailbox);
        if session.offers("DSN") {
            if let ReversePath::Null = self.parcel.record.sender {
                // Nobody hears of what becomes of a notice (RFC 3461 §6.2).
                command.push_str(" NOTIFY=NEVER");
                return command;
            }
            if let Some(notify) = recipient.notify {
                let _ = write!(command, " NOTIFY={}", notify_text(notify));
            }
            if let Some(orcpt) = &recipient.orcpt {
                let _ = write!(command, " ORCPT={orcpt}");
            }
        }
        command
    }
}
