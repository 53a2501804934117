//! Delivery into a Maildir (virtual(8)), safe against crashes, races and what tables return.
//!
//! `tmp/` → flush → quota → `new/` → flush of the folder: a file appears in `new/` only complete,
//! and a message counts as delivered only when it would survive a power cut. Names are
//! `<sec>.V<device>I<inode>M<usec>.<host>,S=<size>`: no two files can share one. Folders are 0700,
//! files 0600, owned by virtual_uid_maps and virtual_gid_maps where the server may give them away.
//!
//! A path is data from a table. Only components below virtual_mailbox_base count; anything that
//! could lead elsewhere (`..`, empty or absolute components, NUL, symbolic links out of the base)
//! bounces with 5.3.5 and a log line. What the file system refuses is put off, never bounced.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tokio::task::spawn_blocking;
use vmaild_protocol::Mailbox;

use super::quota::{self, NoLimit};
use super::{Parcel, Verdict};
use crate::config::Params;
use crate::durable;
use crate::log;
use crate::queue::Content;
use crate::tables::Maps;

/// Delivers into Maildirs.
#[derive(Debug)]
pub(crate) struct Maildirs {
    host: String,
    /// One lock a mailbox, so that parallel deliveries cannot pass its limit together.
    locks: Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>,
}

/// User and group that own what is made.
type Owner = Option<(u32, u32)>;

/// Numbers the files of this process in `tmp/`.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Maildirs {
    pub(crate) fn new() -> Self {
        // Dovecot's way with names that could not stand in a file's name.
        let host = rustix::system::uname();
        let host = host
            .nodename()
            .to_string_lossy()
            .replace('/', "\\057")
            .replace(':', "\\072");
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
            log::line(
                "virtual",
                &format!("{id}: warning: mailbox path {value:?} of {mailbox}: {unsafe_path}"),
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
                        log::line("virtual", &format!("warning: {error}"));
                        Verdict::put_off("4.3.5", "virtual", "mail system configuration error")
                    }
                })?;
        let owner = owner(params, &recipient.mailbox).await?;
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
            let draft = Draft::write(&base, &path, head, &content, owner)?;
            let size = draft.size;
            let flushed = durable::flush(&draft.file);
            flushed.map_err(|error| refused("flush", &draft.path, &error))?;
            let turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(limit) = limit {
                let failed = |error| refused("count", &path, &error);
                let fits = quota::fits(&path, limit, size, keep).map_err(failed)?;
                if let Some((uid, gid)) = owner {
                    let _ = chown(path.join("maildirsize"), Some(uid), Some(gid));
                }
                if !fits {
                    return Ok((size, false));
                }
            }
            let folder = draft.finish(&path, &host, named)?;
            if let Err(error) = quota::add(&path, size) {
                // It is delivered; the sum will be counted anew.
                let _ = fs::remove_file(path.join("maildirsize"));
                let path = path.display();
                log::line("virtual", &format!("warning: {path}/maildirsize: {error}"));
            }
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
        if locks.len() > 10_000 {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
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

/// Who owns the mailbox: asked for only where the server runs as root and so can give it away.
async fn owner(params: &Params, mailbox: &Mailbox) -> Result<Owner, Verdict> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let delimiter = params.recipient_delimiter;
    let number = async |maps: &Maps, name: &str| {
        let found = maps.find(&mailbox.local, &mailbox.domain, delimiter).await;
        let found = found.map_err(|failed| Verdict::lookup("virtual", &failed))?;
        found
            .and_then(|text| text.trim().parse::<u32>().ok())
            .filter(|&id| id > 0)
            .ok_or_else(|| {
                log::line(
                    "virtual",
                    &format!("warning: {mailbox}: no user of its own in {name}"),
                );
                Verdict::put_off("4.3.5", "virtual", "mail system configuration error")
            })
    };
    let uid = number(&params.virtual_uid_maps, "virtual_uid_maps").await?;
    let gid = number(&params.virtual_gid_maps, "virtual_gid_maps").await?;
    Ok(Some((uid, gid)))
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
#[derive(Debug)]
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
        owner: Owner,
    ) -> Result<Self, Verdict> {
        let now = now();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.P{}Q{number}", now.as_secs(), std::process::id());
        let path = maildir.join("tmp").join(name);
        let failed = |error: io::Error| refused("create", &path, &error);
        let mut inside = stands_below(base, maildir);
        if !inside {
            inside = true;
            for part in ["tmp", "new", "cur"] {
                inside = inside && make(base, &maildir.join(part), owner).map_err(failed)?;
            }
            inside = inside && is_inside(base, maildir).map_err(failed)?;
        }
        if !inside {
            log::line(
                "virtual",
                &format!(
                    "warning: {} leads out of virtual_mailbox_base",
                    maildir.display()
                ),
            );
            return Err(Verdict::failed(
                "5.3.5",
                "virtual",
                "mail system configuration error",
            ));
        }
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
            .fill(head, content, owner)
            .map_err(|error| refused("write", &path, &error))?;
        Ok(draft)
    }

    fn fill(&mut self, head: String, content: &Content, owner: Owner) -> io::Result<()> {
        if let Some((uid, gid)) = owner {
            fchown(&self.file, Some(uid), Some(gid))?;
        }
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

fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Whether all three folders are there and no symbolic link on the way leads out of `base`: what is
/// true of nearly every mailbox, asked of the kernel at the least cost. False says nothing.
fn stands_below(base: &Path, maildir: &Path) -> bool {
    let (Ok(from), Ok(below)) = (File::open(base), maildir.strip_prefix(base)) else {
        return false;
    };
    ["tmp", "new", "cur"].iter().all(|part| {
        let (path, flags) = (below.join(part), OFlags::PATH | OFlags::DIRECTORY);
        let way = ResolveFlags::BENEATH;
        openat2(&from, path, flags | OFlags::CLOEXEC, Mode::empty(), way).is_ok()
    })
}

/// Makes `path` and what is missing between it and `base`, but never `base` itself. False, and
/// nothing made, where that would be outside of `base`.
fn make(base: &Path, path: &Path, owner: Owner) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(true);
    }
    let parent = path
        .parent()
        .filter(|parent| parent.starts_with(base) && *parent != base);
    if let Some(parent) = parent
        && !(make(base, parent, owner)? && is_inside(base, parent)?)
    {
        return Ok(false);
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some((uid, gid)) = owner {
                chown(path, Some(uid), Some(gid))?;
            }
            // A power cut must not take the mailbox with the mail in it.
            path.parent()
                .map_or(Ok(()), |parent| durable::flush(&File::open(parent)?))?;
            Ok(true)
        }
        // Another delivery was faster; or it is a file, which the next step finds out.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether `maildir`, with its symbolic links followed, is still below `base`.
fn is_inside(base: &Path, maildir: &Path) -> io::Result<bool> {
    let base = base.canonicalize()?;
    for part in ["", "tmp", "new"] {
        let path = if part.is_empty() {
            maildir.to_owned()
        } else {
            maildir.join(part)
        };
        match path.canonicalize() {
            Ok(real) if !real.starts_with(&base) => return Ok(false),
            // Not there yet: what leads to it was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !part.is_empty() => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(true)
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
