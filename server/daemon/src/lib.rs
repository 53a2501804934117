//! `vmaild`: a minimal reference SMTP server for virtual users in MySQL.
//!
//! It is configured by the files with which Postfix is configured, and does everything that the
//! tutorial's setup does. `ARCHITECTURE.md` has the picture; one line a module here:
//!
//! | module | what it is |
//! |---|---|
//! | `config` | main.cf, master.cf and the table files, read once into typed values |
//! | `tables` | lookups: `mysql:`, `sqlite:`, `static:`, `inline:`, `proxy:` |
//! | `auth` | a password against a crypt(3) hash (saslauthd and pam_mysql of the tutorial) |
//! | `policy` | who may send where; where a recipient's mail goes |
//! | `tls` | certificates; the only module that names rustls |
//! | `listener`, `connection` | ports and sessions; the protocol meets a socket here |
//! | `aliases` | virtual alias expansion |
//! | `message` | the headers that the server adds; loops by hop count |
//! | `queue` | a message on disk from its 250 until nothing is left to do |
//! | `delivery` | Maildir, quota, next hop, bounce |
//! | `durable` | flushes to disk, where a test can see them |
//! | `privileges` | from root to the user that owns the mailboxes |
//! | `fuzz` | what holds for any input; only for cargo-fuzz and tests |
//! | `log` | log lines as Postfix writes them |
//! | `server` | the parts put together; start, reload, drain |

pub mod aliases;
pub mod auth;
pub mod config;
pub mod connection;
pub mod delivery;
mod durable;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod listener;
pub mod log;
pub mod message;
pub mod policy;
mod privileges;
pub mod queue;
pub mod server;
pub mod tables;
pub mod tls;

pub(crate) use self::log::log;
pub use server::run;
