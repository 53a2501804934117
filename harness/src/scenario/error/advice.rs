//! What to do about a mistake: the word that was meant, the words that are allowed, the way to say
//! it.

use super::{Mistake, SHORT, What};
use crate::scenario::words;

impl Mistake {
    /// What to do about it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one line a mistake")]
    pub fn advice(&self) -> String {
        match &self.what {
            What::UnknownWord {
                nearest: Some(near),
                ..
            }
            | What::UnknownLevel {
                nearest: Some(near),
                ..
            } => format!("did you mean `{near}`?"),
            What::UnknownDetail {
                nearest: Some(near),
                allowed,
                ..
            }
            | What::NotOneOf {
                nearest: Some(near),
                allowed,
                ..
            } => {
                let mut advice = format!("did you mean `{near}`?");
                if allowed.len() > SHORT {
                    advice.push_str(" The words are: ");
                    advice.push_str(&allowed.join(" "));
                }
                advice
            }
            What::UnknownName {
                nearest: Some(near),
                ..
            } => format!("did you mean `${near}`?"),
            What::NotText => "save the file as UTF-8; other octets are written \\xHH, in `bytes` \
                              and in `line`"
                .into(),
            What::ControlCharacter(_) => "lay out with blanks; control characters are written \
                                          \\t, \\0 or \\xHH, in `bytes` and in `line`"
                .into(),
            What::NothingAbove => "an indented line belongs to the line above it".into(),
            What::Uneven => "lines that belong to one line begin in one column".into(),
            What::TakesNoLines(word) => {
                format!("`{word}` is one line; a step of its own is not indented")
            }
            What::UnknownWord { nearest: None, .. } => format!(
                "header: {}\nlevels: {}\nsteps: {}",
                words::HEADERS.join(" "),
                words::LEVELS.join(" "),
                words::STEPS.join(" ")
            ),
            What::UnknownLevel { nearest: None, .. } => {
                format!("levels: {}", words::LEVELS.join(" "))
            }
            What::UnknownDetail { below, allowed, .. } => {
                format!("below `{below}`: {}", allowed.join(" "))
            }
            What::NotOneOf { allowed, .. } => format!("one of: {}", allowed.join(" ")),
            What::NoTitle => "say in one line what the scenario is about".into(),
            What::NoClause => "write `LEVEL id references claim` before the expectation that \
                               judges; what stands before it is set-up"
                .into(),
            What::HeaderAfterStep(word) => {
                format!("move `{word}` above the first step: the header says how the case begins")
            }
            What::HeaderTwice { word, .. } => format!("`{word}` stands once; keep one of them"),
            What::Missing { after, expected } => format!("write {expected} after `{after}`"),
            What::Unexpected { after, text } => {
                format!("take `{text}` away: the line of `{after}` is complete without it")
            }
            What::BadNumber { .. } => "write it in digits".into(),
            What::BadTime(_) => "digits and a unit without a blank; from 1ms to 60m".into(),
            What::NothingWithoutTime => "silence needs a length: `nothing within 500ms`".into(),
            What::TimeWithoutWaiting => "`S=` looks at a reply that is here; put `within` behind \
                                         the `S:` that reads it"
                .into(),
            What::BadPattern { .. } => "patterns: 250, 25z, 5yz, xyz; with an enhanced code 554 \
                                        5.7.1 or 554 5.x.x; closed; closed in order; alert; nothing within 500ms; `|` \
                                        between them means or"
                .into(),
            What::NoReplyYet => "`S:` reads a reply; `S=` looks at it again for another clause, \
                                 before the client says more"
                .into(),
            What::NoConnection(word) => format!(
                "write `connect` above this `{word}`: the case starts with `start nothing`, or \
                 the connection was closed"
            ),
            What::NoMailerYet => "write `mailer ENTRY` with `from` and `to` above it".into(),
            What::BadId(_) => "the register's id: lower-case letters, digits and dashes, as \
                               relay.null-sender-foreign"
                .into(),
            What::ClauseTwice { id, .. } => {
                format!("put the expectations of {id} together, or give this clause its own id")
            }
            What::BadReference(_) | What::NoReference => {
                "references: rfc5321#4.5.2, draft-NAME#2.3, postfix:PARAMETER, tutorial:WORD, \
                 maildir++, maildir5, crypt3, vmailspec:WORD"
                    .into()
            }
            What::NoClaim => "say in words what holds, as `mail for others is refused`".into(),
            What::NothingExpected(_) => "write an expectation below it (`S:`, `S=`, a probe or \
                                         `mailer accepted`): a check that cannot fail shows \
                                         nothing"
                .into(),
            What::UnknownName {
                nearest: None,
                known,
                ..
            } => {
                format!("names: {}; `$$` is a dollar sign", known.join(" "))
            }
            What::NameNotHere("n") => "`$n` counts the rounds of `repeat`".into(),
            What::NameNotHere(_) => {
                "`$size` is the size of a Maildir's file, known in `name`".into()
            }
            What::LoneDollar => "a dollar sign is written `$$`".into(),
            What::OpenBracket => "every `(` needs its `)`, also those of the text itself".into(),
            What::TooDeep => "brackets go eight deep".into(),
            What::TimesNeedsTwo => "as $times(998 x)".into(),
            What::PlainNeedsTwo => "as $plain(address@$domain mypassword)".into(),
            What::BadEscape(_) => "a backslash is written `\\\\`".into(),
            What::BlankAtEnd("C:") | What::BlankAtStart("C:") => {
                "where the blank is meant, say it with `bytes`: \\x20, and \\r\\n at the end".into()
            }
            What::BlankAtEnd(_) | What::BlankAtStart(_) => {
                "where the blank is meant, write \\x20".into()
            }
            What::BadAxis(_) => "as `each command NOOP, RSET`, then `$command`".into(),
            What::AxisTaken(_) => "choose another: $names of every case, axes and columns must \
                                   differ"
                .into(),
            What::EmptyValue => "commas separate values; nothing at all is written \"\"".into(),
            What::ValueTwice(_) => "each value and each row is a case of its own, with its own \
                                    name"
                .into(),
            What::RowWidth { seen, .. } => format!(
                "{seen} seen: two blanks or more separate cells; nothing at all is written \"\""
            ),
            What::TooManyCases(_) => "axes multiply: take values away, or split the file".into(),
            What::BadAddress { .. } => "addresses may hold $names, as address@$domain".into(),
            What::DetailOfNothing(_) => {
                "with no message there is nothing that could have it".into()
            }
            What::DetailTwice(word) => format!("`{word}` can hold in one way only; keep one"),
            What::BadDetail { word, expected } => format!("write `{word}` and {expected}"),
            What::NotInRepeat(_) => "steps can be repeated: wire, world and probes".into(),
            What::ParameterTwice(_) => "the last would win; keep one".into(),
            What::Unwritten => "what stands behind it comes from the register's row: say it in \
                                your own words, as title, claim, steps and expectations"
                .into(),
        }
    }
}
