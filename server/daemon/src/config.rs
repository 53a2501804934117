//! The configuration, read once: main.cf, master.cf, the table files, sasl/smtpd.conf, pam.d/smtp.
//!
//! Everybody else sees typed values only (`Params`); nobody asks for a parameter by name later.
//! Every mistake is reported with file, line and what was expected; all of them at once.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::tables::Maps;

/// The values of main.cf. One field a parameter, under Postfix's name.
///
/// One row a parameter (name, default, type, what it does) in `config/params.rs` makes this,
/// the defaults, the checks and the manual.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the row of each parameter in config/params.rs documents it")]
pub struct Params {
    pub myhostname: String,
    pub myorigin: String,
    pub mail_name: String,
    pub smtpd_banner: String,
    pub mynetworks: Vec<(IpAddr, u8)>,
    pub recipient_delimiter: Option<char>,
    pub queue_directory: PathBuf,
    pub virtual_mailbox_base: PathBuf,
    pub virtual_alias_maps: Maps,
    pub virtual_alias_domains: Maps,
    pub virtual_mailbox_domains: Maps,
    pub virtual_mailbox_maps: Maps,
    pub virtual_mailbox_limit_maps: Maps,
    pub virtual_uid_maps: Maps,
    pub virtual_gid_maps: Maps,
    pub transport_maps: Maps,
    /// Bytes; 0 is unlimited.
    pub virtual_mailbox_limit: u64,
    pub virtual_mailbox_limit_override: bool,
    pub virtual_maildir_limit_message: String,
    pub virtual_overquota_bounce: bool,
    pub virtual_create_maildirsize: bool,
    /// Also under its later name virtual_maildir_extended: names carry `,S=<size>`.
    pub virtual_mailbox_extended: bool,
    pub virtual_alias_expansion_limit: usize,
    pub virtual_alias_recursion_limit: usize,
    pub message_size_limit: u64,
    pub bounce_size_limit: u64,
    pub hopcount_limit: usize,
    pub minimal_backoff_time: Duration,
    pub maximal_backoff_time: Duration,
    pub queue_run_delay: Duration,
    pub maximal_queue_lifetime: Duration,
    pub bounce_queue_lifetime: Duration,
    /// Zero: no delay notices.
    pub delay_warning_time: Duration,
    pub default_process_limit: usize,
    pub smtp_tcp_port: u16,
    pub smtp_helo_timeout: Duration,
    pub smtp_connect_timeout: Duration,
    pub smtp_mail_timeout: Duration,
    pub smtp_rcpt_timeout: Duration,
    pub smtp_data_init_timeout: Duration,
    pub smtp_data_xfer_timeout: Duration,
    pub smtp_data_done_timeout: Duration,
    pub smtp_quit_timeout: Duration,
    /// none or may (opportunistic, certificate not verified, as Postfix).
    pub smtp_tls_security_level: String,
    pub smtp_destination_recipient_limit: usize,
    pub relayhost: String,
    // ... and what the front (smtpd_*, sasl, tls) needs.
}
