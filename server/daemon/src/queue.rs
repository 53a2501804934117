//! The queue: a message on disk from its 250 until nothing is left to do for any recipient.
//!
//! A message whose only recipient has a Maildir here is delivered before its 250 (`delivery::at_once`)
//! and comes into the queue only where that does not succeed.
//!
//! It promises: when `commit` returns, the message survives a power cut (file and folder were
//! flushed; several messages may share one flush). What is on disk when the server starts is
//! taken up again. Every recipient ends as delivered, bounced or discarded, each once; after a
//! crash in the moment between a delivery and its record, that one delivery may be repeated.
//!
//! | folder of queue_directory | what is in it |
//! |---|---|
//! | `active/` | one file a message, named by its queue id (`file`) |
//! | `hold/` | messages that an administrator took out of delivery (`tool`) |
//! | `corrupt/` | files that are not what was written; never deleted, never delivered |

pub mod file;
pub mod flush;
pub mod schedule;
pub mod tool;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use rustix::fs::Access;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use vmaild_protocol::session::Notify;
use vmaild_protocol::{Envelope, Mailbox, Recipient as To, ReversePath};

use self::file::{Recipient, Record, State};
use self::flush::Flusher;
use self::schedule::{Active, Schedule};
use crate::config::Params;
use crate::delivery::{self, Delivery};
use crate::message::{self, Filter};
use crate::tls::Connector;
use crate::{aliases, durable, log};

/// Ten or so upper-case hexadecimal digits, as in `queued as 64A5C0B1F2E37`.
pub type QueueId = String;

/// A message up to this size waits in memory for its end; a longer one in an unnamed file.
const MEMORY_LIMIT: usize = 256 * 1024;

/// What the connection knows about where a message came from, for Received and the log.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// TLS version and cipher, for the Received header (postconf(5) smtpd_tls_received_header).
    pub tls: Option<String>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// No space, no permission, ...: 452 4.3.1.
    #[error("{0}")]
    Storage(#[from] io::Error),
    /// Aliases could not be expanded: 451 4.3.0 or 451 4.6.0.
    #[error(transparent)]
    Aliases(#[from] aliases::Unexpanded),
    /// Too many Received headers: 554 5.4.0 (postconf(5) hopcount_limit).
    #[error("too many hops")]
    TooManyHops,
}

/// What the queue and its deliveries need from the rest of the server.
#[derive(Debug, Clone)]
pub struct Services {
    /// The configuration; a reload counts from the next message.
    pub params: watch::Receiver<Arc<Params>>,
    /// `--resolver`: ask this name server instead of those of /etc/resolv.conf.
    pub resolver: Option<SocketAddr>,
    /// Puts TLS on connections to next hops; `None`: they stay in clear.
    pub tls: Option<Connector>,
    /// Addresses at which this server listens: mail for them would loop (5.4.6).
    pub listening: Vec<SocketAddr>,
}

/// The queue of a running server.
#[derive(Debug)]
pub struct Queue {
    params: watch::Receiver<Arc<Params>>,
    directory: PathBuf,
    /// Flushes `active/`.
    flusher: Flusher,
    last_id: AtomicU64,
    pub(crate) delivery: Delivery,
    schedule: Schedule,
}

/// The text of a message in the queue.
#[derive(Debug, Clone)]
pub enum Content {
    /// A small message that has just come.
    Memory(Arc<[u8]>),
    /// In a file, from an offset on.
    File {
        /// The file.
        file: Arc<File>,
        /// Where the content begins.
        at: u64,
        /// Its octets.
        size: u64,
    },
}

impl Content {
    /// Reads it from its beginning; several may do so at once.
    pub fn reader(&self) -> Box<dyn Read + Send> {
        match self.clone() {
            Self::Memory(octets) => Box::new(Cursor::new(octets)),
            Self::File { file, at, size } => Box::new(FileReader { file, at }.take(size)),
        }
    }
}

/// Reads a file from `at` on; that it ends is an error.
struct FileReader {
    file: Arc<File>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        if count == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// A message that is being received; dropped before `commit`, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    queue: Arc<Queue>,
    id: QueueId,
    arrived: u64,
    filter: Filter,
    /// Stored content that is not yet in `spilled`.
    buffer: Vec<u8>,
    /// Content of a long message, in a file without a name.
    spilled: Option<Arc<File>>,
    /// Octets in `spilled`.
    spilled_size: u64,
}

impl Queue {
    /// Opens queue_directory (made where it is missing), takes up what is in it and begins to
    /// deliver. Must be called inside the tokio runtime.
    pub async fn open(services: Services) -> io::Result<Arc<Self>> {
        let directory = services.params.borrow().queue_directory.clone();
        let (directory, folder) = spawn_blocking(move || {
            for name in ["active", "hold", "corrupt"] {
                let path = directory.join(name);
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)
                    .map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                    })?;
            }
            let folder = File::open(directory.join("active"))?;
            // What is flushed in a folder that a power cut forgets is lost with it.
            durable::flush(&File::open(&directory)?)?;
            Ok::<_, io::Error>((directory, folder))
        })
        .await??;
        let flusher = Flusher::start(folder)?;
        let queue = Arc::new(Self {
            params: services.params.clone(),
            directory,
            flusher,
            last_id: AtomicU64::new(0),
            delivery: Delivery::new(&services),
            schedule: Schedule::default(),
        });
        schedule::take_up(&queue).await?;
        tokio::spawn(schedule::run(queue.clone()));
        Ok(queue)
    }

    /// Whether there is room for a message of `size` octets (postconf(5) queue_minfree).
    pub fn room(&self, size: u64) -> Result<(), Untaken> {
        let params = self.params();
        let message = size.max(params.message_size_limit).saturating_mul(3) / 2;
        let needed = params.queue_minfree.max(message);
        let disk = rustix::fs::statvfs(&self.directory).map_err(io::Error::from)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) > needed {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        }
    }

    /// Begins a message: assigns its queue id.
    pub fn begin(self: &Arc<Self>, origin: &Origin, envelope: &Envelope) -> Incoming {
        let params = self.params();
        let (id, arrived) = self.next_id();
        let host = (params.myhostname.as_str(), params.mail_name.as_str());
        let when = zoned(arrived);
        let trace = message::received(host, origin, envelope, &id, &when);
        Incoming {
            queue: self.clone(),
            id,
            arrived,
            filter: Filter::default(),
            buffer: trace.into_bytes(),
            spilled: None,
            spilled_size: 0,
        }
    }

    /// The configuration as it is now.
    pub(crate) fn params(&self) -> Arc<Params> {
        self.params.borrow().clone()
    }

    /// The file of a message in `active/`.
    fn path(&self, id: &str) -> PathBuf {
        self.directory.join("active").join(id)
    }

    /// A new queue id and the time it stands for: microseconds since 1970, in hexadecimal. Two
    /// messages never share one, not even across restarts (ids on disk count as given).
    fn next_id(&self) -> (QueueId, u64) {
        let now = u64::try_from(file::now().as_micros()).unwrap_or(u64::MAX);
        let next = |last: u64| now.max(last.saturating_add(1));
        let last = self
            .last_id
            .update(Ordering::Relaxed, Ordering::Relaxed, next);
        (format!("{:X}", next(last)), now)
    }

    /// Makes a message durable: delivered already, or in the queue.
    async fn store(self: &Arc<Self>, record: Record, content: Content) -> io::Result<()> {
        // Where the queue could not take it, nothing is taken: the client hears the same of all mail.
        let active = self.directory.join("active");
        rustix::fs::access(&active, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from)?;
        if delivery::at_once(&self.delivery, &self.params(), &record, &content).await {
            log!("qmgr", "{}: removed", record.id);
            return Ok(());
        }
        // From now on the scheduler does not take it for a file that somebody put there.
        self.schedule.know(&record.id);
        match self.write(&record, &content).await {
            Ok(file) => {
                self.start(Active::new(record, content, file));
                Ok(())
            }
            Err(error) => {
                // The client will hear that it was not taken, so it must not come back. If even
                // this fails, and it is not whole, the next start removes it.
                let path = self.path(&record.id);
                let _ = spawn_blocking(move || fs::remove_file(path)).await;
                self.schedule.forget(&record.id);
                Err(error)
            }
        }
    }

    /// Writes a message's file and waits until it is on disk.
    async fn write(&self, record: &Record, content: &Content) -> io::Result<Arc<File>> {
        let (path, head) = (self.path(&record.id), record.head());
        let (mut content, flusher) = (content.reader(), self.flusher.clone());
        let (file, named) = spawn_blocking(move || {
            let file = file::write(&path, &head, &mut content)?;
            // Name and content at the same time: so both wait for the same commit.
            let named = flusher.ask();
            durable::flush(&file)?;
            Ok::<_, io::Error>((Arc::new(file), named))
        })
        .await??;
        named.await?;
        Ok(file)
    }

    /// Puts a message that the server itself wrote into the queue; it is addressed through aliases
    /// like any other. Its text needs no filter and has no trace header yet.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        to: &Mailbox,
        smtputf8: bool,
        text: impl FnOnce(&str, &Zoned) -> Vec<u8>,
    ) -> Result<QueueId, Untaken> {
        let params = self.params();
        let (id, arrived) = self.next_id();
        let when = zoned(arrived);
        let host = (params.myhostname.as_str(), params.mail_name.as_str());
        let mut content = message::received_here(host, &id, &when).into_bytes();
        content.extend_from_slice(&text(&id, &when));
        let to = To {
            mailbox: to.clone(),
            ..To::default()
        };
        let recipients = expand_all(&params, &id, &[to]).await?;
        let record = Record {
            id: id.clone(),
            arrived,
            sender: ReversePath::Null,
            eight_bit: !content.is_ascii(),
            smtputf8: smtputf8 && !content.is_ascii(),
            size: content.len() as u64,
            recipients,
            ..Record::default()
        };
        self.store(record, Content::Memory(content.into())).await?;
        Ok(id)
    }
}

impl Incoming {
    /// The queue id, for the log and for `queued as`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends content (lines ended by CRLF, cut anywhere).
    pub async fn write(&mut self, content: &[u8]) -> Result<(), Untaken> {
        self.filter.write(content, &mut self.buffer);
        if self.buffer.len() > MEMORY_LIMIT {
            self.spill().await?;
        }
        Ok(())
    }

    /// Moves what is in memory to the unnamed file.
    async fn spill(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.spilled_size += buffer.len() as u64;
        let spilled = self.spilled.take();
        let directory = self.queue.directory.clone();
        let file = spawn_blocking(move || {
            // Without a name it is gone by itself when it is closed, however that comes.
            let file = match spilled {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(directory)?),
            };
            (&*file).write_all(&buffer)?;
            Ok::<_, io::Error>(file)
        })
        .await??;
        self.spilled = Some(file);
        Ok(())
    }

    /// Expands aliases, makes the message durable and hands it to delivery. Only now may the
    /// client hear 250.
    pub async fn commit(mut self, envelope: &Envelope) -> Result<QueueId, Untaken> {
        let params = self.queue.params();
        self.filter.end(&mut self.buffer);
        // The server's own Received counts (oracle D12).
        if self.filter.hops + 1 >= params.hopcount_limit {
            return Err(Untaken::TooManyHops);
        }
        let recipients = expand_all(&params, &self.id, &envelope.recipients).await?;
        let message_id = match self.filter.message_id.as_str() {
            "" => "<>",
            id => id,
        };
        log!("cleanup", "{}: message-id={message_id}", self.id);
        let mut record = Record {
            id: self.id.clone(),
            arrived: self.arrived,
            sender: envelope.reverse_path.clone(),
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            // What counts is what is in it: clients forget to declare it.
            eight_bit: self.filter.eight_bit,
            smtputf8: envelope.smtputf8,
            size: self.spilled_size + self.buffer.len() as u64,
            recipients,
            ..Record::default()
        };
        if let ReversePath::Mailbox(sender) = &mut record.sender {
            *sender = aliases::qualified(&params, sender.clone());
        }
        if self.spilled.is_some() {
            self.spill().await?;
        }
        let content = match self.spilled {
            None => Content::Memory(self.buffer.into()),
            Some(file) => Content::File {
                file,
                at: 0,
                size: record.size,
            },
        };
        self.queue.store(record, content).await?;
        Ok(self.id)
    }
}

/// The final recipients of those of an envelope.
async fn expand_all(params: &Params, id: &str, of: &[To]) -> Result<Vec<Recipient>, Untaken> {
    let (mut recipients, mut seen) = (Vec::new(), HashSet::new());
    for recipient in of {
        let expanded = aliases::expand(params, &recipient.mailbox)
            .await
            .inspect_err(|error| {
                log!("cleanup", "{id}: warning: {error} -- message not accepted");
            })?;
        let mut notify = recipient.notify;
        let success = notify.is_some_and(|notify| notify.success);
        let entry = |mailbox, notify, expanded| Recipient {
            mailbox,
            original: recipient.mailbox.clone(),
            notify,
            orcpt: recipient.orcpt.clone(),
            expanded,
            state: State::New,
        };
        if success && expanded.len() > 1 {
            // Many cannot each report success: the sender hears once that it was expanded
            // (RFC 3461 §5.2.7.3), and of what fails later.
            let only_success = Notify {
                success: true,
                ..Notify::default()
            };
            recipients.push(entry(recipient.mailbox.clone(), Some(only_success), true));
            notify = notify.map(|notify| Notify {
                success: false,
                ..notify
            });
        }
        for mailbox in expanded {
            if seen.insert((mailbox.key(), recipient.mailbox.key())) {
                recipients.push(entry(mailbox, notify, false));
            }
        }
    }
    Ok(recipients)
}

/// A time of the queue, in the server's time zone.
pub fn zoned(micros: u64) -> Zoned {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros)
        .unwrap_or_default()
        .to_zoned(TimeZone::system())
}
