//! Group commit of a folder: the names of many new files made durable by few flushes.
//!
//! Whoever must not go on before a name is on disk waits here. One thread flushes the folder for all
//! that came in while it was busy, and answers them together: under load the number of flushes a
//! message costs goes down as the number of messages goes up. What is *in* a file is flushed by
//! those who wrote it, side by side: where the file system has a journal, one commit does for many.

use std::fs::File;
use std::{io, iter};

use tokio::sync::{mpsc, oneshot};

use crate::durable;

/// Hands requests to the thread that flushes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Flusher {
    requests: mpsc::UnboundedSender<oneshot::Sender<io::Result<()>>>,
}

impl Flusher {
    /// Starts the thread for `folder`; it ends when the last handle is dropped.
    pub fn start(folder: File) -> io::Result<Self> {
        let (requests, mut incoming) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
        std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || {
                while let Some(first) = incoming.blocking_recv() {
                    let others = iter::from_fn(|| incoming.try_recv().ok());
                    let waiting: Vec<_> = iter::once(first).chain(others).collect();
                    let number = |error: io::Error| error.raw_os_error().unwrap_or_default();
                    let flushed = durable::flush(&folder).map_err(number);
                    for request in waiting {
                        // Nobody waits any more: nothing to answer.
                        let _ = request.send(flushed.map_err(io::Error::from_raw_os_error));
                    }
                }
            })?;
        Ok(Self { requests })
    }

    /// Asks for a flush that begins after this call, and returns when the folder, as it is now,
    /// survives a power cut.
    pub fn ask(&self) -> impl Future<Output = io::Result<()>> + use<> {
        let (request, answer) = oneshot::channel();
        // Dropped with the channel, it is answered by its end.
        let _ = self.requests.send(request);
        async {
            let gone = |_| io::Error::other("the flushing thread has ended");
            answer.await.map_err(gone)?
        }
    }
}
