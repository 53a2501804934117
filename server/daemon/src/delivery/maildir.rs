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
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::{Parcel, Verdict, locked, quota, words};
use crate::config::Params;
use crate::durable;
use crate::log;
use crate::queue::Content;
use crate::queue::file::{self, now};

/// Delivers into Maildirs.
#[derive(Debug, Default)]
pub(crate) struct Maildirs {
    /// One lock a mailbox, so that parallel deliveries cannot pass its limit together.
    locks: Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>,
}

/// Numbers the files of this process in `tmp/`.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The machine in names of files; Dovecot's way with what could not stand there.
static HOST: LazyLock<String> =
    LazyLock::new(|| log::nodename().replace('/', "\\057").replace(':', "\\072"));

impl Maildirs {
    /// Delivers to the mailbox that the table has at `value`; the first of its recipients is named.
    pub(crate) async fn deliver(
        &self,
        parcel: &Parcel,
        recipients: &[usize],
        value: &str,
    ) -> Verdict {
        let delivered = self.try_deliver(parcel, recipients, value).await;
        let sent = || Verdict::sent("virtual", "delivered to maildir");
        delivered.err().unwrap_or_else(sent)
    }

    async fn try_deliver(
        &self,
        parcel: &Parcel,
        recipients: &[usize],
        value: &str,
    ) -> Result<(), Verdict> {
        let (record, params) = (&parcel.record, &parcel.params);
        let first = recipients.first();
        let Some(recipient) = first.and_then(|&first| record.recipients.get(first)) else {
            return Err(Verdict::put_off("4.3.0", "virtual", "no such recipient"));
        };
        let path = below(&params.virtual_mailbox_base, value).map_err(|unsafe_path| {
            let (id, mailbox) = (&record.id, &recipient.mailbox);
            log!(
                "virtual",
                "{id}: warning: mailbox path {value:?} of {mailbox}: {unsafe_path}"
            );
            let text = "mail system configuration error";
            match unsafe_path {
                UnsafePath::NotAMaildir => Verdict::put_off("4.3.5", "virtual", text),
                _ => Verdict::failed("5.3.5", "virtual", text),
            }
        })?;
        let limit = quota::limit(params, &recipient.mailbox).await?;
        let head = format!(
            "Return-Path: {}\nX-Original-To: {}\nDelivered-To: {}\n",
            record.sender, recipient.original, recipient.mailbox
        );
        let (parcel, lock) = (parcel.clone(), self.lock(&path));
        // Waits for the disk twice, on one thread, beside others that do: where the file system has
        // a journal, it commits them together.
        let work = spawn_blocking(move || {
            let params = &parcel.params;
            let draft = Draft::write(params, &path, &head, &parcel.content)?;
            let size = draft.size;
            durable::flush(&draft.file).map_err(refused("flush", &draft.path))?;
            let turn = locked(&lock);
            if let Some(limit) = limit {
                let keep = params.virtual_create_maildirsize;
                let fits = quota::fits(&path, limit, size, keep);
                if !fits.map_err(refused("count", &path))? {
                    let message = &params.virtual_maildir_limit_message;
                    let text = format!("maildir delivery failed: {message}");
                    // Alone too large: waiting will not help.
                    let never = params.virtual_overquota_bounce || size > limit;
                    return Err(if never {
                        Verdict::failed("5.2.2", "virtual", text)
                    } else {
                        Verdict::put_off("4.2.2", "virtual", text)
                    });
                }
            }
            let folder = draft.finish(&path, params.virtual_mailbox_extended)?;
            quota::add(&path, size);
            drop(turn);
            // It is in `new`: should this fail, a second copy is the lesser evil.
            durable::flush(&folder).map_err(refused("flush", Path::new("new")))
        });
        work.await.unwrap_or_else(|error| {
            let text = format!("delivery ended early: {error}");
            Err(Verdict::put_off("4.3.0", "virtual", text))
        })
    }

    /// The lock of the mailbox at `path`.
    fn lock(&self, path: &Path) -> Arc<Mutex<()>> {
        let mut locks = locked(&self.locks);
        if let Some(lock) = locks.get(path).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(path.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// The file system refused: put off, with the words of Postfix.
fn refused(what: &str, path: &Path) -> impl Fn(io::Error) -> Verdict + Copy {
    move |error| {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "4.3.0",
            _ => "4.2.0",
        };
        let (path, error) = (path.display(), words(&error));
        let text = format!("maildir delivery failed: {what} maildir file {path}: {error}");
        Verdict::put_off(status, "virtual", text)
    }
}

/// Why a path from a table is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsafePath {
    #[error("it is absolute")]
    Absolute,
    #[error("it has an empty component, \".\" or \"..\"")]
    Component,
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
    let mut parts = path.split('/');
    if parts.any(|part| matches!(part, "" | "." | "..")) {
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
        params: &Params,
        maildir: &Path,
        head: &str,
        content: &Content,
    ) -> Result<Self, Verdict> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.P{}Q{number}", now().as_secs(), std::process::id());
        let path = maildir.join("tmp").join(name);
        let failed = refused("create", &path);
        let base = &params.virtual_mailbox_base;
        let from = File::open(base).map_err(failed)?;
        let below = maildir.strip_prefix(base).unwrap_or(maildir);
        for part in ["tmp", "new", "cur"] {
            folder(&from, &below.join(part)).map_err(failed)?;
        }
        let file = file::create(&path).map_err(failed)?;
        let mut draft = Self {
            path,
            file,
            size: 0,
            finished: false,
        };
        let filled = draft.fill(head, content);
        filled.map_err(refused("write", &draft.path))?;
        Ok(draft)
    }

    fn fill(&mut self, head: &str, content: &Content) -> io::Result<()> {
        let mut octets = head.as_bytes().chain(content.reader());
        // What is small goes to the disk in one piece.
        let mut file = BufWriter::with_capacity(64 * 1024, &self.file);
        self.size = io::copy(&mut octets, &mut file)?;
        file.flush()
    }

    /// Moves it to `new/`, and returns that folder, to be flushed.
    fn finish(mut self, maildir: &Path, named: bool) -> Result<File, Verdict> {
        let new = maildir.join("new");
        let failed = refused("create", &new);
        let metadata = self.file.metadata().map_err(failed)?;
        let now = now();
        let mut name = format!(
            "{}.V{:x}I{:x}M{}.{}",
            now.as_secs(),
            metadata.dev(),
            metadata.ino(),
            now.subsec_micros(),
            *HOST
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
