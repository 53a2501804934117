//! The header: what the scenario is about, how its cases differ, how they begin.

use std::collections::BTreeMap;

use super::check::Scope;
use super::{Parser, first_word};
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::piece::Piece;
use crate::scenario::refs::is_parameter;
use crate::scenario::words::{CAPABILITIES, ENTRIES, FUNCTIONS, NAMES, PROFILES, STARTS, VANTAGES};
use crate::scenario::{Header, Start};

/// A header line that may stand several times.
fn may_repeat(word: &str) -> bool {
    matches!(word, "each" | "needs" | "offers" | "main.cf" | "master.cf")
}

impl<'a> Parser<'a> {
    /// A first look: axes and columns are names for everything else, wherever they stand.
    pub(super) fn axes(&mut self, nodes: &[Node<'a>]) {
        let headers: Vec<&str> = nodes
            .iter()
            .map(|node| first_word(node.line.content).0.text)
            .collect();
        for node in nodes {
            let (word, rest) = first_word(node.line.content);
            match word.text {
                "each" => {
                    let (axis, values) = rest.word();
                    if self.axis(axis, &headers) {
                        let values = values.split(",").into_iter().map(Piece::trim);
                        let values = values
                            .map(|value| (value_of(value), value.span()))
                            .collect();
                        self.values.insert(axis.text.to_owned(), values);
                    }
                }
                "cases" => {
                    for (i, column) in rest.words().into_iter().enumerate() {
                        if !self.axis(column, &headers) {
                            continue;
                        }
                        let cell = |row: &Node<'a>| row.line.content.cells().get(i).copied();
                        let cells = node.children.iter().filter_map(cell);
                        let values = cells.map(|cell| (value_of(cell), cell.span())).collect();
                        self.values.insert(column.text.to_owned(), values);
                    }
                }
                _ => {}
            }
        }
    }

    /// Can this be the name of an axis or a column?
    fn axis(&mut self, axis: Piece<'a>, headers: &[&str]) -> bool {
        let name = axis.text;
        if name.is_empty() {
            return false;
        }
        let letters = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !letters {
            self.report(axis.span(), What::BadAxis(name.to_owned()));
            return false;
        }
        let taken = NAMES.contains(&name)
            || FUNCTIONS.contains(&name)
            || matches!(name, "n" | "size")
            || self.values.contains_key(name)
            || matches!(name, "entry" | "from") && headers.contains(&name);
        if taken {
            self.report(axis.span(), What::AxisTaken(name.to_owned()));
        }
        !taken
    }

    pub(super) fn header(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
        title: &mut Option<String>,
        header: &mut Header,
        lines: &mut BTreeMap<String, usize>,
    ) {
        if let Some(&first) = lines.get(word.text).filter(|_| !may_repeat(word.text)) {
            self.report(
                word.span(),
                What::HeaderTwice {
                    word: word.text.to_owned(),
                    first,
                },
            );
        }
        lines
            .entry(word.text.to_owned())
            .or_insert_with(|| self.line_number(word.start));
        if word.text != "cases" {
            self.no_lines(node, word);
        }
        if word.text == "title" {
            // An empty title is one mistake, not also a missing one.
            let text = self.wanted(word, rest, "what the scenario is about");
            self.unwritten(rest);
            *title = Some(text.map_or_else(String::new, |text| text.text.to_owned()));
        } else {
            self.header_line(node, word, rest, header);
        }
    }

    /// `None`: reported.
    fn header_line(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
        header: &mut Header,
    ) -> Option<()> {
        match word.text {
            "each" => header.each.extend(self.each(word, rest)),
            "cases" => header.cases = self.table(node, word, rest),
            "from" => {
                let (vantage, more) = self.wanted(word, rest, "`stranger` or `neighbour`")?.word();
                header.from = self.choice("place of a client", vantage, VANTAGES)?;
                self.nothing_more(word, more)?;
            }
            "entry" => {
                let (entry, more) = self.wanted(word, rest, "25, 25+starttls or 465")?.word();
                header.entry = self.choice("way in", entry, ENTRIES)?;
                self.nothing_more(word, more)?;
            }
            "start" => header.start = self.start(word, rest)?,
            "names" => {
                let (names, more) = self.wanted(word, rest, "`tutorial`")?.word();
                self.choice("set of names", names, &[("tutorial", ())])?;
                self.nothing_more(word, more)?;
                header.literal_names = true;
            }
            "needs" => {
                for need in self.wanted(word, rest, "a capability")?.words() {
                    if CAPABILITIES.contains(&need.text) {
                        header.needs.push(need.text.to_owned());
                    } else {
                        self.not_one_of("capability", need, CAPABILITIES.to_vec());
                    }
                }
            }
            "offers" => {
                let (first, more) = self.wanted(word, rest, "a keyword of EHLO")?.word();
                let there = first.text != "no";
                let (keyword, more) = if there {
                    (first, more)
                } else {
                    self.wanted(first, more, "a keyword of EHLO")?.word()
                };
                self.nothing_more(word, more)?;
                let keyword = self.text(keyword, Scope::Step);
                header.offers.push((there, keyword));
            }
            "profile" => {
                let (profile, more) = self.wanted(word, rest, "a profile")?.word();
                if !PROFILES.contains(&profile.text) {
                    self.not_one_of("profile", profile, PROFILES.to_vec());
                }
                self.nothing_more(word, more)?;
                header.profile = Some(profile.text.to_owned());
            }
            "main.cf" => {
                let (name, value) = self.setting(word, rest, "NAME = VALUE")?;
                if header.main_cf.iter().any(|(known, _)| known == name.text) {
                    self.report(name.span(), What::ParameterTwice(name.text.to_owned()));
                }
                let value = self.text(value, Scope::Step);
                header.main_cf.push((name.text.to_owned(), value));
            }
            "master.cf" => {
                let (service, rest) = rest.word();
                let (name, value) = self.setting(word, rest, "SERVICE NAME = VALUE")?;
                let value = self.text(value, Scope::Step);
                let (service, name) = (service.text.to_owned(), name.text.to_owned());
                header.master_cf.push((service, name, value));
            }
            "slow" => {
                self.nothing_more(word, rest)?;
                header.slow = true;
            }
            _ => {}
        }
        Some(())
    }

    fn start(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<Start> {
        let rest = self.wanted(word, rest, "how far the runner goes")?;
        let (how, more) = rest.word();
        let start = match how.text {
            "nothing" => Start::Nothing,
            "connected" => Start::Connected,
            "greeted" => Start::Greeted,
            "authenticated" => {
                let (address, more) = self
                    .wanted(how, more, "the user, as address@$domain")?
                    .word();
                self.nothing_more(how, more)?;
                return Some(Start::Authenticated(self.text(address, Scope::Step)));
            }
            _ => {
                self.not_one_of("start", how, STARTS.to_vec());
                return None;
            }
        };
        self.nothing_more(how, more)?;
        Some(start)
    }

    /// `NAME = VALUE`; the value may be empty, as in main.cf.
    fn setting(
        &mut self,
        word: Piece<'a>,
        rest: Piece<'a>,
        expected: &'static str,
    ) -> Option<(Piece<'a>, Piece<'a>)> {
        let Some(at) = rest.text.find('=') else {
            self.report(
                word.end(),
                What::Missing {
                    after: word.text.to_owned(),
                    expected,
                },
            );
            return None;
        };
        let (name, value) = rest.split_at(at);
        let (name, value) = (name.trim(), value.split_at(1).1.trim());
        if !is_parameter(name.text) {
            let word = word.text.to_owned();
            self.report(name.span(), What::BadDetail { word, expected });
            return None;
        }
        Some((name, value))
    }

    fn each(&mut self, word: Piece<'a>, rest: Piece<'a>) -> Option<(String, Vec<String>)> {
        let (axis, rest) = self.wanted(word, rest, "AXIS VALUE, VALUE …")?.word();
        let rest = self.wanted(axis, rest, "values, with commas between them")?;
        let mut values: Vec<String> = Vec::new();
        for piece in rest.split(",").into_iter().map(Piece::trim) {
            if piece.is_empty() {
                self.report(piece.span(), What::EmptyValue);
            } else if values.contains(&value_of(piece)) {
                self.report(piece.span(), What::ValueTwice(piece.text.to_owned()));
            } else {
                self.value(axis.text, piece);
                values.push(value_of(piece));
            }
        }
        Some((axis.text.to_owned(), values))
    }

    fn table(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
    ) -> Option<(Vec<String>, Vec<Vec<String>>)> {
        let columns = self.wanted(word, rest, "names of columns")?.words();
        if node.children.is_empty() {
            let after = word.text.to_owned();
            let expected = "indented rows, one a case,";
            self.report(rest.end(), What::Missing { after, expected });
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        for child in &node.children {
            let content = child.line.content;
            self.no_lines(child, content);
            let cells = content.cells();
            let row: Vec<String> = cells.iter().map(|cell| value_of(*cell)).collect();
            if cells.len() != columns.len() {
                let (expected, seen) = (columns.len(), cells.len());
                self.report(content.span(), What::RowWidth { expected, seen });
            } else if rows.contains(&row) {
                self.report(content.span(), What::ValueTwice(content.text.to_owned()));
            } else {
                for (column, cell) in columns.iter().zip(cells) {
                    self.value(column.text, cell);
                }
                rows.push(row);
            }
        }
        Some((
            columns
                .iter()
                .map(|column| column.text.to_owned())
                .collect(),
            rows,
        ))
    }

    /// The value of an axis or a cell: `entry` and `from` are words of the language, all others
    /// text with the names that every case has.
    fn value(&mut self, axis: &str, value: Piece<'a>) {
        match axis {
            "entry" => _ = self.choice("way in", value, ENTRIES),
            "from" => _ = self.choice("place of a client", value, VANTAGES),
            _ => _ = self.text(value, Scope::Value),
        }
    }
}

/// `""` is nothing at all.
fn value_of(piece: Piece<'_>) -> String {
    if piece.text == "\"\"" {
        String::new()
    } else {
        piece.text.to_owned()
    }
}
