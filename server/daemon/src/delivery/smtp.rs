//! Delivery to a next hop by SMTP (RFC 5321 §3.3, §4.5.3.2, §5).
//!
//! All recipients of a message with the same next hop share one transaction. Hosts are tried in
//! the order of their preference, as long as something is left that another host might take. What
//! a host refuses with 5yz has failed; with 4yz, or by closing, timing out or talking nonsense, it
//! is put off. After the final dot was sent nothing is tried elsewhere in the same round: the host
//! may have the message already.

mod hosts;
mod session;

pub(crate) use session::Encoder;

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vmaild_protocol::session::Ret;
use vmaild_protocol::{Reply, ReversePath};

use self::hosts::{Host, Resolver};
use self::session::{Broken, Session};
use super::{Parcel, Verdict};
use crate::config::Params;
use crate::log;
use crate::queue::Services;
use crate::queue::file::{Reason, notify_text};
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
    listening: Vec<SocketAddr>,
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

/// What the deliveries of one attempt have come to.
struct Attempt {
    verdicts: HashMap<usize, Verdict>,
    /// The message may have been taken: no other host is tried.
    may_be_taken: bool,
    /// The host did not want to talk at all.
    down: Option<Verdict>,
    connecting: Duration,
}

impl Client {
    pub(crate) fn new(services: &Services) -> Self {
        Self {
            resolver: Resolver::new(services.resolver),
            tls: services.tls.clone(),
            listening: services.listening.clone(),
            hops: Mutex::default(),
        }
    }

    fn hop(&self, hop: &NextHop, params: &Params) -> Arc<Hop> {
        let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
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
        match &*hop.down.lock().unwrap_or_else(PoisonError::into_inner) {
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
        let hop = self.hop(to, &parcel.params);
        hop.under_way.fetch_add(1, Ordering::AcqRel);
        let (mut connecting, mut down) = (Duration::ZERO, None);
        let mut verdicts = HashMap::new();
        let mut left = recipients.to_vec();
        let idle = hop
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(session) = idle {
            let attempt = self.attempt(parcel, session, &left, &hop).await;
            if attempt.may_be_taken {
                left.clear();
            }
            verdicts.extend(attempt.verdicts);
        }
        left.retain(|index| !matches!(verdicts.get(index), Some(v) if is_final(v)));
        if !left.is_empty() {
            let port = to.port.unwrap_or(parcel.params.smtp_tcp_port);
            let myhostname = &parcel.params.myhostname;
            match self
                .resolver
                .hosts(&to.nexthop, port, myhostname, &self.listening)
                .await
            {
                Err(verdict) => {
                    for index in left {
                        verdicts.insert(index, verdict.clone());
                    }
                }
                Ok(hosts) => {
                    let mut talked = false;
                    for host in hosts.into_iter().take(HOSTS_LIMIT) {
                        let attempt = self.try_host(parcel, &host, &left, &hop).await;
                        connecting += attempt.connecting;
                        talked |= attempt.down.is_none();
                        down = attempt.down;
                        verdicts.extend(attempt.verdicts);
                        left.retain(|index| !matches!(verdicts.get(index), Some(v) if is_final(v)));
                        if attempt.may_be_taken || left.is_empty() {
                            break;
                        }
                    }
                    down = down.filter(|_| !talked);
                }
            }
        }
        // One of several is the last: not all give their turn up, and somebody says that it is down.
        let others = hop.under_way.fetch_sub(1, Ordering::AcqRel) > 1;
        let reusable = !hop
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        let busy = down.is_some() && (others || reusable);
        *hop.down.lock().unwrap_or_else(PoisonError::into_inner) = down.filter(|_| !busy);
        Self::close_idle(&hop, parcel);
        let mut verdicts: Vec<_> = verdicts.into_iter().collect();
        verdicts.sort_by_key(|(index, _)| *index);
        (verdicts, connecting, busy)
    }

    /// Connects to one host and tries to deliver there.
    async fn try_host(
        &self,
        parcel: &Parcel,
        host: &Host,
        recipients: &[usize],
        hop: &Arc<Hop>,
    ) -> Attempt {
        let start = Instant::now();
        match Session::open(&parcel.params, host, self.tls.as_ref()).await {
            Ok(session) => {
                let connecting = start.elapsed();
                let attempt = self.attempt(parcel, session, recipients, hop).await;
                Attempt {
                    connecting,
                    ..attempt
                }
            }
            Err(broken) => {
                let id = &parcel.record.id;
                log!("smtp", "{id}: {}", broken.text);
                let verdict = broken.verdict(host);
                Attempt {
                    verdicts: all(recipients, &verdict),
                    may_be_taken: false,
                    down: Some(verdict),
                    connecting: start.elapsed(),
                }
            }
        }
    }

    /// One transaction over a session; afterwards the session is kept for who waits, or closed.
    async fn attempt(
        &self,
        parcel: &Parcel,
        mut session: Session,
        recipients: &[usize],
        hop: &Arc<Hop>,
    ) -> Attempt {
        let mut transaction = Transaction {
            parcel,
            session: &mut session,
            verdicts: HashMap::new(),
        };
        let result = transaction.run(recipients).await;
        let verdicts = std::mem::take(&mut transaction.verdicts);
        let mut attempt = Attempt {
            verdicts,
            may_be_taken: false,
            down: None,
            connecting: Duration::ZERO,
        };
        match result {
            Ok(()) => {
                if hop.waiting.load(Ordering::Relaxed) > 0 && session.reset().await {
                    hop.idle
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(session);
                } else {
                    session.quit(parcel.params.smtp_quit_timeout);
                }
            }
            Err(broken) => {
                attempt.may_be_taken = broken.may_be_taken;
                let verdict = broken.verdict(&session.host);
                for &index in recipients {
                    attempt
                        .verdicts
                        .entry(index)
                        .or_insert_with(|| verdict.clone());
                }
            }
        }
        attempt
    }

    /// Nobody waits any more: no connection is kept.
    fn close_idle(hop: &Arc<Hop>, parcel: &Parcel) {
        if hop.waiting.load(Ordering::Relaxed) == 0 {
            let idle =
                std::mem::take(&mut *hop.idle.lock().unwrap_or_else(PoisonError::into_inner));
            for session in idle {
                session.quit(parcel.params.smtp_quit_timeout);
            }
        }
    }
}

fn all(recipients: &[usize], verdict: &Verdict) -> HashMap<usize, Verdict> {
    recipients
        .iter()
        .map(|&index| (index, verdict.clone()))
        .collect()
}

/// Another host is not asked about it.
fn is_final(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::PutOff { .. })
}

/// MAIL, RCPT, DATA and the content.
struct Transaction<'a> {
    parcel: &'a Parcel,
    session: &'a mut Session,
    verdicts: HashMap<usize, Verdict>,
}

impl Transaction<'_> {
    /// Fills `verdicts`; an error is about all recipients that have none yet.
    async fn run(&mut self, recipients: &[usize]) -> Result<(), Broken> {
        let (parcel, params) = (self.parcel, self.parcel.params.clone());
        let record = &parcel.record;
        if let Some(verdict) = self.impossible() {
            self.verdicts = all(recipients, &verdict);
            return Ok(());
        }
        let mut commands = vec![self.mail()];
        let mut asked: Vec<Vec<usize>> = Vec::new();
        for &index in recipients {
            if let Some(recipient) = record.recipients.get(index) {
                let mut command = format!("RCPT TO:<{}>", recipient.mailbox);
                if self.session.offers("DSN") {
                    if let ReversePath::Null = record.sender {
                        // Nobody hears of what becomes of a notice (RFC 3461 §6.2).
                        command.push_str(" NOTIFY=NEVER");
                    } else {
                        if let Some(notify) = recipient.notify {
                            let _ = write!(command, " NOTIFY={}", notify_text(notify));
                        }
                        if let Some(orcpt) = &recipient.orcpt {
                            let _ = write!(command, " ORCPT={orcpt}");
                        }
                    }
                }
                // The same recipient, wanting the same, is one recipient.
                let known = commands.iter().skip(1).position(|other| *other == command);
                if let Some(group) = known.and_then(|place| asked.get_mut(place)) {
                    group.push(index);
                } else {
                    commands.push(command);
                    asked.push(vec![index]);
                }
            }
        }
        // One round trip where the host allows it (RFC 2920), else one a command.
        let group = if self.session.offers("PIPELINING") {
            100
        } else {
            1
        };
        let mut replies = Vec::new();
        for group in commands.chunks(group) {
            self.session
                .send(group, params.smtp_mail_timeout, "sending MAIL FROM")
                .await?;
            for _ in group {
                let (limit, what) = match replies.len() {
                    0 => (params.smtp_mail_timeout, "sending MAIL FROM"),
                    _ => (params.smtp_rcpt_timeout, "sending RCPT TO"),
                };
                replies.push(self.session.reply(limit, what).await?);
            }
            if replies.first().is_some_and(|mail| !mail.is_success()) {
                break;
            }
        }
        let mut replies = replies.into_iter();
        if let Some(mail) = replies.next().filter(|mail| !mail.is_success()) {
            self.verdicts = all(recipients, &self.said(&mail, "MAIL FROM command"));
            return Ok(());
        }
        let mut taken = Vec::new();
        for (indices, reply) in asked.into_iter().zip(replies) {
            if reply.is_success() {
                taken.extend(indices);
            } else {
                let verdict = self.said(&reply, "RCPT TO command");
                self.verdicts.extend(all(&indices, &verdict));
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.data(&taken).await
    }

    async fn data(&mut self, taken: &[usize]) -> Result<(), Broken> {
        let params = self.parcel.params.clone();
        let what = "sending DATA command";
        let limit = params.smtp_data_init_timeout;
        self.session.send(&["DATA".to_owned()], limit, what).await?;
        let reply = self.session.reply(limit, what).await?;
        if !reply.is_intermediate() {
            self.verdicts
                .extend(all(taken, &self.said(&reply, "DATA command")));
            return Ok(());
        }
        let (content, limit) = (&self.parcel.content, params.smtp_data_xfer_timeout);
        let encoder = Encoder::new(self.is_too_wide());
        self.session.content(content, encoder, limit).await?;
        let reply = self
            .session
            .reply(params.smtp_data_done_timeout, "sending end of data")
            .await;
        let reply = reply.map_err(|broken| Broken {
            may_be_taken: true,
            ..broken
        })?;
        if reply.is_success() {
            let reported_there = self.session.offers("DSN");
            let reason = Reason {
                status: "2.0.0".to_owned(),
                relay: self.session.host.relay(),
                mta: Some(self.session.host.name.clone()),
                reply: reply.to_string(),
                text: reply.to_string(),
            };
            self.verdicts.extend(all(
                taken,
                &Verdict::Sent {
                    reason,
                    reported_there,
                },
            ));
        } else {
            self.verdicts
                .extend(all(taken, &self.said(&reply, "end of DATA command")));
        }
        Ok(())
    }

    /// What this host cannot do for this message; asked before anything is sent.
    fn impossible(&self) -> Option<Verdict> {
        let (record, session) = (&self.parcel.record, &self.session);
        let (relay, host) = (session.host.relay(), session.host.to_string());
        if record.smtputf8 && !session.offers("SMTPUTF8") {
            let text = format!("SMTPUTF8 is required, but was not offered by host {host}");
            return Some(Verdict::failed("5.6.7", &relay, text));
        }
        if self.is_too_wide() && record.sender != ReversePath::Null {
            // Not converted, so not sent (RFC 6152 §3).
            let text = format!("8BITMIME is required, but was not offered by host {host}");
            return Some(Verdict::failed("5.6.3", &relay, text));
        }
        let limit = session
            .size_limit
            .filter(|&limit| limit > 0 && limit < record.size)?;
        let text = format!(
            "message size {} exceeds size limit {limit} of server {host}",
            record.size
        );
        Some(Verdict::failed("5.3.4", &relay, text))
    }

    /// It has eight bits, and the host takes seven. A notice goes there all the same, with `?` in
    /// their place: without it nobody would hear of the mail that was lost.
    fn is_too_wide(&self) -> bool {
        let session = &self.session;
        self.parcel.record.eight_bit && !session.offers("8BITMIME") && !session.offers("SMTPUTF8")
    }

    fn mail(&self) -> String {
        let (record, session) = (&self.parcel.record, &self.session);
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

    /// What a reply that is not the one hoped for means.
    fn said(&self, reply: &Reply, command: &str) -> Verdict {
        let host = &self.session.host;
        // A 2yz or 3yz where it means nothing is no promise.
        let class = if reply.is_permanent() { '5' } else { '4' };
        let status = reply
            .enhanced()
            .filter(|status| status.starts_with(class))
            .map_or_else(|| format!("{class}.0.0"), str::to_owned);
        let reason = Reason {
            status,
            relay: host.relay(),
            mta: Some(host.name.clone()),
            reply: reply.to_string(),
            text: format!("host {host} said: {reply} (in reply to {command})"),
        };
        if reply.is_permanent() {
            Verdict::Failed(reason)
        } else {
            Verdict::PutOff {
                reason,
                soon: false,
            }
        }
    }
}
