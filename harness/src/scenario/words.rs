//! The words of the language, each list in one place: the parser, the suggestions in its messages
//! and the test that compares the README with the parser all read these.

use super::{Closing, DatabaseFault, Disk, Entry, Handshake, Level, TargetAction, Vantage};

/// The words that begin a header line.
pub const HEADERS: &[&str] = &[
    "title",
    "each",
    "cases",
    "from",
    "entry",
    "start",
    "names",
    "needs",
    "offers",
    "profile",
    "main.cf",
    "master.cf",
    "slow",
];

/// The words that begin a step: wire, world, probes.
pub const STEPS: &[&str] = &[
    "C:", "bytes", "message", "crowd", "S:", "S=", "connect", "tls", "close", "mailer", "sql",
    "database", "disk", "sink", "target", "repeat", "maildir", "queue", "rows", "log",
];

/// The levels, as they are written.
pub const LEVELS: &[&str] = &["MUST", "MUST-NOT", "SHOULD", "SHOULD-NOT", "MAY", "ROBUST"];

/// What `vmailspec new` leaves to an author; no file that holds it is good.
pub const UNWRITTEN: &str = "write this";

/// What `needs` can name.
pub const CAPABILITIES: &[&str] = &[
    "database",
    "disk",
    "faults",
    "gate",
    "log",
    "main-cf",
    "maildir",
    "owner",
    "own-target",
    "queue",
    "quota",
    "sink",
];

/// What `profile` can name.
pub const PROFILES: &[&str] = &["postfix", "tutorial", "vda"];

/// What `start` can name.
pub const STARTS: &[&str] = &["nothing", "connected", "greeted", "authenticated"];

/// What `sink answers` can name.
pub const VERBS: &[&str] = &["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"];

/// Names that every case has.
pub const NAMES: &[&str] = &[
    "domain",
    "transport",
    "sender",
    "elsewhere",
    "hostname",
    "sinkaddress",
    "sinkport",
    "port",
    "measured",
    "token",
];

/// `$word(…)`
pub const FUNCTIONS: &[&str] = &["base64", "plain", "times"];

/// The lines below `S:`.
pub const REPLY_DETAILS: &[&str] = &["has", "lacks", "says", "form"];

/// What `form` can name, below `S:`.
pub const FORMS: &[&str] = &["hello", "keywords", "unique", "codes", "no-codes"];

/// The lines below `message`.
pub const MESSAGE_DETAILS: &[&str] = &["header", "line", "unfinished"];

/// The lines below `mailer`.
pub const MAILER_DETAILS: &[&str] = &["from", "to"];

/// The lines below `maildir ADDRESS N messages`.
pub const MAILDIR_DETAILS: &[&str] = &[
    "has",
    "lacks",
    "line",
    "first",
    "header",
    "date",
    "path",
    "mode",
    "foldermode",
    "owner",
    "name",
    "plainname",
    "dated",
    "lf",
    "last",
    "maildirsize",
    "folders",
    "tidy",
    "whole",
    "throughtmp",
    "width",
];

/// The lines below `sink DOMAIN N messages`.
pub const SINK_DETAILS: &[&str] = &[
    "from",
    "to",
    "has",
    "lacks",
    "line",
    "header",
    "date",
    "status",
    "part",
    "parameter",
    "noparameter",
    "crlf",
    "width",
];

/// A word of the language and what it means.
pub(crate) type Meaning<T> = (&'static str, T);

/// `from …`
pub(crate) const VANTAGES: &[Meaning<Vantage>] = &[
    ("stranger", Vantage::Stranger),
    ("neighbour", Vantage::Neighbour),
];

/// `entry …`
pub(crate) const ENTRIES: &[Meaning<Entry>] = &[
    ("25", Entry::Plain),
    ("25+starttls", Entry::StartTls),
    ("465", Entry::Smtps),
];

/// `tls …`
pub(crate) const HANDSHAKES: &[Meaning<Handshake>] = &[
    ("1.2", Handshake::Version12),
    ("1.3", Handshake::Version13),
    ("unnamed", Handshake::Unnamed),
];

/// `database …`
pub(crate) const DATABASE: &[Meaning<DatabaseFault>] = &[
    ("stop", DatabaseFault::Stop),
    ("start", DatabaseFault::Start),
    ("pause", DatabaseFault::Pause),
    ("resume", DatabaseFault::Resume),
    ("slow", DatabaseFault::Slow),
    ("cut", DatabaseFault::Cut),
];

/// `close …`
pub(crate) const CLOSING: &[Meaning<Closing>] =
    &[("reset", Closing::Reset), ("half", Closing::Half)];

/// `disk …`
pub(crate) const DISKS: &[Meaning<Disk>] =
    &[("mailboxes", Disk::Mailboxes), ("queue", Disk::Queue)];

/// `target …`
pub(crate) const TARGET: &[Meaning<TargetAction>] = &[
    ("restart", TargetAction::Restart),
    ("kill", TargetAction::Kill),
    ("start", TargetAction::Start),
];

/// `LEVEL …`
pub(crate) const LEVEL_MEANINGS: &[Meaning<Level>] = &[
    ("MUST", Level::Must),
    ("MUST-NOT", Level::MustNot),
    ("SHOULD", Level::Should),
    ("SHOULD-NOT", Level::ShouldNot),
    ("MAY", Level::May),
    ("ROBUST", Level::Robust),
];

/// What `word` means, if it is one of these.
pub(crate) fn meaning<T: Copy>(word: &str, table: &[Meaning<T>]) -> Option<T> {
    table
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, meaning)| *meaning)
}

/// How a meaning is written.
fn written<T: Copy + PartialEq>(meaning: T, table: &[Meaning<T>]) -> &'static str {
    table
        .iter()
        .find(|(_, known)| *known == meaning)
        .map_or("", |(word, _)| word)
}

impl Level {
    /// As it is written in scenarios: `MUST-NOT`.
    #[must_use]
    pub fn word(self) -> &'static str {
        written(self, LEVEL_MEANINGS)
    }
}

impl Entry {
    /// As it is written in scenarios: `25+starttls`.
    #[must_use]
    pub fn word(self) -> &'static str {
        written(self, ENTRIES)
    }

    /// From the word of scenarios.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meaning(word, ENTRIES)
    }
}

impl Vantage {
    /// As it is written in scenarios: `stranger`.
    #[must_use]
    pub fn word(self) -> &'static str {
        written(self, VANTAGES)
    }

    /// From the word of scenarios.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meaning(word, VANTAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::{LEVEL_MEANINGS, LEVELS};

    #[test]
    fn every_level_has_a_meaning() {
        let words: Vec<&str> = LEVEL_MEANINGS.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, LEVELS);
    }
}
