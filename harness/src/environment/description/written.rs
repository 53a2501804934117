//! A description as it is written, and whether it can be meant so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Description, Start};
use crate::environment::outside::tables;
use crate::scenario::nearest::nearest;
use crate::scenario::words::{CAPABILITIES, PROFILES};

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
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
    queue_delete: Option<Spanned<Vec<String>>>,
    log: Option<Spanned<PathBuf>>,
    listen: Option<Spanned<tables::Listen>>,
    database: Option<Spanned<tables::DatabaseTable>>,
    accounts: Option<Spanned<tables::Accounts>>,
    maildirs: Option<Spanned<tables::MaildirsTable>>,
    sink: Option<Spanned<tables::SinkTable>>,
    clients: Option<Spanned<tables::Clients>>,
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
pub(super) const PROCESS_WITHIN: Duration = Duration::from_secs(20);
const CONTAINER_WITHIN: Duration = Duration::from_mins(1);
/// As the reference server says it.
const REFERENCE_READY: &str = "listening on";

/// Where a mistake begins, and what it is.
pub(super) type Mistake = (usize, String);

impl Written {
    /// Whether each key stands beside a `start` that it belongs to.
    fn placed(&self, word: StartWord) -> Result<(), Mistake> {
        let outside = &[StartWord::Nothing];
        let keys: [(&str, Option<usize>, &[StartWord]); 16] = [
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
            ("queue_delete", place(self.queue_delete.as_ref()), outside),
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

    pub(super) fn checked(self, folder: &Path) -> Result<Description, Mistake> {
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
                let tables = tables::Tables {
                    listen: self.listen.map(Spanned::into_inner),
                    database: self.database.map(Spanned::into_inner),
                    accounts: self.accounts.map(Spanned::into_inner),
                    maildirs: self.maildirs.map(Spanned::into_inner),
                    sink: self.sink.map(Spanned::into_inner),
                    clients: self.clients.map(Spanned::into_inner),
                    queue: self.queue.map(Spanned::into_inner),
                    queue_delete: self.queue_delete,
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
