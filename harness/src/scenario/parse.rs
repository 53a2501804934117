//! Reads a scenario: all mistakes of a file at once, never a panic, whatever the octets.
//!
//! `lines` makes a tree of the file; here the first word of each line decides what it is, and what
//! only the order of lines can show is checked: a clause that expects nothing, `S=` without a
//! reply, a wire without a connection. What a line says is read in the modules below.

mod check;
mod clause;
mod detail;
mod header;
mod order;
mod probe;
mod reply;
mod step;
mod time;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Mistake, What};
use super::lines::{Node, tree};
use super::nearest::nearest;
use super::piece::Piece;
use super::words::{self, Meaning};
use super::{Header, Scenario, Span, Step, StepKind};
use order::Order;

/// Reads a scenario. `path` is relative to the scenarios folder; without its ending it is the
/// scenario's name.
pub fn parse(path: impl Into<PathBuf>, source: impl AsRef<[u8]>) -> Result<Scenario, Vec<Mistake>> {
    let source = match std::str::from_utf8(source.as_ref()) {
        Ok(source) => source,
        Err(error) => {
            let span = Span {
                start: error.valid_up_to(),
                len: 0,
            };
            return Err(vec![Mistake::new(span, What::NotText)]);
        }
    };
    let mut parser = Parser::new(source);
    let (title, header, steps) = parser.scenario();
    if parser.mistakes.is_empty() {
        return Ok(Scenario {
            path: path.into(),
            source: Arc::from(source),
            title,
            header,
            steps,
        });
    }
    parser
        .mistakes
        .sort_by_key(|mistake| (mistake.span.start, mistake.span.len));
    parser.mistakes.dedup();
    Err(parser.mistakes)
}

/// What is known while a file is read.
struct Parser<'a> {
    source: &'a str,
    mistakes: Vec<Mistake>,
    /// Axes and columns, each with its values and their places.
    values: BTreeMap<String, Vec<(String, Span)>>,
    /// Axes and columns whose values are octets with escapes, because `bytes` or `line` use them.
    octets: Vec<String>,
    /// Where `$n` has a value.
    in_repeat: bool,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            mistakes: Vec::new(),
            values: BTreeMap::new(),
            octets: Vec::new(),
            in_repeat: false,
        }
    }

    fn scenario(&mut self) -> (String, Header, Vec<Step>) {
        self.control_characters();
        let nodes = tree(self.source, &mut self.mistakes);
        self.axes(&nodes);
        let mut title = None;
        let mut header = Header::default();
        let mut lines = BTreeMap::new();
        let mut steps = Vec::new();
        let mut order = Order::default();
        for node in &nodes {
            let (word, rest) = first_word(node.line.content);
            if self.unwritten(node.line.content) {
                order.begin(&header);
                order.may_expect();
                continue;
            }
            if words::HEADERS.contains(&word.text) {
                if order.begun {
                    self.report(word.span(), What::HeaderAfterStep(word.text.to_owned()));
                }
                self.header(node, word, rest, &mut title, &mut header, &mut lines);
                continue;
            }
            if !order.begun && !is_known(word, rest) {
                // Above the first step it is most likely a header word that was misspelt.
                let meant = self.unknown_word(word);
                if meant == Some("title") {
                    title = Some(String::new());
                }
                continue;
            }
            order.begin(&header);
            steps.extend(self.line(node, word, rest, &mut order));
        }
        self.end(&nodes, title.is_some(), &header, order);
        (title.unwrap_or_default(), header, steps)
    }

    /// What can be said only when all lines were read.
    fn end(&mut self, nodes: &[Node<'a>], titled: bool, header: &Header, mut order: Order) {
        let first = nodes
            .first()
            .map_or_else(Span::default, |node| node.line.content.span());
        if !titled {
            self.report(first, What::NoTitle);
        }
        order.clause_ends(self);
        if !order.judges {
            let last = nodes.last().map_or(first, Node::span);
            let end = Span {
                start: last.start + last.len,
                len: 0,
            };
            self.report(end, What::NoClause);
        }
        self.escapes_of_values();
        let rows = header.cases.as_ref().map_or(1, |(_, rows)| rows.len());
        let cases = header
            .each
            .iter()
            .fold(rows, |all, (_, values)| all.saturating_mul(values.len()));
        if cases > super::error::MOST_CASES {
            self.report(first, What::TooManyCases(cases));
        }
    }

    /// A line that is not of the header.
    fn line(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
        order: &mut Order,
    ) -> Option<Step> {
        let kind = if is_level(word, rest) {
            self.no_lines(node, word);
            order.clause_ends(self);
            let clause = self.clause(node, word, rest);
            order.clause_begins(self, clause.as_ref(), node);
            StepKind::Clause(clause?)
        } else if words::STEPS.contains(&word.text) {
            order.step(self, word, rest);
            self.step(node, word, rest, order)?
        } else {
            order.may_expect();
            self.unknown_word(word);
            return None;
        };
        Some(Step {
            span: node.span(),
            kind,
        })
    }

    /// A line, title or claim that `vmailspec new` left to its author.
    fn unwritten(&mut self, text: Piece<'a>) -> bool {
        let mark = text.text.starts_with(words::UNWRITTEN);
        if mark {
            self.report(text.span(), What::Unwritten);
        }
        mark
    }

    /// Reports it, and says what was meant.
    fn unknown_word(&mut self, word: Piece<'a>) -> Option<&'static str> {
        let all = words::HEADERS.iter().chain(words::STEPS).copied();
        let nearest = nearest(word.text, all);
        let what = What::UnknownWord {
            word: word.text.to_owned(),
            nearest,
        };
        self.report(word.span(), what);
        nearest
    }

    fn report(&mut self, span: Span, what: What) {
        self.mistakes.push(Mistake::new(span, what));
    }

    /// The number of the line that holds this octet, from 1.
    fn line_number(&self, at: usize) -> usize {
        let before = self.source.as_bytes().iter().take(at);
        1 + before.filter(|octet| **octet == b'\n').count()
    }

    /// The rest of a line that must not be empty.
    fn wanted(
        &mut self,
        word: Piece<'a>,
        rest: Piece<'a>,
        expected: &'static str,
    ) -> Option<Piece<'a>> {
        if rest.is_empty() {
            self.report(
                word.end(),
                What::Missing {
                    after: word.text.to_owned(),
                    expected,
                },
            );
            return None;
        }
        Some(rest)
    }

    /// The rest of a line that must be empty.
    fn nothing_more(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<()> {
        if rest.is_empty() {
            return Some(());
        }
        let (after, text) = (word.text.to_owned(), rest.text.to_owned());
        self.report(rest.span(), What::Unexpected { after, text });
        None
    }

    /// A line that takes no indented lines.
    fn no_lines(&mut self, node: &Node<'a>, word: Piece<'a>) {
        if let Some(child) = node.children.first() {
            self.report(
                child.line.content.span(),
                What::TakesNoLines(word.text.to_owned()),
            );
        }
    }

    /// One of the words of a table.
    fn choice<T: Copy>(
        &mut self,
        what: &'static str,
        piece: Piece<'a>,
        table: &[Meaning<T>],
    ) -> Option<T> {
        let found = words::meaning(piece.text, table);
        if found.is_none() {
            let allowed = table.iter().map(|(word, _)| *word).collect();
            self.not_one_of(what, piece, allowed);
        }
        found
    }

    fn not_one_of(&mut self, what: &'static str, piece: Piece<'a>, allowed: Vec<&'static str>) {
        let nearest = nearest(piece.text, allowed.iter().copied());
        let word = piece.text.to_owned();
        self.report(
            piece.span(),
            What::NotOneOf {
                what,
                word,
                allowed,
                nearest,
            },
        );
    }
}

/// The first word and the rest; `C:`, `S:` and `S=` need no blank behind them.
pub(super) fn first_word(content: Piece<'_>) -> (Piece<'_>, Piece<'_>) {
    if ["C:", "S:", "S="]
        .iter()
        .any(|word| content.text.starts_with(word))
    {
        let (word, rest) = content.split_at(2);
        return (word, rest.trim());
    }
    content.word()
}

/// A word of the language below the header.
fn is_known(word: Piece<'_>, rest: Piece<'_>) -> bool {
    words::STEPS.contains(&word.text) || is_level(word, rest)
}

/// A level, or what is meant as one: `must relay.x`, `MUSTNOT relay.x`, `REQUIRED relay.x`.
fn is_level(word: Piece<'_>, rest: Piece<'_>) -> bool {
    let word = word.text;
    let bare = |word: &str| word.to_lowercase().replace(['-', '_'], "");
    let shouted = word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '-');
    words::LEVELS.iter().any(|level| bare(level) == bare(word))
        || shouted && super::refs::is_id(rest.word().0.text)
}
