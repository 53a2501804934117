//! The parts put together: start, reload, drain.
//!
//! Start: read the configuration, bind, make the folders, give up root, say what is listened on,
//! serve. SIGHUP reads the configuration again for sessions and messages that begin from then on; a
//! configuration with mistakes is reported and the old one kept. SIGTERM or SIGINT: idle sessions
//! hear 421, messages that are being stored are finished, and the exit code is 0.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::auth::Passwords;
use crate::config::{Config, Mistake, Params, Service, manual};
use crate::connection::Port;
use crate::listener::{self, Bound, Crowd};
use crate::queue::{Queue, Services, tool};
use crate::tables::Maps;
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
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_CONFIGURATION)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if arguments.help_parameters {
        let _ = io::stdout().lock().write_all(manual::text().as_bytes());
        return ExitCode::SUCCESS;
    }
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            let _ = io::stderr()
                .lock()
                .write_all(report("error", &mistakes).as_bytes());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let _ = io::stderr()
        .lock()
        .write_all(report("warning", &config.warnings).as_bytes());
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    if let Some(Task::Queue(task)) = arguments.task {
        let directory = &config.params.queue_directory;
        return match tool::run(directory, &task, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let reason = format!("vmaild: queue in {}: {error}\n", directory.display());
                let _ = io::stderr().lock().write_all(reason.as_bytes());
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

/// One line a mistake, as compilers write them.
fn report(kind: &str, mistakes: &[Mistake]) -> String {
    let lines = mistakes.iter().map(|mistake| match kind {
        "error" => format!("vmaild: {mistake}\n"),
        kind => format!("vmaild: {kind}: {mistake}\n"),
    });
    lines.collect()
}

/// Everything that needs root and one thread, then the runtime.
fn start(arguments: &Arguments, config: Config) -> Result<(), String> {
    let file = &config.params.maillog_file;
    log::open(Some(file.as_path()).filter(|file| !file.as_os_str().is_empty()))
        .map_err(|error| format!("maillog_file {}: {error}", file.display()))?;
    let mut bound = Vec::new();
    for service in &config.services {
        bound.extend(listener::bind(service)?);
    }
    // Keys are often readable for root alone.
    let certificates = config.services.iter().map(certificate).collect();
    privileges::give_up(&config.params)?;
    // From here on there may be threads: they have no more rights than this one.
    log::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("threads: {error}"))?;
    let served = runtime.block_on(serve(arguments, config, bound, certificates));
    // Whatever hangs in a blocking call is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    log::flush();
    served
}

async fn serve(
    arguments: &Arguments,
    config: Config,
    bound: Vec<Bound>,
    certificates: Vec<Option<Acceptor>>,
) -> Result<(), String> {
    let signals = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;

    let (params, for_queue) = watch::channel(Arc::clone(&config.params));
    let listening = bound.iter().map(|bound| bound.address).collect();
    let services = Services {
        params: for_queue,
        resolver: arguments.resolver,
        tls: Connector::new().ok(),
        listening,
    };
    let queue = Queue::open(services).await.map_err(|error| {
        format!(
            "queue_directory {}: {error}",
            config.params.queue_directory.display()
        )
    })?;
    let shared = Shared {
        queue: queue.clone(),
        passwords: Arc::default(),
    };

    let (down, is_down) = watch::channel(false);
    let crowd = Arc::new(Crowd::default());
    let mut ports: HashMap<String, watch::Sender<Arc<Port>>> = HashMap::new();
    let mut listeners = JoinSet::new();
    let ready: Vec<_> = bound
        .iter()
        .map(|bound| format!("{} ({})", bound.address, bound.service))
        .collect();
    for (service, certificate) in config.services.into_iter().zip(certificates) {
        let name = service.name.clone();
        ports.insert(name, watch::Sender::new(shared.port(service, certificate)));
    }
    for bound in bound {
        let Some(port) = ports.get(&bound.service) else {
            continue;
        };
        listeners.spawn(listener::serve(
            bound,
            port.subscribe(),
            Arc::clone(&crowd),
            is_down.clone(),
        ));
    }
    say_ready(&ready.join(", "));

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                log::reopen();
                reload(&arguments.config, &shared, &params, &ports);
            }
        }
    }
    let limit = params.borrow().vmaild_drain_time;
    log::line("master", "terminating: open sessions are told");
    down.send_replace(true);
    let sessions = async { while listeners.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, sessions).await.is_err() {
        log!(
            "master",
            "warning: some sessions did not end within {limit:?}"
        );
    }
    queue.drain(limit).await;
    Ok(())
}

/// What outlives a reload.
struct Shared {
    queue: Arc<Queue>,
    passwords: Arc<Passwords>,
}

impl Shared {
    fn port(&self, service: Service, tls: Option<Acceptor>) -> Arc<Port> {
        let (queue, passwords) = (self.queue.clone(), Arc::clone(&self.passwords));
        Arc::new(Port {
            service,
            tls,
            queue,
            passwords,
        })
    }
}

/// The certificate; without one, mail is still taken, as Postfix does.
fn certificate(service: &Service) -> Option<Acceptor> {
    if !service.params.wants_tls() {
        return None;
    }
    let Params {
        smtpd_tls_cert_file: certificate,
        smtpd_tls_key_file: key,
        smtpd_tls_wrappermode,
        ..
    } = &*service.params;
    let loaded = if certificate.as_os_str().is_empty() {
        Err("smtpd_tls_cert_file is not set".to_owned())
    } else {
        Acceptor::load(certificate, key)
    };
    loaded
        .map_err(|reason| {
            let what = if *smtpd_tls_wrappermode {
                "no connection can be served"
            } else {
                "TLS is not offered"
            };
            log!(
                "smtpd",
                "warning: service {}: {reason}; {what}",
                service.name
            );
        })
        .ok()
}

fn reload(
    folder: &Path,
    shared: &Shared,
    params: &watch::Sender<Arc<Params>>,
    ports: &HashMap<String, watch::Sender<Arc<Port>>>,
) {
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
    let (old, new) = (params.borrow().clone(), &config.params);
    let fixed = |maps: fn(&Params) -> &Maps| maps(&old).fixed() == maps(new).fixed();
    let same = [
        (
            "queue_directory",
            old.queue_directory == new.queue_directory,
        ),
        ("maillog_file", old.maillog_file == new.maillog_file),
        (
            "inet_interfaces",
            old.inet_interfaces == new.inet_interfaces,
        ),
        ("inet_protocols", old.inet_protocols == new.inet_protocols),
        ("virtual_uid_maps", fixed(|params| &params.virtual_uid_maps)),
        ("virtual_gid_maps", fixed(|params| &params.virtual_gid_maps)),
        (
            "default_process_limit",
            old.default_process_limit == new.default_process_limit,
        ),
    ];
    for (name, _) in same.into_iter().filter(|(_, same)| !same) {
        log!(
            "master",
            "warning: {name} has changed, which counts after a restart only"
        );
    }
    params.send_replace(config.params);
    let mut old: Vec<_> = ports.keys().collect();
    for service in config.services {
        old.retain(|name| **name != service.name);
        match ports.get(&service.name) {
            Some(port) => {
                // A key that only root could read has been read already.
                let old = port
                    .borrow()
                    .tls
                    .clone()
                    .filter(|_| service.params.wants_tls());
                let tls = certificate(&service).or(old);
                port.send_replace(shared.port(service, tls));
            }
            None => log!(
                "master",
                "warning: {}: service {} begins after a restart only",
                service.place,
                service.name
            ),
        }
    }
    for name in old {
        log!(
            "master",
            "warning: service {name} is no longer in master.cf; it ends with a restart"
        );
    }
    log::line("master", "reload: the new configuration is in force");
}

/// Tells whoever started the server that clients can connect.
fn say_ready(ports: &str) {
    let pid = std::process::id();
    let mut stdout = io::stdout().lock();
    // A parent that closed its end is not interested.
    let _ = writeln!(stdout, "vmaild[{pid}]: listening on {ports}").and_then(|()| stdout.flush());
}
