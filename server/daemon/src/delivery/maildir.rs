//! Delivery into a Maildir (virtual(8)), safe against crashes, races and what tables return.
//!
//! `tmp/` → flush → quota → `new/` → flush of the folder: a file appears in `new/` only complete,
//! and a message counts as delivered only when it would survive a power cut. Names are
//! `<sec>.V<device>I<inode>M<usec>.<host>,S=<size>`: no two files can share one. Folders are 0700,
//! files 0600.
//!
//! A path is data from a table. Only components below virtual_mailbox_base count; anything that
//! could lead elsewhere (`..`, empty or absolute components, NUL) bounces with 5.3.5 and a log line.
//! What the file system refuses is put off, never bounced; so is a symbolic link out of the base,
//! and one that is absolute: openat2(2) follows neither.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::quota::{self, NoLimit};
use super::{Parcel, Verdict};
use crate::durable;
use crate::log;
use crate::queue::Content;
use crate::queue::file::now;

/// Delivers into Maildirs.
#[derive(Debug)]
pub(crate) struct Maildirs {
    host: String,
    /// One lock a mailbox, so that parallel deliveries cannot pass its limit together.
    locks: Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>,
}

/// Numbers the files of this process in `tmp/`.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Maildirs {
    pub(crate) fn new() -> Self {
        // Dovecot's way with names that could not stand in a file's name.
        let host = log::nodename().replace('/', "\\057").replace(':', "\\072");
        Self {
            host,
            locks: Mutex::default(),
        }
    }

    /// Delivers to the mailbox that the table has at `value`.
    pub(crate) async fn deliver(&self, parcel: &Parcel, index: usize, value: &str) -> Verdict {
        match self.try_deliver(parcel, index, value).await {
            Ok(verdict) | Err(verdict) => verdict,
        }
    }

    async fn try_deliver(
        &self,
        parcel: &Parcel,
        index: usize,
        value: &str,
    ) -> Result<Verdict, Verdict> {
        let params = parcel.params.as_ref();
        let Some(recipient) = parcel.record.recipients.get(index) else {
            return Err(Verdict::put_off("4.3.0", "virtual", "no such recipient"));
        };
        let path = below(&params.virtual_mailbox_base, value).map_err(|unsafe_path| {
            let id = &parcel.record.id;
            let mailbox = &recipient.mailbox;
            log!(
                "virtual",
                "{id}: warning: mailbox path {value:?} of {mailbox}: {unsafe_path}"
            );
            match unsafe_path {
                UnsafePath::NotAMaildir => {
                    Verdict::put_off("4.3.5", "virtual", "mail system configuration error")
                }
                _ => Verdict::failed("5.3.5", "virtual", "mail system configuration error"),
            }
        })?;
        let limit =
            quota::limit(params, &recipient.mailbox)
                .await
                .map_err(|error| match error {
                    NoLimit::Failed(failed) => Verdict::lookup("virtual", &failed),
                    error @ NoLimit::NotANumber(..) => {
                        log!("virtual", "warning: {error}");
                        Verdict::put_off("4.3.5", "virtual", "mail system configuration error")
                    }
                })?;
        let head = format!(
            "Return-Path: {}\nX-Original-To: {}\nDelivered-To: {}\n",
            parcel.record.sender, recipient.original, recipient.mailbox
        );
        let (base, content) = (params.virtual_mailbox_base.clone(), parcel.content.clone());
        let (lock, host) = (self.lock(&path), self.host.clone());
        let (keep, named) = (
            params.virtual_create_maildirsize,
            params.virtual_mailbox_extended,
        );
        // Waits for the disk twice, on one thread, beside others that do: where the file system has
        // a journal, it commits them together.
        let (size, fits) = blocking(move || {
            let draft = Draft::write(&base, &path, head, &content)?;
            let size = draft.size;
            let flushed = durable::flush(&draft.file);
            flushed.map_err(|error| refused("flush", &draft.path, &error))?;
            let turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(limit) = limit {
                let failed = |error| refused("count", &path, &error);
                let fits = quota::fits(&path, limit, size, keep).map_err(failed)?;
                if !fits {
                    return Ok((size, false));
                }
            }
            let folder = draft.finish(&path, &host, named)?;
            quota::add(&path, size);
            drop(turn);
            // It is in `new`: should this fail, a second copy is the lesser evil.
            let flushed = durable::flush(&folder);
            flushed.map_err(|error| refused("flush", Path::new("new"), &error))?;
            Ok((size, true))
        })
        .await?;
        if !fits {
            let text = format!(
                "maildir delivery failed: {}",
                params.virtual_maildir_limit_message
            );
            // Alone too large: waiting will not help.
            let never = params.virtual_overquota_bounce || limit.is_some_and(|limit| size > limit);
            return Ok(if never {
                Verdict::failed("5.2.2", "virtual", text)
            } else {
                Verdict::put_off("4.2.2", "virtual", text)
            });
        }
        Ok(Verdict::sent("virtual", "delivered to maildir"))
    }

    /// The lock of the mailbox at `path`.
    fn lock(&self, path: &Path) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(path).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(path.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Runs file work off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Verdict> + Send + 'static,
) -> Result<T, Verdict> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Verdict::put_off(
            "4.3.0",
            "virtual",
            format!("delivery ended early: {error}"),
        ))
    })
}

/// The file system refused: put off, with the words of Postfix.
fn refused(what: &str, path: &Path, error: &io::Error) -> Verdict {
    let status = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "4.3.0",
        _ => "4.2.0",
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let path = path.display();
    Verdict::put_off(
        status,
        "virtual",
        format!("maildir delivery failed: {what} maildir file {path}: {text}"),
    )
}

/// Why a path from a table is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsafePath {
    /// `/etc`.
    #[error("it is absolute")]
    Absolute,
    /// `a/../b`, `a//b`, `./a`, nothing at all.
    #[error("it has an empty component, \".\" or \"..\"")]
    Component,
    /// A NUL cannot be in a name.
    #[error("it has a NUL")]
    Nul,
    /// Without a slash at its end it would be an mbox file, which vmaild does not write.
    #[error("a Maildir's path ends with a slash")]
    NotAMaildir,
}

/// The folder that a table's path names below `base`.
pub(crate) fn below(base: &Path, value: &str) -> Result<PathBuf, UnsafePath> {
    if value.contains('\0') {
        return Err(UnsafePath::Nul);
    }
    if value.starts_with('/') {
        return Err(UnsafePath::Absolute);
    }
    let path = value.strip_suffix('/').unwrap_or(value);
    if path
        .split('/')
        .any(|component| matches!(component, "" | "." | ".."))
    {
        return Err(UnsafePath::Component);
    }
    if !value.ends_with('/') {
        return Err(UnsafePath::NotAMaildir);
    }
    Ok(base.join(path))
}

/// A message in `tmp/`; dropped before `finish`, it is removed.
struct Draft {
    path: PathBuf,
    file: File,
    size: u64,
    finished: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Draft {
    /// Writes a message into the mailbox's `tmp/`; makes the mailbox where it is missing.
    fn write(
        base: &Path,
        maildir: &Path,
        head: String,
        content: &Content,
    ) -> Result<Self, Verdict> {
        let now = now();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.P{}Q{number}", now.as_secs(), std::process::id());
        let path = maildir.join("tmp").join(name);
        let failed = |error: io::Error| refused("create", &path, &error);
        File::open(base)
            .and_then(|from| {
                let below = maildir.strip_prefix(base).map_err(io::Error::other)?;
                let parts = ["tmp", "new", "cur"];
                parts
                    .iter()
                    .try_for_each(|part| folder(&from, &below.join(part)).map(drop))
            })
            .map_err(failed)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut draft = Self {
            path: path.clone(),
            file,
            size: 0,
            finished: false,
        };
        draft
            .fill(head, content)
            .map_err(|error| refused("write", &path, &error))?;
        Ok(draft)
    }

    fn fill(&mut self, head: String, content: &Content) -> io::Result<()> {
        let mut file = &self.file;
        let mut buffer = head.into_bytes();
        let mut reader = content.reader();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = reader.read(&mut chunk)?;
            buffer.extend_from_slice(&chunk[..count]);
            self.size += buffer.len() as u64;
            file.write_all(&buffer)?;
            buffer.clear();
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Moves it to `new/`, and returns that folder, to be flushed.
    fn finish(mut self, maildir: &Path, host: &str, named: bool) -> Result<File, Verdict> {
        let new = maildir.join("new");
        let failed = |error: io::Error| refused("create", &new, &error);
        let metadata = self.file.metadata().map_err(failed)?;
        let now = now();
        let mut name = format!(
            "{}.V{:x}I{:x}M{}.{host}",
            now.as_secs(),
            metadata.dev(),
            metadata.ino(),
            now.subsec_micros(),
        );
        if named {
            let _ = write!(name, ",S={}", self.size);
        }
        let folder = File::open(&new).map_err(failed)?;
        fs::rename(&self.path, new.join(name)).map_err(failed)?;
        self.finished = true;
        Ok(folder)
    }
}

/// The folder at `path` below `base`; what is missing on the way is made, but never `base` itself.
fn folder(base: &File, path: &Path) -> io::Result<File> {
    let open = || {
        let flags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
        openat2(base, path, flags, Mode::empty(), ResolveFlags::BENEATH)
    };
    let (Err(Errno::NOENT), Some(name)) = (open(), path.file_name()) else {
        return Ok(File::from(open()?));
    };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => folder(base, parent)?,
        _ => base.try_clone()?,
    };
    // Another delivery may be faster: whether it is there now is what counts.
    let made = mkdirat(&parent, name, Mode::RWXU);
    // A power cut must not take the mailbox with the mail in it.
    durable::flush(&parent)?;
    let opened = open().map_err(|error| made.err().unwrap_or(error));
    Ok(File::from(opened?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ordinary("x.example/user/", Ok("/base/x.example/user"))]
    #[case::deep("x.example/a/b/", Ok("/base/x.example/a/b"))]
    #[case::hidden("x.example/.user/", Ok("/base/x.example/.user"))]
    #[case::dots_in_a_name("x.example/..user/", Ok("/base/x.example/..user"))]
    #[case::parent("x.example/../y.example/", Err(UnsafePath::Component))]
    #[case::parent_at_the_end("x.example/..", Err(UnsafePath::Component))]
    #[case::own_folder("x.example/./", Err(UnsafePath::Component))]
    #[case::empty_component("x.example//user/", Err(UnsafePath::Component))]
    #[case::empty_local_part("x.example//", Err(UnsafePath::Component))]
    #[case::nothing("", Err(UnsafePath::Component))]
    #[case::slash("/", Err(UnsafePath::Absolute))]
    #[case::absolute("/etc/cron.d/", Err(UnsafePath::Absolute))]
    #[case::nul("x.example/a\0/", Err(UnsafePath::Nul))]
    #[case::mbox("x.example/user", Err(UnsafePath::NotAMaildir))]
    fn a_path_stays_below_the_base(#[case] value: &str, #[case] path: Result<&str, UnsafePath>) {
        assert_eq!(below(Path::new("/base"), value), path.map(PathBuf::from));
    }

    proptest::proptest! {
        #[test]
        fn no_path_leads_out(value in "[a./\0]{0,12}") {
            if let Ok(path) = below(Path::new("/base"), &value) {
                let mut parts = path.components().skip(2);
                proptest::prop_assert!(path.starts_with("/base"));
                let normal = |part| matches!(part, std::path::Component::Normal(_));
                proptest::prop_assert!(parts.all(normal));
            }
        }
    }
}
