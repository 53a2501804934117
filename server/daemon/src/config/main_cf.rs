//! main.cf: `name = value` with continuation lines and comments, and `$name` in values (postconf(5)).
//!
//! A line that begins with white space continues the one before; empty lines and lines whose first
//! visible character is `#` do not count, not even between a line and its continuation. Of two
//! lines with one name the later wins. The table files (`mysql_table(5)`) have the same form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mistake::{Mistake, Place};

/// `$name` inside `$name` deeper than this is taken for a loop.
const EXPANSION_DEPTH: usize = 20;

/// Octets that are read to expand one value: names that name each other many times over grow as fast
/// as a loop, but end.
const EXPANSION_LIMIT: usize = 64 * 1024;

/// The text of one setting and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The value, trimmed, continuation lines joined.
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// All settings of a file, the later of two with one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    file: PathBuf,
    by_name: BTreeMap<String, Setting>,
}

impl Settings {
    /// Reads `file`; what cannot be read as a setting is a mistake, the rest is kept.
    pub(crate) fn read(file: &Path, mistakes: &mut Vec<Mistake>) -> Self {
        let text = read_text(file, mistakes).unwrap_or_default();
        Self::parse(file, &text, '=', mistakes)
    }

    /// The settings in the text of `file`, whose names and values stand around `between`.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        between: char,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut settings = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        for (number, line) in logical_lines(text) {
            let place = Place::new(file, number);
            match line.split_once(between) {
                Some((name, value)) if is_name(name.trim()) => settings.set(name, value, place),
                _ => {
                    let line = line.trim();
                    let text = format!("{line:?} is no setting, expected name {between} value");
                    mistakes.push(Mistake::new(&place, text));
                }
            }
        }
        settings
    }

    /// Sets `name`, over whatever was there.
    pub(crate) fn set(&mut self, name: &str, text: &str, place: Place) {
        let text = text.trim().to_owned();
        let setting = Setting { text, place };
        self.by_name.insert(name.trim().to_owned(), setting);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.by_name.get(name)
    }

    /// Where `name` is set, or would be.
    pub(crate) fn place(&self, name: &str) -> Place {
        let setting = self.get(name);
        setting.map_or_else(|| Place::file(&self.file), |setting| setting.place.clone())
    }

    /// All settings, by name.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&str, &Setting)> {
        let all = self.by_name.iter();
        all.map(|(name, setting)| (name.as_str(), setting))
    }
}

/// A file's text; that it cannot be read is a mistake.
pub(crate) fn read_text(file: &Path, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let octets = std::fs::read(file).map_err(|error| {
        let text = format!("cannot be read: {error}");
        mistakes.push(Mistake::new(&Place::file(file), text));
    });
    // A stray Latin-1 letter in a comment is no reason not to start.
    Some(String::from_utf8_lossy(&octets.ok()?).into_owned())
}

fn is_name(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Lines with their continuations joined, each with the number of its first line.
pub(crate) fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let visible = line.trim_start();
        if visible.is_empty() || visible.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, before)) if visible.len() < line.len() => before.push_str(line.trim_end()),
            _ => lines.push((number, line.trim_end().to_owned())),
        }
    }
    lines
}

/// Replaces `$name`, `${name}`, `$(name)`, `${name?then}`, `${name:else}` and `${name?{a}:{b}}`
/// (postconf(5)) by what `value_of` says. A name that it does not know counts as empty.
pub(crate) fn expand(
    text: &str,
    value_of: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<String, String> {
    let left = EXPANSION_LIMIT;
    Expansion { value_of, left }.text(text, 0)
}

/// The expansion of one value.
struct Expansion<'a> {
    value_of: &'a mut dyn FnMut(&str) -> Option<String>,
    /// Octets that may still be read.
    left: usize,
}

impl Expansion<'_> {
    fn text(&mut self, text: &str, depth: usize) -> Result<String, String> {
        if depth > EXPANSION_DEPTH {
            return Err(format!("{text:?} refers to itself"));
        }
        // An empty value costs as well: there may be many of them.
        self.left = self.left.checked_sub(text.len() + 1).ok_or_else(|| {
            format!(
                "too long when its names are replaced, expected {EXPANSION_LIMIT} octets or less"
            )
        })?;
        let mut out = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            let (replaced, behind) = match after.chars().next() {
                Some('$') => ("$".to_owned(), &after[1..]),
                Some(open @ ('{' | '(')) => {
                    let (inside, behind) = bracketed(after, open)?;
                    (self.braced(inside, depth)?, behind)
                }
                _ => match leading_name(after) {
                    ("", _) => return Err(format!("$ in {text:?} is not followed by a name")),
                    (name, behind) => (self.named(name, depth)?, behind),
                },
            };
            out.push_str(&replaced);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn named(&mut self, name: &str, depth: usize) -> Result<String, String> {
        match (self.value_of)(name) {
            Some(value) => self.text(&value, depth + 1),
            None => Ok(String::new()),
        }
    }

    /// What stands between `${` and `}`.
    fn braced(&mut self, inside: &str, depth: usize) -> Result<String, String> {
        let (name, condition) = leading_name(inside.trim());
        if name.is_empty() {
            return Err(format!(
                "${{{inside}}} is not understood, expected ${{name}} or ${{name?text}}"
            ));
        }
        let value = self.named(name, depth)?;
        let condition = condition.trim_start();
        if condition.is_empty() {
            return Ok(value);
        }
        let (then, behind) = match condition.strip_prefix('?') {
            Some(text) => alternative(text)?,
            None => ("", condition),
        };
        let otherwise = match behind.strip_prefix(':') {
            Some(text) => alternative(text)?.0,
            None if behind.is_empty() => "",
            None => {
                return Err(format!(
                    "${{{inside}}} has {behind:?} where ? or : was expected"
                ));
            }
        };
        let chosen = if value.is_empty() { otherwise } else { then };
        self.text(chosen, depth + 1)
    }
}

/// `{text}` and what follows it, or all of it.
fn alternative(text: &str) -> Result<(&str, &str), String> {
    let braces = text.trim_start();
    if braces.starts_with('{') {
        let (inside, behind) = bracketed(braces, '{')?;
        return Ok((inside.trim(), behind.trim_start()));
    }
    Ok((text, ""))
}

fn leading_name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `text` begins with `open`: what is inside up to its counterpart, and what follows.
pub(crate) fn bracketed(text: &str, open: char) -> Result<(&str, &str), String> {
    let close = if open == '{' { '}' } else { ')' };
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Ok((&text[1..at], &text[at + 1..]));
            }
        }
    }
    Err(format!("{text:?} lacks its closing {close}"))
}

/// Splits at blanks and commas, but not inside `{ }` (postconf(5): lists of tables, networks, ...).
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let pieces = text.split(move |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (c == ',' || c.is_ascii_whitespace())
    });
    pieces.filter(|word| !word.is_empty())
}
