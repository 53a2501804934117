//! The command line: words in, exit code out.
//!
//! It promises: what cannot be understood is answered in plain language with what was expected,
//! and exit code 2; what a person or a script asked for is on standard output, what is said about
//! it on standard error.

mod bench;
mod doctor;
mod init;
mod register;
mod results;
mod run;
mod scenarios;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit_code::ExitCode;
use crate::serve;

/// A conformance suite for mail servers with virtual users.
#[derive(Debug, Parser)]
#[command(name = "vmailspec", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the suite, or a part of it
    #[command(after_help = EXIT_CODES)]
    Run(Box<Run>),
    /// Read scenario files and report every mistake in them
    Check {
        /// Files or folders; none: the scenarios of this binary
        files: Vec<PathBuf>,
    },
    /// Lay out scenario files; what they say stays as it is
    Fmt {
        /// Change nothing; exit code 1 if a file is laid out otherwise
        #[arg(long)]
        check: bool,
        /// Files or folders
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say which rows of the register are covered, unproven and left
    Coverage {
        /// JSON for programs; else tables that are Markdown too
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        folder: Folder,
    },
    /// Say what a clause asks for, why, how it is checked and what proves the check
    Explain {
        /// The clause's id, as `relay.foreign-unauth`
        id: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Begin a scenario from a row of the register; what is left to say is marked in it
    New {
        /// The row's id, as `relay.foreign-unauth`
        id: String,
        /// The file to make; none: DIR/GROUP/NAME.case. It is never overwritten
        file: Option<PathBuf>,
        /// The folder of scenarios
        #[arg(long, value_name = "DIR", default_value = "scenarios")]
        scenarios: PathBuf,
    },
    /// List every clause with its level and claim
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Write the description of a server that runs already, with comments
    Init(Box<init::Init>),
    /// Look whether a target's description fits the server, key by key
    Doctor(Box<Doctor>),
    /// Join the JSON results of the parts of a run (`run --shard`)
    Merge {
        /// What `run --json` wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the whole here, and its sums to standard output
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Known failures: say which entries are stale
        #[arg(long, value_name = "FILE")]
        known: Option<PathBuf>,
    },
    /// Put implementations beside each other: groups of clauses, and all clauses
    Matrix {
        /// What `run --json` or `merge` wrote, a file an implementation
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write Markdown here instead of to standard output
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        /// Write a page of HTML
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Start the reference server, on the tutorial's data or by a folder of configuration
    Serve(Serve),
    /// Measure: the reference server beside another one, or its cold start and the suite's time
    Bench(Bench),
}

const EXIT_CODES: &str = "Exit codes:
  0    every required clause held
  1    a required clause is broken
  2    the command line, a scenario or the list of known failures cannot be understood
  3    the environment could not be made, nothing ran, or a required clause could not be seen
  4    the list of known failures is stale
  70   a defect of vmailspec
  130  interrupted";

/// `vmailspec run`
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[derive(Debug, Clone, Args)]
struct Run {
    /// Clause ids, names of scenarios or cases, patterns with * and ?; none: everything.
    /// smtp://user:password@host:port (or smtps://): that server, of which no more is known
    #[arg(value_name = "SELECTION|URL")]
    selection: Vec<String>,
    /// auto, docker, local, embedded, or mysql://user:password@host/database
    #[arg(long, default_value = "auto")]
    database: String,
    #[command(flatten)]
    image: Image,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write TAP
    #[arg(long, value_name = "FILE")]
    tap: Option<PathBuf>,
    /// A SHOULD that is not followed is broken
    #[arg(long)]
    strict: bool,
    /// End with the first case that is broken
    #[arg(long)]
    fail_fast: bool,
    /// The server to judge: a description (fixtures/targets/README.md); none: the reference server
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    black_box: BlackBox,
    /// A server that runs already: also what is load, and what clients are banned for
    #[arg(long)]
    intrusive: bool,
    /// Only each N-th case, beginning with the K-th: a part for one of N machines (`merge` joins them)
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Known failures: a file of lines `PATTERN  REASON  DATE  [LINK]`
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Cases at once
    #[arg(long, value_name = "N", default_value_t = 12)]
    jobs: usize,
    #[command(flatten)]
    folder: Folder,
    /// Make a wrong server: main.cf lines (*.cf) or rules for the wire (*.wire); *.source: `ci/proof NAME`
    #[arg(long, value_name = "FILE")]
    wrong: Vec<PathBuf>,
    /// Leave the temporary folder for a look
    #[arg(long)]
    keep: bool,
    /// Only list the cases
    #[arg(long)]
    list: bool,
    /// Also say what was declined or noted, and all that is unsupported
    #[arg(long, short)]
    verbose: bool,
}

/// `vmailspec bench`
#[derive(Debug, Clone, Args)]
struct Bench {
    /// How often to measure; what is printed is the median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// A folder of scenarios instead of those in this binary
    #[arg(long, value_name = "DIR", conflicts_with = "against")]
    scenarios: Option<PathBuf>,
    /// Measure speed and memory beside the server that FILE describes, on the same load
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// With --against: docker or local
    #[arg(long, default_value = "docker", requires = "against")]
    database: String,
    #[command(flatten)]
    image: Image,
    /// With --against: messages of one measurement with 20 sessions
    #[arg(long, value_name = "N", default_value_t = 2000, requires = "against")]
    messages: usize,
    /// With --against: rows of the larger table `users`
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        requires = "against"
    )]
    rows: usize,
    /// With --against: messages in the full Maildir
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        requires = "against"
    )]
    mailbox: usize,
    /// With --against: idle sessions beside 500 active ones, with the reference server
    #[arg(long, value_name = "N", default_value_t = 5000, requires = "against")]
    idle: usize,
    /// With --against: only this part
    #[arg(long, value_name = "PART", requires = "against", value_parser = ["speed", "fsync", "memory", "idle"])]
    only: Option<String>,
}

/// `vmailspec doctor`
#[derive(Debug, Clone, Args)]
struct Doctor {
    /// smtp://user:password@host:port, or smtps://
    #[arg(required_unless_present = "target", conflicts_with = "target")]
    url: Option<String>,
    /// The description
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    /// As of `run`
    #[arg(long, default_value = "auto")]
    database: String,
    #[command(flatten)]
    image: Image,
    #[command(flatten)]
    black_box: BlackBox,
}

/// Which database server is started.
#[derive(Debug, Clone, Args)]
struct Image {
    /// The image for `docker`
    #[arg(
        long,
        value_name = "IMAGE",
        env = "VMAILSPEC_DATABASE_IMAGE",
        default_value = "mysql:8.4"
    )]
    database_image: String,
}

/// Where scenarios and their register come from.
#[derive(Debug, Clone, Args)]
struct Folder {
    /// A folder of scenarios instead of those in this binary
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

/// What is said beside a URL.
#[derive(Debug, Clone, Args)]
struct BlackBox {
    /// With a URL: the account's password is the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// With a URL: whose certificates are taken: public, any, or a file with its own or an authority's (PEM)
    #[arg(long, value_name = "WORD|FILE", default_value = "public")]
    certificates: String,
    /// With a URL: the name in the server's certificate, if it is not the URL's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once('/')
        .and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts
        .filter(|(k, n)| (1..=*n).contains(k))
        .ok_or_else(|| "expected K/N, as 1/4 to 4/4".to_owned())
}

/// `vmailspec serve`
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The folder with main.cf and master.cf; none: the tutorial's data, to try out
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// With --config: ask this name server for mail exchangers
    #[arg(long, value_name = "IP:PORT", requires = "config")]
    pub resolver: Option<SocketAddr>,
    /// Without --config: listen on this port of 127.0.0.1 too
    #[arg(long, value_name = "PORT", conflicts_with = "config")]
    pub port: Option<u16>,
}

/// The whole command.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> std::process::ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody reads what is said: nothing is left to do about it.
            let _ = error.print();
            let code = if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Held
            };
            return code.into();
        }
    };
    // A panic has said its words already; what it must not do is look like a verdict.
    std::panic::catch_unwind(move || commanded(arguments.command))
        .unwrap_or_else(|_| ExitCode::Defect.into())
}

fn commanded(command: Command) -> std::process::ExitCode {
    let code = match command {
        Command::Serve(Serve {
            config: Some(config),
            resolver,
            ..
        }) => {
            return serve::configured(&config, resolver);
        }
        Command::Run(run) => run::run(&run),
        Command::Init(said) => init::init(*said),
        Command::Doctor(said) => run::examined(&said),
        Command::Merge { files, json, known } => {
            results::merge(&files, json.as_deref(), known.as_deref())
        }
        Command::Matrix {
            files,
            markdown,
            html,
        } => results::matrix(&files, markdown.as_deref(), html.as_deref()),
        Command::Check { files } => scenarios::check(&files),
        Command::Fmt { check, files } => scenarios::fmt(&files, check),
        Command::Explain { id, folder } => register::explain(&id, folder.scenarios.as_deref()),
        Command::New {
            id,
            file,
            scenarios,
        } => register::new(&id, file.as_deref(), &scenarios),
        Command::Coverage { json, folder } => register::coverage(folder.scenarios.as_deref(), json),
        Command::List { folder } => scenarios::list(folder.scenarios.as_deref()),
        Command::Serve(Serve { port, .. }) => in_runtime(serve::tutorial(port)),
        Command::Bench(bench) => in_runtime(bench::bench(bench)),
    };
    match code {
        Ok(code) => code.into(),
        Err(Failed { code, text }) => {
            complain(&text);
            code.into()
        }
    }
}

/// Why a command ended early: what to say, and the exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: ExitCode,
    pub(crate) text: String,
}

impl Failed {
    pub(crate) fn new(code: ExitCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<crate::environment::EnvironmentError> for Failed {
    fn from(error: crate::environment::EnvironmentError) -> Self {
        let code = match &error {
            crate::environment::EnvironmentError::Usage(_) => ExitCode::Usage,
            crate::environment::EnvironmentError::Unavailable(_) => ExitCode::Environment,
        };
        Self::new(code, error.to_string())
    }
}

/// What commands come to.
pub(crate) type Ended = Result<ExitCode, Failed>;

fn in_runtime(work: impl Future<Output = Ended>) -> Ended {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(ExitCode::Environment, format!("no threads: {error}")))?;
    let ended = runtime.block_on(work);
    // What hangs in a thread must not keep the command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ended
}

/// A line on standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "vmailspec: {text}");
}

/// Lines on standard output; false: nobody reads them any more.
pub(crate) fn print(text: &str) -> bool {
    std::io::stdout().lock().write_all(text.as_bytes()).is_ok()
}
