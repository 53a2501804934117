//! What only the order of the lines can show.

use std::collections::BTreeMap;

use super::Parser;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::piece::Piece;
use crate::scenario::{Clause, Header, Span, Start};

/// What the lines so far have established.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// A step or clause was seen: the header is over.
    pub(super) begun: bool,
    /// A clause was seen.
    pub(super) judges: bool,
    /// The clause that runs: its id, its place, and whether it expects something.
    clause: Option<(String, Span, bool)>,
    /// Ids and their lines.
    seen: BTreeMap<String, usize>,
    wire: Wire,
    mailer: bool,
}

/// What is known of the connection that the lines speak on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Wire {
    /// There is none.
    #[default]
    Closed,
    /// The client spoke last, or nobody yet.
    Open,
    /// A reply was read, and the client has said nothing since.
    Replied,
}

impl Order {
    /// The first line below the header.
    pub(super) fn begin(&mut self, header: &Header) {
        if !self.begun {
            self.begun = true;
            if header.start != Start::Nothing {
                self.wire = Wire::Open;
            }
        }
    }

    /// What stands here may have been meant as an expectation.
    pub(super) fn may_expect(&mut self) {
        if let Some((_, _, expects)) = &mut self.clause {
            *expects = true;
        }
    }

    /// A clause that expects nothing cannot fail.
    pub(super) fn clause_ends(&mut self, parser: &mut Parser<'_>) {
        if let Some((id, span, false)) = self.clause.take() {
            parser.report(span, What::NothingExpected(id));
        }
    }

    /// Ids differ within a scenario.
    pub(super) fn clause_begins(
        &mut self,
        parser: &mut Parser<'_>,
        clause: Option<&Clause>,
        node: &Node<'_>,
    ) {
        self.judges = true;
        let Some(clause) = clause else {
            return;
        };
        let span = node.line.content.span();
        let line = parser.line_number(span.start);
        if let Some(&first) = self.seen.get(&clause.id) {
            parser.report(
                span,
                What::ClauseTwice {
                    id: clause.id.clone(),
                    first,
                },
            );
        }
        self.seen.entry(clause.id.clone()).or_insert(line);
        self.clause = Some((clause.id.clone(), span, false));
    }

    /// A step: does it fit behind what was before, and what does it establish?
    pub(super) fn step(&mut self, parser: &mut Parser<'_>, word: Piece<'_>, rest: Piece<'_>) {
        let name = word.text;
        let speaks = matches!(name, "C:" | "bytes" | "message" | "S:" | "tls" | "close");
        if speaks && self.wire == Wire::Closed {
            // Said once: the connection counts as open from here on, unless this closes it.
            parser.report(word.span(), What::NoConnection(name.to_owned()));
        }
        match name {
            "C:" | "bytes" | "message" | "tls" | "connect" => self.wire = Wire::Open,
            "close" if rest.text == "half" => self.wire = Wire::Open,
            "close" => self.wire = Wire::Closed,
            "S:" => self.wire = Wire::Replied,
            "S=" if self.wire != Wire::Replied => parser.report(word.span(), What::NoReplyYet),
            "mailer" if !is_expectation(name, rest) => self.mailer = true,
            "mailer" if !self.mailer => parser.report(word.span(), What::NoMailerYet),
            _ => {}
        }
        if is_expectation(name, rest) {
            self.may_expect();
        }
    }
}

/// Can this line fail a clause? Decided by its words alone, so that a slip in the rest of an
/// expectation is not reported as an expectation that is missing.
fn is_expectation(word: &str, rest: Piece<'_>) -> bool {
    match word {
        "S:" | "S=" | "queue" | "rows" | "log" | "tls" | "crowd" => true,
        "mailer" => matches!(rest.word().0.text, "accepted" | "refused"),
        "sink" => !matches!(rest.word().0.text, "answers" | "refuses" | "accepts"),
        "maildir" => !matches!(
            rest.word().1.word().0.text,
            "empty-out" | "throw-out" | "shut" | "open" | "measured" | "watched" | "put"
        ),
        _ => false,
    }
}
