//! `vmailspec run`: scenarios, plan, environment, runner, reports, exit code.

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::{Ended, Failed, Run, complain, in_runtime, print, scenarios};
use crate::environment::database::url::redacted;
use crate::environment::outside::{self, Secret};
use crate::environment::{Description, Environment, Left, Options};
use crate::event::{CaseResult, Event};
use crate::exit_code::ExitCode;
use crate::known::Known;
use crate::plan::{Case, Plan, PlanError};
use crate::report::Report;
use crate::report::json::Json;
use crate::report::junit::Junit;
use crate::report::summary::Summary;
use crate::report::tap::Tap;
use crate::report::terminal::{Look, Terminal};
use crate::runner::{self, Settings};
use crate::wire::Trust;
use crate::wrong::Wrong;

pub(super) fn run(arguments: &Run) -> Ended {
    let (url, selection) = split(&arguments.selection)?;
    let mut cases = planned(arguments.folder.scenarios.as_deref(), &selection)?;
    if let Some((k, n)) = arguments.shard {
        cases = cases.into_iter().skip(k - 1).step_by(n).collect();
    }
    if arguments.list {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        print(&format!(
            "{}
",
            names.join(
                "
"
            )
        ));
        return Ok(ExitCode::Held);
    }
    let usage = |text: String| Failed::new(ExitCode::Usage, text);
    let target = match (&arguments.target, url) {
        (Some(_), Some(_)) => {
            return Err(usage(
                "a URL beside --target: expected one of them".to_owned(),
            ));
        }
        (None, Some(url)) => black_box(url, &arguments.black_box).map_err(usage)?,
        (Some(file), None) => Description::read(file).map_err(usage)?,
        (None, None) => {
            Description::reference().map_err(|why| Failed::new(ExitCode::Defect, why))?
        }
    };
    let list = arguments.known.clone().or_else(|| target.known.clone());
    let known = list
        .as_deref()
        .map(Known::read)
        .transpose()
        .map_err(usage)?;
    let (wire, wrong): (Vec<PathBuf>, Vec<PathBuf>) = arguments
        .wrong
        .iter()
        .cloned()
        .partition(|path| path.extension().is_some_and(|end| end == "wire"));
    let mut rules = Vec::new();
    for path in &wire {
        rules.extend(Wrong::read(path).map_err(usage)?);
    }
    if let Some(source) = wrong
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "source"))
    {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        return Err(usage(format!(
            "--wrong {}: a change of the server's source has to be built first: `ci/proof {name}` does both",
            source.display()
        )));
    }
    if let Some(missing) = wrong.iter().find(|path| !path.is_file()) {
        return Err(usage(format!(
            "--wrong {}: there is no such file",
            missing.display()
        )));
    }
    let reports = reports(arguments)?;
    let run = run_name();
    let settings = Settings {
        jobs: arguments.jobs,
        strict: arguments.strict,
        known: known.clone().unwrap_or_default(),
        wrong: (!wire.is_empty()).then(|| Wrong::new(rules)),
        run: run.clone(),
        fail_fast: arguments.fail_fast,
    };
    let options = Options {
        target,
        database: arguments.database.clone(),
        database_image: arguments.image.database_image.clone(),
        keep: arguments.keep,
        intrusive: arguments.intrusive,
        run,
        wrong,
    };
    let played = in_runtime_value(play(&options, cases, settings, reports))??;
    let whole = selection.is_empty() && arguments.shard.is_none() && !played.failed_fast;
    let stale = known.unwrap_or_default().stale(&played.results, whole);
    let list = list.as_deref().unwrap_or_else(|| Path::new(""));
    Ok(concluded(&played, &stale, list, arguments.strict))
}

/// The URL among the words, and the rest.
fn split(words: &[String]) -> Result<(Option<&str>, Vec<String>), Failed> {
    let (urls, rest): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| word.contains("://"));
    if urls.len() > 1 {
        return Err(Failed::new(
            ExitCode::Usage,
            "several URLs: expected one server",
        ));
    }
    // A selection has no `@` outside of brackets; what was meant may hold a password.
    let slip = |word: &&&String| {
        word.split('[')
            .next()
            .is_some_and(|name| name.contains('@'))
    };
    if let Some(word) = rest.iter().find(slip) {
        let place = word.rsplit('@').next().unwrap_or_default();
        return Err(Failed::new(
            ExitCode::Usage,
            format!("`…@{place}`: expected smtp://user:password@host:port, or a selection"),
        ));
    }
    let url = urls.first().map(|url| url.as_str());
    Ok((url, rest.into_iter().cloned().collect()))
}

/// Where the password of a URL's account may stand.
const PASSWORD_VARIABLE: &str = "VMAILSPEC_PASSWORD";

/// The server of a URL. What is wrong is said without the password.
pub(super) fn black_box(url: &str, said: &super::BlackBox) -> Result<Description, String> {
    let shown = redacted(url);
    let password = match &said.password_file {
        Some(file) => {
            Some(outside::secret_file(file).map_err(|why| format!("--password-file {why}"))?)
        }
        // For an account that the URL names without a password.
        None => std::env::var(PASSWORD_VARIABLE)
            .ok()
            .filter(|_| {
                let login = url.rsplit_once('@').map_or("", |(login, _)| login);
                login.matches(':').count() == 1
            })
            .map(Secret),
    };
    let trust = Trust::read(&said.certificates, Path::new(""))
        .map_err(|why| format!("--certificates {why}"))?;
    let mut outside =
        outside::black_box(url, trust, password).map_err(|why| format!("{shown}: {why}"))?;
    if let Some(name) = &said.name {
        outside.hostname.clone_from(name);
        outside.is_named = true;
    }
    Ok(Description::black_box(&shown, outside))
}

/// `vmailspec doctor`
pub(super) fn examined(said: &super::Doctor) -> Ended {
    let usage = |text: String| Failed::new(ExitCode::Usage, text);
    let target = match (&said.target, &said.url) {
        (Some(file), _) => Description::read(file).map_err(usage)?,
        (None, Some(url)) => black_box(url, &said.black_box).map_err(usage)?,
        (None, None) => return Err(usage("expected --target FILE or a URL".to_owned())),
    };
    let options = Options {
        target,
        database: said.database.clone(),
        database_image: said.image.database_image.clone(),
        keep: false,
        intrusive: false,
        run: run_name(),
        wrong: Vec::new(),
    };
    in_runtime(super::doctor::doctor(&options))
}

/// The exit code of a run that was played, and the last words about it.
fn concluded(played: &Played, stale: &[String], list: &Path, strict: bool) -> ExitCode {
    for line in stale {
        complain(&format!("{}: {line}", list.display()));
    }
    if let Some(why) = &played.unwritten {
        complain(&format!("a report could not be written: {why}"));
    }
    if !played.left.names.is_empty() {
        let why = played.left.why.as_deref();
        complain(&format!(
            "the server's queue still holds {} of this run's messages, and delivers them or gives \
             them up by itself{}: {}",
            played.left.names.len(),
            why.map_or(String::new(), |why| format!(" ({why})")),
            played.left.names.join(" ")
        ));
    }
    let mut summary = Summary::default();
    for case in &played.results {
        summary.add(case, strict);
    }
    if played.defects > 0 {
        ExitCode::Defect
    } else if played.failed_fast {
        complain("ended with the first broken case (--fail-fast)");
        ExitCode::Broken
    } else if played.interrupted {
        ExitCode::Interrupted
    } else if played.unwritten.is_some() {
        ExitCode::Environment
    } else {
        summary.exit_code(stale.len())
    }
}

/// The cases that were asked for.
pub(super) fn planned(folder: Option<&Path>, selection: &[String]) -> Result<Vec<Case>, Failed> {
    Plan::new(scenarios::read(folder)?, selection).map_err(|error| {
        let code = match &error {
            PlanError::Unknown(_) => ExitCode::Usage,
            PlanError::Nothing => ExitCode::Environment,
        };
        Failed::new(code, error.to_string())
    })
}

type Reports = Vec<Box<dyn Report + Send>>;

fn reports(arguments: &Run) -> Result<Reports, Failed> {
    let look = Look {
        tty: std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
        strict: arguments.strict,
        verbose: arguments.verbose,
    };
    let mut reports: Reports = vec![Box::new(Terminal::new(std::io::stdout(), look))];
    // Files are made before the run: a slip in a path should not cost one.
    let file = |path: &PathBuf| {
        File::create(path).map(BufWriter::new).map_err(|error| {
            Failed::new(
                ExitCode::Usage,
                format!("cannot write {}: {error}", path.display()),
            )
        })
    };
    if let Some(path) = &arguments.junit {
        reports.push(Box::new(Junit::new(file(path)?)));
    }
    if let Some(path) = &arguments.json {
        reports.push(Box::new(
            Json::new(file(path)?, arguments.strict).dated(now()),
        ));
    }
    if let Some(path) = &arguments.tap {
        reports.push(Box::new(Tap::new(file(path)?)));
    }
    Ok(reports)
}

/// As RFC 3339 writes it, to the second.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) results: Vec<CaseResult>,
    pub(super) defects: usize,
    pub(super) interrupted: bool,
    failed_fast: bool,
    pub(super) took: std::time::Duration,
    unwritten: Option<String>,
    left: Left,
}

/// Makes the environment, runs the cases in it, ends it.
pub(super) async fn play(
    options: &Options,
    cases: Vec<Case>,
    settings: Settings,
    mut reports: Reports,
) -> Result<Played, Failed> {
    let notes = Mutex::new(Vec::new());
    let say = |line: String| {
        if let Ok(mut notes) = notes.lock() {
            notes.push(line);
        }
    };
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(signals(stop.clone()));
    let fail_fast = settings.fail_fast;
    let mut ended_early = stopped.clone();
    let mut made = std::pin::pin!(Environment::start(options, &say));
    let environment = tokio::select! {
        made = &mut made => Arc::new(made?),
        _ = ended_early.wait_for(|stop| *stop) => {
            // Whatever it has written elsewhere by now is removed by it alone. Every step has a limit.
            if options.target.outside().is_some() && let Ok(environment) = made.await {
                environment.stop().await;
            }
            return Ok(Played { interrupted: true, ..Played::default() });
        }
    };
    let mut played = Played::default();
    let started = Event::Started {
        target: environment.target_name(),
        database: environment.database_name(),
        cases: cases.len(),
        notes: notes.lock().map(|notes| notes.clone()).unwrap_or_default(),
    };
    hear(&mut reports, &started, &mut played);
    let (events, mut heard) = mpsc::unbounded_channel();
    let runner = tokio::spawn(runner::run(
        Arc::clone(&environment),
        cases,
        settings,
        events,
        stopped,
    ));
    while let Some(event) = heard.recv().await {
        hear(&mut reports, &event, &mut played);
        match event {
            Event::Finished(case) => {
                if fail_fast && case.is_broken() {
                    played.failed_fast = true;
                    let _ = stop.send(true);
                }
                played.results.push(*case);
            }
            Event::Defect { .. } => played.defects += 1,
            Event::Ended { took, interrupted } => {
                played.interrupted = interrupted;
                played.took = took;
            }
            Event::Started { .. } => {}
        }
    }
    if runner.await.is_err() {
        played.defects += 1;
    }
    played.left = environment.clear_queue().await;
    // No case runs any more, so nobody else holds it; if one did, dropping ends it too.
    if let Ok(environment) = Arc::try_unwrap(environment) {
        environment.stop().await;
    }
    // Until here, a second signal ends it at once.
    signals.abort();
    Ok(played)
}

fn hear(reports: &mut Reports, event: &Event, played: &mut Played) {
    for report in reports {
        if let Err(error) = report.hear(event) {
            // A reader that went away (`vmailspec run | head`) is no reason to stop judging.
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                played.unwritten.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// The first Ctrl-C (or SIGTERM) ends the run in order, the second at once.
async fn signals(stop: watch::Sender<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the process as they always did.
        std::future::pending::<()>().await;
        return;
    };
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            complain("interrupted: ending the cases and the environment (again: at once)");
            let _ = stop.send(true);
        } else {
            std::process::exit(ExitCode::Interrupted as i32);
        }
    }
}

fn in_runtime_value<T>(work: impl Future<Output = T>) -> Result<T, Failed> {
    let mut value = None;
    in_runtime(async {
        value = Some(work.await);
        Ok(ExitCode::Held)
    })?;
    value.ok_or_else(|| Failed::new(ExitCode::Defect, "the run came to no end"))
}

/// A name that no other run on this machine has: it begins every token.
pub(super) fn run_name() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "v{:x}p{:x}",
        now.as_millis() & 0xffff_ffff,
        std::process::id()
    )
}
