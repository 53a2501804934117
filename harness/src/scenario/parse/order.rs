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
    connected: bool,
    /// A reply was read and the client has said nothing since.
    replied: bool,
    mailer: bool,
}

impl Order {
    /// The first line below the header.
    pub(super) fn begin(&mut self, header: &Header) {
        if !self.begun {
            self.begun = true;
            self.connected = header.start != Start::Nothing;
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
        if matches!(name, "C:" | "bytes" | "message" | "S:" | "tls" | "close") && !self.connected {
            parser.report(word.span(), What::NoConnection(name.to_owned()));
            // Said once; the rest of the dialogue stands or falls with it.
            self.connected = true;
        }
        match name {
            "C:" | "bytes" | "message" | "tls" => self.replied = false,
            "connect" => (self.connected, self.replied) = (true, false),
            "close" => (self.connected, self.replied) = (false, false),
            "S:" => {
                self.replied = true;
                self.may_expect();
            }
            "S=" => {
                if !self.replied {
                    parser.report(word.span(), What::NoReplyYet);
                }
                self.may_expect();
            }
            "mailer" if matches!(rest.word().0.text, "accepted" | "refused") => {
                if !self.mailer {
                    parser.report(word.span(), What::NoMailerYet);
                }
                self.may_expect();
            }
            "mailer" => self.mailer = true,
            "sink" => {
                if !matches!(rest.word().0.text, "answers" | "refuses" | "accepts") {
                    self.may_expect();
                }
            }
            "maildir" => {
                if rest
                    .words()
                    .get(1)
                    .is_none_or(|word| word.text != "empty-out")
                {
                    self.may_expect();
                }
            }
            "queue" | "rows" => self.may_expect(),
            _ => {}
        }
    }
}
