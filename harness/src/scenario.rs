//! A scenario as read from its file: header, clauses, steps; every part knows its place.
//!
//! `scenarios/README.md` is the language; `parse` makes this from text, `print` makes text from it,
//! `error` holds every mistake that a file can contain.

pub mod error;
pub(crate) mod lines;
pub mod load;
pub mod nearest;
pub mod parse;
pub(crate) mod piece;
pub mod print;
pub mod refs;
pub mod text;
pub mod words;

pub use error::Mistake;
pub use load::{builtin, load};
pub use parse::parse;
pub use print::format;
pub use text::{expand, unescape};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Octets of the file, for messages that underline what they speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Octets before it.
    pub start: usize,
    /// Octets in it.
    pub len: usize,
}

/// Text that may contain `$names`; expanded when the case runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As written.
    pub raw: String,
    /// Where.
    pub span: Span,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Path relative to the scenarios folder, `tutorial/relay.case`.
    pub path: PathBuf,
    /// The whole text.
    pub source: Arc<str>,
    /// `title`
    pub title: String,
    /// Everything before the first step or clause.
    pub header: Header,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The header lines.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// `each`: name and values.
    pub each: Vec<(String, Vec<String>)>,
    /// `cases`: names of the columns, rows of cells.
    pub cases: Option<(Vec<String>, Vec<Vec<String>>)>,
    /// `from`
    pub from: Vantage,
    /// `entry`
    pub entry: Entry,
    /// `start`
    pub start: Start,
    /// `names tutorial`
    pub literal_names: bool,
    /// `needs`
    pub needs: Vec<String>,
    /// `offers KEYWORD` (true), `offers no KEYWORD` (false)
    pub offers: Vec<(bool, Text)>,
    /// `profile`
    pub profile: Option<String>,
    /// `main.cf NAME = VALUE`
    pub main_cf: Vec<(String, Text)>,
    /// `master.cf SERVICE NAME = VALUE`
    pub master_cf: Vec<(String, String, Text)>,
    /// `slow`
    pub slow: bool,
}

/// Where the client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vantage {
    /// Outside mynetworks.
    #[default]
    Stranger,
    /// Inside mynetworks.
    Neighbour,
}

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Entry {
    /// Port 25 in clear.
    #[default]
    Plain,
    /// Port 25, then STARTTLS.
    StartTls,
    /// Port 465, TLS from the first octet.
    Smtps,
}

/// How the client shakes hands (TLS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Handshake {
    /// TLS 1.3 or 1.2, with the server's name in the first message (RFC 6066 §3).
    #[default]
    Usual,
    /// TLS 1.2 and no other.
    Version12,
    /// TLS 1.3 and no other.
    Version13,
    /// Without the server's name.
    Unnamed,
}

/// How far the runner goes before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// No connection.
    Nothing,
    /// TCP, and TLS on 465.
    Connected,
    /// Greeting, EHLO, STARTTLS and EHLO where the entry says so.
    #[default]
    Greeted,
    /// And AUTH PLAIN with `mypassword`.
    Authenticated(Text),
}

/// A step with its place.
#[derive(Debug, Clone)]
pub struct Step {
    /// The whole line or block.
    pub span: Span,
    /// What it is.
    pub kind: StepKind,
}

/// `any messages`: whatever came
pub const ANY: usize = usize::MAX;

/// What a line can be.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// Begins a clause: later expectations are its.
    Clause(Clause),
    /// `C:`
    Client(Text),
    /// `bytes`: segments of octets, names and escapes not yet expanded.
    Bytes(Vec<Text>),
    /// `message`
    Message(Message),
    /// `S:` and `S=`
    Reply(Reply),
    /// `connect`
    Connect {
        /// `from`
        from: Option<Vantage>,
        /// `entry`
        entry: Option<Entry>,
        /// `clear`: no TLS on 465 either
        clear: bool,
    },
    /// `tls`
    Tls(Handshake),
    /// `close`, `close at once`, `close reset`, `close half`
    Close(Closing),
    /// `mailer ENTRY [ADDRESS PASSWORD]`
    Mailer {
        /// The way in.
        entry: Entry,
        /// User and password.
        login: Option<(Text, Text)>,
        /// `from <A>`, without its brackets
        from: Text,
        /// `to <A>`, without their brackets
        to: Vec<Text>,
    },
    /// `mailer accepted` (true) or `mailer refused` (false)
    MailerResult(bool),
    /// `crowd N sessions M messages <ADDRESS>`
    Crowd {
        /// How many sessions.
        sessions: u32,
        /// How many messages each.
        messages: u32,
        /// To whom, without its brackets.
        to: Text,
    },
    /// `sql`
    Sql(Text),
    /// `database`
    Database(DatabaseFault),
    /// `sink answers VERB …`
    SinkAnswers {
        /// CONNECT, EHLO, MAIL, RCPT, DATA or DOT, or the axis that says which.
        verb: Text,
        /// Only for this recipient.
        recipient: Option<Text>,
        /// The reply, or as usual.
        reply: Option<Text>,
    },
    /// `sink refuses` (false) or `sink accepts` (true)
    SinkListens(bool),
    /// `target restart|kill|start`
    Target(TargetAction),
    /// `sink heard TEXT`
    SinkHeard(Text, Option<Duration>),
    /// `disk mailboxes full` …
    Disk(Disk, bool),
    /// `maildir ADDRESS empty-out` …
    Mailbox(Text, MailboxAction),
    /// `repeat N`
    Repeat(u32, Vec<Step>),
    /// `maildir ADDRESS …`
    Maildir {
        /// Whose.
        address: Text,
        /// How many of the case's messages; [`ANY`]: whatever came.
        count: usize,
        /// What holds of each.
        details: Vec<Detail>,
        /// The limit of waiting.
        within: Option<Duration>,
    },
    /// `sink DOMAIN …`
    Sink {
        /// For which recipients' domain.
        domain: Text,
        /// How many; [`ANY`]: whatever came.
        count: usize,
        /// What holds of each.
        details: Vec<Detail>,
        /// The limit of waiting.
        within: Option<Duration>,
    },
    /// `queue …`
    Queue(usize, Option<Duration>),
    /// `rows N SELECT …`
    Rows(usize, Text),
    /// `log has TEXT` (true), `log lacks TEXT` (false)
    Log(bool, Text, Option<Duration>),
}

/// `LEVEL id references claim`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// How binding.
    pub level: Level,
    /// The register's id.
    pub id: String,
    /// `rfc5321#4.5.2` …
    pub references: Vec<String>,
    /// In words.
    pub claim: String,
    /// Where.
    pub span: Span,
}

/// How binding a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the words of RFC 2119")]
pub enum Level {
    Must,
    MustNot,
    Should,
    ShouldNot,
    May,
    /// Broken by a crash, a hang, loss or disclosure; otherwise noted.
    Robust,
}

/// `message`
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// `N bytes`: padded to this size.
    pub size: Option<usize>,
    /// `header`
    pub headers: Vec<Text>,
    /// `line`; none: a default body.
    pub lines: Vec<Text>,
    /// `unfinished`
    pub unfinished: bool,
}

/// `S:` or `S=`
#[derive(Debug, Clone)]
pub struct Reply {
    /// `S=`
    pub again: bool,
    /// One of these.
    pub patterns: Vec<ReplyPattern>,
    /// `has`, `lacks`
    pub details: Vec<Detail>,
    /// The limit of waiting.
    pub within: Option<Duration>,
}

/// One alternative of an expected reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPattern {
    /// Three places, each a digit or any (`None`), and an enhanced code's three places.
    Code {
        /// `2`, `5`, `0`
        digits: [Option<u8>; 3],
        /// `5.7.1`
        enhanced: Option<[Option<u16>; 3]>,
    },
    /// `closed`
    Closed,
    /// `closed in order`: FIN, and within TLS close_notify before it.
    ClosedInOrder,
    /// `alert`: a TLS alert in place of a reply (RFC 8446 §6).
    Alert,
    /// `nothing`
    Nothing,
}

/// `word text` below a reply or a probe; which words are allowed where, the parser knows.
#[derive(Debug, Clone)]
pub struct Detail {
    /// `has`, `lacks`, `from`, `mode` …
    pub word: String,
    /// The rest of the line.
    pub text: Text,
    /// The whole line.
    pub span: Span,
}

/// `database …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the language")]
pub enum DatabaseFault {
    Stop,
    Start,
    Pause,
    Resume,
    Slow,
    Cut,
}

/// `close …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// In order: close_notify within TLS, then FIN.
    Whole,
    /// FIN, and nothing before it.
    AtOnce,
    /// RST.
    Reset,
    /// FIN, and what the server still says is read.
    Half,
}

/// `disk …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the language")]
pub enum Disk {
    Mailboxes,
    Queue,
}

/// What is done to a mailbox behind the target's back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxAction {
    /// `empty-out`: its owner reads and deletes everything.
    EmptyOut,
    /// `throw-out`: the same, by somebody who knows nothing of maildirsize.
    ThrowOut,
    /// `shut`: nobody may write into it.
    Shut,
    /// `open`: that is over.
    Open,
    /// `measured`: how many octets lie there is `$measured` from now on.
    Measured,
    /// `watched`: what happens in it from now on is seen.
    Watched,
    /// `put PATH N bytes`: its owner keeps this file there.
    Put(Text, usize),
}

/// `target …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the language")]
pub enum TargetAction {
    Restart,
    Kill,
    Start,
}
