//! Group commit: many files made durable by few flushes.
//!
//! Whoever must not go on before a file is on disk hands it in and waits. One thread takes all
//! that came in while it was busy, flushes them together, and answers them together. So under load
//! the number of flushes a message costs goes down as the number of messages goes up.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

/// From this many files on, flushing the whole file system is cheaper than each file.
const WHOLE_FILE_SYSTEM_FROM: usize = 16;

/// Hands files to the thread that flushes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Flusher {
    jobs: mpsc::UnboundedSender<Job>,
}

#[derive(Debug)]
struct Job {
    files: Vec<Arc<File>>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Flusher {
    /// Starts the thread; it ends when the last handle is dropped.
    pub fn start() -> io::Result<Self> {
        let (jobs, mut incoming) = mpsc::unbounded_channel::<Job>();
        std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || {
                while let Some(first) = incoming.blocking_recv() {
                    let mut batch = vec![first];
                    while let Ok(job) = incoming.try_recv() {
                        batch.push(job);
                    }
                    flush(batch);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Returns when the files (or folders), with all that was written to them, survive a power cut.
    pub async fn flush(&self, files: Vec<Arc<File>>) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let gone = || io::Error::other("the flushing thread has ended");
        self.jobs.send(Job { files, done }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn flush(batch: Vec<Job>) {
    let count: usize = batch.iter().map(|job| job.files.len()).sum();
    // What was flushed already in this round: by file system, or by file.
    let mut flushed: HashMap<(u64, u64), Result<(), i32>> = HashMap::new();
    for job in batch {
        let result = job.files.iter().try_for_each(|file| {
            let metadata = file.metadata()?;
            let whole = count >= WHOLE_FILE_SYSTEM_FROM;
            let key = (metadata.dev(), if whole { 0 } else { metadata.ino() });
            let result = flushed.entry(key).or_insert_with(|| {
                let result = if whole {
                    rustix::fs::syncfs(file).map_err(io::Error::from)
                } else {
                    file.sync_all()
                };
                result.map_err(|error| error.raw_os_error().unwrap_or_default())
            });
            result.map_err(io::Error::from_raw_os_error)
        });
        // Nobody waits any more: nothing to answer.
        let _ = job.done.send(result);
    }
}
