//! The register: every case that the suite wants judged, with its level and where it comes from,
//! whether a scenario holds it yet or not.
//!
//! One file a group, `scenarios/register/GROUP.txt`; a scenario's clauses are its rows. A row reads
//! as a clause does, and the lines below it say what the case is:
//!
//! ```text
//! needs    sink                                    # of the whole group, for `vmailspec new`
//!
//! MUST     relay.foreign-unauth   wave 1   rfc2505#2.1 rfc5321#7.9
//!   profile  tutorial        (judged only where the target claims the profile)
//!   do       a stranger names a foreign recipient
//!   expect   550 or 554 5.7.1; the sink stays empty
//!   wrong    open-relay      (a defect that must turn the case red)
//!   left     REASON          (why no scenario holds it yet)
//! ```
//!
//! Waves: 1 is the tutorial's contract and the core of RFC 5321, 2 its depth, 3 what is optional.

pub mod check;
pub mod coverage;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::scenario::Level;
use crate::scenario::lines::{Node, tree};
use crate::scenario::nearest::nearest;
use crate::scenario::piece::Piece;
use crate::scenario::refs::{Reference, is_id};
use crate::scenario::words::{self, CAPABILITIES, LEVEL_MEANINGS, LEVELS, PROFILES};

// Made by build.rs: `static REGISTER: &[(&str, &str)]`, sorted by name.
include!(concat!(env!("OUT_DIR"), "/register.rs"));

/// The lines below a row.
const DETAILS: &[&str] = &["profile", "do", "expect", "wrong", "left"];

/// One case that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `relay.foreign-unauth`: never renumbered, never reused.
    pub id: String,
    /// How binding.
    pub level: Level,
    /// 1, 2 or 3.
    pub wave: u8,
    /// `rfc5321#7.9` …
    pub references: Vec<String>,
    /// Only targets that claim this profile are judged.
    pub profile: Option<String>,
    /// What the client does.
    pub action: String,
    /// What must come of it.
    pub expect: String,
    /// A defect that turns it red, in a word.
    pub wrong: Option<String>,
    /// Why no scenario holds it yet.
    pub left: Option<String>,
    /// What its group needs, as scenarios say it.
    pub needs: Vec<String>,
    /// `scenarios/register/relay.txt:12`
    pub place: String,
}

impl Row {
    /// `relay`
    #[must_use]
    pub fn group(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }
}

/// All rows, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Register {
    /// The register that the binary carries.
    pub fn builtin() -> Result<Self, Vec<String>> {
        Self::parse(
            REGISTER
                .iter()
                .map(|(name, text)| (PathBuf::from("scenarios/register").join(name), *text)),
        )
    }

    /// The register that stands with these scenarios: the nearest folder `register` beside them or
    /// above, or else the one in the binary.
    pub fn of(scenarios: &Path) -> Result<Self, Vec<String>> {
        match folder_of(scenarios) {
            Some(folder) => Self::read(&folder),
            None => Self::builtin(),
        }
    }

    /// Reads the files of a folder; the mistakes hold file and line, all of them at once.
    pub fn read(folder: &Path) -> Result<Self, Vec<String>> {
        let cannot = |error| vec![format!("{}: {error}", folder.display())];
        let mut texts = Vec::new();
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.extension().is_some_and(|ending| ending == "txt") {
                let text = fs::read_to_string(&path)
                    .map_err(|error| vec![format!("{}: {error}", path.display())])?;
                texts.push((path, text));
            }
        }
        texts.sort();
        Self::parse(texts)
    }

    /// Reads the texts of groups: path, whose name is the group's, and text.
    pub fn parse(
        groups: impl IntoIterator<Item = (PathBuf, impl AsRef<str>)>,
    ) -> Result<Self, Vec<String>> {
        let mut rows: Vec<Row> = Vec::new();
        let mut mistakes = Vec::new();
        for (path, text) in groups {
            let mut reader = Reader {
                path: &path,
                text: text.as_ref(),
                mistakes: &mut mistakes,
            };
            rows.extend(reader.group());
        }
        let mut places: BTreeMap<&str, &str> = BTreeMap::new();
        for row in &rows {
            if let Some(first) = places.insert(&row.id, &row.place) {
                mistakes.push(format!(
                    "{}: a second row `{}`, the first is {first}",
                    row.place, row.id
                ));
            }
        }
        if mistakes.is_empty() {
            Ok(Self { rows })
        } else {
            Err(mistakes)
        }
    }

    /// The row with this id.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.id.as_str())
    }
}

/// Scenarios lie at most two folders below the one that holds `register`.
fn folder_of(scenarios: &Path) -> Option<PathBuf> {
    let absolute = fs::canonicalize(scenarios).ok()?;
    let found = absolute
        .ancestors()
        .take(4)
        .map(|folder| folder.join("register"))
        .find(|folder| folder.is_dir())?;
    // As the user named it, where that is possible: messages are read beside what was typed.
    let beside = scenarios.join("register");
    Some(if beside.is_dir() { beside } else { found })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    mistakes: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    fn group(&mut self) -> Vec<Row> {
        let mut layout = Vec::new();
        let nodes = tree(self.text, &mut layout);
        for mistake in layout {
            let place = self.place(mistake.span.start);
            let (what, advice) = (mistake.to_string(), mistake.advice());
            self.mistakes.push(format!("{place}: {what}: {advice}"));
        }
        let mut needs = Vec::new();
        let mut rows = Vec::new();
        for node in &nodes {
            let (word, rest) = node.line.content.word();
            if word.text == "needs" {
                needs = self.needs(rest);
            } else {
                rows.extend(self.row(node, &needs));
            }
        }
        rows
    }

    fn needs(&mut self, rest: Piece<'a>) -> Vec<String> {
        for word in rest.words() {
            if !CAPABILITIES.contains(&word.text) {
                let known = CAPABILITIES.join(", ");
                self.report(word, &format!("`{}` is no capability: {known}", word.text));
            }
        }
        let words = rest.words();
        words.iter().map(|word| word.text.to_owned()).collect()
    }

    fn row(&mut self, node: &Node<'a>, needs: &[String]) -> Option<Row> {
        let head = node.line.content;
        let before = self.mistakes.len();
        let (level_word, rest) = head.word();
        let level = words::meaning(level_word.text, LEVEL_MEANINGS);
        if level.is_none() {
            let known = LEVELS.join(", ");
            self.report(level_word, &format!("expected `needs` or a level: {known}"));
            return None;
        }
        let (id, rest) = rest.word();
        let group = self.path.file_stem().unwrap_or_default().to_string_lossy();
        if !is_id(id.text) || id.text.split('.').next() != Some(group.as_ref()) {
            self.report(
                id,
                &format!("`{}`: expected an id of this group, {group}.NAME", id.text),
            );
        }
        let (wave_word, rest) = rest.word();
        let (number, rest) = rest.word();
        let wave = match number.text.parse() {
            Ok(wave @ 1..=3) if wave_word.text == "wave" => wave,
            _ => {
                self.report(wave_word, "expected `wave 1`, `wave 2` or `wave 3`");
                0
            }
        };
        let references = rest.words();
        for reference in &references {
            if Reference::parse(reference.text).is_none() {
                let text = reference.text;
                self.report(
                    *reference,
                    &format!("`{text}` is no reference (scenarios/README.md)"),
                );
            }
        }
        if references.is_empty() {
            self.report(head, "expected a reference behind the wave");
        }
        let mut details = self.details(node);
        for wanted in ["do", "expect"] {
            if !details.contains_key(wanted) {
                let id = id.text;
                self.report(head, &format!("expected a line `{wanted}` below {id}"));
            }
        }
        (self.mistakes.len() == before).then_some(())?;
        let mut detail = |name| details.remove(name);
        Some(Row {
            id: id.text.to_owned(),
            level: level?,
            wave,
            references: references.iter().map(|one| one.text.to_owned()).collect(),
            profile: detail("profile"),
            action: detail("do")?,
            expect: detail("expect")?,
            wrong: detail("wrong"),
            left: detail("left"),
            needs: needs.to_vec(),
            place: self.place(head.start),
        })
    }

    fn details(&mut self, node: &Node<'a>) -> BTreeMap<&'a str, String> {
        let mut details = BTreeMap::new();
        for child in &node.children {
            let (word, rest) = child.line.content.word();
            if !DETAILS.contains(&word.text) {
                let known = nearest(word.text, DETAILS.iter().copied()).map_or_else(
                    || DETAILS.join(", "),
                    |near| format!("did you mean `{near}`?"),
                );
                self.report(
                    word,
                    &format!("`{}` says nothing of a row: {known}", word.text),
                );
            } else if rest.is_empty() || !child.children.is_empty() {
                self.report(
                    word,
                    &format!("expected one line of text after `{}`", word.text),
                );
            } else if word.text == "profile" && !PROFILES.contains(&rest.text) {
                let known = PROFILES.join(", ");
                self.report(rest, &format!("`{}` is no profile: {known}", rest.text));
            } else if details.insert(word.text, rest.text.to_owned()).is_some() {
                self.report(word, &format!("a second `{}`", word.text));
            }
        }
        details
    }

    fn report(&mut self, piece: Piece<'_>, what: &str) {
        let place = self.place(piece.start);
        self.mistakes.push(format!("{place}: {what}"));
    }

    fn place(&self, at: usize) -> String {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|octet| **octet == b'\n').count();
        format!("{}:{line}", self.path.display())
    }
}
