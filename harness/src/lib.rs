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
//! | `plan` | which cases a run consists of |
//! | `environment` | database, target, sinks, name server, certificates |
//! | `wire`, `driver` | our own SMTP client: says what a scenario says, octet by octet |
//! | `mailer` | the everyday client (lettre) |
//! | `probe` | looks where the mail went |
//! | `ledger` | follows every message without being asked |
//! | `verdict` | what a level makes of what was seen |
//! | `event`, `report` | what a run tells, and who hears it |
//! | `runner` | runs the cases side by side |
//! | `cli`, `exit_code`, `serve` | the command |

pub mod environment;
pub mod event;
pub mod fixtures;
pub mod plan;
pub mod scenario;
