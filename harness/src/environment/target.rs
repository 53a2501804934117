//! The target: the reference server as a child process that can be stopped, killed and started again.
//!
//! Its ports stay the same for life; its log lines are kept; an end that nobody asked for is a
//! crash and is remembered with its exit status and the last lines of its log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::reaper::{Reaper, Watch};
use super::sink::lock;

/// A server that says nothing for so long is not coming.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// SIGTERM lets a server finish what it has begun; then SIGKILL.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);
/// Between the end of its outputs and the end of the process, in either order.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// `VMAILSPEC_SERVE_EXE`, or this program.
    pub program: PathBuf,
    /// `--config`
    pub config: PathBuf,
    /// `--resolver`
    pub resolver: SocketAddr,
}

/// A target. Dropping it kills the process.
#[derive(Debug)]
pub struct Target {
    recipe: Recipe,
    log: Arc<Log>,
    running: tokio::sync::Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    /// Set before we end it ourselves.
    expected: watch::Sender<bool>,
    ended: watch::Receiver<Option<String>>,
    watch: Watch,
}

/// What it said.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    crashes: Mutex<Vec<String>>,
}

impl Log {
    fn tail(&self) -> String {
        let lines = lock(&self.lines);
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Target {
    /// Not yet running.
    #[must_use]
    pub fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            log: Arc::default(),
            running: tokio::sync::Mutex::new(None),
        }
    }

    /// Starts it and waits until it listens. Running already: nothing to do.
    pub async fn start(&self) -> Result<(), String> {
        let mut running = self.running.lock().await;
        if running
            .as_ref()
            .is_some_and(|it| it.ended.borrow().is_none())
        {
            return Ok(());
        }
        if let Some(gone) = running.take() {
            gone.watch.release();
        }
        *running = Some(self.spawn().await?);
        Ok(())
    }

    async fn spawn(&self) -> Result<Running, String> {
        let program = self.recipe.program.display().to_string();
        let watch = Reaper::watch_group().map_err(|error| format!("/bin/sh: {error}"))?;
        let mut child = Command::new(&self.recipe.program)
            .arg("serve")
            .arg("--config")
            .arg(&self.recipe.config)
            .arg("--resolver")
            .arg(self.recipe.resolver.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is for the harness, which ends its children in order.
            .process_group(watch.group())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} serve: {error}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| format!("{program} serve ended before it began"))?;
        let ready = watch::Sender::new(false);
        let mut is_ready = ready.subscribe();
        let outputs = [
            child
                .stdout
                .take()
                .map(|pipe| tokio::spawn(collect(pipe, Arc::clone(&self.log), ready.clone()))),
            child
                .stderr
                .take()
                .map(|pipe| tokio::spawn(collect(pipe, Arc::clone(&self.log), ready))),
        ];
        // Until it listens, an end is a failed start and no crash.
        let expected = watch::Sender::new(true);
        let (ended_tx, mut ended) = watch::channel(None);
        let (log, is_expected) = (Arc::clone(&self.log), expected.subscribe());
        tokio::spawn(async move {
            let status = supervise(child, outputs, &log, &is_expected).await;
            ended_tx.send_replace(Some(status));
        });

        let ready = async { is_ready.wait_for(|ready| *ready).await.is_ok() };
        // `Some(false)`: its outputs are closed, or it ended.
        let listens = tokio::select! {
            ready = tokio::time::timeout(READY_LIMIT, ready) => ready.ok(),
            _ = ended.wait_for(Option::is_some) => Some(false),
        };
        if listens == Some(false) {
            // How it ended tells more than that it did.
            let _ = tokio::time::timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await;
        }
        let running = Running {
            pid,
            expected,
            ended,
            watch,
        };
        if listens != Some(true) {
            let limit = READY_LIMIT.as_secs();
            let what = match running.end(Signal::KILL).await {
                Some(status) => status,
                None => format!("it did not say \"listening on\" within {limit} s"),
            };
            return Err(format!(
                "{program} serve did not start: {what}. Its log: {}",
                self.log.tail()
            ));
        }
        running.expected.send_replace(false);
        Ok(running)
    }

    /// Ends it by SIGTERM (or by SIGKILL where that takes too long) and waits for its end.
    pub async fn stop(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.end(Signal::TERM).await;
        }
    }

    /// Ends it by SIGKILL.
    pub async fn kill(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.end(Signal::KILL).await;
        }
    }

    /// The number of log lines so far.
    pub fn log_length(&self) -> usize {
        lock(&self.log.lines).len()
    }

    /// The log lines from `start` on.
    pub fn log_since(&self, start: usize) -> Vec<String> {
        lock(&self.log.lines)
            .get(start..)
            .unwrap_or_default()
            .to_vec()
    }

    /// How often it crashed.
    pub fn crashes(&self) -> usize {
        lock(&self.log.crashes).len()
    }

    /// The first crash after `start` others: exit status and last log lines.
    pub fn crash_since(&self, start: usize) -> Option<String> {
        lock(&self.log.crashes).get(start).cloned()
    }
}

impl Running {
    /// Ends it; how it had ended where it had done so before.
    async fn end(mut self, signal: Signal) -> Option<String> {
        self.expected.send_replace(true);
        let before = self.ended.borrow().clone();
        if before.is_none() {
            let _ = kill_process(self.pid, signal);
        }
        let ended = tokio::time::timeout(DRAIN_LIMIT, self.ended.wait_for(Option::is_some))
            .await
            .is_ok();
        if !ended {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.ended.wait_for(Option::is_some).await;
        }
        self.watch.release();
        before
    }
}

async fn supervise(
    mut child: Child,
    outputs: [Option<tokio::task::JoinHandle<()>>; 2],
    log: &Log,
    expected: &watch::Receiver<bool>,
) -> String {
    let status = child.wait().await;
    for output in outputs.into_iter().flatten() {
        // Its last words; a grandchild that holds the pipe open must not keep us.
        let _ = tokio::time::timeout(LAST_WORDS, output).await;
    }
    let status = match status {
        Ok(status) => describe(status),
        Err(error) => format!("ended, and how is unknown: {error}"),
    };
    if !*expected.borrow() {
        lock(&log.crashes).push(format!("the target {status}. Its log: {}", log.tail()));
    }
    status
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

async fn collect(pipe: impl AsyncRead + Unpin, log: Arc<Log>, ready: watch::Sender<bool>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|octets| octets > 0)
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        let says_so = text.contains("listening on");
        lock(&log.lines).push(text);
        if says_so {
            ready.send_replace(true);
        }
    }
}
