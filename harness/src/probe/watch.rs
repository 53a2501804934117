//! Watches a Maildir (inotify(7)): how a message comes into it, not only that it is there.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::driver::Stage;

/// A watch over `tmp/` and `new/`, from the moment it was begun.
#[derive(Debug)]
pub(crate) struct Watch {
    queue: OwnedFd,
    new: i32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Files were made in `tmp/`.
    made_in_tmp: bool,
    /// Names that came into `new/` while something had been made in `tmp/`.
    from_tmp: BTreeSet<String>,
    /// Names that were written to in `new/`.
    written_in_new: BTreeSet<String>,
    /// Names that came into `new/`.
    arrived: BTreeSet<String>,
}

type Difference = (String, String);

impl Watch {
    /// The mailbox must be there.
    pub(crate) fn begin<S: Stage>(stage: &S, address: &str) -> Result<Self, String> {
        let folder = stage
            .maildir(address)
            .ok_or("the Maildirs of this target cannot be seen")?;
        let say = |error: rustix::io::Errno| format!("{}: {error}", folder.display());
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(say)?;
        let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY;
        inotify::add_watch(&queue, folder.join("tmp"), what).map_err(say)?;
        let new = inotify::add_watch(&queue, folder.join("new"), what).map_err(say)?;
        Ok(Self {
            queue,
            new,
            seen: Mutex::default(),
        })
    }

    /// The file was whole when it came into `new/`: nobody wrote to it there.
    pub(crate) fn arrived_whole(&self, name: &str) -> Result<(), Difference> {
        let seen = self.look();
        let expected = "a file that is whole when it comes into new".to_owned();
        if !seen.arrived.contains(name) {
            return Err((expected, "its coming was not seen".to_owned()));
        }
        if seen.written_in_new.contains(name) {
            return Err((expected, "it was written there".to_owned()));
        }
        Ok(())
    }

    /// The file was made in `tmp/` and then moved or linked into `new/`.
    pub(crate) fn came_through_tmp(&self, name: &str) -> Result<(), Difference> {
        if self.look().from_tmp.contains(name) {
            return Ok(());
        }
        let expected = "a file that was made in tmp, then moved to new".to_owned();
        Err((expected, "nothing was made in tmp before".to_owned()))
    }

    /// What has happened so far.
    fn look(&self) -> std::sync::MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        // It ends with the error that says that there is no more for now.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy());
            let name = name.unwrap_or_default().into_owned();
            let came = event
                .events()
                .intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            match (event.wd() == self.new, came) {
                (false, came) => seen.made_in_tmp |= came,
                (true, true) => {
                    if seen.made_in_tmp {
                        seen.from_tmp.insert(name.clone());
                    }
                    seen.arrived.insert(name);
                }
                (true, false) => {
                    seen.written_in_new.insert(name);
                }
            }
        }
        seen
    }
}
