//! The parts put together: start, reload, drain.
//!
//! Start: read the configuration, bind, make the folders, give up root, say what is listened on,
//! serve. SIGHUP reads the configuration again for sessions and messages that begin from then on; a
//! configuration with mistakes is reported and the old one kept. SIGTERM or SIGINT: idle sessions
//! hear 421, messages that are being stored are finished, and the exit code is 0.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::auth::Passwords;
use crate::config::{Config, Params, Service, manual};
use crate::connection::Port;
use crate::listener::{self, Bound, Crowd};
use crate::queue::{Queue, Services, tool};
use crate::tls::{Acceptor, Connector};
use crate::{log, privileges};

/// A mistake in the configuration or on the command line.
const EXIT_CONFIGURATION: u8 = 2;

/// A small SMTP server for virtual users, configured by the files with which Postfix is configured.
#[derive(Debug, Parser)]
#[command(name = "vmaild", version)]
struct Arguments {
    /// The folder of main.cf and master.cf.
    #[arg(long, value_name = "DIR", default_value = "/etc/postfix")]
    config: PathBuf,
    /// Read the configuration, report on it, and exit.
    #[arg(long)]
    check: bool,
    /// Ask this name server for mail exchangers, instead of those of /etc/resolv.conf.
    #[arg(long, value_name = "IP:PORT")]
    resolver: Option<SocketAddr>,
    /// List all parameters of main.cf, with what becomes of them.
    #[arg(long)]
    help_parameters: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What is done instead of serving.
#[derive(Debug, Subcommand)]
enum Task {
    /// Look at the queue, or change it; the server may run meanwhile.
    #[command(subcommand)]
    Queue(tool::Command),
}

/// Runs the server with these arguments (the first is the program's name) until it is told to stop.
/// What is wrong with them is said by clap, which then ends the process with the same code 2.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    if arguments.help_parameters {
        let _ = io::stdout().write_all(manual::text().as_bytes());
        return ExitCode::SUCCESS;
    }
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            tell("", &mistakes);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    tell("warning: ", &config.warnings);
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    if let Some(Task::Queue(task)) = &arguments.task {
        let directory = &config.params.queue_directory;
        return match tool::run(directory, task, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tell("", &[format!("queue in {}: {error}", directory.display())]);
                ExitCode::FAILURE
            }
        };
    }
    match start(&arguments, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log!("master", "fatal: {reason}");
            log::flush();
            ExitCode::FAILURE
        }
    }
}

/// One line each, as compilers write them.
fn tell(kind: &str, lines: &[impl Display]) {
    for line in lines {
        let _ = writeln!(io::stderr(), "vmaild: {kind}{line}");
    }
}

/// Everything that needs root and one thread, then the runtime.
fn start(arguments: &Arguments, config: Config) -> Result<(), String> {
    let params = config.params;
    let file = &params.maillog_file;
    log::open(Some(file.as_path()).filter(|file| !file.as_os_str().is_empty()))
        .map_err(|error| format!("maillog_file {}: {error}", file.display()))?;
    let mut services = Vec::new();
    for service in config.services {
        // Keys are often readable for root alone.
        let (bound, certificate) = (listener::bind(&service)?, certificate(&service));
        services.push((service, bound, certificate));
    }
    privileges::give_up(&params)?;
    // From here on there may be threads: they have no more rights than this one.
    log::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("threads: {error}"))?;
    let served = runtime.block_on(serve(arguments, params, services));
    // Whatever hangs in a blocking call is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    log::flush();
    served
}

/// What the sessions of each service are told of it, by its name.
type Ports = HashMap<String, watch::Sender<Arc<Port>>>;

async fn serve(
    arguments: &Arguments,
    params: Arc<Params>,
    services: Vec<(Service, Vec<Bound>, Option<Acceptor>)>,
) -> Result<(), String> {
    let signals = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;

    let params = watch::Sender::new(params);
    let bound = services.iter().flat_map(|(_, bound, _)| bound);
    let opened = Queue::open(Services {
        params: params.subscribe(),
        resolver: arguments.resolver,
        tls: Connector::new().ok(),
        listening: bound.map(|bound| bound.address).collect(),
    });
    let queue = opened.await.map_err(|error| {
        let directory = params.borrow().queue_directory.clone();
        format!("queue_directory {}: {error}", directory.display())
    })?;

    let down = watch::Sender::new(false);
    let crowd = Arc::new(Crowd::default());
    let passwords = Arc::<Passwords>::default();
    let mut ports = Ports::new();
    let mut listeners = JoinSet::new();
    let mut ready = Vec::new();
    for (service, bound, tls) in services {
        let name = service.name.clone();
        let port = watch::Sender::new(Arc::new(Port {
            service,
            tls,
            queue: queue.clone(),
            passwords: passwords.clone(),
        }));
        for Bound { address, socket } in bound {
            let socket = TcpListener::from_std(socket)
                .map_err(|error| format!("cannot listen on {address}: {error}"))?;
            ready.push(format!("{address} ({name})"));
            let (port, crowd) = (port.subscribe(), crowd.clone());
            listeners.spawn(listener::serve(socket, port, crowd, down.subscribe()));
        }
        ports.insert(name, port);
    }
    // For whoever started the server; a parent that closed its end is not interested.
    let (pid, ready) = (std::process::id(), ready.join(", "));
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "vmaild[{pid}]: listening on {ready}").and_then(|()| stdout.flush());

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                log::reopen();
                reload(&arguments.config, &params, &ports);
            }
        }
    }
    let limit = params.borrow().vmaild_drain_time;
    log::line("master", "terminating: open sessions are told");
    down.send_replace(true);
    let sessions = async { while listeners.join_next().await.is_some() {} };
    if timeout(limit, sessions).await.is_err() {
        log!(
            "master",
            "warning: some sessions did not end within {limit:?}"
        );
    }
    queue.drain(limit).await;
    Ok(())
}

/// The certificate; without one, mail is still taken, as Postfix does.
fn certificate(service: &Service) -> Option<Acceptor> {
    let params = &service.params;
    if !params.wants_tls() {
        return None;
    }
    let file = &params.smtpd_tls_cert_file;
    let loaded = if file.as_os_str().is_empty() {
        Err("smtpd_tls_cert_file is not set".to_owned())
    } else {
        Acceptor::load(file, &params.smtpd_tls_key_file)
    };
    let report = |reason: &String| {
        let what = if params.smtpd_tls_wrappermode {
            "no connection can be served"
        } else {
            "TLS is not offered"
        };
        let name = &service.name;
        log!("smtpd", "warning: service {name}: {reason}; {what}");
    };
    loaded.inspect_err(report).ok()
}

/// What counts after a restart only.
fn fixed(params: &Params) -> [(&'static str, String); 7] {
    let shown = |value: &dyn Debug| format!("{value:?}");
    [
        ("queue_directory", shown(&params.queue_directory)),
        ("maillog_file", shown(&params.maillog_file)),
        ("inet_interfaces", shown(&params.inet_interfaces)),
        ("inet_protocols", shown(&params.inet_protocols)),
        ("virtual_uid_maps", shown(&params.virtual_uid_maps.fixed())),
        ("virtual_gid_maps", shown(&params.virtual_gid_maps.fixed())),
        (
            "default_process_limit",
            shown(&params.default_process_limit),
        ),
    ]
}

fn reload(folder: &Path, params: &watch::Sender<Arc<Params>>, ports: &Ports) {
    let config = match Config::read(folder) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes {
                log!("master", "error: {mistake}");
            }
            log::line(
                "master",
                "the configuration has mistakes; the old one stays in force",
            );
            return;
        }
    };
    for warning in &config.warnings {
        log!("master", "warning: {warning}");
    }
    let old = params.send_replace(config.params.clone());
    for ((name, old), (_, new)) in fixed(&old).iter().zip(&fixed(&config.params)) {
        if old != new {
            log!(
                "master",
                "warning: {name} has changed, which counts after a restart only"
            );
        }
    }
    let mut gone: Vec<_> = ports.keys().collect();
    for service in config.services {
        gone.retain(|name| **name != service.name);
        let Some(port) = ports.get(&service.name) else {
            let Service { place, name, .. } = service;
            log!(
                "master",
                "warning: {place}: service {name} begins after a restart only"
            );
            continue;
        };
        let old = port.borrow().clone();
        // A key that only root could read has been read already.
        let had = old.tls.clone().filter(|_| service.params.wants_tls());
        port.send_replace(Arc::new(Port {
            tls: certificate(&service).or(had),
            service,
            queue: old.queue.clone(),
            passwords: old.passwords.clone(),
        }));
    }
    for name in gone {
        log!(
            "master",
            "warning: service {name} is no longer in master.cf; it ends with a restart"
        );
    }
    log::line("master", "reload: the new configuration is in force");
}
