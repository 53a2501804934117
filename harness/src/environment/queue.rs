//! The queue of a target, where it can be read: how many of a run's messages it holds, and how a
//! server that goes on gets rid of them.
//!
//! A message is a file that holds its token; where it lies in several, one of them stands for it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// What stands for a message's name in the command that deletes it.
pub(super) const ID: &str = "{id}";
/// How long that command may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Where a target keeps what it has not delivered yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// Empty where it cannot be read.
    pub(super) folder: PathBuf,
    /// How the names of the files end that stand for messages.
    pub(super) ending: String,
    /// What deletes a message: a program and its arguments, with `{id}` in them.
    pub(super) delete: Option<Vec<String>>,
}

/// What a server that goes on keeps of a run.
#[derive(Debug, Default)]
pub struct Left {
    /// The files.
    pub names: Vec<String>,
    /// Why they could not be deleted, where that was tried.
    pub why: Option<String>,
}

impl Queue {
    /// The names of the messages that contain `token`.
    ///
    /// A server moves them between its folders meanwhile, and one that leaves may leave another
    /// behind: what two looks in a row do not see is not there.
    pub(super) fn holds(&self, token: &[u8]) -> std::io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for _ in 0..2 {
            look(&self.folder, &self.ending, token, &mut names)?;
        }
        Ok(names)
    }

    /// Deletes what still contains `token` after `limit`, where a command says how; what is left.
    pub(super) async fn clear(&self, token: &str, limit: Duration) -> Left {
        let mut names = self.after(token, limit).await;
        let mut why = None;
        if let Some(command) = &self.delete {
            for name in &names {
                // The first reason is that of the others.
                why = why.or(self.delete_one(command, name).await.err());
            }
            names = self.after(token, Duration::ZERO).await;
        }
        let names = names.iter().map(|name| name.to_string_lossy().into_owned());
        Left {
            names: names.collect(),
            why,
        }
    }

    /// What still contains `token` after `limit`.
    async fn after(&self, token: &str, limit: Duration) -> BTreeSet<OsString> {
        let deadline = Instant::now() + limit;
        loop {
            // What cannot be read is not known to be there.
            let names = self.holds(token.as_bytes()).unwrap_or_default();
            if names.is_empty() || Instant::now() >= deadline {
                return names;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn delete_one(&self, command: &[String], name: &OsStr) -> Result<(), String> {
        let name = name.to_string_lossy();
        let id = name.strip_suffix(&self.ending).unwrap_or(&name);
        let words: Vec<String> = command.iter().map(|word| word.replace(ID, id)).collect();
        let shown = words.join(" ");
        let (program, arguments) = words.split_first().ok_or("no command")?;
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, output)
            .await
            .map_err(|_| format!("`{shown}` did not end within {} s", LIMIT.as_secs()))?
            .map_err(|error| format!("`{shown}`: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().next_back().unwrap_or_default();
        Err(format!("`{shown}`: {}: {said}", output.status))
    }
}

/// The names of such files, wherever they lie.
fn look(
    folder: &Path,
    ending: &str,
    token: &[u8],
    names: &mut BTreeSet<OsString>,
) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(ending) {
                match std::fs::read(entry.path()) {
                    Ok(content) if super::world::contains(&content, token) => {
                        names.insert(entry.file_name());
                    }
                    Ok(_) => {}
                    // Delivered or moved in between.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(folder: &Path, ending: &str) -> Queue {
        Queue {
            folder: folder.to_owned(),
            ending: ending.to_owned(),
            delete: None,
        }
    }

    #[test]
    fn a_message_that_moves_between_the_folders_of_a_queue_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        for (part, name) in [("active", "1-H"), ("deferred", "1-H"), ("active", "1-D")] {
            let part = folder.path().join(part);
            std::fs::create_dir_all(&part).unwrap();
            std::fs::write(part.join(name), "Token: run-1").unwrap();
        }
        let count = |ending, token: &[u8]| {
            let queue = queue(folder.path(), ending);
            queue.holds(token).unwrap().len()
        };
        assert_eq!(count("-H", b"run-1"), 1);
        assert_eq!(count("", b"run-1"), 2);
        assert_eq!(count("-H", b"run-2"), 0);
    }

    #[test]
    fn a_message_that_lies_in_two_files_counts_by_the_one_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("input/a");
        std::fs::create_dir_all(&part).unwrap();
        for name in ["1-H", "1-D", "2-H"] {
            std::fs::write(part.join(name), format!("the token-1 of {name}")).unwrap();
        }
        let held = |ending, token: &str| {
            let queue = queue(folder.path(), ending);
            queue.holds(token.as_bytes()).unwrap().len()
        };
        assert_eq!(held("-H", "token-1"), 2);
        assert_eq!(held("", "token-1"), 3);
        assert_eq!(held("-H", "token-2"), 0);
        assert_eq!(held("-H", "of 1-D"), 0);
        assert_eq!(held("-H", ""), 0);
    }

    #[tokio::test]
    async fn what_a_run_leaves_is_deleted_by_its_name_and_nobody_elses_mail_is() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("1-H", "run-1"), ("2-H", "run-2"), ("3-H", "other")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut queue = queue(folder.path(), "-H");
        let path = folder.path().to_str().unwrap();
        queue.delete = Some(vec!["rm".into(), format!("{path}/{ID}-H")]);
        let left = queue.clear("run-", Duration::ZERO).await;
        assert!(left.names.is_empty() && left.why.is_none(), "{left:?}");
        assert!(folder.path().join("3-H").exists());
    }

    #[tokio::test]
    async fn a_command_that_deletes_nothing_is_told_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1"), "run-1").unwrap();
        let mut queue = queue(folder.path(), "");
        let script = "echo no such message $0 >&2; exit 3";
        queue.delete = Some(vec!["sh".into(), "-c".into(), script.into(), ID.into()]);
        let left = queue.clear("run-", Duration::ZERO).await;
        assert_eq!(left.names, ["1"]);
        let why = left.why.unwrap();
        assert!(why.ends_with("exit status: 3: no such message 1"), "{why}");
    }
}
