//! Small disks of a case's own: one for its mailboxes, one for its queue. They can be full.
//!
//! A tmpfs each, mounted before the target starts and unmounted when the case ends; where the run
//! is killed, the reaper unmounts what is below its folder. Mounting needs root.

use std::ffi::CString;
use std::fs::{self, File};
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
        let done = if full { fill(&path) } else { free(&path) };
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

/// Empty before it is removed: a program that was being started while it was filled may have it
/// open still, and what is open keeps its room.
fn free(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.set_len(0)?;
    fs::remove_file(path)
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    loop {
        match file.write(&[0; 16 * 1024]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_although_somebody_has_what_filled_the_disk_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILLER);
        fs::write(&path, [0; 4096]).unwrap();
        let open = File::open(&path).unwrap();
        free(&path).unwrap();
        assert_eq!((open.metadata().unwrap().len(), path.exists()), (0, false));
    }
}
