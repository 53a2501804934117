//! `vmaild queue`: what an administrator can see and do, with or without a running server.
//!
//! It works on the files alone. A message that is moved or removed under a running server is
//! dropped by that when its time comes; what is released, or is to be tried now, it learns of
//! through a trigger file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::file::{self, State};
use super::schedule::{Active, TRIGGER};
use super::zoned;

/// What to do, as the command line has it.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// One line a message: id, size, arrival, sender; then its recipients and why they wait.
    List,
    /// The file of a message: envelope, content, what became of each recipient.
    Show(Message),
    /// Try everything now.
    Flush,
    /// Keep a message from being delivered until it is released.
    Hold(Message),
    /// Let a message that was held be delivered again.
    Release(Message),
    /// Remove a message; nobody is told.
    Delete(Message),
}

/// Which message.
#[derive(Debug, clap::Args)]
pub struct Message {
    /// The queue id.
    id: String,
}

/// Does it to the queue in `directory` (postconf(5) queue_directory) and writes to `out` what there
/// is to say.
pub fn run(directory: &Path, command: &Command, out: &mut dyn Write) -> io::Result<()> {
    match command {
        Command::List => list(directory, out),
        Command::Show(Message { id }) => {
            let mut file = File::open(find(directory, id)?)?;
            io::copy(&mut file, out).map(drop)
        }
        Command::Flush => trigger(directory),
        Command::Hold(Message { id }) => rename(directory, id, "active", "hold"),
        Command::Release(Message { id }) => {
            rename(directory, id, "hold", "active")?;
            trigger(directory)
        }
        Command::Delete(Message { id }) => fs::remove_file(find(directory, id)?),
    }
}

fn trigger(directory: &Path) -> io::Result<()> {
    File::create(directory.join(TRIGGER)).map(drop)
}

/// An id is hexadecimal digits: it never leads to another file.
fn checked(id: &str) -> io::Result<&str> {
    if id.is_empty() || !id.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        let text = format!("{id:?} is no queue id");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(id)
}

fn find(directory: &Path, id: &str) -> io::Result<PathBuf> {
    let id = checked(id)?;
    for folder in ["active", "hold", "corrupt"] {
        let path = directory.join(folder).join(id);
        if path.exists() {
            return Ok(path);
        }
    }
    let text = format!("{id}: no such message in the queue");
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

fn rename(directory: &Path, id: &str, from: &str, to: &str) -> io::Result<()> {
    let id = checked(id)?;
    let (from_path, to_path) = (directory.join(from).join(id), directory.join(to).join(id));
    fs::rename(from_path, to_path)
        .map_err(|error| io::Error::new(error.kind(), format!("{id}: not in {from}: {error}")))
}

/// Id (with `!` where it is on hold), size, arrival, sender, and each recipient that is still to
/// be done with its last reason.
fn list(directory: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut count = 0;
    for (folder, mark) in [("active", ""), ("hold", "!")] {
        let mut ids: Vec<_> = match fs::read_dir(directory.join(folder)) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        ids.sort();
        for id in ids {
            // Delivered in this moment, or still being written.
            let path = directory.join(folder).join(id);
            let Ok(Active { record, .. }) = file::read(&path, false) else {
                continue;
            };
            let arrival = zoned(record.arrived).strftime("%a %b %d %H:%M:%S");
            let (id, size, sender) = (&record.id, record.size, &record.sender);
            write!(out, "{id}{mark} {size} {arrival} {sender}")?;
            for recipient in record.recipients.iter().filter(|to| to.is_open()) {
                write!(out, " <{}>", recipient.mailbox)?;
                if let State::PutOff(reason) | State::Failed(reason) = &recipient.state {
                    write!(out, " ({})", reason.text)?;
                }
            }
            writeln!(out)?;
            count += 1;
        }
    }
    if count == 0 {
        writeln!(out, "Mail queue is empty")?;
    }
    Ok(())
}
