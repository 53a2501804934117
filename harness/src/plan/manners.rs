//! What is not done to a server of somebody else's unless he says so (`--intrusive`).
//!
//! It is told by the words that a scenario uses, each with the reason in this one table.

use super::{Case, all_steps};
use crate::scenario::{MailboxAction, Reply, ReplyPattern, StepKind};

/// More than this of anything is load.
const REPEATS: u32 = 10;
const OCTETS: usize = 1_000_000;
const CONNECTIONS: usize = 10;

/// Of so few replies each is one that the case is about.
const FEW: usize = 4;
/// The login of an account that is there.
const RIGHT: &str = "(address@$domain mypassword)";

/// The words, and why they are not polite.
pub const IMPOLITE: [(&str, &str); 9] = [
    ("slow", "it holds a connection for long"),
    ("repeat N", "more than 10 times the same is load"),
    ("message N bytes", "more than 1,000,000 octets are load"),
    ("connect", "more than 10 connections are load"),
    ("crowd", "many sessions at once are load"),
    (
        "S: 421 or 535",
        "clients are banned for what is answered so",
    ),
    (
        "sink answers … hangs",
        "it holds a connection of the server's for long",
    ),
    (
        "database, disk, target, maildir … shut",
        "what the server stands on is taken from it",
    ),
    ("$port", "mail that is led back to the server is load"),
];

impl Case {
    /// The word of [`IMPOLITE`] that it uses, and the reason.
    #[must_use]
    pub fn impolite(&self) -> Option<(&'static str, &'static str)> {
        let steps = || all_steps(&self.scenario.steps).map(|step| &step.kind);
        let connections = steps()
            .filter(|kind| matches!(kind, StepKind::Connect { .. }))
            .count();
        let whole = self.scenario.header.slow.then_some("slow");
        let many = (connections > CONNECTIONS).then_some("connect");
        let back = self.texts().iter().any(|text| text.contains("$port"));
        let word = whole
            .or_else(|| steps().find_map(|kind| self.impolite_step(kind)))
            .or(many)
            .or_else(|| back.then_some("$port"))?;
        IMPOLITE.into_iter().find(|(known, _)| *known == word)
    }

    /// The word of [`IMPOLITE`] that a line is. No kind of line is left out: a new one is looked at
    /// here before it is asked of anybody.
    fn impolite_step(&self, kind: &StepKind) -> Option<&'static str> {
        let (word, impolite) = match kind {
            StepKind::Repeat(times, _) => ("repeat N", *times > REPEATS),
            StepKind::Message(message) => ("message N bytes", message.size > Some(OCTETS)),
            StepKind::Crowd { .. } => ("crowd", true),
            StepKind::Reply(reply) => ("S: 421 or 535", self.bans(reply)),
            StepKind::SinkAnswers { reply, .. } => {
                let hangs = reply.as_ref().is_some_and(|reply| {
                    let raw = reply.raw.trim();
                    let cell = raw.strip_prefix('$').and_then(|n| self.bindings.get(n));
                    cell.map_or(raw, |cell| cell.trim()) == "hangs"
                });
                ("sink answers … hangs", hangs)
            }
            StepKind::Database(_)
            | StepKind::Disk(..)
            | StepKind::Target(_)
            | StepKind::Mailbox(_, MailboxAction::Shut) => {
                ("database, disk, target, maildir … shut", true)
            }
            // A client that says a line, leaves in whatever way, or looks; next hops that put off or
            // refuse; what the owner of a mailbox does in it.
            StepKind::Clause(_)
            | StepKind::Client(_)
            | StepKind::Bytes(_)
            | StepKind::Connect { .. }
            | StepKind::Tls(_)
            | StepKind::Close(_)
            | StepKind::Mailer { .. }
            | StepKind::MailerResult(_)
            | StepKind::Sql(_)
            | StepKind::SinkListens(_)
            | StepKind::SinkHeard(..)
            | StepKind::Mailbox(..)
            | StepKind::Maildir { .. }
            | StepKind::Sink { .. }
            | StepKind::Queue(..)
            | StepKind::Rows(..)
            | StepKind::Log(..) => return None,
        };
        impolite.then_some(word)
    }

    /// Whether a reply tells of a refused login, or of a client that is thrown out: where no login is
    /// tried none is refused, and a reply that is one of many is not what the case is about unless
    /// it asks for it.
    fn bans(&self, reply: &Reply) -> bool {
        reply.patterns.iter().any(|pattern| match pattern {
            ReplyPattern::Code { digits, .. } => match digits {
                [Some(5), Some(3), Some(5)] => self.guesses(),
                [Some(4), Some(2), Some(1)] => reply.patterns.len() <= FEW,
                _ => false,
            },
            _ => false,
        })
    }

    /// Whether it tries a login that may be refused: by a password that is wrong, or a name that is.
    fn guesses(&self) -> bool {
        let texts = all_steps(&self.scenario.steps).flat_map(|step| match &step.kind {
            StepKind::Client(text) => vec![text.raw.as_str()],
            StepKind::Bytes(texts) => texts.iter().map(|text| text.raw.as_str()).collect(),
            _ => Vec::new(),
        });
        let mut texts = texts.map(|text| {
            // `$command`: the cell of this case.
            let cell = text
                .strip_prefix('$')
                .and_then(|name| self.bindings.get(name));
            cell.map_or(text, String::as_str)
        });
        texts.any(|text| {
            let begins = |word: &str| {
                text.get(..word.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
            };
            let right = text.contains(RIGHT) && !text.contains("wrong");
            let known = [
                "EHLO ", "HELO ", "MAIL ", "RCPT ", "RSET", "NOOP", "VRFY ", "EXPN ", "HELP",
            ];
            let known = known
                .iter()
                .chain(&["ETRN ", "STARTTLS", "BDAT ", "DATA", "QUIT", "FROB"]);
            !right && !known.into_iter().any(|word| begins(word))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use crate::plan::cases;
    use crate::scenario::parse::parse;

    #[rstest]
    #[case("C: NOOP\nS: 250\nclose reset\nconnect\nS: 220", None)]
    #[case(
        "sink answers DATA closes\nC: NOOP\nS: 250\nmaildir address@$domain watched",
        None
    )]
    #[case(
        "sink answers DATA hangs\nC: NOOP\nS: 250",
        Some("sink answers … hangs")
    )]
    #[case(
        "sink answers DATA $how\nC: NOOP\nS: 250",
        Some("sink answers … hangs")
    )]
    #[case(
        "maildir address@$domain shut\nC: NOOP\nS: 250",
        Some("database, disk, target, maildir … shut")
    )]
    #[case(
        "sql DELETE FROM users WHERE id = $port\nC: NOOP\nS: 250",
        Some("$port")
    )]
    #[case("C: NOOP\nS: 250 | 535", None)]
    #[case("C: AUTH PLAIN $plain(address@$domain mypassword)\nS: 235 | 535", None)]
    #[case(
        "C: AUTH PLAIN $plain(address@$domain wrong)\nS: 535",
        Some("S: 421 or 535")
    )]
    #[case("C: AUTH LOGIN\nS: 334 | 535", Some("S: 421 or 535"))]
    #[case("C: NOOP\nS: 421", Some("S: 421 or 535"))]
    #[case("C: NOOP\nS: 250 | 450 | 451 | 500 | 421", None)]
    fn a_word_is_polite_or_not(#[case] steps: &str, #[case] word: Option<&str>) {
        let text = format!(
            "title   Manners\ncases   how    other\n        hangs  x\nneeds   database maildir sink own-target disk\n\n{steps}\n\nMUST    a.b   rfc5321#4.1   something\nC: NOOP\nS: 250\n"
        );
        let scenario = parse("manners/one.case", text).expect("a scenario");
        let cases = cases(&Arc::new(scenario));
        assert_eq!(cases[0].impolite().map(|(word, _)| word), word);
    }
}
