//! Maildirs that are far away: a copy of the folders that a case may look into, made anew each time
//! somebody looks, by a shell that a command of the user's starts there (`docker exec -i mail`,
//! `ssh mail`).

mod shell;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use self::shell::Shell;

/// Who looks again sooner sees what was there: each look fetches everything.
const FRESH: Duration = Duration::from_millis(300);
/// How the names end that a run makes up.
pub(super) const MADE_UP: &str = ".test";
/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(15);

/// The Maildirs below one folder.
#[derive(Debug)]
pub(super) struct Mirror {
    command: Vec<String>,
    far: PathBuf,
    /// The copy.
    pub(super) here: PathBuf,
    shell: Mutex<Option<Shell>>,
    looked: Mutex<Option<Instant>>,
    domains: std::sync::Mutex<Vec<String>>,
}

impl Mirror {
    /// `here` is an empty folder.
    pub(super) fn new(command: Vec<String>, far: &Path, here: PathBuf) -> Self {
        Self {
            command,
            far: far.to_owned(),
            here,
            shell: Mutex::new(None),
            looked: Mutex::new(None),
            domains: std::sync::Mutex::default(),
        }
    }

    /// From now on these folders are looked at, too: a domain's, or the Maildir of one account.
    pub(super) fn add(&self, domains: &[&str]) {
        super::sink::lock(&self.domains).extend(domains.iter().map(|&one| one.to_owned()));
    }

    /// No longer.
    pub(super) fn forget(&self, domains: &[&str]) {
        super::sink::lock(&self.domains).retain(|one| !domains.contains(&one.as_str()));
    }

    /// Looks, unless somebody just did.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        let domains = super::sink::lock(&self.domains).clone();
        let script = format!(
            "cd {} || exit 9\nset --\nfor d in {}; do [ -d \"$d\" ] && set -- \"$@\" \"$d\"; done\n\
             [ $# = 0 ] && exit 8\ntar -cf - \"$@\" | base64\n",
            self.far.display(),
            patterns(&domains)
        );
        let began = Instant::now();
        let (status, archive, said) = self.run(&script).await?;
        match status {
            0 => self.unpack(archive).await?,
            8 => self.clear()?,
            9 => return Err(format!("{} cannot be entered: {said}", self.far.display())),
            other => {
                return Err(format!(
                    "`{}` ended with {other}: {said}",
                    self.command.join(" ")
                ));
            }
        }
        *looked = Some(began);
        Ok(())
    }

    /// Removes the Maildirs of these domains where they are.
    pub(super) async fn remove(&self, domains: &[&str]) -> Result<(), String> {
        let script = format!(
            "cd {} && rm -rf -- {}\n",
            self.far.display(),
            patterns(domains)
        );
        let (status, _, said) = self.run(&script).await?;
        if status == 0 { Ok(()) } else { Err(said) }
    }

    /// Removes messages that contain `text` from a mailbox in which somebody lives.
    pub(super) async fn remove_with(
        &self,
        domain: &str,
        local: &str,
        text: &str,
    ) -> Result<(), String> {
        if !is_plain(&format!("{domain}/{local}")) {
            return Err(format!("{local}@{domain}: no name for a shell"));
        }
        let script = format!(
            "cd {}/{domain}/{local} || exit 0\ngrep -lF '{text}' new/* cur/* 2>/dev/null |\n\
             while read -r file; do rm -f -- \"$file\"; done\n",
            self.far.display()
        );
        let (status, _, said) = self.run(&script).await?;
        if status == 0 { Ok(()) } else { Err(said) }
    }

    /// Runs a script there, whose output is base64: its exit status, output, and words.
    async fn run(&self, script: &str) -> Result<(i32, Vec<u8>, String), String> {
        let mut shell = self.shell.lock().await;
        let shown = self.command.join(" ");
        let mut running = match shell.take() {
            Some(running) => running,
            None => Shell::start(&self.command)?,
        };
        match timeout(LIMIT, running.run(script)).await {
            Ok(Ok(done)) => {
                *shell = Some(running);
                Ok(done)
            }
            // One that was cut off is started anew by whoever looks next.
            Ok(Err(why)) => Err(format!("`{shown} sh`: {why}")),
            Err(_) => Err(format!(
                "`{shown} sh` did not answer within {} s",
                LIMIT.as_secs()
            )),
        }
    }

    fn clear(&self) -> Result<(), String> {
        let say = |error: std::io::Error| format!("{}: {error}", self.here.display());
        for entry in std::fs::read_dir(&self.here).map_err(say)? {
            std::fs::remove_dir_all(entry.map_err(say)?.path()).map_err(say)?;
        }
        Ok(())
    }

    async fn unpack(&self, archive: Vec<u8>) -> Result<(), String> {
        self.clear()?;
        let here = self.here.display().to_string();
        let tar = ["tar".to_owned()];
        let (status, _, said) = run(&tar, &["-xf", "-", "-C", &here], &archive, LIMIT).await?;
        if status == 0 {
            Ok(())
        } else {
            Err(format!("what came is no archive of tar(1): {said}"))
        }
    }
}

/// Whether a shell takes it for nothing but a name.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+/@".contains(c);
    !name.starts_with(['-', '.', '/']) && !name.contains("/.") && name.chars().all(plain)
}

/// These folders, for a shell, and those of names below the names that a run makes up (RFC 2606).
fn patterns(folders: &[impl AsRef<str>]) -> String {
    let folders = folders.iter().map(AsRef::as_ref);
    let folders = folders.filter(|name| is_plain(name)).map(|name| {
        if name.ends_with(MADE_UP) {
            format!("{name} *.{name}")
        } else {
            name.to_owned()
        }
    });
    folders.collect::<Vec<_>>().join(" ")
}

/// Starts a command with pipes on all sides. Ctrl-C is ours to hear, not its: what we began is brought to
/// its end, and in the end we tidy up by it.
fn piped(command: &[String], more: &[&str]) -> Result<Child, String> {
    let (program, arguments) = command.split_first().ok_or("an empty command")?;
    Command::new(program)
        .args(arguments)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`{}`: {error}", command.join(" ")))
}

/// Runs a command with something on its standard input: its exit status, output, and words.
pub(super) async fn run(
    command: &[String],
    more: &[&str],
    input: &[u8],
    limit: Duration,
) -> Result<(i32, Vec<u8>, String), String> {
    let shown = command.join(" ");
    let mut child = piped(command, more)?;
    let mut pipe = child.stdin.take();
    let input = input.to_vec();
    let write = async move {
        if let Some(pipe) = &mut pipe {
            // A command that does not read it all says so by its status.
            let _ = pipe.write_all(&input).await;
        }
        drop(pipe);
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(limit, both)
        .await
        .map_err(|_| format!("`{shown}` did not end within {} s", limit.as_secs()))?
        .map_err(|error| format!("`{shown}`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', " ");
    Ok((output.status.code().unwrap_or(-1), output.stdout, said))
}
