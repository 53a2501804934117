//! Who may send where, and where a recipient's mail goes.
//!
//! The answers to a session's MAIL, RCPT, VRFY and ETRN, in Postfix's words. All restrictions are
//! asked at RCPT (postconf(5) smtpd_delay_reject): client, helo, sender, relay, recipient; then
//! whether the recipient exists. A lookup that fails is 451, never "unknown user".

pub mod resolve;
pub mod restrictions;

use std::net::IpAddr;

use vmaild_protocol::{Envelope, Mailbox, Reply};

use crate::config::Params;
use crate::log;
use crate::tables::Failed;
use resolve::Route;
use restrictions::{Facts, Refusal, Restriction};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The configuration of the port.
    pub params: &'a Params,
    /// The client's address.
    pub ip: IpAddr,
    /// The client has authenticated.
    pub authenticated: bool,
}

impl Client<'_> {
    /// May mail for this recipient come?
    pub async fn recipient(&self, recipient: &Mailbox, envelope: &Envelope) -> Reply {
        match self.check(recipient, Some(envelope)).await {
            Ok(()) => Reply::new(250, "2.1.5 Ok"),
            Err(reply) => {
                let (from, proto) = (&envelope.reverse_path, &envelope.protocol);
                let helo = &envelope.helo;
                let tail = format!("; from={from} to=<{recipient}> proto={proto} helo=<{helo}>");
                self.logged("RCPT", reply, &tail)
            }
        }
    }

    /// VRFY: 252 for what RCPT would take (RFC 5321 §3.5.3).
    pub async fn verify(&self, recipient: &Mailbox) -> Reply {
        match self.check(recipient, None).await {
            Ok(()) => Reply::new(252, format!("2.0.0 {}", shown(recipient))),
            Err(reply) => self.logged("VRFY", reply, &format!("; to=<{recipient}>")),
        }
    }

    /// ETRN: no mail is kept for fetching (RFC 1985 §5.3; the status is RFC 2034 §4's).
    pub fn etrn(&self, domain: &str) -> Reply {
        if let Err(reply) = self.may_speak() {
            return self.logged("ETRN", reply, "");
        }
        let domain = domain.trim_start_matches(['@', '#']);
        Reply::new(459, format!("4.7.0 <{domain}>: service unavailable"))
    }

    /// A reply that refuses, as the log has it.
    pub(crate) fn logged(&self, command: &str, reply: Reply, tail: &str) -> Reply {
        let (code, ip) = (reply.code, self.ip);
        let text = reply.lines.first().map_or("", String::as_str);
        log!(
            "smtpd",
            "NOQUEUE: reject: {command} from unknown[{ip}]: {code} {text}{tail}"
        );
        reply
    }

    /// VRFY has no envelope.
    async fn check(&self, recipient: &Mailbox, envelope: Option<&Envelope>) -> Result<(), Reply> {
        let helo = envelope.map_or("", |envelope| &envelope.helo);
        let sender = envelope.map(|envelope| &envelope.reverse_path);
        let params = self.params;
        let rcpt = shown(recipient);
        // Asked of bare postmaster too: a port for users only has no exception (RFC 6409 §4.3).
        self.may_speak()?;
        if recipient.is_bare_postmaster() {
            // RFC 5321 §4.5.1; not even a database that is down stands in the way.
            return Ok(());
        }
        let failed =
            |_: Failed| Reply::new(451, format!("4.3.0 <{rcpt}>: Temporary lookup failure"));
        let mailbox = resolve::qualified(params, recipient);
        let class = resolve::class(params, &mailbox).await.map_err(failed)?;
        // A local part with a route in it could make a server behind this one a relay (R03).
        let ours = class.takes_from_everybody() && !mailbox.local.contains(['@', '%', '!']);
        self.ask(&params.smtpd_helo_restrictions, helo, "Helo command", true)?;
        if let Some(sender) = sender {
            let sender = sender.mailbox().map(shown).unwrap_or_default();
            let list = &params.smtpd_sender_restrictions;
            self.ask(list, &sender, "Sender address", true)?;
        }
        for list in [
            &params.smtpd_relay_restrictions,
            &params.smtpd_recipient_restrictions,
        ] {
            self.ask(list, &rcpt, "Recipient address", ours)?;
        }
        // Both are asked at once: the answer waits for the slower one only.
        let (known, route) = tokio::join!(
            resolve::is_known(params, &mailbox, class),
            resolve::route_in(params, &mailbox, class),
        );
        let rejected = |code, status: &str, text: &str| {
            let text = format!("{status} <{rcpt}>: Recipient address rejected: {text}");
            Err(Reply::new(code, text))
        };
        if params.smtpd_reject_unlisted_recipient && !known.map_err(failed)? {
            return rejected(550, "5.1.1", &class.unknown_user());
        }
        match route.map_err(failed)? {
            Route::Error { status, text } if class.takes_routes() => rejected(550, &status, &text),
            Route::Unknown(value) if value.starts_with("retry:") => {
                let (status, text) = resolve::status_and_text(&value["retry:".len()..], '4');
                rejected(450, &status, &text)
            }
            _ => Ok(()),
        }
    }

    fn may_speak(&self) -> Result<(), Reply> {
        let client = format!("unknown[{}]", self.ip);
        let list = &self.params.smtpd_client_restrictions;
        self.ask(list, &client, "Client host", true)
    }

    /// Asks a list about `subject`, the `what` of this mail.
    fn ask(
        &self,
        list: &[Restriction],
        subject: &str,
        what: &str,
        ours: bool,
    ) -> Result<(), Reply> {
        let facts = Facts {
            neighbour: self.params.is_neighbour(self.ip),
            authenticated: self.authenticated,
            ours,
        };
        let Some(Refusal { code, relaying }) = restrictions::ask(list, facts) else {
            return Ok(());
        };
        let status = if code == 554 { "5.7.1" } else { "4.7.1" };
        let text = if relaying {
            format!("{status} <{subject}>: Relay access denied")
        } else {
            format!("{status} <{subject}>: {what} rejected: Access denied")
        };
        Err(Reply::new(code, text))
    }
}

/// An address as Postfix shows it in replies: without quotes.
fn shown(mailbox: &Mailbox) -> String {
    match mailbox.domain.as_str() {
        "" => mailbox.local.clone(),
        domain => format!("{}@{domain}", mailbox.local),
    }
}
