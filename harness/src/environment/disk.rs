//! Small disks of a case's own: one for its mailboxes, one for its queue. They can be full.
//!
//! A tmpfs each, mounted before the target starts and unmounted when the case ends; where the run
//! is killed, the reaper unmounts what is below its folder. Mounting needs root.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::scenario::Disk;

/// Of each. Servers want room for the largest message they take before they take any.
const SIZE: &str = "32m";
/// What fills one.
const FILLER: &str = ".filler";

/// The disks of a case. Dropping them unmounts them.
#[derive(Debug)]
pub(super) struct Disks {
    mailboxes: PathBuf,
    queue: PathBuf,
}

impl Disks {
    /// Mounts them over these folders, for this owner.
    pub(super) fn mount(
        mailboxes: &Path,
        queue: &Path,
        (uid, gid): (u32, u32),
    ) -> Result<Self, String> {
        let disks = Self {
            mailboxes: mailboxes.to_owned(),
            queue: queue.to_owned(),
        };
        let options = CString::new(format!("size={SIZE},mode=0755,uid={uid},gid={gid}"))
            .map_err(|error| error.to_string())?;
        for folder in [&disks.mailboxes, &disks.queue] {
            mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID, &*options)
                .map_err(|error| format!("no tmpfs on {}: {error}", folder.display()))?;
        }
        Ok(disks)
    }

    /// Fills one to its last octet, or makes room again.
    pub(super) fn fill(&self, which: Disk, full: bool) -> Result<(), String> {
        let folder = match which {
            Disk::Mailboxes => &self.mailboxes,
            Disk::Queue => &self.queue,
        };
        let path = folder.join(FILLER);
        let done = if full {
            fill(&path)
        } else {
            std::fs::remove_file(&path)
        };
        done.map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for folder in [&self.mailboxes, &self.queue] {
            // Whatever still has a file open there keeps it until it is gone.
            let _ = unmount(folder, UnmountFlags::DETACH);
        }
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    loop {
        match file.write(&[0; 16 * 1024]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
