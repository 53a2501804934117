//! Every mistake that a scenario file can contain, in the words that its author reads.
//!
//! A mistake says what is wrong, underlines it, says what was expected there, and what to do. The
//! parser collects all mistakes of a file; `render` shows them one below the other.

mod advice;
mod expected;
mod message;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

use super::Span;

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
    /// `$times(…)` without a number and a text.
    TimesNeedsTwo,
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
    /// `write this`, as `vmailspec new` leaves it.
    Unwritten,
}

impl Mistake {
    /// A mistake at a place.
    #[must_use]
    pub fn new(span: Span, what: What) -> Self {
        Self { span, what }
    }
}

/// A list of at most so many words is written where the words were expected; a longer one below.
const SHORT: usize = 6;

/// A scenario may multiply to this many cases.
pub const MOST_CASES: usize = 1000;

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
    let text = Arc::new(NamedSource::new(
        path.display().to_string(),
        source.to_owned(),
    ));
    let mut out = String::new();
    for mistake in mistakes {
        let report = miette::Report::new(mistake.clone()).with_source_code(Arc::clone(&text));
        if handler.render_report(&mut out, report.as_ref()).is_err() {
            out.push_str(&mistake.to_string());
        }
        out.push('\n');
    }
    out
}
