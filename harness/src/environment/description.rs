//! The description of a target: how it is started, what it can, what it claims to be.
//!
//! A TOML file, `fixtures/targets/README.md` has its keys. It promises: nothing is inferred, a
//! capability that is not declared is not there; a mistake is one line with file, line and what
//! was expected.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::outside::{self, Outside};
use crate::scenario::nearest::nearest;
use crate::scenario::words::{CAPABILITIES, PROFILES};

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

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    start: Spanned<StartWord>,
    image: Option<Spanned<String>>,
    command: Option<Spanned<Vec<String>>>,
    arguments: Option<Spanned<Vec<String>>>,
    version: Option<Spanned<String>>,
    ready: Option<Spanned<String>>,
    within: Option<Spanned<u64>>,
    template: Option<Spanned<PathBuf>>,
    #[serde(default)]
    main_cf: Vec<Spanned<String>>,
    capabilities: Vec<Spanned<String>>,
    profiles: Vec<Spanned<String>>,
    queue_files: Option<Spanned<String>>,
    known: Option<PathBuf>,
    queue: Option<Spanned<PathBuf>>,
    log: Option<Spanned<PathBuf>>,
    listen: Option<Spanned<outside::Listen>>,
    database: Option<Spanned<outside::DatabaseTable>>,
    accounts: Option<Spanned<outside::Accounts>>,
    maildirs: Option<Spanned<outside::MaildirsTable>>,
    sink: Option<Spanned<outside::SinkTable>>,
    clients: Option<Spanned<outside::Clients>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StartWord {
    Reference,
    Command,
    Container,
    Nothing,
}

/// Those of somebody else's that we start.
const OURS_TO_START: &[StartWord] = &[StartWord::Command, StartWord::Container];

impl StartWord {
    fn word(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Command => "command",
            Self::Container => "container",
            Self::Nothing => "nothing",
        }
    }
}

/// What a server is waited for where its description does not say: a process says soon that it is
/// there, containers are started by a busy engine.
const PROCESS_WITHIN: Duration = Duration::from_secs(20);
const CONTAINER_WITHIN: Duration = Duration::from_mins(1);
/// As the reference server says it.
const REFERENCE_READY: &str = "listening on";

/// Where a mistake begins, and what it is.
type Mistake = (usize, String);

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

impl Written {
    /// Whether each key stands beside a `start` that it belongs to.
    fn placed(&self, word: StartWord) -> Result<(), Mistake> {
        let outside = &[StartWord::Nothing];
        let keys: [(&str, Option<usize>, &[StartWord]); 15] = [
            ("image", place(self.image.as_ref()), &[StartWord::Container]),
            (
                "arguments",
                place(self.arguments.as_ref()),
                &[StartWord::Container],
            ),
            (
                "command",
                place(self.command.as_ref()),
                &[StartWord::Command],
            ),
            ("template", place(self.template.as_ref()), OURS_TO_START),
            ("version", place(self.version.as_ref()), OURS_TO_START),
            ("ready", place(self.ready.as_ref()), OURS_TO_START),
            ("within", place(self.within.as_ref()), OURS_TO_START),
            ("queue", place(self.queue.as_ref()), outside),
            ("log", place(self.log.as_ref()), outside),
            ("listen", place(self.listen.as_ref()), outside),
            ("database", place(self.database.as_ref()), outside),
            ("accounts", place(self.accounts.as_ref()), outside),
            ("maildirs", place(self.maildirs.as_ref()), outside),
            ("sink", place(self.sink.as_ref()), outside),
            ("clients", place(self.clients.as_ref()), outside),
        ];
        for (key, place, with) in keys {
            if let Some(place) = place.filter(|_| !with.contains(&word)) {
                return Err((place, misplaced(key, with)));
            }
        }
        Ok(())
    }

    fn checked(self, folder: &Path) -> Result<Description, Mistake> {
        let at = self.start.span().start;
        let word = *self.start.get_ref();
        self.placed(word)?;
        let beside = |key: &str, what: &str| {
            let start = word.word();
            let why = format!("start = \"{start}\" without `{key}`: expected {key} = {what}");
            (at, why)
        };
        let start = match word {
            StartWord::Reference => Start::Reference,
            StartWord::Nothing => {
                let claims = |word: &str| {
                    let claim = self.capabilities.iter().find(|said| said.get_ref() == word);
                    claim.map(|said| said.span().start)
                };
                let tables = outside::Tables {
                    listen: self.listen.map(Spanned::into_inner),
                    database: self.database.map(Spanned::into_inner),
                    accounts: self.accounts.map(Spanned::into_inner),
                    maildirs: self.maildirs.map(Spanned::into_inner),
                    sink: self.sink.map(Spanned::into_inner),
                    clients: self.clients.map(Spanned::into_inner),
                    queue: self.queue.map(Spanned::into_inner),
                    log: self.log.map(Spanned::into_inner),
                };
                let outside = tables
                    .checked(folder, &claims)
                    .map_err(|(place, why)| (place.unwrap_or(at), why))?;
                Start::Nothing(Box::new(outside))
            }
            StartWord::Command => {
                let said = self
                    .command
                    .ok_or_else(|| beside("command", "[\"…\"], the program and its arguments"))?;
                let at = said.span().start;
                let mut words = said.into_inner().into_iter();
                let program = words
                    .next()
                    .filter(|word| !word.is_empty())
                    .ok_or_else(|| {
                        (
                            at,
                            "`command` is empty: expected a program and its arguments".to_owned(),
                        )
                    })?;
                Start::Command {
                    // As a shell has it: a path, or a name that is looked for.
                    program: if program.contains('/') {
                        folder.join(program)
                    } else {
                        program.into()
                    },
                    arguments: words.collect(),
                }
            }
            StartWord::Container => {
                let image = self
                    .image
                    .ok_or_else(|| beside("image", "\"…\", the name of an image"))?;
                Start::Container {
                    image: filled("image", image)?,
                    arguments: match self.arguments {
                        Some(arguments) => arguments.into_inner(),
                        None => vec!["{config_directory}".to_owned()],
                    },
                }
            }
        };
        let ready = match self.ready {
            Some(ready) => Some(filled("ready", ready)?),
            None => (word == StartWord::Reference).then(|| REFERENCE_READY.to_owned()),
        };
        let version = self.version.map(|line| filled("version", line));
        let within = within(self.within, word)?;
        Ok(Description {
            name: self.name,
            start,
            version: version.transpose()?,
            ready,
            within,
            template: self.template.map(|path| folder.join(path.into_inner())),
            main_cf: self
                .main_cf
                .into_iter()
                .map(parameter)
                .collect::<Result<_, _>>()?,
            capabilities: words("capability", self.capabilities, CAPABILITIES)?,
            profiles: words("profile", self.profiles, PROFILES)?,
            queue_files: self
                .queue_files
                .map(|ending| filled("queue_files", ending))
                .transpose()?,
            known: self.known.map(|path| folder.join(path)),
        })
    }
}

fn within(said: Option<Spanned<u64>>, word: StartWord) -> Result<Duration, Mistake> {
    Ok(match said {
        Some(within) if !(1..=600).contains(within.get_ref()) => {
            let why = format!(
                "`within = {}`: expected seconds, 1 to 600",
                within.get_ref()
            );
            return Err((within.span().start, why));
        }
        Some(within) => Duration::from_secs(within.into_inner()),
        None if word == StartWord::Container => CONTAINER_WITHIN,
        None => PROCESS_WITHIN,
    })
}

/// Where a key stands.
fn place<T>(key: Option<&Spanned<T>>) -> Option<usize> {
    key.map(|key| key.span().start)
}

fn misplaced(key: &str, with: &[StartWord]) -> String {
    let with: Vec<String> = with
        .iter()
        .map(|start| format!("start = \"{}\"", start.word()))
        .collect();
    format!(
        "`{key}` does not belong here: expected it beside {} only",
        with.join(" or ")
    )
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
            ("name = \n".to_owned(), 1, ""),
        ] {
            let (at, why) = Description::parse(&text, Path::new("")).unwrap_err();
            assert!(at == line && why.contains(has) && !why.contains('\n'), "{text}: {at}: {why}");
        }
    }
}
