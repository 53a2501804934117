//! The server behind a target: one of ours, or one that runs already and of which only a log file
//! may be seen.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::target::Target;

/// What of a log that is not ours is read at once.
const MOST: u64 = 4 << 20;

/// The server behind a target.
#[derive(Debug)]
pub(super) enum Server {
    /// We start it and end it.
    Ours(Box<Target>),
    /// It runs.
    Outside {
        /// Its log.
        log: Option<PathBuf>,
    },
}

impl Server {
    pub(super) async fn start(&self) -> Result<(), String> {
        match self {
            Self::Ours(target) => target.start().await,
            Self::Outside { .. } => Ok(()),
        }
    }

    pub(super) async fn stop(&self) {
        if let Self::Ours(target) = self {
            target.stop().await;
        }
    }

    pub(super) async fn kill(&self) {
        if let Self::Ours(target) = self {
            target.kill().await;
        }
    }

    /// Where the log ends now: lines of ours, octets of a file.
    pub(super) fn log_length(&self) -> usize {
        match self {
            Self::Ours(target) => target.log_length(),
            Self::Outside { log } => log
                .as_ref()
                .and_then(|log| std::fs::metadata(log).ok())
                .map_or(0, |facts| usize::try_from(facts.len()).unwrap_or(0)),
        }
    }

    /// The lines behind that place.
    pub(super) fn log_since(&self, start: usize) -> Vec<String> {
        let path = match self {
            Self::Ours(target) => return target.log_since(start),
            Self::Outside { log: None } => return Vec::new(),
            Self::Outside { log: Some(log) } => log,
        };
        let read = || {
            let mut file = std::fs::File::open(path)?;
            // Rotated meanwhile: what is there is new.
            let start = if file.metadata()?.len() < start as u64 {
                0
            } else {
                start as u64
            };
            file.seek(SeekFrom::Start(start))?;
            let mut octets = Vec::new();
            file.take(MOST).read_to_end(&mut octets)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&octets).into_owned())
        };
        // A log is evidence and no verdict hangs on it.
        let text = read().unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) async fn process(&self) -> Result<u32, String> {
        match self {
            Self::Ours(target) => target.process().await,
            Self::Outside { .. } => Err("its process is not ours to look at".to_owned()),
        }
    }

    pub(super) fn crashes(&self) -> usize {
        match self {
            Self::Ours(target) => target.crashes(),
            Self::Outside { .. } => 0,
        }
    }

    pub(super) fn crash_since(&self, start: usize) -> Option<String> {
        match self {
            Self::Ours(target) => target.crash_since(start),
            Self::Outside { .. } => None,
        }
    }
}
