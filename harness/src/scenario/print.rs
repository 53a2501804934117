//! The canonical layout (`vmailspec fmt`): one blank between words, columns where they help, two
//! blanks of indentation. Comments stay; what is expected is never changed: a file that says
//! another thing after it was laid out would be a defect, and a test looks for it.

use super::error::Mistake;
use super::lines::{Line, lines};
use super::parse::{first_word, parse};
use super::piece::Piece;
use super::words::{HEADERS, LEVELS};

/// The column in which a header line's text begins, and a clause's id.
const COLUMN: usize = 8;

/// The text in its canonical layout; a file with mistakes is not laid out.
pub fn format(source: &str) -> Result<String, Vec<Mistake>> {
    parse("", source)?;
    let all = lines(source);
    let depths = depths(&all);
    let layout = Layout::new(&all, &depths);
    let mut out = String::with_capacity(source.len());
    let mut blank = true;
    for (line, depth) in all.iter().zip(&depths) {
        let text = layout.line(line, depth);
        if text.is_empty() {
            if !blank {
                out.push('\n');
            }
            blank = true;
            continue;
        }
        blank = false;
        out.push_str(text.trim_end());
        out.push('\n');
    }
    let end = out.trim_end_matches('\n').len();
    out.truncate(end);
    out.push('\n');
    Ok(out)
}

/// How deep a line stands, and whether it is a row of the table.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    depth: usize,
    row: bool,
}

/// The depth of each line; a comment stands as deep as the line below it, or above it, whose
/// indentation it shares.
fn depths(all: &[Line<'_>]) -> Vec<Depth> {
    let mut open: Vec<usize> = Vec::new();
    let mut in_table = false;
    let mut depths: Vec<Depth> = Vec::with_capacity(all.len());
    for line in all {
        if line.content.is_empty() {
            depths.push(Depth::default());
            continue;
        }
        while open.last().is_some_and(|indent| *indent >= line.indent) {
            open.pop();
        }
        let depth = open.len();
        if depth == 0 {
            in_table = first_word(line.content).0.text == "cases";
        }
        open.push(line.indent);
        depths.push(Depth {
            depth,
            row: depth > 0 && in_table,
        });
    }
    for (at, line) in all.iter().enumerate() {
        if line.content.is_empty() && line.comment.is_some() && line.indent > 0 {
            let said = |i: &usize| !all[*i].content.is_empty();
            let below = (at..all.len()).find(said);
            let above = (0..at).rev().find(said);
            let shared = [below, above]
                .into_iter()
                .flatten()
                .find(|&i| all[i].indent == line.indent)
                .or_else(|| above.filter(|&i| all[i].indent > 0));
            depths[at] = shared.map_or_else(Depth::default, |i| depths[i]);
        }
    }
    depths
}

/// The widths of columns, which the whole file decides.
struct Layout {
    level: usize,
    id: usize,
    table: Vec<usize>,
}

impl Layout {
    fn new(all: &[Line<'_>], depths: &[Depth]) -> Self {
        let mut layout = Self {
            level: COLUMN,
            id: 0,
            table: Vec::new(),
        };
        for (line, depth) in all.iter().zip(depths) {
            let (word, rest) = first_word(line.content);
            if depth.row {
                layout.widen(&line.content.cells());
            } else if depth.depth == 0 && word.text == "cases" {
                layout.widen(&rest.words());
            } else if depth.depth == 0 && LEVELS.contains(&word.text) {
                layout.level = layout.level.max(width(word.text) + 1);
                layout.id = layout.id.max(width(rest.word().0.text));
            }
        }
        layout
    }

    fn widen(&mut self, cells: &[Piece<'_>]) {
        for (i, cell) in cells.iter().enumerate() {
            let width = width(cell.text);
            match self.table.get_mut(i) {
                Some(known) => *known = width.max(*known),
                None => self.table.push(width),
            }
        }
    }

    fn line(&self, line: &Line<'_>, depth: &Depth) -> String {
        let indent = if depth.row { COLUMN } else { 2 * depth.depth };
        let mut text = " ".repeat(indent);
        if !line.content.is_empty() {
            text.push_str(&self.said(line, depth));
        }
        if let Some(comment) = line.comment {
            if !line.content.is_empty() {
                text.truncate(text.trim_end().len());
                text.push_str("  ");
            }
            text.push_str(comment.text);
        }
        if text.trim().is_empty() {
            String::new()
        } else {
            text
        }
    }

    /// What a line says, laid out.
    fn said(&self, line: &Line<'_>, depth: &Depth) -> String {
        let (word, rest) = first_word(line.content);
        if depth.row {
            return self.row(&line.content.cells());
        }
        if depth.depth == 0 && LEVELS.contains(&word.text) {
            return self.clause(word, rest);
        }
        if depth.depth == 0 && HEADERS.contains(&word.text) {
            let rest = match word.text {
                "each" => {
                    let (axis, values) = rest.word();
                    let values = values.split(",");
                    let values: Vec<&str> = values.iter().map(|value| value.trim().text).collect();
                    format!("{} {}", axis.text, values.join(", "))
                }
                "cases" => self.row(&rest.words()),
                "title" => rest.text.to_owned(),
                "main.cf" | "master.cf" => setting(rest),
                _ => single_blanks(rest),
            };
            return format!("{:<7} {rest}", word.text);
        }
        match word.text {
            // To the letter from the word on: octets, text and statements.
            "C:" | "has" | "lacks" | "says" | "first" | "last" | "header" | "path" | "name"
            | "status" | "part" | "maildirsize" | "from" | "to" | "sql" | "parameter"
            | "noparameter" => {
                format!("{} {}", word.text, rest.text)
            }
            "line" | "bytes" => line.content.text.to_owned(),
            "log" => format!("log {} {}", rest.word().0.text, rest.word().1.text),
            "rows" => format!(
                "{} {} {}",
                word.text,
                rest.word().0.text,
                rest.word().1.text
            ),
            "S:" | "S=" => {
                let patterns = rest.split("|");
                let patterns: Vec<String> = patterns
                    .into_iter()
                    .map(|piece| single_blanks(piece.trim()))
                    .collect();
                format!("{} {}", word.text, patterns.join(" | "))
            }
            "sink" if rest.word().0.text == "answers" => {
                let (verb, reply) = rest.word().1.word();
                format!("sink answers {} {}", verb.text, reply.text)
            }
            _ => single_blanks(line.content),
        }
    }

    fn clause(&self, level: Piece<'_>, rest: Piece<'_>) -> String {
        let (id, rest) = rest.word();
        let mut references = Vec::new();
        let mut claim = rest;
        loop {
            let (reference, tail) = claim.word();
            if !super::refs::looks_like_reference(reference.text) {
                break;
            }
            references.push(reference.text);
            claim = tail;
        }
        format!(
            "{:<level_width$}{:<id_width$}   {}   {}",
            level.text,
            id.text,
            references.join(" "),
            claim.text,
            level_width = self.level,
            id_width = self.id
        )
    }

    fn row(&self, cells: &[Piece<'_>]) -> String {
        let mut row = String::new();
        for (i, cell) in cells.iter().enumerate() {
            row.push_str(cell.text);
            let column = self.table.get(i).copied().unwrap_or_default();
            row.push_str(&" ".repeat(column.saturating_sub(width(cell.text)) + 2));
        }
        row.trim_end().to_owned()
    }
}

/// `NAME = VALUE`, the value as it stands.
fn setting(rest: Piece<'_>) -> String {
    let (name, value) = rest.split_at(rest.text.find('=').unwrap_or(rest.text.len()));
    let value = value.split_at(1).1.trim();
    format!("{} = {}", single_blanks(name), value.text)
}

fn single_blanks(piece: Piece<'_>) -> String {
    let words: Vec<&str> = piece.words().iter().map(|word| word.text).collect();
    words.join(" ")
}

/// Columns are counted in characters.
fn width(text: &str) -> usize {
    text.chars().count()
}
