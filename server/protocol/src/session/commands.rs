//! What each command does when it may come, and what is said when it may not.
//!
//! Sequence is judged before syntax (as Postfix does): RCPT before MAIL is 503, whatever it says.
use alloc::format;

use super::content::{BARE_LF, Skip};
use super::ehlo;
use super::link::{Hello, Link};
use super::state::{Asked, Progress, Stage, State};
use crate::command::{self, Command, Mail, NoCommand, Verb};
use crate::line::{Input, Line};
use crate::reply::Reply;
use crate::sasl::{self, Step};
use crate::session::{Action, Ask};

/// A command is expected.
pub(super) fn ready(stage: Stage, input: &mut Input, link: &mut Link) -> Progress {
    if link.is_exhausted() {
        link.pause();
        let farewell = link.named(421, "4.7.0", "Error: too many errors");
        return Progress::Made(State::Ready(stage).end(Some(farewell), link));
    }
    let Some(received) = input.next_line() else {
        return Progress::Waits(State::Ready(stage));
    };
    let octets = match received {
        Line::Whole { octets, .. } => octets,
        Line::BareLf => {
            let farewell = link.named(550, "5.5.2", BARE_LF);
            return Progress::Made(State::Ready(stage).end(Some(farewell), link));
        }
        Line::ClientHello => {
            return Progress::Made(State::Ready(stage).end(Some(foreign()), link));
        }
    };
    Progress::Made(match Command::parse(cut(&octets, link)) {
        Ok(command) => obey(command, stage, input, link),
        Err(NoCommand::Foreign) => State::Ready(stage).end(Some(foreign()), link),
        Err(NoCommand::Wrong(reply)) => refuse(&reply, stage, link),
    })
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

/// Somebody speaks HTTP, TLS or the text of a message to us.
pub(super) fn foreign() -> Reply {
    Reply::new(221, "2.7.0 Error: I can break rules, too. Goodbye.")
}

fn refuse(reply: &Reply, stage: Stage, link: &mut Link) -> State {
    link.refuse(reply);
    State::Ready(stage)
}

/// Refuses a command that may not come now (RFC 5321 §4.2.4).
fn out_of_sequence(text: &str, stage: Stage, link: &mut Link) -> State {
    refuse(
        &Reply::new(503, format!("5.5.1 Error: {text}")),
        stage,
        link,
    )
}

/// Does what a command says, or asks whether to.
fn obey(command: Command<'_>, stage: Stage, input: &mut Input, link: &mut Link) -> State {
    let Command { verb, arguments } = command;
    if matches!(
        verb,
        Verb::Ehlo | Verb::Helo | Verb::Noop | Verb::Rset | Verb::Vrfy | Verb::Etrn
    ) {
        link.count_junk();
    }
    // Every command but these waits (RFC 3207 §4); of BDAT the octets have to be passed over first.
    let goes_in_clear = matches!(
        verb,
        Verb::Ehlo | Verb::Helo | Verb::Noop | Verb::Quit | Verb::StartTls | Verb::Bdat
    );
    if link.settings.tls_required && !link.tls && !goes_in_clear {
        let reply = Reply::new(530, "5.7.0 Must issue a STARTTLS command first");
        return refuse(&reply, stage, link);
    }
    if link.needs_hello() && matches!(verb, Verb::Mail | Verb::Vrfy | Verb::Etrn | Verb::Auth) {
        return out_of_sequence("send HELO/EHLO first", stage, link);
    }
    match verb {
        Verb::Ehlo | Verb::Helo => hello(verb, arguments, stage, link),
        Verb::Mail => mail(arguments, stage, link),
        Verb::Rcpt => rcpt(arguments, stage, link),
        Verb::Data => data(arguments, stage, link),
        Verb::Bdat => bdat(arguments, stage, link),
        Verb::Auth => auth(arguments, stage, link),
        Verb::StartTls => starttls(arguments, stage, input, link),
        Verb::Vrfy => match command::vrfy(arguments) {
            Ok(mailbox) => ask(Ask::Verify(mailbox), Asked::Nothing(stage), link),
            Err(reply) => refuse(&reply, stage, link),
        },
        Verb::Etrn => match (&stage, command::etrn(arguments)) {
            (Stage::Idle, Ok(domain)) => ask(Ask::Etrn(domain), Asked::Nothing(stage), link),
            (Stage::Idle, Err(reply)) => refuse(&reply, stage, link),
            _ => out_of_sequence("MAIL transaction in progress", stage, link),
        },
        Verb::Noop => {
            link.send(&Reply::new(250, "2.0.0 Ok"));
            State::Ready(stage)
        }
        Verb::Rset if arguments.is_empty() => {
            stage.abandon(link);
            link.send(&Reply::new(250, "2.0.0 Ok"));
            State::begin()
        }
        Verb::Rset => refuse(&Reply::new(501, "5.5.4 Syntax: RSET"), stage, link),
        Verb::Quit => {
            stage.abandon(link);
            link.send(&Reply::new(221, "2.0.0 Bye"));
            State::begin().end(None, link)
        }
    }
}

fn ask(ask: Ask, asked: Asked, link: &mut Link) -> State {
    link.ask(ask);
    State::Asked(asked)
}

/// RFC 5321 §4.1.1.1. A refused one changes nothing (RFC 5321 §4.1.4).
fn hello(verb: Verb, name: &str, stage: Stage, link: &mut Link) -> State {
    let extended = verb == Verb::Ehlo;
    if name.is_empty() {
        let text = if extended {
            "Syntax: EHLO hostname"
        } else {
            "Syntax: HELO hostname"
        };
        return refuse(&Reply::new(501, text), stage, link);
    }
    stage.abandon(link);
    let name = ehlo::sanitised(name);
    let reply = if extended {
        link.hello = Hello::Ehlo(name);
        ehlo::capabilities(link)
    } else {
        link.hello = Hello::Helo(name);
        Reply::new(250, link.settings.hostname.as_str())
    };
    link.send(&reply);
    State::begin()
}

fn mail(arguments: &str, stage: Stage, link: &mut Link) -> State {
    if !matches!(stage, Stage::Idle) {
        return out_of_sequence("nested MAIL command", stage, link);
    }
    let mail = match Mail::parse(arguments) {
        Ok(mail) => mail,
        Err(reply) => return refuse(&reply, stage, link),
    };
    if mail.auth && !link.settings.auth {
        return refuse(
            &Reply::new(503, "5.5.4 Error: authentication disabled"),
            stage,
            link,
        );
    }
    let limit = link.settings.message_size_limit;
    match mail.size {
        Some(u64::MAX) => {
            let text = "5.3.4 Message size exceeds file system imposed limit";
            refuse(&Reply::new(552, text), stage, link)
        }
        Some(size) if limit > 0 && size > limit => refuse(
            &Reply::new(552, "5.3.4 Message size exceeds fixed limit"),
            stage,
            link,
        ),
        _ => {
            let envelope = link.envelope(mail);
            ask(Ask::Sender(envelope.clone()), Asked::Sender(envelope), link)
        }
    }
}

fn rcpt(arguments: &str, stage: Stage, link: &mut Link) -> State {
    let mut transaction = match stage {
        Stage::Open(transaction) => transaction,
        Stage::Idle => return out_of_sequence("need MAIL command", stage, link),
        _ => return out_of_sequence("RCPT after BDAT", stage, link),
    };
    let recipient = match command::rcpt(arguments, transaction.envelope.smtputf8) {
        Ok(recipient) => recipient,
        Err(reply) => return refuse(&reply, Stage::Open(transaction), link),
    };
    if transaction.envelope.recipients.len() >= link.settings.recipient_limit {
        let reply = Reply::new(452, "4.5.3 Error: too many recipients");
        transaction.overshoot = transaction.overshoot.saturating_add(1);
        if transaction.overshoot > link.settings.overshoot_limit {
            return refuse(&reply, Stage::Open(transaction), link);
        }
        link.send(&reply);
        return State::Ready(Stage::Open(transaction));
    }
    let before = core::mem::take(&mut transaction.envelope.recipients);
    let question = Ask::Recipient {
        recipient: recipient.clone(),
        envelope: transaction.envelope.clone(),
    };
    transaction.envelope.recipients = before;
    ask(question, Asked::Recipient(transaction, recipient), link)
}

fn data(arguments: &str, stage: Stage, link: &mut Link) -> State {
    let transaction = match stage {
        Stage::Open(transaction) => transaction,
        Stage::Idle => return out_of_sequence("need RCPT command", stage, link),
        _ => return out_of_sequence("DATA after BDAT", stage, link),
    };
    if transaction.envelope.recipients.is_empty() {
        return refuse(&no_recipients(), Stage::Open(transaction), link);
    }
    if !arguments.is_empty() {
        let reply = Reply::new(501, "5.5.4 Syntax: DATA");
        return refuse(&reply, Stage::Open(transaction), link);
    }
    ask(
        Ask::Begin(transaction.envelope.clone()),
        Asked::Data(transaction),
        link,
    )
}

/// RFC 3030 §2. Whatever the answer, so many octets follow and are no commands; where their number
/// cannot be read, the session cannot go on.
fn bdat(arguments: &str, stage: Stage, link: &mut Link) -> State {
    let Some((size, last)) = command::bdat(arguments) else {
        let reply = Reply::new(521, "5.5.4 Syntax: BDAT count [LAST]");
        return State::Ready(stage).end(Some(reply), link);
    };
    if size == 0 && !last {
        // It brings nothing, and may come as often as NOOP.
        link.count_junk();
    }
    let (reply, then) = match stage {
        Stage::Open(transaction) if !transaction.envelope.recipients.is_empty() => {
            let question = Ask::Begin(transaction.envelope.clone());
            return ask(
                question,
                Asked::Chunk {
                    transaction,
                    size,
                    last,
                },
                link,
            );
        }
        Stage::Chunks(chunks) => return chunks.chunk(size, last, link),
        Stage::Open(_) => (no_recipients(), Stage::after_failure(last)),
        Stage::Idle => (
            Reply::new(503, "5.5.1 Error: need RCPT command"),
            Stage::Idle,
        ),
        Stage::Failed => {
            let text = format!("5.0.0 Discarded {size} bytes after earlier error");
            (Reply::new(551, text), Stage::after_failure(last))
        }
    };
    State::Skip(Skip {
        left: size,
        reply,
        then,
    })
}

fn no_recipients() -> Reply {
    Reply::new(554, "5.5.1 Error: no valid recipients")
}

fn auth(arguments: &str, stage: Stage, link: &mut Link) -> State {
    if !link.settings.auth {
        return out_of_sequence("authentication not enabled", stage, link);
    }
    if !matches!(stage, Stage::Idle) {
        return out_of_sequence("MAIL transaction in progress", stage, link);
    }
    if link.settings.auth_needs_tls && !link.tls {
        let text = "5.7.11 Encryption required for requested authentication mechanism";
        return refuse(&Reply::new(538, text), stage, link);
    }
    if link.user.is_some() {
        return out_of_sequence("already authenticated", stage, link);
    }
    authenticate(sasl::begin(arguments), link)
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
        } => ask(
            Ask::Password {
                mechanism,
                user: user.clone(),
                password,
            },
            Asked::Password { user },
            link,
        ),
        Step::Refused(reply) => refuse(&reply, Stage::Idle, link),
    }
}

/// RFC 3207 §4. Whatever was sent behind the command in clear is thrown away.
fn starttls(arguments: &str, stage: Stage, input: &mut Input, link: &mut Link) -> State {
    let reply = if !arguments.is_empty() {
        Reply::new(501, "5.5.4 Syntax: STARTTLS")
    } else if link.tls {
        Reply::new(554, "5.5.1 Error: TLS already active")
    } else if !link.settings.starttls {
        Reply::new(502, "5.5.1 Error: command not implemented")
    } else {
        stage.abandon(link);
        input.clear();
        link.send(&Reply::new(220, "2.0.0 Ready to start TLS"));
        link.actions.push_back(Action::StartTls);
        return State::Handshake;
    };
    refuse(&reply, stage, link)
}
