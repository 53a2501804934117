//! `vmailspec`: a conformance suite for mail servers with virtual users.
//!
//! ```text
//! text ─ scenario ─ plan ─ environment ─ driver ⇄ target              ┌ terminal
//!                            │           └ probes ─ verdict ─ event ──┼ junit json
//!                            └ database, gate, sink, dns              └
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `scenario` | the language: read, checked, printed |
//! | `register` | every case that is wanted, and what is left |
//! | `plan` | which cases a run consists of |
//! | `environment` | database, target, sinks, name server, certificates |
//! | `wire`, `driver` | our own SMTP client: says what a scenario says, octet by octet |
//! | `mailer` | the everyday client (lettre) |
//! | `probe` | looks where the mail went |
//! | `ledger` | follows every message without being asked |
//! | `verdict` | what a level makes of what was seen |
//! | `event`, `report` | what a run tells, and who hears it |
//! | `known` | failures that are known, as data with reasons |
//! | `runner` | runs the cases side by side |
//! | `wrong` | breaks the wire, to prove that the checks can fail |
//! | `cli`, `exit_code`, `serve` | the command |

pub mod cli;
pub mod driver;
pub mod environment;
pub mod event;
pub mod exit_code;
pub mod fixtures;
pub mod known;
pub mod ledger;
pub mod mailer;
pub mod names;
pub mod plan;
pub mod probe;
pub mod register;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod serve;
pub mod verdict;
pub mod wire;
pub mod wrong;
