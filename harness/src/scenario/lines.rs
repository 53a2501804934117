//! The layout rule: an indented line belongs to the line above it.
//!
//! Makes lines of the file, and a tree of the lines. Knows comments and blanks, and no words.

use super::Span;
use super::error::{Mistake, What};
use super::piece::{Piece, is_blank};

/// Deeper than any word of the language needs; bounds the recursion on hostile files.
const DEEPEST: usize = 6;

/// One line of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Blanks before it.
    pub(crate) indent: usize,
    /// What it says, without comment and blanks at its ends; empty for comment and blank lines.
    pub(crate) content: Piece<'a>,
    /// From `#` on.
    pub(crate) comment: Option<Piece<'a>>,
    /// Blanks stand at the end of the line, where no eye sees them.
    pub(crate) blank_at_end: bool,
}

/// A line and the lines that belong to it.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// The line.
    pub(crate) line: Line<'a>,
    /// The indented lines below.
    pub(crate) children: Vec<Self>,
}

impl Node<'_> {
    /// From the first octet of the line to the last of its last indented line.
    pub(crate) fn span(&self) -> Span {
        let own = self.line.content.span();
        let end = self.children.last().map_or(own.start + own.len, |last| {
            let span = last.span();
            span.start + span.len
        });
        Span {
            start: own.start,
            len: end - own.start,
        }
    }
}

/// The lines of a file, the empty ones and the comments too.
pub(crate) fn lines(source: &str) -> Vec<Line<'_>> {
    let mut start = 0;
    source
        .split_inclusive('\n')
        .map(|raw| {
            let text = raw.strip_suffix('\n').unwrap_or(raw);
            let text = text.strip_suffix('\r').unwrap_or(text);
            let line = line(Piece { text, start });
            start += raw.len();
            line
        })
        .collect()
}

fn line(whole: Piece<'_>) -> Line<'_> {
    let indent = whole.text.len() - whole.text.trim_start_matches(is_blank).len();
    let (_, body) = whole.split_at(indent);
    let comment_at = if body.text.starts_with('#') {
        Some(0)
    } else {
        comment(body.text)
    };
    let (said, comment) = body.split_at(comment_at.unwrap_or(body.text.len()));
    let content = said.trim();
    Line {
        indent,
        content,
        comment: comment_at.map(|_| comment.trim()),
        blank_at_end: comment_at.is_none() && content.text.len() < said.text.len(),
    }
}

/// A comment that follows something begins after two blanks, so `C: NOOP #1` has none.
fn comment(body: &str) -> Option<usize> {
    body.match_indices('#').map(|(at, _)| at).find(|&at| {
        let mut before = body.get(..at).unwrap_or_default().chars().rev();
        before.next().is_some_and(is_blank) && before.next().is_some_and(is_blank)
    })
}

/// The lines as a tree, without comments and blank lines.
pub(crate) fn tree<'a>(source: &'a str, mistakes: &mut Vec<Mistake>) -> Vec<Node<'a>> {
    let said: Vec<Line<'a>> = lines(source)
        .into_iter()
        .filter(|line| !line.content.is_empty())
        .collect();
    let mut rest = said.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        if first.indent == 0 {
            break;
        }
        mistakes.push(Mistake::new(first.content.span(), What::NothingAbove));
        rest = tail;
    }
    block(&mut rest, 0, 0, mistakes)
}

/// The lines from here on that are indented by `indent`, and what belongs to them.
fn block<'a>(
    rest: &mut &[Line<'a>],
    indent: usize,
    depth: usize,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    while let Some((&line, tail)) = rest.split_first() {
        if line.indent < indent {
            break;
        }
        if line.indent == indent {
            *rest = tail;
            nodes.push(Node {
                line,
                children: Vec::new(),
            });
        } else if let Some(last) = nodes
            .last_mut()
            .filter(|last| last.children.is_empty() && depth < DEEPEST)
        {
            last.children = block(rest, line.indent, depth + 1, mistakes);
        } else {
            *rest = tail;
            mistakes.push(Mistake::new(line.content.span(), What::Uneven));
        }
    }
    nodes
}
