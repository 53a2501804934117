//! Who may send where, and where a recipient's mail goes.
//!
//! The answers to a session's MAIL, RCPT, VRFY and ETRN, in Postfix's words. All restrictions are
//! asked at RCPT (postconf(5) smtpd_delay_reject): client, helo, sender, relay, recipient; then
//! whether the recipient exists. A lookup that fails is 451, never "unknown user".

pub mod resolve;
pub mod restrictions;

use std::net::IpAddr;

use vmaild_protocol::{Envelope, Mailbox, Reply, ReversePath};

use crate::config::Params;
use crate::log;
use crate::tables::Failed;
use resolve::Route;
use restrictions::{Facts, Refusal, Restriction, ask};

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

/// What a restriction list is about; each kind is refused in its own words.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    Client,
    Helo(&'a str),
    Sender(&'a ReversePath),
    Recipient {
        /// Its mail is delivered here, or relayed for everybody.
        ours: bool,
    },
}

impl Client<'_> {
    /// May mail for this recipient come?
    pub async fn recipient(&self, recipient: &Mailbox, envelope: &Envelope) -> Reply {
        let sender = &envelope.reverse_path;
        let reply = match self.check(recipient, &envelope.helo, Some(sender)).await {
            Ok(()) => return Reply::new(250, "2.1.5 Ok"),
            Err(reply) => reply,
        };
        let from = sender
            .mailbox()
            .map(ToString::to_string)
            .unwrap_or_default();
        let tail = format!(
            "; from=<{from}> to=<{recipient}> proto={} helo=<{}>",
            envelope.protocol, envelope.helo
        );
        self.log_refusal("RCPT", &reply, &tail);
        reply
    }

    /// VRFY: 252 for what RCPT would take (RFC 5321 §3.5.3).
    pub async fn verify(&self, recipient: &Mailbox) -> Reply {
        match self.check(recipient, "", None).await {
            Ok(()) => Reply::new(252, format!("2.0.0 {}", shown(recipient))),
            Err(reply) => {
                self.log_refusal("VRFY", &reply, &format!("; to=<{recipient}>"));
                reply
            }
        }
    }

    /// ETRN: no mail is kept for fetching (RFC 1985 §5.3; the status is RFC 2034 §4's).
    pub fn etrn(&self, domain: &str) -> Reply {
        if let Some(reply) =
            self.refused(&self.params.smtpd_client_restrictions, Subject::Client, "")
        {
            self.log_refusal("ETRN", &reply, "");
            return reply;
        }
        Reply::new(
            459,
            format!(
                "4.7.0 <{}>: service unavailable",
                domain.trim_start_matches(['@', '#'])
            ),
        )
    }

    pub(crate) fn log_refusal(&self, command: &str, reply: &Reply, tail: &str) {
        let text = reply.lines.first().map_or("", String::as_str);
        let client = format!("unknown[{}]", self.ip);
        log!(
            "smtpd",
            "NOQUEUE: reject: {command} from {client}: {} {text}{tail}",
            reply.code
        );
    }

    async fn check(
        &self,
        recipient: &Mailbox,
        helo: &str,
        sender: Option<&ReversePath>,
    ) -> Result<(), Reply> {
        let params = self.params;
        let rcpt = shown(recipient);
        // Asked of bare postmaster too: a port for users only has no exception (RFC 6409 §4.3).
        let refused = |list, subject| self.refused(list, subject, &rcpt).map_or(Ok(()), Err);
        refused(&params.smtpd_client_restrictions, Subject::Client)?;
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
        refused(&params.smtpd_helo_restrictions, Subject::Helo(helo))?;
        if let Some(sender) = sender {
            refused(&params.smtpd_sender_restrictions, Subject::Sender(sender))?;
        }
        for list in [
            &params.smtpd_relay_restrictions,
            &params.smtpd_recipient_restrictions,
        ] {
            refused(list, Subject::Recipient { ours })?;
        }
        // Both are asked at once: the answer waits for the slower one only.
        let (known, route) = tokio::join!(
            resolve::is_known(params, &mailbox, class),
            resolve::route_in(params, &mailbox, class),
        );
        let unknown = |text: &str| format!("<{rcpt}>: Recipient address rejected: {text}");
        if params.smtpd_reject_unlisted_recipient && !known.map_err(failed)? {
            let table = class.table();
            return Err(Reply::new(
                550,
                format!(
                    "5.1.1 {}",
                    unknown(&format!("User unknown in {table} table"))
                ),
            ));
        }
        match route.map_err(failed)? {
            Route::Error { status, text } if class.takes_routes() => {
                Err(Reply::new(550, format!("{status} {}", unknown(&text))))
            }
            Route::Unknown(value) if value.starts_with("retry:") => {
                let (status, text) = resolve::status_and_text(&value["retry:".len()..], '4');
                Err(Reply::new(450, format!("{status} {}", unknown(&text))))
            }
            _ => Ok(()),
        }
    }

    /// Asks a list; the reply with which it refuses.
    fn refused(&self, list: &[Restriction], subject: Subject<'_>, rcpt: &str) -> Option<Reply> {
        let facts = Facts {
            neighbour: self.params.is_neighbour(self.ip),
            authenticated: self.authenticated,
            // Lists that are not about the destination refuse nothing because of it.
            ours: !matches!(subject, Subject::Recipient { ours: false }),
        };
        ask(list, facts).map(|refusal| self.denied(subject, refusal, rcpt))
    }

    fn denied(&self, subject: Subject<'_>, refusal: Refusal, rcpt: &str) -> Reply {
        let (code, status) = match (refusal.permanent, refusal.relaying) {
            (true, _) => (554, "5.7.1"),
            (false, true) => (454, "4.7.1"),
            (false, false) => (450, "4.7.1"),
        };
        if refusal.relaying {
            return Reply::new(code, format!("{status} <{rcpt}>: Relay access denied"));
        }
        let what = match subject {
            Subject::Client => format!("<unknown[{}]>: Client host rejected", self.ip),
            Subject::Helo(name) => format!("<{name}>: Helo command rejected"),
            Subject::Sender(path) => {
                format!(
                    "<{}>: Sender address rejected",
                    path.mailbox().map(shown).unwrap_or_default()
                )
            }
            Subject::Recipient { .. } => format!("<{rcpt}>: Recipient address rejected"),
        };
        Reply::new(code, format!("{status} {what}: Access denied"))
    }
}

/// An address as Postfix shows it in replies: without quotes.
fn shown(mailbox: &Mailbox) -> String {
    match mailbox.domain.as_str() {
        "" => mailbox.local.clone(),
        domain => format!("{}@{domain}", mailbox.local),
    }
}
