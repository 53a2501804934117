//! One message in the queue, one file: envelope, content, and what became of each recipient.
//!
//! ```text
//! vmaild queue file 1
//! id: 64A5C0B1F2E37
//! arrived: 1795353299123456
//! from: <sender@mydomain.com>
//! to: <address@mydomain.com>
//! original: <myforward@mydomain.com>
//! notify: FAILURE
//! content: 338
//!
//! Received: from ...                       the 338 octets, LF line ends
//!
//! hello
//! end: 5c1f0e6a9b3d2748                    FNV-1a of the content
//! 1795353300  0  put-off  4.4.1  none  -   connect to ...: Connection refused   ...
//! ```
//!
//! The part up to `end` is written once and flushed before the client hears 250; a file without it
//! is what a crash left of a message that nobody was promised. After it only whole lines are
//! appended (fields between tabs), so a line that a crash cut off is simply not counted.
//!
//! `original`, `notify`, `orcpt` and `expanded` belong to the `to` above them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vmaild_protocol::session::{Notify, Ret};
use vmaild_protocol::{Mailbox, ReversePath, command};

use super::schedule::Active;
use super::{Content, QueueId};
use crate::aliases;

const FIRST_LINE: &str = "vmaild queue file 1";

/// What is known about a message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its queue id, which is also the name of its file.
    pub id: QueueId,
    /// When it arrived, in microseconds since 1970.
    pub arrived: u64,
    /// Who hears of failures.
    pub sender: ReversePath,
    /// RET= (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// ENVID= (RFC 3461 §4.4), in xtext.
    pub envid: Option<String>,
    /// BODY=8BITMIME was given, or the server's own text needs it.
    pub eight_bit: bool,
    /// SMTPUTF8 was given.
    pub smtputf8: bool,
    /// Octets of the content.
    pub size: u64,
    /// The final recipients, after alias expansion.
    pub recipients: Vec<Recipient>,
    /// The sender was told that it takes longer.
    pub warned: bool,
}

/// A final recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipient {
    /// Where the mail goes.
    pub mailbox: Mailbox,
    /// The recipient of the envelope from which it was expanded.
    pub original: Mailbox,
    /// NOTIFY= (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// ORCPT= (RFC 3461 §4.2), as sent.
    pub orcpt: Option<String>,
    /// Not to be delivered: it became several, of which the sender wants to hear (RFC 3461 §5.2.7.3).
    pub expanded: bool,
    /// What has become of it.
    pub state: State,
}

/// What has become of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// It has not been tried.
    #[default]
    New,
    /// It was tried and is to be tried again.
    PutOff(Reason),
    /// It failed, and the sender has not been told yet.
    Failed(Reason),
    /// It was delivered, and the sender, who wants to hear of it, has not been told yet.
    Sent(Reason),
    /// Nothing is left to do.
    Done,
}

/// Why, in the words of the log and of notices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason {
    /// `5.1.1` (RFC 3463).
    pub status: String,
    /// Who said so: `virtual`, `mx.example[192.0.2.1]:25`, `none`.
    pub relay: String,
    /// The next hop's name, where it was the next hop that said so (RFC 3464 §2.3.5).
    pub mta: Option<String>,
    /// The next hop's reply; empty where it was not a next hop that said so (RFC 3464 §2.3.6).
    pub reply: String,
    /// The whole of it, `host mx[...] said: 550 ... (in reply to RCPT TO command)`.
    pub text: String,
}

/// The time since 1970; none where the clock stands before.
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Recipient {
    /// Whether there is something left to do.
    pub fn is_open(&self) -> bool {
        self.state != State::Done
    }

    /// Whether it is to be delivered, now or later.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::New | State::PutOff(_))
    }
}

impl Record {
    /// How long it has been here.
    pub fn age(&self) -> Duration {
        now().saturating_sub(Duration::from_micros(self.arrived))
    }

    /// Whether there is something left to do for anybody.
    pub fn is_open(&self) -> bool {
        self.recipients.iter().any(Recipient::is_open)
    }

    /// The part of the file before the content.
    pub fn head(&self) -> String {
        let yes = |on: bool, word: &str| on.then(|| word.to_owned());
        let ret = |ret| match ret {
            Ret::Full => "FULL".to_owned(),
            Ret::Headers => "HDRS".to_owned(),
        };
        let mut fields = vec![
            ("id", Some(self.id.clone())),
            ("arrived", Some(self.arrived.to_string())),
            ("from", Some(self.sender.to_string())),
            ("ret", self.ret.map(ret)),
            ("envid", self.envid.clone()),
            ("body", yes(self.eight_bit, "8BITMIME")),
            ("smtputf8", yes(self.smtputf8, "yes")),
        ];
        for recipient in &self.recipients {
            fields.extend([
                ("to", Some(format!("<{}>", recipient.mailbox))),
                ("original", Some(format!("<{}>", recipient.original))),
                ("notify", recipient.notify.map(notify_text)),
                ("orcpt", recipient.orcpt.clone()),
                ("expanded", yes(recipient.expanded, "yes")),
            ]);
        }
        fields.push(("content", Some(self.size.to_string())));
        let lines = fields.into_iter().filter_map(|(name, value)| {
            // What came in commands holds no line end; nothing may begin a line of its own here.
            let value = value?.replace(char::is_control, "?");
            Some(format!("{name}: {value}\n"))
        });
        format!("{FIRST_LINE}\n{}\n", lines.collect::<String>())
    }

    /// The line that says that recipient `index` is now in `state`.
    pub fn line(index: usize, state: &State) -> String {
        let (word, reason) = match state {
            State::New => ("new", None),
            State::PutOff(reason) => ("put-off", Some(reason)),
            State::Failed(reason) => ("failed", Some(reason)),
            State::Sent(reason) => ("sent", Some(reason)),
            State::Done => ("done", None),
        };
        let mut line = format!("{}\t{index}\t{word}", now().as_secs());
        if let Some(reason) = reason {
            let mta = reason.mta.as_deref().unwrap_or("-");
            for field in [
                &reason.status,
                &reason.relay,
                mta,
                &reason.reply,
                &reason.text,
            ] {
                line.push('\t');
                line.push_str(&field.replace(char::is_control, " "));
            }
        }
        line + "\n"
    }

    /// The line that says that the sender was told of the delay.
    pub const WARNED: &str = "0\t-\twarned\n";

    /// Takes a line after `end` into account; what is not understood is not counted.
    fn apply(&mut self, line: &str) {
        let mut fields = line.split('\t').skip(1);
        let (index, word) = (fields.next(), fields.next());
        let mut field = || fields.next().unwrap_or_default().to_owned();
        let mut reason = || Reason {
            status: field(),
            relay: field(),
            mta: Some(field()).filter(|mta| mta != "-"),
            reply: field(),
            text: field(),
        };
        let state = match word {
            Some("put-off") => State::PutOff(reason()),
            Some("failed") => State::Failed(reason()),
            Some("sent") => State::Sent(reason()),
            Some("done") => State::Done,
            Some("warned") => {
                self.warned = true;
                return;
            }
            _ => return,
        };
        let index = index.and_then(|index| index.parse::<usize>().ok());
        if let Some(recipient) = index.and_then(|index| self.recipients.get_mut(index)) {
            recipient.state = state;
        }
    }
}

/// Why a file is not a whole message.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its end is missing: a crash came before the client was told 250.
    #[error("the file ends before its message does")]
    Partial,
    /// It is whole, but not what was written.
    #[error("{0}")]
    Damaged(&'static str),
}

/// Reads a queue file. `verify` is for a file that nobody else has open: it reads the content too,
/// compares it with what was written, and ends a last line that a crash cut off.
pub fn read(path: &Path, verify: bool) -> Result<Active, Unreadable> {
    read_parts(path, verify).map_err(|error| match error {
        // Not cut off, then: somebody was promised it, and `content` says the wrong number.
        Unreadable::Partial if has_end(path) => {
            Unreadable::Damaged("its end is not where its envelope says")
        }
        error => error,
    })
}

/// Whether a line like the one that ends the content is anywhere in a file.
fn has_end(path: &Path) -> bool {
    let length = end_line(NOTHING).len();
    let Ok(mut reader) = File::open(path).map(BufReader::new) else {
        return false;
    };
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if line.starts_with(b"end: ") && line.ends_with(b"\n") && line.len() == length {
            return true;
        }
        line.clear();
    }
    false
}

/// The next line, without its end.
fn next_line(reader: &mut BufReader<File>) -> Result<String, Unreadable> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Unreadable::Damaged("its envelope is not text"),
            _ => Unreadable::Io(error),
        })?;
    let line = line.strip_suffix('\n').ok_or(Unreadable::Partial)?;
    Ok(line.to_owned())
}

fn read_parts(path: &Path, verify: bool) -> Result<Active, Unreadable> {
    let file = File::options().read(true).append(true).open(path)?;
    let mut reader = BufReader::new(file);
    let first = next_line(&mut reader)?;
    if first != FIRST_LINE {
        // Blocks that were never written read as zeros.
        return Err(if first.contains('\0') {
            Unreadable::Partial
        } else {
            Unreadable::Damaged("its first line is not that of a queue file")
        });
    }
    let mut record = Record::default();
    loop {
        let line = next_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else {
            return Err(Unreadable::Damaged("a line of its envelope has no name"));
        };
        envelope_line(&mut record, name, value);
    }
    let (at, size) = (reader.stream_position()?, record.size);
    let mut sum = NOTHING;
    if verify {
        let mut content = reader.by_ref().take(size);
        loop {
            let chunk = content.fill_buf()?;
            let count = chunk.len();
            if count == 0 {
                break;
            }
            sum = hash(sum, chunk);
            content.consume(count);
        }
    } else {
        reader.seek(SeekFrom::Start(at.saturating_add(size)))?;
    }
    let end = next_line(&mut reader)?;
    if !end.starts_with("end: ") {
        return Err(Unreadable::Partial);
    }
    if verify && end != end_line(sum).trim_end() {
        return Err(Unreadable::Damaged("its content is not what was written"));
    }
    loop {
        match next_line(&mut reader) {
            Ok(line) => record.apply(&line),
            // Cut off by a crash, and ended since: those behind it count.
            Err(Unreadable::Damaged(_)) => {}
            Err(_) => break,
        }
    }
    let mut file = reader.into_inner();
    if verify {
        let end = file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact_at(&mut last, end)?;
        if last != *b"\n" {
            // The next line must not become a part of it.
            file.write_all(b"\n")?;
        }
    }
    let file = Arc::new(file);
    let content = Content::File {
        file: file.clone(),
        at,
        size,
    };
    Ok(Active::new(record, content, file))
}

/// One line of the envelope; names of later versions are not counted.
fn envelope_line(record: &mut Record, name: &str, value: &str) {
    let mailbox = || aliases::mailbox(value.strip_prefix('<')?.strip_suffix('>')?);
    match (name, record.recipients.last_mut()) {
        ("id", _) => value.clone_into(&mut record.id),
        ("arrived", _) => record.arrived = value.parse().unwrap_or_default(),
        ("from", _) => {
            record.sender = mailbox().map_or(ReversePath::Null, ReversePath::Mailbox);
        }
        ("ret", _) if value == "FULL" => record.ret = Some(Ret::Full),
        ("ret", _) => record.ret = Some(Ret::Headers),
        ("envid", _) => record.envid = Some(value.to_owned()),
        ("body", _) => record.eight_bit = true,
        ("smtputf8", _) => record.smtputf8 = true,
        ("content", _) => record.size = value.parse().unwrap_or_default(),
        ("to", _) => record.recipients.extend(mailbox().map(|mailbox| Recipient {
            original: mailbox.clone(),
            mailbox,
            ..Recipient::default()
        })),
        ("original", Some(recipient)) => {
            if let Some(mailbox) = mailbox() {
                recipient.original = mailbox;
            }
        }
        ("notify", Some(recipient)) => recipient.notify = command::notify(value),
        ("orcpt", Some(recipient)) => recipient.orcpt = Some(value.to_owned()),
        ("expanded", Some(recipient)) => recipient.expanded = true,
        _ => {}
    }
}

/// NOTIFY='s value (RFC 3461 §4.1).
pub fn notify_text(notify: Notify) -> String {
    if notify == Notify::default() {
        return "NEVER".to_owned();
    }
    let words = [
        (notify.success, "SUCCESS"),
        (notify.failure, "FAILURE"),
        (notify.delay, "DELAY"),
    ];
    let chosen = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word);
    chosen.collect::<Vec<_>>().join(",")
}

/// The sum of no content.
const NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// Takes octets into a sum. FNV-1a, 64 bits: enough to know blocks that never reached the disk.
fn hash(sum: u64, octets: &[u8]) -> u64 {
    octets.iter().fold(sum, |sum, &octet| {
        (sum ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The line after the content.
fn end_line(sum: u64) -> String {
    format!("end: {sum:016x}\n")
}

/// A new file of the queue, for the server's eyes only.
pub fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes a new queue file from its parts; one that is there is not overwritten.
pub fn write(path: &Path, head: &str, content: &mut dyn Read) -> io::Result<File> {
    let file = create(path)?;
    let mut chunk = vec![0; 64 * 1024];
    // Small messages leave in one write.
    let mut out = BufWriter::with_capacity(chunk.len(), &file);
    out.write_all(head.as_bytes())?;
    let mut sum = NOTHING;
    loop {
        let count = content.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        sum = hash(sum, &chunk[..count]);
        out.write_all(&chunk[..count])?;
    }
    out.write_all(end_line(sum).as_bytes())?;
    out.flush()?;
    drop(out);
    Ok(file)
}
