//! Steps: what goes over the wire and what is done to the world.

use super::check::Scope;
use super::order::Order;
use super::{Parser, first_word};
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::piece::Piece;
use crate::scenario::words::{
    CLOSING, ENTRIES, HANDSHAKES, LEVELS, MAILER_DETAILS, MESSAGE_DETAILS, VANTAGES,
};
use crate::scenario::{Closing, Detail, Handshake, Message, Span, StepKind, Text, words};

/// Where `bytes` ends a segment.
const CUT: &str = "<cut>";

impl<'a> Parser<'a> {
    /// A line whose first word is a step's; `None`: reported.
    pub(super) fn step(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
        order: &mut Order,
    ) -> Option<StepKind> {
        let with_lines = ["message", "S:", "S=", "mailer", "repeat", "maildir", "sink"];
        if !with_lines.contains(&word.text) {
            self.no_lines(node, word);
        }
        match word.text {
            "C:" => {
                let text = self.verbatim(node, word, "C:");
                Some(StepKind::Client(self.text(text, Scope::Step)))
            }
            "bytes" => self.bytes(node, word),
            "message" => self.message(node, rest),
            "S:" | "S=" => self.reply(node, word, rest).map(StepKind::Reply),
            "connect" => self.connect(word, rest),
            "tls" => self.handshake(word, rest),
            "close" => self.close(word, rest),
            "mailer" => self.mailer(node, word, rest),
            "crowd" => self.crowd(word, rest),
            "sql" => {
                let statement = self.wanted(word, rest, "an SQL statement")?;
                Some(StepKind::Sql(self.text(statement, Scope::Step)))
            }
            "database" => self.database(word, rest),
            "disk" => self.disk(word, rest),
            "sink" => self.sink(node, word, rest),
            "target" => self.target(word, rest),
            "repeat" => self.repeat(node, word, rest, order),
            "maildir" => self.maildir(node, word, rest),
            "queue" => self.queue(word, rest),
            "rows" => self.rows(word, rest),
            "log" => self.log(word, rest),
            _ => None,
        }
    }

    fn bytes(&mut self, node: &Node<'a>, word: Piece<'a>) -> Option<StepKind> {
        let text = self.verbatim(node, word, "bytes");
        let text = self.wanted(word, text, "octets")?;
        let mut segments: Vec<Text> = Vec::new();
        for piece in text
            .split(CUT)
            .into_iter()
            .filter(|piece| !piece.is_empty())
        {
            segments.push(self.text(piece, Scope::Octets));
        }
        if segments.is_empty() {
            self.wanted(word, text.split_at(text.text.len()).1, "octets")?;
        }
        Some(StepKind::Bytes(segments))
    }

    fn message(&mut self, node: &Node<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let mut message = Message::default();
        for detail in self.details(node, "message", MESSAGE_DETAILS) {
            match detail.word.as_str() {
                "header" => message.headers.push(detail.text),
                "line" => message.lines.push(detail.text),
                _ => message.unfinished = true,
            }
        }
        if !rest.is_empty() {
            let (size, rest) = rest.word();
            let expected = "a number of octets from 1 to 1073741824";
            message.size = Some(self.number(size, expected, 1, 1 << 30)? as usize);
            let (unit, more) = self.wanted(size, rest, "`bytes`")?.word();
            self.choice("unit", unit, &[("bytes", ())])?;
            self.nothing_more(unit, more)?;
        }
        Some(StepKind::Message(message))
    }

    fn handshake(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        if rest.is_empty() {
            return Some(StepKind::Tls(Handshake::Usual));
        }
        let (how, more) = rest.word();
        self.nothing_more(word, more)?;
        self.choice("handshake", how, HANDSHAKES).map(StepKind::Tls)
    }

    /// `close`, `close at once`
    fn close(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let words: Vec<&str> = rest.words().iter().map(|word| word.text).collect();
        match words.as_slice() {
            [] => return Some(StepKind::Close(Closing::Whole)),
            ["at", "once"] => return Some(StepKind::Close(Closing::AtOnce)),
            _ => {}
        }
        let (how, more) = rest.word();
        let how = self.choice("way to close", how, CLOSING)?;
        self.nothing_more(word, more)?;
        Some(StepKind::Close(how))
    }

    fn connect(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (mut from, mut entry, mut clear) = (None, None, false);
        let (mut what, mut rest) = rest.word();
        while !what.is_empty() {
            let (value, more) = rest.word();
            match what.text {
                "from" if from.is_none() => {
                    let value = self.wanted(what, value, "`stranger` or `neighbour`")?;
                    from = Some(self.choice("place of a client", value, VANTAGES)?);
                }
                "entry" if entry.is_none() => {
                    let value = self.wanted(what, value, "25, 25+starttls or 465")?;
                    entry = Some(self.choice("way in", value, ENTRIES)?);
                }
                "clear" if !clear => {
                    clear = true;
                    (what, rest) = rest.word();
                    continue;
                }
                "from" | "entry" | "clear" => {
                    self.nothing_more(word, what)?;
                }
                _ => {
                    self.not_one_of("part of `connect`", what, vec!["from", "entry", "clear"]);
                    return None;
                }
            }
            (what, rest) = more.word();
        }
        Some(StepKind::Connect { from, entry, clear })
    }

    /// `crowd N sessions M messages <ADDRESS>`
    fn crowd(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (sessions, rest) = self.wanted(word, rest, "a number of sessions")?.word();
        let (unit, rest) = self.wanted(sessions, rest, "`sessions`")?.word();
        self.choice("unit", unit, &[("sessions", ())])?;
        let (messages, rest) = self.wanted(unit, rest, "a number of messages")?.word();
        let (unit, rest) = self.wanted(messages, rest, "`messages`")?.word();
        self.choice("unit", unit, &[("messages", ()), ("message", ())])?;
        let (to, more) = self.wanted(unit, rest, "<ADDRESS>")?.word();
        self.nothing_more(word, more)?;
        let inside = to
            .text
            .strip_prefix('<')
            .and_then(|to| to.strip_suffix('>'));
        if inside.is_none_or(str::is_empty) {
            let (text, expected) = (to.text.to_owned(), "<user@domain>");
            self.report(to.span(), What::BadAddress { text, expected });
            return None;
        }
        let (_, open) = to.split_at(1);
        let (to, _) = open.split_at(open.text.len() - 1);
        Some(StepKind::Crowd {
            sessions: self.number(sessions, "a number of sessions from 1 to 100", 1, 100)?,
            messages: self.number(messages, "a number of messages from 1 to 100", 1, 100)?,
            to: self.text(to, Scope::Step),
        })
    }

    fn mailer(&mut self, node: &Node<'a>, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (first, rest) = self
            .wanted(word, rest, "a way in, `accepted` or `refused`")?
            .word();
        if matches!(first.text, "accepted" | "refused") {
            self.no_lines(node, first);
            self.nothing_more(first, rest)?;
            return Some(StepKind::MailerResult(first.text == "accepted"));
        }
        let mut from = None;
        let mut to = Vec::new();
        let mut tried = (false, false);
        for child in &node.children {
            let name = child.line.content.word().0.text;
            tried = (tried.0 || name == "from", tried.1 || name == "to");
        }
        for Detail { word, text, .. } in self.details(node, "mailer", MAILER_DETAILS) {
            let raw = text
                .raw
                .trim_start_matches('<')
                .trim_end_matches('>')
                .to_owned();
            let span = Span {
                start: text.span.start + 1,
                len: raw.len(),
            };
            match word.as_str() {
                "from" => from = Some(Text { raw, span }),
                _ => to.push(Text { raw, span }),
            }
        }
        for (there, expected) in [
            (tried.0, "an indented `from <ADDRESS>`"),
            (tried.1, "an indented `to <ADDRESS>`"),
        ] {
            if !there {
                let after = word.text.to_owned();
                self.report(node.line.content.end(), What::Missing { after, expected });
            }
        }
        let Some(entry) = words::meaning(first.text, ENTRIES) else {
            let allowed = vec!["25", "25+starttls", "465", "accepted", "refused"];
            self.not_one_of("way in, nor what a mailer does", first, allowed);
            return None;
        };
        let login = if rest.is_empty() {
            None
        } else {
            let (user, rest) = rest.word();
            let (password, more) = self.wanted(user, rest, "a password")?.word();
            self.nothing_more(password, more)?;
            Some((
                self.text(user, Scope::Step),
                self.text(password, Scope::Step),
            ))
        };
        Some(StepKind::Mailer {
            entry,
            login,
            from: from?,
            to,
        })
    }

    fn repeat(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
        order: &mut Order,
    ) -> Option<StepKind> {
        let times = self.wanted(word, rest, "how often").and_then(|rest| {
            let (times, more) = rest.word();
            let number = self.number(times, "a number of times from 1 to 100000", 1, 100_000);
            self.nothing_more(word, more)?;
            number
        });
        if node.children.is_empty() {
            let after = word.text.to_owned();
            self.report(
                rest.end(),
                What::Missing {
                    after,
                    expected: "indented steps",
                },
            );
        }
        let mut steps = Vec::new();
        self.in_repeat = true;
        for child in &node.children {
            let (word, rest) = first_word(child.line.content);
            let not_here = word.text == "repeat"
                || LEVELS.contains(&word.text)
                || words::HEADERS.contains(&word.text);
            if not_here {
                self.report(word.span(), What::NotInRepeat(word.text.to_owned()));
            } else {
                steps.extend(self.line(child, word, rest, order));
            }
        }
        self.in_repeat = false;
        Some(StepKind::Repeat(times?, steps))
    }
}
