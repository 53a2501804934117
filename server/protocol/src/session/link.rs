//! What is true of a connection whatever is being said on it, and the actions on their way out.
//!
//! Every reply to a command goes through here, so that errors are counted and slowed down in one
//! place (postconf(5) smtpd_soft_error_limit, smtpd_hard_error_limit, smtpd_junk_command_limit).
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use super::state::{Asked, State};
use crate::data::Bare;
use crate::reply::Reply;
use crate::session::{Action, Ask, Envelope, Settings};

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Settings,
    /// TLS runs.
    pub(super) tls: bool,
    /// What the client called itself in EHLO or HELO, harmless in a header; empty before either.
    pub(super) helo: String,
    /// That was EHLO: extensions may be used.
    pub(super) extended: bool,
    /// The authenticated user.
    pub(super) user: Option<String>,
    /// Errors since the last message that was taken.
    errors: u32,
    /// HELO, EHLO, NOOP, RSET, VRFY and ETRN since then.
    junk: u32,
    /// The last of them was one too many: an error, but once it was answered.
    one_too_many: bool,
    /// To be handed out, in order.
    pub(super) actions: VecDeque<Action>,
}

impl Link {
    /// A new connection, its greeting on the way.
    pub(super) fn greeted(settings: Settings) -> Self {
        let greeting = Reply::new(220, settings.banner.as_str());
        let mut link = Self {
            tls: settings.implicit_tls,
            settings,
            helo: String::new(),
            extended: false,
            user: None,
            errors: 0,
            junk: 0,
            one_too_many: false,
            actions: VecDeque::new(),
        };
        link.actions.push_back(Action::Send(greeting.to_wire()));
        link
    }

    /// Answers a command.
    pub(super) fn send(&mut self, reply: &Reply) {
        self.pause();
        self.actions.push_back(Action::Send(reply.to_wire()));
    }

    /// Slows down a client that makes many errors.
    pub(super) fn pause(&mut self) {
        if self.errors >= self.settings.soft_error_limit {
            self.actions.push_back(Action::Pause);
        }
    }

    /// Answers a command that failed.
    pub(super) fn refuse(&mut self, reply: &Reply) {
        self.send(reply);
        self.errors = self.errors.saturating_add(1);
    }

    /// Passes on an answer, and counts it if it grants nothing; whether it grants.
    pub(super) fn pass(&mut self, reply: &Reply) -> bool {
        if reply.is_positive() {
            self.send(reply);
        } else {
            self.refuse(reply);
        }
        reply.is_positive()
    }

    /// One more command that moves nothing forward.
    pub(super) fn count_junk(&mut self) {
        self.one_too_many = self.junk > self.settings.junk_command_limit;
        self.junk = self.junk.saturating_add(1);
    }

    /// A message was taken: whatever happened before is forgiven.
    pub(super) fn forgive(&mut self) {
        (self.errors, self.junk) = (0, 0);
    }

    /// Whether the client made too many errors, now that its last command was answered.
    pub(super) fn is_exhausted(&mut self) -> bool {
        let junk = core::mem::take(&mut self.one_too_many);
        self.errors = self.errors.saturating_add(junk.into());
        self.errors >= self.settings.hard_error_limit.max(1)
    }

    /// Asks; the answer decides what becomes true.
    pub(super) fn ask(&mut self, ask: Ask, asked: Asked) -> State {
        self.actions.push_back(Action::Ask(ask));
        State::Asked(asked)
    }

    /// A reply that names this host, as 421 does (RFC 5321 §4.2.3).
    pub(super) fn named(&self, code: u16, status: &str, text: &str) -> Reply {
        Reply::new(code, format!("{status} {} {text}", self.settings.hostname))
    }

    /// The last word to a client whose CR or LF stood alone.
    pub(super) fn bare(&self, bare: Bare) -> Reply {
        let octet = match bare {
            Bare::Lf => "LF",
            Bare::Cr => "CR",
        };
        self.named(550, "5.5.2", &format!("Error: bare <{octet}> received"))
    }

    /// The envelope that MAIL opens, with what is true of the connection.
    pub(super) fn envelope(&self, mail: Envelope) -> Envelope {
        Envelope {
            helo: self.helo.clone(),
            protocol: self.protocol(mail.smtputf8),
            tls: self.tls,
            user: self.user.clone(),
            ..mail
        }
    }

    /// The keyword for Received (RFC 3848, RFC 6531 §4.3): S for TLS, A for AUTH.
    fn protocol(&self, smtputf8: bool) -> &'static str {
        if !smtputf8 && !self.extended {
            return "SMTP";
        }
        match (smtputf8, self.tls, self.user.is_some()) {
            (false, false, false) => "ESMTP",
            (false, false, true) => "ESMTPA",
            (false, true, false) => "ESMTPS",
            (false, true, true) => "ESMTPSA",
            (true, false, false) => "UTF8SMTP",
            (true, false, true) => "UTF8SMTPA",
            (true, true, false) => "UTF8SMTPS",
            (true, true, true) => "UTF8SMTPSA",
        }
    }
}
