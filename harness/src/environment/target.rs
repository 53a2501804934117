//! The target: a server that can be stopped, killed and started again, as a child process (the
//! reference server, or a command of the user's) or in a container.
//!
//! Its ports stay the same for life; its log lines are kept; an end that nobody asked for is a
//! crash and is remembered with its exit status and the last lines of its log.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::random;
use super::reaper::{Reaper, Watch};
use super::sink::lock;

/// SIGTERM lets a server finish what it has begun; then SIGKILL.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);
/// Between the end of its outputs and the end of the process, in either order.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Between two looks whether a server greets that does not say when it listens.
const LOOK: Duration = Duration::from_millis(50);
/// Octets of a line of its log.
const LONGEST_LINE: u64 = 1 << 20;

/// How to start it.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What is run.
    pub kind: Kind,
    /// Part of the line that says that it listens; `None`: it is there when it greets.
    pub ready: Option<String>,
    /// How long that may take.
    pub within: Duration,
    /// Ports 25 and 465, as they are here.
    pub listens: [SocketAddr; 2],
}

/// What is run.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A child process.
    Process {
        /// Its program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// A container, which the docker command stands for: its outputs, its end, and SIGTERM to it.
    Container {
        /// The docker command.
        docker: PathBuf,
        /// The image.
        image: String,
        /// Arguments of its entry point.
        arguments: Vec<OsString>,
        /// Mounted at the path that it has here.
        folder: PathBuf,
        /// Asked on port 53.
        name_server: IpAddr,
    },
}

impl Recipe {
    /// The command; of a container with the name `name`.
    fn command(&self, name: &str) -> Command {
        match &self.kind {
            Kind::Process { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Kind::Container {
                docker,
                image,
                arguments,
                folder,
                name_server,
            } => {
                let mut mount = folder.clone().into_os_string();
                mount.push(":");
                mount.push(folder);
                let mut command = Command::new(docker);
                // What it says is kept here, and need not be kept by the engine as well.
                command.args(["run", "--rm", "--network", "host", "--log-driver", "none"]);
                command.args(["--name", name, "--env"]);
                command.arg(format!("VMAILSPEC_NAMESERVER={name_server}"));
                command
                    .arg("--volume")
                    .arg(mount)
                    .arg(image)
                    .args(arguments);
                command
            }
        }
    }

    /// For messages.
    fn shown(&self) -> String {
        match &self.kind {
            Kind::Process { program, arguments } => {
                let first = arguments
                    .first()
                    .map_or_else(String::new, |first| format!(" {}", first.to_string_lossy()));
                format!("{}{first}", program.display())
            }
            Kind::Container { image, .. } => format!("the container of {image}"),
        }
    }

    /// What was waited for.
    fn awaited(&self) -> String {
        if let Some(ready) = &self.ready {
            return format!("it did not say \"{ready}\"");
        }
        let [plain, smtps] = self.listens;
        format!("it did not greet on {plain}, or did not listen on {smtps},")
    }

    /// Ends what is started, however we end; before it is started.
    fn watch(&self, name: &str) -> std::io::Result<Watch> {
        match &self.kind {
            Kind::Process { .. } => Reaper::watch_group(),
            Kind::Container { docker, .. } => Reaper::watch_container(docker, name),
        }
    }

    /// The server has ended. What its command left behind in its group ends with it.
    fn let_go(&self, watch: Watch) {
        match self.kind {
            Kind::Process { .. } => drop(watch),
            Kind::Container { .. } => watch.release(),
        }
    }

    /// Ends the server at once.
    async fn kill(&self, pid: Pid, name: &str) {
        match &self.kind {
            Kind::Process { .. } => {
                let _ = kill_process(pid, Signal::KILL);
            }
            // Its end ends the command that stands for it.
            Kind::Container { docker, .. } => {
                let mut command = Command::new(docker);
                command.args(["kill", name]).stdin(Stdio::null());
                let _ = command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .await;
            }
        }
    }
}

/// Returns when a server greets on the first and listens on the second.
async fn greets([plain, smtps]: [SocketAddr; 2]) {
    let greeted = async || {
        let mut connection = TcpStream::connect(plain).await?;
        let mut greeting = [0; 3];
        connection.read_exact(&mut greeting).await?;
        TcpStream::connect(smtps).await?;
        Ok::<bool, std::io::Error>(greeting == *b"220")
    };
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if greeted().await.unwrap_or(false) {
            return;
        }
    }
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
    recipe: Recipe,
    /// Of a container.
    name: String,
    pid: Pid,
    /// Set before we end it ourselves.
    expected: watch::Sender<bool>,
    ended: watch::Receiver<Option<String>>,
    watch: Watch,
}

/// Whether it said that it listens.
#[derive(Debug, Clone)]
struct Ready {
    text: Option<String>,
    is: watch::Sender<bool>,
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
            gone.recipe.let_go(gone.watch);
        }
        *running = Some(self.spawn().await?);
        Ok(())
    }

    async fn spawn(&self) -> Result<Running, String> {
        let program = self.recipe.shown();
        let id = random::hex(6).map_err(|error| format!("/dev/urandom: {error}"))?;
        let name = format!("vmailspec-target-{id}");
        let watch = self
            .recipe
            .watch(&name)
            .map_err(|error| format!("/bin/sh: {error}"))?;
        let mut child = self
            .recipe
            .command(&name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is for the harness, which ends its children in order.
            .process_group(watch.group())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| format!("{program} ended before it began"))?;
        let ready = Ready {
            text: self.recipe.ready.clone(),
            is: watch::Sender::new(false),
        };
        let mut is_ready = ready.is.subscribe();
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

        let ready = async {
            if self.recipe.ready.is_none() {
                greets(self.recipe.listens).await;
                return true;
            }
            is_ready.wait_for(|ready| *ready).await.is_ok()
        };
        // `Some(false)`: its outputs are closed, or it ended.
        let listens = tokio::select! {
            ready = tokio::time::timeout(self.recipe.within, ready) => ready.ok(),
            _ = ended.wait_for(Option::is_some) => Some(false),
        };
        if listens == Some(false) {
            // How it ended tells more than that it did.
            let _ = tokio::time::timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await;
        }
        let running = Running {
            recipe: self.recipe.clone(),
            name,
            pid,
            expected,
            ended,
            watch,
        };
        if listens != Some(true) {
            let limit = self.recipe.within.as_secs();
            let what = match running.end(Signal::KILL).await {
                Some(status) => status,
                None => format!("{} within {limit} s", self.recipe.awaited()),
            };
            return Err(format!(
                "{program} did not start: {what}. Its log: {}",
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

    /// Its process here, the first of a container.
    pub async fn process(&self) -> Result<u32, String> {
        let running = self.running.lock().await;
        let running = running.as_ref().ok_or("the target does not run")?;
        let Kind::Container { docker, .. } = &running.recipe.kind else {
            return Ok(running.pid.as_raw_nonzero().get().cast_unsigned());
        };
        let asked = Command::new(docker)
            .args(["inspect", "--format", "{{.State.Pid}}", &running.name])
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| format!("{}: {error}", docker.display()))?;
        let said = String::from_utf8_lossy(&asked.stdout);
        said.trim().parse().map_err(|_| {
            let why = String::from_utf8_lossy(&asked.stderr);
            format!("docker inspect {}: {said}{why}", running.name)
        })
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
            if signal == Signal::KILL {
                self.recipe.kill(self.pid, &self.name).await;
            } else {
                let _ = kill_process(self.pid, signal);
            }
        }
        let ended = tokio::time::timeout(DRAIN_LIMIT, self.ended.wait_for(Option::is_some))
            .await
            .is_ok();
        if !ended {
            // The watch, dropped, ends what is behind a command that hangs.
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.ended.wait_for(Option::is_some).await;
            return before;
        }
        self.recipe.let_go(self.watch);
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

async fn collect(pipe: impl AsyncRead + Unpin, log: Arc<Log>, ready: Ready) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    // A line without an end is cut, or it would fill the memory.
    while (&mut reader)
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|octets| octets > 0)
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        let says_so = ready
            .text
            .as_ref()
            .is_some_and(|ready| text.contains(ready));
        lock(&log.lines).push(text);
        if says_so {
            ready.is.send_replace(true);
        }
    }
}
