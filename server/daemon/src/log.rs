//! Log lines as Postfix writes them, so that existing log tools read them.
//!
//! `Nov 23 01:02:03 host postfix/smtpd[123]: ...`, to standard error or to postconf(5)
//! maillog_file. Client data in a line is made harmless: control and non-ASCII bytes become `?`.
//!
//! Nobody waits for the log: once `start` was called, lines go to a thread of their own, and when
//! it cannot keep up, lines are dropped and counted rather than mail held up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that come within this time of one another leave in one write: under load, waking the thread
/// for each would cost more than writing it.
const GATHER: Duration = Duration::from_millis(5);

/// Lines that may wait for a slow disk or terminal before lines are dropped.
const WAITING_LINES: usize = 16_384;

static WRITER: OnceLock<SyncSender<Entry>> = OnceLock::new();
/// Not asked of the kernel for each line.
static PID: LazyLock<u32> = LazyLock::new(std::process::id);
/// The machine's name without its domain, as syslog writes it.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = nodename();
    harmless(name.split('.').next().unwrap_or_default())
});
/// Lines for which there was no room.
static DROPPED: AtomicUsize = AtomicUsize::new(0);
static TARGET: Mutex<Target> = Mutex::new(Target::Stderr);

enum Target {
    Stderr,
    Stdout,
    File(File, PathBuf),
}

enum Entry {
    Line(String),
    /// Answered once everything before it was written.
    Flush(SyncSender<()>),
    Reopen,
}

/// A line, put together as by `format!`.
macro_rules! log {
    ($program:expr, $($text:tt)+) => {
        $crate::log::line($program, &format!($($text)+))
    };
}
pub(crate) use log;

/// One line from the program `program` (`smtpd`, `cleanup`, `qmgr`, `virtual`, `smtp`, `bounce`).
pub fn line(program: &str, text: &str) {
    let line = format!("postfix/{program}[{}]: {}\n", *PID, harmless(text));
    match WRITER.get() {
        // A full channel means that the target does not keep up; mail goes on without the line.
        Some(writer) => {
            if writer.try_send(Entry::Line(line)).is_err() {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => write(&[line]),
    }
}

/// Text that cannot forge a line or upset a terminal: printable ASCII stays, the rest becomes `?`.
pub fn harmless(text: &str) -> String {
    text.replace(|c: char| c != ' ' && !c.is_ascii_graphic(), "?")
}

/// Chooses where lines go (postconf(5) maillog_file; `None` is standard error).
pub fn open(path: Option<&Path>) -> io::Result<()> {
    let target = match path {
        None => Target::Stderr,
        Some(path) if path == Path::new("/dev/stdout") => Target::Stdout,
        Some(path) => Target::File(append(path)?, path.to_owned()),
    };
    *TARGET.lock().unwrap_or_else(PoisonError::into_inner) = target;
    Ok(())
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Starts the writing thread. Not before privileges were given up: a thread keeps its own.
pub fn start() {
    let (sender, receiver) = sync_channel(WAITING_LINES);
    if WRITER.set(sender).is_ok() {
        // Without the thread, lines wait in the channel and are dropped; mail is served all the same.
        let _ = thread::Builder::new()
            .name("log".into())
            .spawn(move || pump(&receiver));
    }
}

/// Waits until everything logged so far was written.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        let (done, written) = sync_channel(1);
        if writer.send(Entry::Flush(done)).is_ok() {
            let _ = written.recv();
        }
    }
}

/// Opens maillog_file anew, after a log rotation (SIGHUP).
pub fn reopen() {
    if let Some(writer) = WRITER.get() {
        let _ = writer.try_send(Entry::Reopen);
    }
}

fn pump(receiver: &Receiver<Entry>) {
    while let Ok(first) = receiver.recv() {
        let mut lines = Vec::new();
        let mut done = Vec::new();
        if matches!(first, Entry::Line(_)) {
            thread::sleep(GATHER);
        }
        // Everything that has gathered goes out in one write.
        for entry in std::iter::once(first).chain(receiver.try_iter().take(WAITING_LINES)) {
            match entry {
                Entry::Line(line) => lines.push(line),
                Entry::Flush(sender) => done.push(sender),
                Entry::Reopen => {
                    write(&std::mem::take(&mut lines));
                    let mut target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Target::File(file, path) = &mut *target {
                        match append(path) {
                            Ok(fresh) => *file = fresh,
                            // What root made, the server's own user may not be able to make again.
                            Err(error) => lines.push(warning(&format!(
                                "maillog_file {}: {error}: going on in the old file",
                                path.display()
                            ))),
                        }
                    }
                }
            }
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("the log did not keep up: {dropped} lines dropped");
            lines.push(warning(&text));
        }
        write(&lines);
        for sender in done {
            let _ = sender.send(());
        }
    }
}

/// A line about the log itself.
fn warning(text: &str) -> String {
    format!("postfix/postlogd[{}]: warning: {text}\n", *PID)
}

fn write(lines: &[String]) {
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let dated = lines.iter().map(|line| format!("{now} {} {line}", *HOST));
    let text: String = dated.collect();
    let mut target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
    // There is nowhere to report that the log itself failed.
    let _ = match &mut *target {
        Target::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        Target::Stdout => io::stdout().lock().write_all(text.as_bytes()),
        Target::File(file, _) => file.write_all(text.as_bytes()),
    };
}

/// The machine's name, with its domain where it has one there (uname(2)).
pub(crate) fn nodename() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_client_cannot_forge_a_log_line() {
        assert_eq!(harmless("<a\r\nb\u{e9}\u{1b}[2J@x>"), "<a??b??[2J@x>");
    }
}
