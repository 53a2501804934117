//! What each command does when it may come, and what is said when it may not.
//!
//! Sequence is judged before syntax (as Postfix does): RCPT before MAIL is 503, whatever it says.
//! A command that is refused leaves its stage as it was; one that is obeyed takes it.
use alloc::format;
use core::mem::take;

use super::content::Chunk;
use super::ehlo;
use super::link::Link;
use super::state::{Asked, Stage, State};
use crate::command;
use crate::line::Input;
use crate::reply::Reply;
use crate::sasl::{self, Step};
use crate::session::{Action, Ask};

/// Does what a command line says, or asks whether to.
pub(super) fn obey(
    octets: &[u8],
    stage: &mut Stage,
    input: &mut Input,
    link: &mut Link,
) -> Result<State, Reply> {
    let (verb, arguments) = command::verb(cut(octets, link))?;
    if matches!(verb, "EHLO" | "HELO" | "NOOP" | "RSET" | "VRFY" | "ETRN") {
        link.count_junk();
    }
    // Every command but these waits (RFC 3207 §4); of BDAT the octets have to be passed over first.
    let goes_in_clear = matches!(
        verb,
        "EHLO" | "HELO" | "NOOP" | "QUIT" | "STARTTLS" | "BDAT"
    );
    if link.settings.tls_required && !link.tls && !goes_in_clear {
        let text = "5.7.0 Must issue a STARTTLS command first";
        return Err(Reply::new(530, text));
    }
    let unnamed = link.settings.helo_required && link.helo.is_empty();
    if unnamed && matches!(verb, "MAIL" | "VRFY" | "ETRN" | "AUTH") {
        return Err(out_of_sequence("send HELO/EHLO first"));
    }
    match verb {
        "EHLO" | "HELO" => hello(verb, arguments, stage, link),
        "MAIL" => mail(arguments, stage, link),
        "RCPT" => rcpt(arguments, stage, link),
        "DATA" => data(arguments, stage, link),
        "BDAT" => bdat(arguments, stage, link),
        "AUTH" => auth(arguments, stage, link),
        "STARTTLS" => starttls(arguments, stage, input, link),
        "VRFY" => {
            let mailbox = command::vrfy(arguments)?;
            Ok(link.ask(Ask::Verify(mailbox), Asked::Nothing(take(stage))))
        }
        "ETRN" if !matches!(stage, Stage::Idle) => {
            Err(out_of_sequence("MAIL transaction in progress"))
        }
        "ETRN" => {
            let domain = command::etrn(arguments)?;
            Ok(link.ask(Ask::Etrn(domain), Asked::Nothing(Stage::Idle)))
        }
        "NOOP" => {
            link.send(&Reply::new(250, "2.0.0 Ok"));
            Ok(State::Ready(take(stage)))
        }
        "RSET" if arguments.is_empty() => {
            take(stage).abandon(link);
            link.send(&Reply::new(250, "2.0.0 Ok"));
            Ok(State::begin())
        }
        "RSET" => Err(Reply::new(501, "5.5.4 Syntax: RSET")),
        // QUIT, the only one left of those that are served.
        _ => {
            take(stage).abandon(link);
            link.send(&Reply::new(221, "2.0.0 Bye"));
            Ok(State::begin().end(None, link))
        }
    }
}

/// A command is cut at postconf(5) line_length_limit; only AUTH may be longer, since it may carry
/// a whole response (RFC 4954 §4).
fn cut<'a>(octets: &'a [u8], link: &Link) -> &'a [u8] {
    match octets.get(..5) {
        Some(verb) if verb.eq_ignore_ascii_case(b"AUTH ") => octets,
        _ => octets
            .get(..link.settings.line_length_limit)
            .unwrap_or(octets),
    }
}

/// A command may not come now (RFC 5321 §4.2.4).
fn out_of_sequence(text: &str) -> Reply {
    Reply::new(503, format!("5.5.1 Error: {text}"))
}

/// RFC 5321 §4.1.1.1. A refused one changes nothing (RFC 5321 §4.1.4).
fn hello(verb: &str, name: &str, stage: &mut Stage, link: &mut Link) -> Result<State, Reply> {
    if name.is_empty() {
        return Err(Reply::new(501, format!("Syntax: {verb} hostname")));
    }
    take(stage).abandon(link);
    link.helo = ehlo::sanitised(name);
    link.extended = verb == "EHLO";
    let reply = if link.extended {
        ehlo::capabilities(link)
    } else {
        Reply::new(250, link.settings.hostname.as_str())
    };
    link.send(&reply);
    Ok(State::begin())
}

fn mail(arguments: &str, stage: &Stage, link: &mut Link) -> Result<State, Reply> {
    if !matches!(stage, Stage::Idle) {
        return Err(out_of_sequence("nested MAIL command"));
    }
    let (envelope, auth) = command::mail(arguments)?;
    if auth && !link.settings.auth {
        return Err(Reply::new(503, "5.5.4 Error: authentication disabled"));
    }
    let limit = link.settings.message_size_limit;
    let too_big = match envelope.size {
        Some(u64::MAX) => "file system imposed limit",
        Some(size) if limit > 0 && size > limit => "fixed limit",
        _ => {
            let envelope = link.envelope(envelope);
            return Ok(link.ask(Ask::Sender(envelope.clone()), Asked::Sender(envelope)));
        }
    };
    Err(Reply::new(
        552,
        format!("5.3.4 Message size exceeds {too_big}"),
    ))
}

fn rcpt(arguments: &str, stage: &mut Stage, link: &mut Link) -> Result<State, Reply> {
    let transaction = match stage {
        Stage::Open(transaction) => transaction,
        Stage::Idle => return Err(out_of_sequence("need MAIL command")),
        _ => return Err(out_of_sequence("RCPT after BDAT")),
    };
    let recipient = command::rcpt(arguments, transaction.envelope.smtputf8)?;
    if transaction.envelope.recipients.len() >= link.settings.recipient_limit {
        let reply = Reply::new(452, "4.5.3 Error: too many recipients");
        transaction.overshoot = transaction.overshoot.saturating_add(1);
        if transaction.overshoot > link.settings.overshoot_limit {
            return Err(reply);
        }
        link.send(&reply);
        return Ok(State::Ready(take(stage)));
    }
    let before = take(&mut transaction.envelope.recipients);
    let question = Ask::Recipient {
        recipient: recipient.clone(),
        envelope: transaction.envelope.clone(),
    };
    transaction.envelope.recipients = before;
    Ok(link.ask(question, Asked::Recipient(take(transaction), recipient)))
}

fn data(arguments: &str, stage: &mut Stage, link: &mut Link) -> Result<State, Reply> {
    let transaction = match stage {
        Stage::Open(transaction) => transaction,
        Stage::Idle => return Err(out_of_sequence("need RCPT command")),
        _ => return Err(out_of_sequence("DATA after BDAT")),
    };
    if transaction.envelope.recipients.is_empty() {
        return Err(no_recipients());
    }
    if !arguments.is_empty() {
        return Err(Reply::new(501, "5.5.4 Syntax: DATA"));
    }
    let question = Ask::Begin(transaction.envelope.clone());
    Ok(link.ask(question, Asked::Data(take(transaction))))
}

/// RFC 3030 §2. Whatever the answer, so many octets follow and are no commands; where their number
/// cannot be read, the session cannot go on.
fn bdat(arguments: &str, stage: &mut Stage, link: &mut Link) -> Result<State, Reply> {
    let (size, mut last) = command::bdat(arguments)
        .ok_or_else(|| Reply::new(521, "5.5.4 Syntax: BDAT count [LAST]"))?;
    if size == 0 && !last {
        // It brings nothing, and may come as often as NOOP.
        link.count_junk();
    }
    let message = match take(stage) {
        Stage::Open(transaction) if !transaction.envelope.recipients.is_empty() => {
            let question = Ask::Begin(transaction.envelope.clone());
            return Ok(link.ask(question, Asked::Chunk(transaction, size, last)));
        }
        Stage::Chunks(message) => Ok(message),
        Stage::Open(_) => Err(no_recipients()),
        Stage::Idle => {
            // No transaction, so none that failed.
            last = true;
            Err(out_of_sequence("need RCPT command"))
        }
        Stage::Failed => {
            let text = format!("5.0.0 Discarded {size} bytes after earlier error");
            Err(Reply::new(551, text))
        }
    };
    Ok(Chunk::begin(message, size, last, link))
}

fn no_recipients() -> Reply {
    Reply::new(554, "5.5.1 Error: no valid recipients")
}

fn auth(arguments: &str, stage: &Stage, link: &mut Link) -> Result<State, Reply> {
    if !link.settings.auth {
        return Err(out_of_sequence("authentication not enabled"));
    }
    if !matches!(stage, Stage::Idle) {
        return Err(out_of_sequence("MAIL transaction in progress"));
    }
    if link.settings.auth_needs_tls && !link.tls {
        let text = "5.7.11 Encryption required for requested authentication mechanism";
        return Err(Reply::new(538, text));
    }
    if link.user.is_some() {
        return Err(out_of_sequence("already authenticated"));
    }
    Ok(authenticate(sasl::begin(arguments)?, link))
}

/// What follows from a line of an AUTH exchange; outside transactions only.
pub(super) fn authenticate(step: Step, link: &mut Link) -> State {
    match step {
        Step::Challenge(exchange, challenge) => {
            link.send(&challenge);
            State::Sasl(exchange)
        }
        Step::Credentials {
            mechanism,
            user,
            password,
        } => {
            let question = Ask::Password {
                mechanism,
                user: user.clone(),
                password,
            };
            link.ask(question, Asked::Password(user))
        }
    }
}

/// RFC 3207 §4. Whatever was sent behind the command in clear is thrown away.
fn starttls(
    arguments: &str,
    stage: &mut Stage,
    input: &mut Input,
    link: &mut Link,
) -> Result<State, Reply> {
    if !arguments.is_empty() {
        return Err(Reply::new(501, "5.5.4 Syntax: STARTTLS"));
    }
    if link.tls {
        return Err(Reply::new(554, "5.5.1 Error: TLS already active"));
    }
    if !link.settings.starttls {
        return Err(Reply::new(502, "5.5.1 Error: command not implemented"));
    }
    take(stage).abandon(link);
    input.clear();
    link.send(&Reply::new(220, "2.0.0 Ready to start TLS"));
    link.actions.push_back(Action::StartTls);
    Ok(State::Handshake)
}
