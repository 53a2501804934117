//! Ends what a run started, however the run itself ends: by return, Ctrl-C, SIGKILL or power of `exit`.
//!
//! A small shell waits for a word on a pipe that only we hold. The kernel closes the pipe whatever
//! happens to us, and then the shell runs the command it was given. It lives in a process group of
//! its own, so a Ctrl-C meant for us does not reach it.
//!
//! It promises: a command watched is run once at the latest when we are gone, unless it was
//! released; its words are passed as they are, no shell reads them.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `$@` is the command. Words on the pipe: `release`, nothing is left to end; `now`, end it; the
/// pipe's end: the owner is `gone`, and what it had asked for may still be coming into being.
const WAIT: &str = r#"
trap '' HUP INT TERM
read -r word
[ "$word" = release ] && exit
REAP=${word:-gone}
export REAP
"$@"
"#;

/// The engine goes on with a request whose client was killed, so the container may come later.
const REMOVE_CONTAINER: &str = r#"
n=0
[ "$REAP" = gone ] && most=40 || most=10
while [ -z "$("$1" rm -fv "$2" 2>/dev/null)" ] && [ $n -lt $most ]; do
    n=$((n+1)); sleep 0.5
done
"#;

/// Disks that were mounted in the folder go first. Servers that are about to die may still write
/// into it: try until nothing is left of it.
const REMOVE_FOLDER: &str = r#"
while read -r _ at _; do
    case $at in "$1"/*) umount -l "$at" ;; esac
done < /proc/mounts
n=0
while rm -rf -- "$1"; [ -e "$1" ] && [ $n -lt 100 ]; do
    n=$((n+1)); sleep 0.1
done
"#;

/// The prefix of every run folder; nothing else is ever removed.
pub const FOLDER_PREFIX: &str = "vmailspec-";

/// Makes watches; see the module.
#[derive(Debug)]
pub struct Reaper;

impl Reaper {
    /// Runs `command` when we are gone, or when the watch is dropped.
    pub fn watch<S: AsRef<OsStr>>(command: &[S]) -> io::Result<Watch> {
        let shell = Command::new("/bin/sh")
            .args(["-c", WAIT, "vmailspec-reaper"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Watch { shell: Some(shell) })
    }

    /// Kills every process of its group: start them with [`Watch::group`]. Because it is there
    /// before them, there is no moment at which nobody would end them.
    pub fn watch_group() -> io::Result<Watch> {
        Self::watch(&["kill", "-s", "KILL", "0"])
    }

    /// Removes a run folder and everything in it.
    pub fn watch_folder(folder: &Path) -> io::Result<Watch> {
        let named = folder.file_name().and_then(OsStr::to_str);
        if !folder.is_absolute() || !named.is_some_and(|name| name.starts_with(FOLDER_PREFIX)) {
            return Err(io::Error::other(format!(
                "{} is no run folder",
                folder.display()
            )));
        }
        Self::watch(&script(REMOVE_FOLDER, &[folder.as_os_str()]))
    }

    /// Removes the container `name` by the docker command `docker`.
    pub fn watch_container(docker: &Path, name: &str) -> io::Result<Watch> {
        Self::watch(&script(
            REMOVE_CONTAINER,
            &[docker.as_os_str(), name.as_ref()],
        ))
    }
}
/// The words that run a script of ours; its arguments are `$1` and so on, never part of its text.
fn script(text: &str, arguments: &[&OsStr]) -> Vec<OsString> {
    let words = ["sh", "-c", text, "vmailspec-reaper"].map(OsString::from);
    words
        .into_iter()
        .chain(arguments.iter().map(OsString::from))
        .collect()
}

/// Something that will be ended. Dropping it ends it now and waits for that.
#[derive(Debug)]
#[must_use = "a watch that is dropped runs its command at once"]
pub struct Watch {
    shell: Option<Child>,
}

impl Watch {
    /// The process group in which the shell lives, for [`Reaper::watch_group`].
    #[must_use]
    pub fn group(&self) -> i32 {
        self.shell
            .as_ref()
            .map_or(0, |shell| shell.id().cast_signed())
    }

    /// It ended by itself: the command is not run.
    pub fn release(mut self) {
        self.tell("release\n");
    }

    fn tell(&mut self, word: &str) {
        if let Some(mut shell) = self.shell.take() {
            if let Some(mut pipe) = shell.stdin.take() {
                // A shell that is gone cannot be told, and need not be.
                let _ = pipe.write_all(word.as_bytes());
            }
            let _ = shell.wait();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tell("now\n");
    }
}

/// The one folder of a run: everything that it writes lies in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// `None`: it stays, for a look.
    _watch: Option<Watch>,
}

impl RunFolder {
    /// A new folder in the system's temporary one, which others may pass through (0711): the
    /// target's account must reach its queue and its Maildirs.
    pub fn new(keep: bool) -> io::Result<Self> {
        let parent = reachable_parent()?;
        let name = format!("{FOLDER_PREFIX}{}", super::random::hex(5)?);
        let path = parent.join(name);
        // First the watch: a name of ten random digits is nobody else's.
        let watch = if keep {
            None
        } else {
            Some(Reaper::watch_folder(&path)?)
        };
        std::fs::DirBuilder::new().mode(0o711).create(&path)?;
        // Whatever the umask took away.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
        Ok(Self {
            path,
            _watch: watch,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The temporary folder; as root one that other accounts can pass through.
fn reachable_parent() -> io::Result<PathBuf> {
    let wished = std::env::temp_dir();
    if !rustix::process::geteuid().is_root() {
        return Ok(wished);
    }
    let candidates = [wished.clone(), "/tmp".into(), "/var/tmp".into()];
    candidates.into_iter().find(|folder| passable(folder)).ok_or_else(|| {
        let wished = wished.display();
        io::Error::other(format!("{wished}: accounts other than root cannot enter it; set TMPDIR to a folder they can"))
    })
}

fn passable(folder: &Path) -> bool {
    folder.ancestors().all(|part| {
        std::fs::metadata(part)
            .is_ok_and(|facts| facts.is_dir() && facts.permissions().mode() & 0o001 != 0)
    })
}
