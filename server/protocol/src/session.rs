//! The SMTP session: what the client may say now, and what is true because of it.
//!
//! The contract for driving a [`Session`], in this order, for ever:
//!
//! 1. `poll` until it returns `None`, and do what each [`Action`] says, in order.
//! 2. After an [`Action::Ask`], `poll` returns `None` until `answer` was called.
//! 3. After [`Action::StartTls`], `poll` returns `None` until `tls_started` was called; whatever
//!    was fed behind STARTTLS in clear has been thrown away (RFC 3207 §4.2).
//! 4. Otherwise `feed` what the client sent, or report `client_closed`, `timed_out`, `shut_down`.
//! 5. After [`Action::Close`] nothing more comes.
//!
//! How the bytes were cut when they were fed makes no difference to the actions.
//!
//! An `Ask` that is open is the server's time, not the client's: `timed_out` does nothing then,
//! `shut_down` and `client_closed` take effect once it is answered. What is fed meanwhile is kept;
//! how much, the driver decides by not reading more.
//!
//! A message exists from a granted [`Ask::Begin`] on. It ends in exactly one of two ways: with
//! [`Ask::Store`], or with [`Action::Discard`].

mod commands;
mod content;
mod ehlo;
mod link;
mod state;

use alloc::string::String;
use alloc::vec::Vec;

use crate::address::{Mailbox, ReversePath};
use crate::line::Input;
use crate::reply::Reply;
use crate::sasl;
use link::Link;
use state::{Progress, State};

/// What the server's configuration says about sessions on one port.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a parameter of main.cf"
)]
pub struct Settings {
    /// postconf(5) myhostname: the name in the greeting, in EHLO replies and in 421.
    pub hostname: String,
    /// The text of the greeting after `220 ` (postconf(5) smtpd_banner).
    pub banner: String,
    /// postconf(5) message_size_limit, in octets; 0 means no limit.
    pub message_size_limit: u64,
    /// postconf(5) line_length_limit, in octets: longer command lines are cut and the rest skipped.
    pub line_length_limit: usize,
    /// postconf(5) smtpd_recipient_limit: recipients of one transaction.
    pub recipient_limit: usize,
    /// postconf(5) smtpd_recipient_overshoot_limit: recipients over that limit before they count
    /// as errors.
    pub overshoot_limit: u32,
    /// postconf(5) smtpd_soft_error_limit: errors after which each reply is preceded by a pause.
    pub soft_error_limit: u32,
    /// postconf(5) smtpd_hard_error_limit: errors after which the session ends with 421.
    pub hard_error_limit: u32,
    /// postconf(5) smtpd_junk_command_limit: HELO, EHLO, NOOP, RSET, VRFY, ETRN before they count as
    /// errors.
    pub junk_command_limit: u32,
    /// STARTTLS can be offered: a certificate is there and TLS does not yet run.
    pub starttls: bool,
    /// TLS runs from the first byte (postconf(5) smtpd_tls_wrappermode).
    pub implicit_tls: bool,
    /// postconf(5) smtpd_sasl_auth_enable.
    pub auth: bool,
    /// postconf(5) broken_sasl_auth_clients: repeat the list as `AUTH=`.
    pub auth_equals: bool,
    /// postconf(5) smtpd_tls_auth_only: no AUTH before TLS.
    pub auth_needs_tls: bool,
    /// postconf(5) smtpd_tls_security_level = encrypt.
    pub tls_required: bool,
    /// postconf(5) smtpd_helo_required.
    pub helo_required: bool,
}

/// What the driver of a session does next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one action at a time exists, and it is moved once"
)]
pub enum Action {
    /// Send these octets to the client: one whole reply.
    Send(Vec<u8>),
    /// Decide, then call `answer` with the reply that the client is to hear.
    Ask(Ask),
    /// Append these octets to the message: unstuffed, every line ended by CRLF.
    Content(Vec<u8>),
    /// The message that was begun is not to be kept: too big, not wanted, cut off.
    Discard,
    /// Wait postconf(5) smtpd_error_sleep_time before the next action.
    Pause,
    /// Hand the connection to TLS, then call `tls_started`.
    StartTls,
    /// Close the connection once everything before was sent.
    Close,
}

/// A decision that is not the protocol's.
///
/// The answer is the reply that the client will hear; its first digit decides what becomes true:
/// 2 or 3 grants what was asked, anything else does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// MAIL with right syntax. Granted: a transaction is open.
    Sender(Envelope),
    /// RCPT with right syntax. Granted: it is a recipient of the transaction.
    Recipient {
        /// The recipient asked about.
        recipient: Recipient,
        /// The transaction, without the recipients before this one: a thousand of them would be
        /// copied a thousand times.
        envelope: Envelope,
    },
    /// VRFY (RFC 5321 §3.5): a reply, nothing becomes true.
    Verify(Mailbox),
    /// ETRN (RFC 1985), the domain as sent: a reply, nothing becomes true.
    Etrn(String),
    /// Is this the user's password? 235 makes the client authenticated as `user`.
    Password {
        /// PLAIN or LOGIN.
        mechanism: &'static str,
        /// The user name as sent, UTF-8.
        user: String,
        /// The password as sent, UTF-8.
        password: String,
    },
    /// DATA or the first BDAT: may content come? 354 grants (for BDAT it is not sent).
    Begin(Envelope),
    /// The content is complete; every `Content` was handed out. 250 says that it is stored.
    Store(Envelope),
}

/// The envelope of a transaction and how it came (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO, in order, only those that were granted.
    pub recipients: Vec<Recipient>,
    /// What the client called itself in EHLO or HELO, harmless in a header; empty before either.
    pub helo: String,
    /// For the `with` clause of Received (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, and
    /// where SMTPUTF8 was given UTF8SMTP, UTF8SMTPS, UTF8SMTPA, UTF8SMTPSA (RFC 6531 §4.3).
    pub protocol: &'static str,
    /// TLS runs.
    pub tls: bool,
    /// The authenticated user.
    pub user: Option<String>,
    /// SIZE= (RFC 1870), octets; more than 64 bits hold is the largest number they hold.
    pub size: Option<u64>,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET= (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// ENVID= (RFC 3461 §4.4), as sent, in xtext.
    pub envid: Option<String>,
}

/// RET= (RFC 3461 §4.3): how much of the message a failure notice returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The headers only.
    Headers,
}

/// A recipient of a transaction with its parameters (RFC 3461 §4.1, §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipient {
    /// RCPT TO; a source route before it was dropped (RFC 5321 §4.1.1.3).
    pub mailbox: Mailbox,
    /// NOTIFY=; `None` where it was not given.
    pub notify: Option<Notify>,
    /// ORCPT=, as sent: `rfc822;` and xtext.
    pub orcpt: Option<String>,
}

/// NOTIFY= (RFC 3461 §4.1). All false is NEVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// SUCCESS.
    pub success: bool,
    /// FAILURE.
    pub failure: bool,
    /// DELAY.
    pub delay: bool,
}

/// One session with one client.
#[derive(Debug)]
pub struct Session {
    /// What was fed and not yet read.
    input: Input,
    /// What is true of the connection, and the actions to hand out.
    link: Link,
    /// What may come next.
    state: State,
    /// The client closed its side.
    client_closed: bool,
    /// The server is going down.
    shutting_down: bool,
}

impl Session {
    /// A session that has just been connected; the greeting is its first action.
    pub fn new(settings: Settings) -> Self {
        // AUTH with its initial response may be as long as a response alone (RFC 4954 §4).
        let limit = settings
            .line_length_limit
            .max(sasl::RESPONSE_LIMIT.saturating_add(64));
        Self {
            input: Input::new(limit),
            link: Link::greeted(settings),
            state: State::begin(),
            client_closed: false,
            shutting_down: false,
        }
    }

    /// The client sent these octets; in any pieces.
    pub fn feed(&mut self, octets: &[u8]) {
        if self.state.listens() && !self.client_closed {
            self.input.feed(octets);
        }
    }

    /// The next thing to do, or `None` when something must be fed, answered or reported first.
    pub fn poll(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.link.actions.pop_front() {
                return Some(action);
            }
            if self.state.is_asked() {
                return None;
            }
            if self.shutting_down {
                self.end("4.3.2", "Service shutting down");
            }
            match self.take().step(&mut self.input, &mut self.link) {
                Progress::Made(state) => self.state = state,
                Progress::Waits(state) => {
                    self.state = state;
                    if self.client_closed {
                        self.state = self.take().end(None, &mut self.link);
                    }
                    return self.link.actions.pop_front();
                }
            }
        }
    }

    /// The answer to the last [`Ask`]; without an open one it is ignored.
    pub fn answer(&mut self, reply: Reply) {
        self.state = self.take().answered(reply, &mut self.link);
    }

    /// The handshake after [`Action::StartTls`] is done: everything learned before is forgotten.
    pub fn tls_started(&mut self) {
        self.state = self.take().secured(&mut self.link);
    }

    /// The client was silent for too long: 421 4.4.2, then close (RFC 5321 §4.5.3.2).
    pub fn timed_out(&mut self) {
        if !self.state.is_asked() {
            self.end("4.4.2", "Error: timeout exceeded");
        }
    }

    /// The server is going down: 421 4.3.2, then close, once no message is half stored.
    ///
    /// A message that is being stored is answered first; one that is being received is discarded.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// The client closed its side: what is half received is discarded.
    ///
    /// Whole commands that it sent before are still executed and answered.
    pub fn client_closed(&mut self) {
        self.client_closed = true;
    }

    /// Takes the state out; whoever does puts another in its place.
    fn take(&mut self) -> State {
        core::mem::replace(&mut self.state, State::Closed)
    }

    /// Ends the session where it stands, with 421 (RFC 5321 §3.8).
    fn end(&mut self, status: &str, text: &str) {
        let farewell = self.link.named(421, status, text);
        self.state = self.take().end(Some(farewell), &mut self.link);
    }
}
