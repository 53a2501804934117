//! Every mistake that a scenario file can contain, in the words that its author reads.
//!
//! A mistake says what is wrong, underlines it, says what was expected there, and what to do. The
//! parser collects all mistakes of a file; `render` shows them one below the other.

use std::fmt;
use std::path::Path;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

use super::{Span, words};

/// One mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What to underline.
    pub span: Span,
    /// What is wrong there.
    pub what: What,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Octets that are not UTF-8.
    NotText,
    /// A tab or another control character.
    ControlCharacter(char),
    /// The first line of the file is indented.
    NothingAbove,
    /// The indentation is neither that of its block nor that of a line above it.
    Uneven,
    /// Indented lines below a line that takes none.
    TakesNoLines(String),
    /// The first word is none of the language's.
    UnknownWord {
        /// As written.
        word: String,
        /// Did you mean.
        nearest: Option<&'static str>,
    },
    /// Written as a level, but none.
    UnknownLevel {
        /// As written.
        word: String,
        /// Did you mean.
        nearest: Option<&'static str>,
    },
    /// The first word of an indented line is none of those that the line above takes.
    UnknownDetail {
        /// As written.
        word: String,
        /// The line above.
        below: &'static str,
        /// What it takes.
        allowed: Vec<&'static str>,
        /// Did you mean.
        nearest: Option<&'static str>,
    },
    /// A choice of words, and this is none of them.
    NotOneOf {
        /// What is chosen: `way in`, `capability` …
        what: &'static str,
        /// As written.
        word: String,
        /// The choice.
        allowed: Vec<&'static str>,
        /// Did you mean.
        nearest: Option<&'static str>,
    },
    /// No `title`.
    NoTitle,
    /// No clause: nothing would be judged.
    NoClause,
    /// A header line after the first step or clause.
    HeaderAfterStep(String),
    /// A header line that may stand once.
    HeaderTwice {
        /// `from` …
        word: String,
        /// The line of the first.
        first: usize,
    },
    /// A line that ends too early.
    Missing {
        /// The word that wants more.
        after: String,
        /// What it wants.
        expected: &'static str,
    },
    /// A line that goes on too long.
    Unexpected {
        /// The word whose line it is.
        after: String,
        /// What is too much.
        text: String,
    },
    /// Not a number, or not one of these.
    BadNumber {
        /// As written.
        text: String,
        /// `a number of times from 1 to 100000`
        expected: &'static str,
    },
    /// Not a time.
    BadTime(String),
    /// `nothing` without a time: how long is silence?
    NothingWithoutTime,
    /// `within` where nothing is waited for.
    TimeWithoutWaiting,
    /// Not a reply's pattern.
    BadPattern {
        /// As written.
        text: String,
        /// What about it.
        why: &'static str,
    },
    /// `S=` and no reply has been read since something was said.
    NoReplyYet,
    /// The wire is used and no connection is open.
    NoConnection(String),
    /// `mailer accepted` and no `mailer` before it.
    NoMailerYet,
    /// Not a clause's id.
    BadId(String),
    /// The same id twice in one scenario.
    ClauseTwice {
        /// The id.
        id: String,
        /// The line of the first.
        first: usize,
    },
    /// A reference that cannot be read.
    BadReference(String),
    /// A clause without a reference.
    NoReference,
    /// A clause without words.
    NoClaim,
    /// A clause that expects nothing cannot fail.
    NothingExpected(String),
    /// A name that neither the language nor the scenario knows.
    UnknownName {
        /// As written, without `$`.
        name: String,
        /// Did you mean.
        nearest: Option<String>,
        /// All that could be meant.
        known: Vec<String>,
    },
    /// `$n` outside of `repeat`, `$size` outside of `name`.
    NameNotHere(&'static str),
    /// A `$` that begins no name.
    LoneDollar,
    /// `$base64(` without `)`.
    OpenBracket,
    /// Brackets in brackets in brackets …
    TooDeep,
    /// `$plain(…)` without two words.
    PlainNeedsTwo,
    /// `\q`
    BadEscape(String),
    /// Blanks at the end of octets that count.
    BlankAtEnd(&'static str),
    /// Blanks before octets that count.
    BlankAtStart(&'static str),
    /// Not a name for an axis or a column.
    BadAxis(String),
    /// An axis or column with the name of something else.
    AxisTaken(String),
    /// A value of an axis that is nothing.
    EmptyValue,
    /// The same value twice on one axis, or the same row twice.
    ValueTwice(String),
    /// A row that has more or fewer cells than the table has columns.
    RowWidth {
        /// Columns.
        expected: usize,
        /// Cells.
        seen: usize,
    },
    /// More cases than anybody meant.
    TooManyCases(usize),
    /// Not an address.
    BadAddress {
        /// As written.
        text: String,
        /// `<user@domain>` …
        expected: &'static str,
    },
    /// A detail of a message below `empty`.
    DetailOfNothing(String),
    /// A detail that may stand once.
    DetailTwice(String),
    /// A detail whose text has not the form it needs.
    BadDetail {
        /// The word.
        word: String,
        /// The form.
        expected: &'static str,
    },
    /// What cannot be repeated.
    NotInRepeat(String),
    /// A parameter that is set twice.
    ParameterTwice(String),
}

impl Mistake {
    /// A mistake at a place.
    #[must_use]
    pub fn new(span: Span, what: What) -> Self {
        Self { span, what }
    }

    /// What is written below the underlined text: what was expected there.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.what {
            What::NotText => "not UTF-8 from here on".into(),
            What::ControlCharacter('\t') => "a tab".into(),
            What::ControlCharacter(c) => format!("U+{:04X}", u32::from(*c)),
            What::NothingAbove => "expected a line that begins in the first column".into(),
            What::Uneven => "expected in the column of the lines it stands with".into(),
            What::TakesNoLines(_) => "expected in the first column".into(),
            What::UnknownWord { .. } => "expected a header word, a level or a step".into(),
            What::UnknownLevel { .. } => "expected a level".into(),
            What::UnknownDetail { allowed, .. } | What::NotOneOf { allowed, .. } => {
                format!("expected {}", or(allowed))
            }
            What::NoTitle => "expected `title TEXT` above this".into(),
            What::NoClause => "expected a clause".into(),
            What::HeaderAfterStep(_) => "expected above the first step".into(),
            What::HeaderTwice { first, .. } => format!("the first is on line {first}"),
            What::Missing { expected, .. }
            | What::BadNumber { expected, .. }
            | What::BadAddress { expected, .. }
            | What::BadDetail { expected, .. } => format!("expected {expected}"),
            What::Unexpected { .. } => "expected the end of the line".into(),
            What::BadTime(_) => "expected a time: 500ms, 2s or 1m".into(),
            What::NothingWithoutTime => "expected `nothing within TIME`".into(),
            What::TimeWithoutWaiting => "nothing is waited for here".into(),
            What::BadPattern { why, .. } => (*why).to_owned(),
            What::NoReplyYet => "expected an `S:` before it".into(),
            What::NoConnection(_) => "expected a connection before it".into(),
            What::NoMailerYet => "expected a `mailer ENTRY` before it".into(),
            What::BadId(_) => "expected group.name".into(),
            What::ClauseTwice { first, .. } => format!("already a clause on line {first}"),
            What::BadReference(_) | What::NoReference => "expected a reference".into(),
            What::NoClaim => "expected the claim in words".into(),
            What::NothingExpected(_) => "nothing below it can fail".into(),
            What::UnknownName { .. } => "expected a name that the case has".into(),
            What::NameNotHere("n") => "expected inside of `repeat`".into(),
            What::NameNotHere(_) => "expected after `name`".into(),
            What::LoneDollar => "expected a name, or another `$`".into(),
            What::OpenBracket => "expected `)` before the end of the line".into(),
            What::TooDeep => "one bracket too many".into(),
            What::PlainNeedsTwo => "expected a user, a blank and a password".into(),
            What::BadEscape(_) => "expected \\r \\n \\t \\0 \\\\ or \\xHH".into(),
            What::BlankAtEnd(_) => "expected no blank at the end".into(),
            What::BlankAtStart(_) => "expected one blank before it".into(),
            What::BadAxis(_) => "expected lower-case letters and digits".into(),
            What::AxisTaken(_) => "already the name of something else".into(),
            What::EmptyValue => "expected a value".into(),
            What::ValueTwice(_) => "expected once".into(),
            What::RowWidth { expected, .. } => format!("expected {expected} cells"),
            What::TooManyCases(_) => format!("expected at most {MOST_CASES}"),
            What::DetailOfNothing(_) => "expected no line below `empty`".into(),
            What::DetailTwice(_) => "expected once".into(),
            What::NotInRepeat(_) => "expected outside of `repeat`".into(),
            What::ParameterTwice(_) => "expected once".into(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match &self.what {
            What::UnknownWord {
                nearest: Some(near),
                ..
            }
            | What::UnknownLevel {
                nearest: Some(near),
                ..
            }
            | What::UnknownDetail {
                nearest: Some(near),
                ..
            }
            | What::NotOneOf {
                nearest: Some(near),
                ..
            } => format!("did you mean `{near}`?"),
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
                                        5.7.1 or 554 5.x.x; closed; nothing within 500ms; `|` \
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
        }
    }
}

/// A scenario may multiply to this many cases.
pub const MOST_CASES: usize = 1000;

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::NotText => f.write_str("the file is not text"),
            What::ControlCharacter(_) => f.write_str("a control character in the text"),
            What::NothingAbove => f.write_str("an indented line with no line above it"),
            What::Uneven => f.write_str("uneven indentation"),
            What::TakesNoLines(word) => write!(f, "`{word}` takes no indented lines"),
            What::UnknownWord { word, .. } => write!(f, "`{word}` is no word of the language"),
            What::UnknownLevel { word, .. } => write!(f, "`{word}` is no level"),
            What::UnknownDetail { word, below, .. } => {
                write!(f, "`{word}` is nothing that `{below}` knows")
            }
            What::NotOneOf { what, word, .. } => write!(f, "`{word}` is no {what}"),
            What::NoTitle => f.write_str("the scenario has no title"),
            What::NoClause => f.write_str("the scenario has no clause: it judges nothing"),
            What::HeaderAfterStep(word) => write!(f, "`{word}` belongs to the header"),
            What::HeaderTwice { word, .. } => write!(f, "a second `{word}`"),
            What::Missing { after, .. } => write!(f, "`{after}` wants more"),
            What::Unexpected { after, .. } => write!(f, "too much after `{after}`"),
            What::BadNumber { text, .. } => write!(f, "`{text}` is not a number that fits"),
            What::BadTime(text) => write!(f, "`{text}` is no time"),
            What::NothingWithoutTime => f.write_str("`nothing`, for how long?"),
            What::TimeWithoutWaiting => f.write_str("`within` where nothing is waited for"),
            What::BadPattern { text, .. } => write!(f, "`{text}` is no pattern of a reply"),
            What::NoReplyYet => f.write_str("`S=` has no reply to look at"),
            What::NoConnection(word) => write!(f, "`{word}` without a connection"),
            What::NoMailerYet => f.write_str("no mailer has sent anything"),
            What::BadId(id) => write!(f, "`{id}` is not the id of a clause"),
            What::ClauseTwice { id, .. } => write!(f, "a second clause {id}"),
            What::BadReference(text) => write!(f, "`{text}` is no reference"),
            What::NoReference => f.write_str("the clause does not say where it comes from"),
            What::NoClaim => f.write_str("the clause claims nothing"),
            What::NothingExpected(id) => write!(f, "the clause {id} expects nothing"),
            What::UnknownName { name, .. } => write!(f, "`${name}` is unknown"),
            What::NameNotHere(name) => write!(f, "`${name}` has no value here"),
            What::LoneDollar => f.write_str("a dollar sign that begins no name"),
            What::OpenBracket => f.write_str("a bracket that does not end"),
            What::TooDeep => f.write_str("too many brackets in brackets"),
            What::PlainNeedsTwo => f.write_str("`$plain(…)` needs two words"),
            What::BadEscape(text) => write!(f, "`{text}` is no escape"),
            What::BlankAtEnd(word) => write!(f, "a blank at the end of `{word}`"),
            What::BlankAtStart(word) => write!(f, "more than one blank after `{word}`"),
            What::BadAxis(name) => write!(f, "`{name}` cannot be a name"),
            What::AxisTaken(name) => write!(f, "`{name}` is taken"),
            What::EmptyValue => f.write_str("an empty value"),
            What::ValueTwice(value) => write!(f, "`{value}` stands here twice"),
            What::RowWidth { .. } => f.write_str("the row does not fit its table"),
            What::TooManyCases(many) => write!(f, "{many} cases from one scenario"),
            What::BadAddress { text, .. } => write!(f, "`{text}` is no address for this place"),
            What::DetailOfNothing(word) => write!(f, "`{word}` below `empty`"),
            What::DetailTwice(word) => write!(f, "a second `{word}`"),
            What::BadDetail { word, .. } => write!(f, "`{word}` needs another form"),
            What::NotInRepeat(word) => write!(f, "`{word}` cannot be repeated"),
            What::ParameterTwice(name) => write!(f, "`{name}` is set twice"),
        }
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.advice()))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = (self.span.start, self.span.len);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            Some(self.label()),
            place,
        ))))
    }
}

/// All mistakes of a file, each with its line underlined; `colour` for terminals.
#[must_use]
pub fn render(path: &Path, source: &str, mistakes: &[Mistake], colour: bool) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_links(false);
    let mut out = String::new();
    for mistake in mistakes {
        let text = NamedSource::new(path.display().to_string(), source.to_owned());
        let report = miette::Report::new(mistake.clone()).with_source_code(text);
        if handler.render_report(&mut out, report.as_ref()).is_err() {
            out.push_str(&mistake.to_string());
        }
        out.push('\n');
    }
    out
}

/// `from` or `to`; `has`, `lacks` or `first`; too many to say: the first few.
fn or(allowed: &[&str]) -> String {
    match allowed {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [some @ .., last] if allowed.len() <= 6 => {
            let some: Vec<String> = some.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", some.join(", "))
        }
        _ => "one of the words below".to_owned(),
    }
}
