//! A piece of the file that knows where it stands, so that every message can underline it.

use super::Span;

/// Some text of the file and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// Octets of the file before it.
    pub(crate) start: usize,
}

/// Blanks separate words; a tab is reported as a mistake, but separates as well, so that one
/// slip is not reported twice.
pub(crate) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

impl<'a> Piece<'a> {
    /// Its place.
    pub(crate) fn span(self) -> Span {
        Span {
            start: self.start,
            len: self.text.len(),
        }
    }

    /// The place just behind it, for what is missing there.
    pub(crate) fn end(self) -> Span {
        Span {
            start: self.start + self.text.len(),
            len: 0,
        }
    }

    /// Nothing in it?
    pub(crate) fn is_empty(self) -> bool {
        self.text.is_empty()
    }

    /// The two parts before and after `at` octets; a place inside a character counts as the end.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let (head, tail) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        (
            Self {
                text: head,
                start: self.start,
            },
            Self {
                text: tail,
                start: self.start + head.len(),
            },
        )
    }

    /// Without blanks at its ends.
    pub(crate) fn trim(self) -> Self {
        let head = self.text.trim_start_matches(is_blank);
        let start = self.start + (self.text.len() - head.len());
        Self {
            text: head.trim_end_matches(is_blank),
            start,
        }
    }

    /// The first word and what follows it, trimmed; an empty word where there is none.
    pub(crate) fn word(self) -> (Self, Self) {
        let all = self.trim();
        let (word, rest) = all.split_at(all.text.find(is_blank).unwrap_or(all.text.len()));
        (word, rest.trim())
    }

    /// All words.
    pub(crate) fn words(self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = self;
        loop {
            let (word, tail) = rest.word();
            if word.is_empty() {
                return words;
            }
            words.push(word);
            rest = tail;
        }
    }

    /// The parts between the places where `separator` stands, untrimmed.
    pub(crate) fn split(self, separator: &'a str) -> Vec<Self> {
        let mut start = self.start;
        self.text
            .split(separator)
            .map(|text| {
                let piece = Piece { text, start };
                start += text.len() + separator.len();
                piece
            })
            .collect()
    }

    /// The cells of a table's row: two blanks or more separate them.
    pub(crate) fn cells(self) -> Vec<Self> {
        self.split("  ")
            .into_iter()
            .map(Self::trim)
            .filter(|cell| !cell.is_empty())
            .collect()
    }
}
