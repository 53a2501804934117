//! What is done to a mailbox behind the target's back: by its owner, who reads, deletes and keeps
//! things there, or by an administrator who takes the right to write away.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::maildir::files;
use crate::driver::Stage;

/// `empty-out`: everything is read, deleted, and counted off in maildirsize as Maildir++ readers
/// do; `throw-out`: it is not counted off. What was read.
pub(crate) fn empty_out<S: Stage>(
    stage: &S,
    address: &str,
    counted: bool,
) -> Result<Vec<Vec<u8>>, String> {
    let folder = folder(stage, address)?;
    let mut read = Vec::new();
    for path in ["new", "cur"]
        .iter()
        .flat_map(|sub| files(&folder.join(sub)))
    {
        read.push(fs::read(&path).map_err(|error| told(&path, &error))?);
        fs::remove_file(&path).map_err(|error| told(&path, &error))?;
    }
    let sums = folder.join("maildirsize");
    if counted && !read.is_empty() && sums.exists() {
        let octets: usize = read.iter().map(Vec::len).sum();
        let line = format!("-{octets} -{}\n", read.len());
        fs::OpenOptions::new()
            .append(true)
            .open(&sums)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| told(&sums, &error))?;
    }
    Ok(read)
}

/// `measured`: how many octets lie in new and cur.
pub(crate) fn stored<S: Stage>(stage: &S, address: &str) -> Result<u64, String> {
    let folder = folder(stage, address)?;
    let mut octets = 0;
    for path in ["new", "cur"]
        .iter()
        .flat_map(|sub| files(&folder.join(sub)))
    {
        octets += fs::metadata(&path)
            .map_err(|error| told(&path, &error))?
            .len();
    }
    Ok(octets)
}

/// `shut`, `open`: whether anybody but root may write into the mailbox.
pub(crate) fn writable<S: Stage>(stage: &S, address: &str, writable: bool) -> Result<(), String> {
    let folder = folder(stage, address)?;
    let mode = if writable { 0o700 } else { 0o500 };
    for path in ["tmp", "new", "cur", ""].map(|sub| folder.join(sub)) {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(|error| told(&path, &error))?;
    }
    Ok(())
}

/// A maildirsize that is longer than this is not to be believed (Maildir++).
const LONGEST: usize = 5120;

/// `put PATH N bytes`: a file of the owner's, with the folders that lead to it. A maildirsize that is
/// too long can be read, and says that nothing is there.
pub(crate) fn put<S: Stage>(
    stage: &S,
    address: &str,
    path: &str,
    size: usize,
) -> Result<(), String> {
    let folder = folder(stage, address)?;
    let facts = stage.facts();
    let (root, owner) = (facts.maildir_root.unwrap_or_default(), facts.owner);
    let give = |path: &Path, mode: u32| {
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    let place = folder.join(path);
    let mut missing: Vec<&Path> = place
        .ancestors()
        .skip(1)
        .take_while(|above| above.starts_with(&root) && !above.is_dir())
        .collect();
    while let Some(above) = missing.pop() {
        fs::create_dir(above)
            .and_then(|()| give(above, 0o700))
            .map_err(|error| told(above, &error))?;
    }
    let mut text = "x".repeat(size);
    if path == "maildirsize" && size > LONGEST {
        text = format!("102400S\n{}", "0 0\n".repeat(size / 4));
        text.truncate(size);
    }
    fs::write(&place, text)
        .and_then(|()| give(&place, 0o600))
        .map_err(|error| told(&place, &error))
}

fn folder<S: Stage>(stage: &S, address: &str) -> Result<PathBuf, String> {
    let folder = stage.maildir(address);
    folder.ok_or_else(|| "the Maildirs of this target cannot be seen".to_owned())
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
