//! The description of a target: how it is started, what it can, what it claims to be.
//!
//! A TOML file, `fixtures/targets/README.md` has its keys. It promises: nothing is inferred, a
//! capability that is not declared is not there; a mistake is one line with file, line and what
//! was expected.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::scenario::nearest::nearest;
use crate::scenario::words::{CAPABILITIES, PROFILES};

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What reports call it.
    pub name: String,
    /// How it is started.
    pub start: Start,
    /// Lines of `main.cf` that come after the template's.
    pub main_cf: Vec<String>,
    /// `quota`, `faults` …
    pub capabilities: Vec<String>,
    /// `tutorial`, `postfix`, `vda`
    pub profiles: Vec<String>,
    /// Its known failures.
    pub known: Option<PathBuf>,
}

/// How a target is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The reference server as a child process.
    Reference,
    /// A container with the host's network.
    Container {
        /// Its image.
        image: String,
        /// Part of the log line that says that it listens.
        ready: String,
    },
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    start: Spanned<StartWord>,
    image: Option<Spanned<String>>,
    ready: Option<Spanned<String>>,
    #[serde(default)]
    main_cf: Vec<Spanned<String>>,
    capabilities: Vec<Spanned<String>>,
    profiles: Vec<Spanned<String>>,
    known: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StartWord {
    Reference,
    Container,
}

/// Where a mistake begins, and what it is.
type Mistake = (usize, String);

impl Description {
    /// The reference server.
    pub fn reference() -> Result<Self, String> {
        let name = "targets/reference.toml";
        let text = super::fixture(name)?;
        let mut described = Self::parse(text).map_err(|(line, why)| {
            format!("fixtures/{name}:{line}: {why}: a defect of vmailspec")
        })?;
        // Harness and server are released together.
        described.name = format!("vmaild {} (reference server)", env!("CARGO_PKG_VERSION"));
        Ok(described)
    }

    /// Reads a file; the error holds file, line and what was expected.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("--target {shown}: {error}: expected the description of a target")
        })?;
        let mut described =
            Self::parse(&text).map_err(|(line, why)| format!("{shown}:{line}: {why}"))?;
        if let (Some(known), Some(folder)) = (&mut described.known, path.parent()) {
            *known = folder.join(&*known);
        }
        Ok(described)
    }

    /// Reads its text; the error holds line and what was expected.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line = |(at, why): Mistake| {
            let before = text.get(..at).unwrap_or(text);
            (before.matches('\n').count() + 1, why)
        };
        let written: Written = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            line((at, error.message().replace('\n', " ")))
        })?;
        written.checked().map_err(line)
    }
}

impl Written {
    fn checked(self) -> Result<Description, Mistake> {
        let at = self.start.span().start;
        let start = match (self.start.into_inner(), self.image, self.ready) {
            (StartWord::Reference, None, None) => Start::Reference,
            (StartWord::Reference, Some(odd), _) | (StartWord::Reference, None, Some(odd)) => {
                let why = "`image` and `ready` belong to start = \"container\", expected none of them beside \"reference\"";
                return Err((odd.span().start, why.to_owned()));
            }
            (StartWord::Container, Some(image), Some(ready)) => Start::Container {
                image: filled("image", image)?,
                ready: filled("ready", ready)?,
            },
            (StartWord::Container, None, _) => {
                return Err((at, expected_beside("image", "the name of an image")));
            }
            (StartWord::Container, _, None) => {
                let what = "a text of the log line that says that it listens";
                return Err((at, expected_beside("ready", what)));
            }
        };
        Ok(Description {
            name: self.name,
            start,
            main_cf: self
                .main_cf
                .into_iter()
                .map(parameter)
                .collect::<Result<_, _>>()?,
            capabilities: words("capability", self.capabilities, CAPABILITIES)?,
            profiles: words("profile", self.profiles, PROFILES)?,
            known: self.known,
        })
    }
}

fn expected_beside(key: &str, what: &str) -> String {
    format!("start = \"container\" without `{key}`: expected {key} = \"…\", {what}")
}

fn filled(key: &str, text: Spanned<String>) -> Result<String, Mistake> {
    let at = text.span().start;
    let text = text.into_inner();
    if text.trim().is_empty() {
        return Err((at, format!("`{key}` is empty: expected a text")));
    }
    Ok(text)
}

fn parameter(line: Spanned<String>) -> Result<String, Mistake> {
    let at = line.span().start;
    let line = line.into_inner();
    if line.contains('\n') || !line.contains('=') {
        return Err((
            at,
            format!("`{line}`: expected a line of main.cf, `NAME = VALUE`"),
        ));
    }
    Ok(line)
}

fn words(what: &str, said: Vec<Spanned<String>>, known: &[&str]) -> Result<Vec<String>, Mistake> {
    let one = |word: Spanned<String>| {
        let at = word.span().start;
        let word = word.into_inner();
        if known.contains(&word.as_str()) {
            return Ok(word);
        }
        let meant = nearest(&word, known.iter().copied())
            .map_or(String::new(), |near| format!(" (`{near}`?)"));
        let known = known.join(", ");
        Err((
            at,
            format!("`{word}` is no {what}{meant}: expected {known}"),
        ))
    };
    said.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{Description, Start};

    #[test]
    fn the_descriptions_in_the_repository_can_be_read() {
        let reference = Description::reference().unwrap();
        assert_eq!(reference.start, Start::Reference);
        let mut count = 0;
        for (name, text) in crate::fixtures::folder("targets") {
            if name != "targets/README.md" {
                let described = Description::parse(text).unwrap();
                assert!(!described.capabilities.is_empty(), "{name}");
                count += 1;
            }
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_was_expected() {
        let rest = "capabilities = []\nprofiles = []\n";
        let container = "name = 'a'\nstart = 'container'\n";
        for (text, line, has) in [
            (String::new(), 1, "missing field `name`"),
            (format!("name = 'a'\nstart = 'reference'\ncolour = 1\n{rest}"), 3, "unknown field `colour`, expected"),
            (format!("name = 'a'\nstart = 'vm'\n{rest}"), 2, "expected `reference` or `container`"),
            (format!("{container}{rest}"), 2, "expected image"),
            (format!("{container}image = 'i'\n{rest}"), 2, "expected ready"),
            (format!("name = 'a'\nstart = 'reference'\nready = 'r'\n{rest}"), 3, "expected none"),
            (format!("{container}image = 'i'\nready = ''\n{rest}"), 4, "expected a text"),
            (format!("name = 'a'\nstart = 'reference'\nmain_cf = ['x']\n{rest}"), 3, "expected a line of main.cf"),
            ("name = 'a'\nstart = 'reference'\nprofiles = []\ncapabilities = ['sink',\n  'qota']\n".to_owned(), 5, "(`quota`?): expected database"),
            ("name = 'a'\nstart = 'reference'\ncapabilities = []\nprofiles = ['exim']\n".to_owned(), 4, "is no profile: expected postfix"),
            ("name = \n".to_owned(), 1, ""),
        ] {
            let (at, why) = Description::parse(&text).unwrap_err();
            assert!(at == line && why.contains(has) && !why.contains('\n'), "{text}: {at}: {why}");
        }
    }
}
