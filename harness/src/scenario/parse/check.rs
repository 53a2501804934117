//! Texts: the `$names` in them are known, the escapes are escapes, no blank hides at an end.

use super::Parser;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::nearest::nearest;
use crate::scenario::piece::Piece;
use crate::scenario::text::{Part, parts, times, unescape};
use crate::scenario::words::{FUNCTIONS, NAMES};
use crate::scenario::{Span, Text};

/// Which names have a value in a text, besides those that every case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Axes and columns.
    Step,
    /// And `$size`.
    FileName,
    /// And the text is octets with escapes.
    Octets,
    /// None: the value of an axis or a cell.
    Value,
}

/// Brackets in brackets.
const DEEPEST: usize = 8;

impl<'a> Parser<'a> {
    /// Tabs and their kin look like blanks, and are not.
    pub(super) fn control_characters(&mut self) {
        let source = self.source;
        for (at, c) in source.char_indices() {
            let line_end = c == '\n' || c == '\r' && source[at + 1..].starts_with('\n');
            if c.is_control() && !line_end {
                let span = Span {
                    start: at,
                    len: c.len_utf8(),
                };
                self.report(span, What::ControlCharacter(c));
            }
        }
    }

    /// A text with names.
    pub(super) fn text(&mut self, piece: Piece<'a>, scope: Scope) -> Text {
        self.names(piece, scope, 0);
        if scope == Scope::Octets {
            self.escapes(piece);
        }
        Text {
            raw: piece.text.to_owned(),
            span: piece.span(),
        }
    }

    /// What follows the word and one blank, to the letter: `C:`, `bytes`, `line`.
    pub(super) fn verbatim(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        name: &'static str,
    ) -> Piece<'a> {
        let (_, after) = node.line.content.split_at(word.text.len());
        let (_, text) = after.split_at(usize::from(after.text.starts_with(' ')));
        if text.text.starts_with(' ') {
            let blanks = text.text.len() - text.text.trim_start_matches(' ').len();
            self.report(text.split_at(blanks).0.span(), What::BlankAtStart(name));
        }
        if node.line.blank_at_end {
            self.report(text.end(), What::BlankAtEnd(name));
        }
        text
    }

    fn names(&mut self, piece: Piece<'a>, scope: Scope, depth: usize) {
        for part in parts(piece.text) {
            let at = |at: usize, len: usize| Span {
                start: piece.start + at,
                len,
            };
            match part {
                Part::Plain(_) | Part::Dollar => {}
                Part::Name(name, start) => {
                    self.name(name, at(start, 1 + name.len()), scope);
                }
                // A password hash has several; the first says it for all.
                Part::Lone(start) => return self.report(at(start, 1), What::LoneDollar),
                Part::Open(start, len) => self.report(at(start, len), What::OpenBracket),
                Part::Call(name, start, inside, inside_at) => {
                    let inside = Piece {
                        text: inside,
                        start: piece.start + inside_at,
                    };
                    if depth == DEEPEST {
                        self.report(at(start, 1 + name.len()), What::TooDeep);
                        continue;
                    }
                    if name == "plain" && !inside.text.contains(' ') {
                        self.report(inside.span(), What::PlainNeedsTwo);
                    }
                    if name == "times" && times(inside.text).is_none() {
                        self.report(inside.span(), What::TimesNeedsTwo);
                    }
                    if name == "base64" {
                        self.escapes(inside);
                    }
                    self.names(inside, scope, depth + 1);
                }
            }
        }
    }

    fn name(&mut self, name: &str, span: Span, scope: Scope) {
        match name {
            "n" if self.in_repeat => return,
            "n" => return self.report(span, What::NameNotHere("n")),
            "size" if scope == Scope::FileName => return,
            "size" if !self.values.contains_key("size") => {
                return self.report(span, What::NameNotHere("size"));
            }
            _ => {}
        }
        let axes = scope != Scope::Value;
        if NAMES.contains(&name) || axes && self.values.contains_key(name) {
            if scope == Scope::Octets {
                self.octets.push(name.to_owned());
            }
            return;
        }
        let mut known: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
        if axes {
            known.extend(self.values.keys().cloned());
        }
        let near = nearest(
            name,
            known
                .iter()
                .map(String::as_str)
                .chain(FUNCTIONS.iter().copied()),
        );
        let nearest = near.map(|near| match near {
            "base64" => "base64(TEXT)".to_owned(),
            "plain" => "plain(USER PASSWORD)".to_owned(),
            "times" => "times(N TEXT)".to_owned(),
            name => name.to_owned(),
        });
        let known = known.into_iter().map(|name| format!("${name}")).collect();
        self.report(
            span,
            What::UnknownName {
                name: name.to_owned(),
                nearest,
                known,
            },
        );
    }

    fn escapes(&mut self, piece: Piece<'a>) {
        if let Err(error) = unescape(piece.text) {
            let (_, tail) = piece.split_at(error.at);
            let (escape, _) = tail.split_at(error.len);
            self.report(escape.span(), What::BadEscape(escape.text.to_owned()));
        }
    }

    /// Values that come to stand in `bytes` or `line` are octets with escapes too.
    pub(super) fn escapes_of_values(&mut self) {
        for name in std::mem::take(&mut self.octets) {
            for (value, span) in self.values.get(&name).cloned().unwrap_or_default() {
                if let Err(error) = unescape(&value) {
                    let escape = value
                        .get(error.at..error.at + error.len)
                        .unwrap_or_default();
                    let span = Span {
                        start: span.start + error.at,
                        len: error.len,
                    };
                    self.report(span, What::BadEscape(escape.to_owned()));
                }
            }
        }
    }
}
