//! `vmaild`: a minimal reference SMTP server for virtual users in MySQL.
//!
//! It is configured by the files with which Postfix is configured, and does everything that the
//! tutorial's setup does. `ARCHITECTURE.md` has the picture, and one line a module.

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
