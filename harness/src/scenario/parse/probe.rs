//! Probes: where the mail is looked for, and what is expected there.

use super::Parser;
use super::check::Scope;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::piece::Piece;
use crate::scenario::words::{DATABASE, DISKS, MAILDIR_DETAILS, SINK_DETAILS, TARGET, VERBS};
use crate::scenario::{ANY, Detail, MailboxAction, StepKind};

/// The words behind `sink` that are no domain.
const SINK_WORDS: &[&str] = &["answers", "heard", "refuses", "accepts"];

/// What `sink answers` takes for a reply that is none: the connection ends, or nothing is said.
const NO_REPLIES: &[&str] = &["closes", "hangs"];

impl<'a> Parser<'a> {
    /// `maildir ADDRESS empty | N messages | any messages`, and what its owner does there
    pub(super) fn maildir(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
    ) -> Option<StepKind> {
        let (address, rest) = self
            .wanted(word, rest, "an address, as address@$domain")?
            .word();
        if !address.text.contains(['@', '$']) {
            let (text, expected) = (address.text.to_owned(), "user@domain");
            self.report(address.span(), What::BadAddress { text, expected });
        }
        let owner = self.text(address, Scope::Step);
        let (what, more) = rest.word();
        let action = match what.text {
            "empty-out" => Some(MailboxAction::EmptyOut),
            "throw-out" => Some(MailboxAction::ThrowOut),
            "shut" => Some(MailboxAction::Shut),
            "open" => Some(MailboxAction::Open),
            "measured" => Some(MailboxAction::Measured),
            "watched" => Some(MailboxAction::Watched),
            "put" => {
                self.no_lines(node, what);
                let action = self.put(what, more)?;
                return Some(StepKind::Mailbox(owner, action));
            }
            _ => None,
        };
        if let Some(action) = action {
            self.no_lines(node, what);
            self.nothing_more(what, more)?;
            return Some(StepKind::Mailbox(owner, action));
        }
        let (rest, within) = self.within(rest);
        let count = self.count_or_any(address, rest);
        let details = self.details_of(node, count, "maildir", MAILDIR_DETAILS);
        let within = within.and_then(|(_, time)| time);
        Some(StepKind::Maildir {
            address: owner,
            count: count?,
            details,
            within,
        })
    }

    /// `put PATH N bytes`
    fn put(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<MailboxAction> {
        let (path, rest) = self.wanted(word, rest, "a path in the Maildir")?.word();
        let (size, rest) = self.wanted(path, rest, "a number of octets")?.word();
        let expected = "a number of octets from 1 to 1073741824";
        let octets = self.number(size, expected, 1, 1 << 30)?;
        let (unit, more) = self.wanted(size, rest, "`bytes`")?.word();
        self.choice("unit", unit, &[("bytes", ())])?;
        self.nothing_more(unit, more)?;
        let outside = path.text.starts_with('/') || path.text.split('/').any(|part| part == "..");
        if outside {
            let (word, expected) = ("put".to_owned(), "a path in the Maildir");
            self.report(path.span(), What::BadDetail { word, expected });
            return None;
        }
        Some(MailboxAction::Put(
            self.text(path, Scope::Step),
            octets as usize,
        ))
    }

    /// `sink DOMAIN empty | N messages | any messages`, `sink heard …`, `sink answers …`, `sink refuses`, `sink accepts`
    pub(super) fn sink(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
    ) -> Option<StepKind> {
        let (first, rest) = self.wanted(word, rest, "a domain, as $elsewhere")?.word();
        match first.text {
            "answers" => {
                self.no_lines(node, first);
                return self.sink_answers(first, rest);
            }
            "heard" => {
                self.no_lines(node, first);
                let (text, within) = self.within(rest);
                let text = self.wanted(first, text, "how a command begins")?;
                let within = within.and_then(|(_, time)| time);
                return Some(StepKind::SinkHeard(self.text(text, Scope::Step), within));
            }
            "refuses" | "accepts" => {
                self.no_lines(node, first);
                self.nothing_more(first, rest)?;
                return Some(StepKind::SinkListens(first.text == "accepts"));
            }
            name if !name.contains(['.', '$']) => {
                self.not_one_of("domain of a sink", first, SINK_WORDS.to_vec());
                return None;
            }
            _ => {}
        }
        let domain = self.text(first, Scope::Step);
        let (rest, within) = self.within(rest);
        let count = self.count_or_any(first, rest);
        let details = self.details_of(node, count, "sink", SINK_DETAILS);
        let within = within.and_then(|(_, time)| time);
        Some(StepKind::Sink {
            domain,
            count: count?,
            details,
            within,
        })
    }

    /// `sink answers VERB [<ADDRESS>] REPLY | as usual`
    fn sink_answers(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (verb, rest) = self
            .wanted(word, rest, "what is answered: RCPT, DATA …")?
            .word();
        if !VERBS.contains(&verb.text) && !verb.text.starts_with('$') {
            self.not_one_of("part of a session", verb, VERBS.to_vec());
            return None;
        }
        let (first, after) = rest.word();
        let (recipient, reply) = if verb.text == "RCPT" && first.text.starts_with('<') {
            let inside = first
                .text
                .strip_prefix('<')
                .and_then(|text| text.strip_suffix('>'));
            if inside.is_none_or(str::is_empty) {
                let (text, expected) = (first.text.to_owned(), "<user@domain>");
                self.report(first.span(), What::BadAddress { text, expected });
                return None;
            }
            let (_, open) = first.split_at(1);
            let (address, _) = open.split_at(open.text.len() - 1);
            (Some(self.text(address, Scope::Step)), after)
        } else {
            (None, rest)
        };
        let reply = self.wanted(
            verb,
            reply,
            "a reply, as 550 5.1.1 no such user; or `as usual`",
        )?;
        let verb = self.text(verb, Scope::Step);
        if reply
            .words()
            .iter()
            .map(|word| word.text)
            .eq(["as", "usual"])
        {
            return Some(StepKind::SinkAnswers {
                verb,
                recipient,
                reply: None,
            });
        }
        let code = reply.word().0;
        // `250-one\n250 two`: several lines.
        let number = code.text.split('-').next().unwrap_or_default();
        let digits = number.len() == 3 && number.chars().all(|c| c.is_ascii_digit());
        let known = digits && code.text.starts_with(['2', '3', '4', '5']);
        let ends = NO_REPLIES.contains(&reply.text.trim());
        if !known && !ends && !code.text.starts_with('$') {
            let (word, expected) = (
                "sink answers".to_owned(),
                "a reply, as 550 5.1.1 no such user; `closes` or `hangs`",
            );
            self.report(code.span(), What::BadDetail { word, expected });
            return None;
        }
        let reply = Some(self.text(reply, Scope::Step));
        Some(StepKind::SinkAnswers {
            verb,
            recipient,
            reply,
        })
    }

    /// `queue empty | N messages`
    pub(super) fn queue(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (rest, within) = self.within(rest);
        let count = self.count(word, rest)?;
        Some(StepKind::Queue(count, within.and_then(|(_, time)| time)))
    }

    /// `rows N SELECT …`
    pub(super) fn rows(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (number, statement) = self.wanted(word, rest, "a number and a SELECT")?.word();
        let count = self.number(number, "a number of rows", 0, 100_000)?;
        let statement = self.wanted(number, statement, "SELECT …")?;
        let verb = statement.word().0;
        if !verb.text.eq_ignore_ascii_case("SELECT") {
            self.not_one_of("statement that yields rows", verb, vec!["SELECT"]);
        }
        Some(StepKind::Rows(
            count as usize,
            self.text(statement, Scope::Step),
        ))
    }

    /// `log has TEXT`, `log lacks TEXT`
    pub(super) fn log(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (rest, within) = self.within(rest);
        let (how, text) = self.wanted(word, rest, "`has` or `lacks`")?.word();
        let has = self.choice(
            "thing to ask of the log",
            how,
            &[("has", true), ("lacks", false)],
        )?;
        let text = self.wanted(how, text, "a text")?;
        let within = within.and_then(|(_, time)| time);
        Some(StepKind::Log(has, self.text(text, Scope::Step), within))
    }

    /// `database …`
    pub(super) fn database(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (fault, more) = self
            .wanted(word, rest, "stop, start, pause, resume, slow or cut")?
            .word();
        let fault = self.choice("state of the database", fault, DATABASE)?;
        self.nothing_more(word, more)?;
        Some(StepKind::Database(fault))
    }

    /// `disk mailboxes|queue full|free`
    pub(super) fn disk(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (disk, more) = self.wanted(word, rest, "mailboxes or queue")?.word();
        let which = self.choice("disk", disk, DISKS)?;
        let (state, more) = self.wanted(disk, more, "full or free")?.word();
        let full = self.choice("state of a disk", state, &[("full", true), ("free", false)])?;
        self.nothing_more(word, more)?;
        Some(StepKind::Disk(which, full))
    }

    /// `target …`
    pub(super) fn target(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<StepKind> {
        let (action, more) = self.wanted(word, rest, "restart, kill or start")?.word();
        let action = self.choice("thing to do to the target", action, TARGET)?;
        self.nothing_more(word, more)?;
        Some(StepKind::Target(action))
    }

    /// A number in digits, not less than `least`, not more than `most`.
    pub(super) fn number(
        &mut self,
        piece: Piece<'a>,
        expected: &'static str,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let digits = piece.text.chars().all(|c| c.is_ascii_digit());
        let number = piece
            .text
            .parse()
            .ok()
            .filter(|n| digits && (least..=most).contains(n));
        if number.is_none() {
            let text = piece.text.to_owned();
            self.report(piece.span(), What::BadNumber { text, expected });
        }
        number
    }

    /// `empty`, `N message(s)` or `any messages`
    fn count_or_any(&mut self, after: Piece<'a>, rest: Piece<'a>) -> Option<usize> {
        let words = rest.words();
        let any = words.iter().map(|word| word.text).eq(["any", "messages"]);
        if any {
            return Some(ANY);
        }
        self.count(after, rest)
    }

    /// `empty` or `N message(s)`
    fn count(&mut self, after: Piece<'a>, rest: Piece<'a>) -> Option<usize> {
        let (first, rest) = self.wanted(after, rest, "`empty` or `N messages`")?.word();
        if first.text == "empty" {
            self.nothing_more(first, rest)?;
            return Some(0);
        }
        if !first.text.starts_with(|c: char| c.is_ascii_digit()) {
            self.not_one_of("number of messages", first, vec!["empty", "N messages"]);
            return None;
        }
        let expected = "a number of messages from 1 to 100000 (for none, `empty`)";
        let number = self.number(first, expected, 1, 100_000)?;
        let (unit, more) = self.wanted(first, rest, "`messages`")?.word();
        self.choice("unit", unit, &[("message", ()), ("messages", ())])?;
        self.nothing_more(unit, more)?;
        Some(number as usize)
    }

    /// Details of messages; none where no message is expected.
    fn details_of(
        &mut self,
        node: &Node<'a>,
        count: Option<usize>,
        below: &'static str,
        allowed: &'static [&'static str],
    ) -> Vec<Detail> {
        if let Some((0, child)) = count.zip(node.children.first()) {
            let (word, _) = child.line.content.word();
            self.report(word.span(), What::DetailOfNothing(word.text.to_owned()));
            return Vec::new();
        }
        self.details(node, below, allowed)
    }
}
