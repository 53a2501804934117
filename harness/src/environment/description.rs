//! The description of a target: how it is started, what it can, what it claims to be.
//!
//! A TOML file, `fixtures/targets/README.md` has its keys. It promises: nothing is inferred, a
//! capability that is not declared is not there; a mistake is one line with file, line and what
//! was expected.

mod written;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::written::{Mistake, PROCESS_WITHIN, Written};
use super::outside::Outside;

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What reports call it.
    pub name: String,
    /// How it is started.
    pub start: Start,
    /// A line of sh(1) that says the server's version, run where its program is.
    pub version: Option<String>,
    /// Part of the log line that says that it listens; `None`: it is there when it greets.
    pub ready: Option<String>,
    /// How long it may take to be there.
    pub within: Duration,
    /// The folder of its configuration's template; `None`: `fixtures/postfix`.
    pub template: Option<PathBuf>,
    /// Lines of `main.cf` that come after the template's.
    pub main_cf: Vec<String>,
    /// `quota`, `faults` …
    pub capabilities: Vec<String>,
    /// `tutorial`, `postfix`, `vda`
    pub profiles: Vec<String>,
    /// Of the files in its queue those count whose name ends so; without it each.
    pub queue_files: Option<String>,
    /// Its known failures.
    pub known: Option<PathBuf>,
}

/// How a target is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The reference server as a child process.
    Reference,
    /// A child process.
    Command {
        /// The program: a path as seen from the description, or a name that is looked for in PATH.
        program: PathBuf,
        /// Its arguments, with placeholders.
        arguments: Vec<String>,
    },
    /// Not by us: it runs already.
    Nothing(Box<Outside>),
    /// A container with the host's network.
    Container {
        /// Its image.
        image: String,
        /// Arguments of its entry point, with placeholders.
        arguments: Vec<String>,
    },
}

impl Description {
    /// The reference server.
    pub fn reference() -> Result<Self, String> {
        let name = "targets/reference.toml";
        let text = super::fixture(name)?;
        let mut described = Self::parse(text, Path::new("")).map_err(|(line, why)| {
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
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::parse(&text, folder).map_err(|(line, why)| format!("{shown}:{line}: {why}"))
    }

    /// Reads its text, of a file in `folder`; the error holds line and what was expected.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, (usize, String)> {
        let line = |(at, why): Mistake| {
            let before = text.get(..at).unwrap_or(text);
            (before.matches('\n').count() + 1, why)
        };
        let written: Written = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            line((at, error.message().replace('\n', " ")))
        })?;
        written.checked(folder).map_err(line)
    }

    /// A server of which nothing is known but its address, and perhaps an account.
    #[must_use]
    pub fn black_box(name: &str, outside: Outside) -> Self {
        Self {
            name: name.to_owned(),
            start: Start::Nothing(Box::new(outside)),
            version: None,
            ready: None,
            within: PROCESS_WITHIN,
            template: None,
            main_cf: Vec::new(),
            capabilities: Vec::new(),
            profiles: Vec::new(),
            queue_files: None,
            known: None,
        }
    }

    /// What is known of a server that is not ours to start.
    #[must_use]
    pub fn outside(&self) -> Option<&Outside> {
        match &self.start {
            Start::Nothing(outside) => Some(outside),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Description, Start};

    #[test]
    fn the_descriptions_in_the_repository_can_be_read() {
        let reference = Description::reference().unwrap();
        assert_eq!(reference.start, Start::Reference);
        let mut count = 0;
        for (name, text) in crate::fixtures::folder("targets") {
            if name != "targets/README.md" {
                let described = Description::parse(text, Path::new("")).unwrap();
                assert!(!described.capabilities.is_empty(), "{name}");
                count += 1;
            }
        }
        assert!(count > 2, "{count}");
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_was_expected() {
        let rest = "capabilities = []\nprofiles = []\n";
        let container = "name = 'a'\nstart = 'container'\n";
        let outside = "name = 'a'\nstart = 'nothing'\n";
        let listen = "[listen]\nsmtp = 'h:25'\n";
        for (text, line, has) in [
            (String::new(), 1, "missing field `name`"),
            (format!("name = 'a'\nstart = 'reference'\ncolour = 1\n{rest}"), 3, "unknown field `colour`, expected"),
            (format!("name = 'a'\nstart = 'vm'\n{rest}"), 2, "expected one of `reference`, `command`, `container`, `nothing`"),
            (format!("{container}{rest}"), 2, "expected image = "),
            (format!("{container}image = 'i'\ncommand = ['i']\n{rest}"), 4, "expected it beside start = \"command\" only"),
            (format!("name = 'a'\nstart = 'reference'\nready = 'r'\n{rest}"), 3, "beside start = \"command\" or start = \"container\" only"),
            (format!("{container}image = 'i'\nready = ''\n{rest}"), 4, "expected a text"),
            (format!("name = 'a'\nstart = 'reference'\nversion = 'r'\n{rest}"), 3, "beside start = \"command\" or start = \"container\" only"),
            (format!("{container}image = 'i'\nwithin = 0\n{rest}"), 4, "expected seconds, 1 to 600"),
            (format!("name = 'a'\nstart = 'command'\n{rest}"), 2, "expected command = "),
            (format!("name = 'a'\nstart = 'command'\ncommand = []\n{rest}"), 3, "expected a program"),
            (format!("name = 'a'\nstart = 'reference'\nmain_cf = ['x']\n{rest}"), 3, "expected a line of main.cf"),
            ("name = 'a'\nstart = 'reference'\nprofiles = []\ncapabilities = ['sink',\n  'qota']\n".to_owned(), 5, "(`quota`?): expected database"),
            ("name = 'a'\nstart = 'reference'\ncapabilities = []\nprofiles = ['exim']\n".to_owned(), 4, "is no profile: expected postfix"),
            (format!("{outside}queue_delete = ['rm', '{{id}}']\n{rest}{listen}"), 3, "without `queue`: expected queue = "),
            (format!("{outside}queue = '/q'\nqueue_delete = ['rm']\n{rest}{listen}"), 4, "expected `{id}` where"),
            (format!("{container}image = 'i'\nqueue_delete = ['rm']\n{rest}"), 4, "beside start = \"nothing\" only"),
            ("name = \n".to_owned(), 1, ""),
        ] {
            let (at, why) = Description::parse(&text, Path::new("")).unwrap_err();
            assert!(at == line && why.contains(has) && !why.contains('\n'), "{text}: {at}: {why}");
        }
    }
}
