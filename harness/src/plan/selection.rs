//! The words of `--select`: ids of clauses, names of scenarios and cases, and patterns.

use std::collections::BTreeSet;

use super::{Case, PlanError, clauses, scenario_name};
use crate::scenario::nearest::nearest_all;

/// The cases that at least one of the words selects; all of them where there is no word.
pub(super) fn choose(all: Vec<Case>, words: &[&str]) -> Result<Vec<Case>, PlanError> {
    if words.is_empty() {
        return Ok(all);
    }
    let unknown: Vec<(String, Vec<String>)> = words
        .iter()
        .filter(|word| !all.iter().any(|case| selects(word, case)))
        .map(|word| ((*word).to_owned(), suggestions(word, &all)))
        .collect();
    if !unknown.is_empty() {
        return Err(PlanError::Unknown(unknown));
    }
    Ok(all
        .into_iter()
        .filter(|case| words.iter().any(|word| selects(word, case)))
        .collect())
}

/// Does a word select a case: by its name, its scenario's name, or one of its clauses?
#[must_use]
pub fn selects(word: &str, case: &Case) -> bool {
    let word = word.strip_suffix(".case").unwrap_or(word);
    matches(word, &case.name)
        || matches(word, &scenario_name(&case.scenario))
        || clauses(&case.scenario).any(|clause| matches(word, &clause.id))
}

/// `*` is any text, `?` any character; everything else, brackets too, is itself.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how far it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    p = at + 1;
                    t = eaten + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// The ids and names nearest to a word.
fn suggestions(word: &str, all: &[Case]) -> Vec<String> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for case in all {
        let name = scenario_name(&case.scenario);
        known.extend(
            name.rsplit_once('/')
                .map(|(folder, _)| format!("{folder}/*")),
        );
        known.insert(name);
        for clause in clauses(&case.scenario) {
            known.extend(
                clause
                    .id
                    .split_once('.')
                    .map(|(group, _)| format!("{group}.*")),
            );
            known.insert(clause.id.clone());
        }
        if word.contains('[') {
            known.insert(case.name.clone());
        }
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    nearest_all(word, &known, 3)
}

/// What the user reads.
pub(super) fn unknown(words: &[(String, Vec<String>)]) -> String {
    let lines: Vec<String> = words
        .iter()
        .map(|(word, near)| {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            let tail = match near.as_slice() {
                [] => "the ids and names are those that `vmailspec list` shows".to_owned(),
                [one] => format!("did you mean {one}?"),
                [some @ .., last] => format!("did you mean {} or {last}?", some.join(", ")),
            };
            format!("`{word}` selects no case: {tail}")
        })
        .collect();
    lines.join("\n")
}
