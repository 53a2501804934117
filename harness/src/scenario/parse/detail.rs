//! The indented lines below `S:`, `message`, `mailer`, `maildir` and `sink`.

use super::Parser;
use super::check::Scope;
use crate::scenario::Detail;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::nearest::nearest;
use crate::scenario::piece::Piece;
use crate::scenario::words::FORMS;

/// The words that can hold in one way only.
fn stands_once(below: &str, word: &str) -> bool {
    matches!(
        word,
        "mode" | "foldermode" | "owner" | "path" | "maildirsize"
    ) || stands_alone(word)
        || word == "from" && below != "S:"
}

/// The words with nothing behind them.
fn stands_alone(word: &str) -> bool {
    matches!(
        word,
        "lf" | "unfinished"
            | "plainname"
            | "dated"
            | "folders"
            | "tidy"
            | "whole"
            | "throughtmp"
            | "crlf"
    )
}

impl<'a> Parser<'a> {
    /// All details of a line.
    pub(super) fn details(
        &mut self,
        node: &Node<'a>,
        below: &'static str,
        allowed: &'static [&'static str],
    ) -> Vec<Detail> {
        let mut details: Vec<Detail> = Vec::new();
        for child in &node.children {
            let (word, rest) = child.line.content.word();
            if !allowed.contains(&word.text) {
                let nearest = nearest(word.text, allowed.iter().copied());
                let (word, span) = (word.text.to_owned(), word.span());
                let allowed = allowed.to_vec();
                self.report(
                    span,
                    What::UnknownDetail {
                        word,
                        below,
                        allowed,
                        nearest,
                    },
                );
                continue;
            }
            self.no_lines(child, word);
            let twice = details.iter().any(|detail| detail.word == word.text);
            if twice && stands_once(below, word.text) {
                self.report(word.span(), What::DetailTwice(word.text.to_owned()));
            }
            details.extend(self.detail(child, word, rest));
        }
        details
    }

    fn detail(&mut self, node: &Node<'a>, word: Piece<'a>, rest: Piece<'a>) -> Option<Detail> {
        let (text, scope) = match word.text {
            "line" => (self.verbatim(node, word, "line"), Scope::Octets),
            alone if stands_alone(alone) => {
                self.nothing_more(word, rest)?;
                (word.split_at(word.text.len()).1, Scope::Step)
            }
            "name" => (
                self.wanted(word, rest, "a part of the file's name")?,
                Scope::FileName,
            ),
            _ => (self.wanted(word, rest, form(word.text))?, Scope::Step),
        };
        if !fits(word.text, text.text) {
            let expected = form(word.text);
            let word = word.text.to_owned();
            self.report(text.span(), What::BadDetail { word, expected });
            return None;
        }
        let text = self.text(text, scope);
        Some(Detail {
            word: word.text.to_owned(),
            text,
            span: node.line.content.span(),
        })
    }
}

/// What a word wants, for messages.
fn form(word: &str) -> &'static str {
    match word {
        "header" => "NAME: TEXT",
        "status" => "FIELD: TEXT",
        "date" => "the name of a header field",
        "from" => "<ADDRESS>, or <>",
        "to" => "<ADDRESS>",
        "mode" | "foldermode" => "an octal mode, as 0600",
        "owner" => "`vmail`",
        "part" => "N TYPE, as `2 message/delivery-status`",
        "maildirsize" => "the first line of maildirsize, as 102400S",
        "path" => "a path below virtual_mailbox_base",
        "width" => "a number of octets, as 998",
        "form" => "hello, keywords, unique, codes or no-codes",
        _ => "a text",
    }
}

/// Has the text the form that its word wants?
fn fits(word: &str, text: &str) -> bool {
    let named = text.contains('$');
    match word {
        "header" | "status" => text
            .split_once(':')
            .is_some_and(|(name, _)| !name.is_empty() && !name.contains([' ', '\t'])),
        "from" => text.starts_with('<') && text.ends_with('>'),
        "to" => text.starts_with('<') && text.ends_with('>') && text.len() > 2,
        "mode" | "foldermode" => {
            (3..=4).contains(&text.len()) && text.chars().all(|c| ('0'..='7').contains(&c))
        }
        "owner" => text == "vmail",
        "width" => text.parse::<usize>().is_ok(),
        "date" => !text.contains([' ', ':']),
        "form" => FORMS.contains(&text),
        "part" => text.split_once(' ').is_some_and(|(number, kind)| {
            number.parse::<u8>().is_ok_and(|number| number > 0) && (named || kind.contains('/'))
        }),
        "maildirsize" => {
            let limit = |part: &str| {
                part.strip_suffix(['S', 'C'])
                    .is_some_and(|digits| digits.parse::<u64>().is_ok())
            };
            named || text.split(',').all(limit)
        }
        _ => true,
    }
}
