//! One row a parameter. From it come the field of `Params`, the default, the checks and the manual
//! (MANUAL.md, `vmaild --help-parameters`).
//!
//! Three kinds of rows: honoured; of no consequence here, so passed over quietly; and not honoured,
//! which is warned about where it is set. A name without a row is warned about as unknown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::main_cf::Settings;
use super::mistake::Mistake;
use super::reader::Reader;
use super::values::{self, Value};
use crate::policy::restrictions::Restriction;
use crate::tables::Maps;

/// An address and how many of its bits count.
pub type Network = (IpAddr, u8);

/// postconf(5) inet_interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// Every address that the machine has.
    All,
    /// These.
    These(Vec<IpAddr>),
}

/// postconf(5) inet_protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Protocols {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Interfaces {
    /// The address is surely one of the server's own.
    pub fn includes(&self, ip: IpAddr) -> bool {
        match self {
            Self::All => ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST,
            Self::These(list) => list.contains(&ip),
        }
    }

    /// What to listen on.
    pub fn addresses(&self, protocols: Protocols) -> Vec<IpAddr> {
        match self {
            // [::] takes IPv4 as well; the listener falls back where there is no IPv6.
            Self::All if protocols.ipv6 => vec![Ipv6Addr::UNSPECIFIED.into()],
            Self::All => vec![Ipv4Addr::UNSPECIFIED.into()],
            Self::These(list) => {
                let Protocols { ipv4, ipv6 } = protocols;
                let is_spoken = |ip: &&IpAddr| (ipv4 && ip.is_ipv4()) || (ipv6 && ip.is_ipv6());
                list.iter().filter(is_spoken).copied().collect()
            }
        }
    }
}

/// postconf(5) smtpd_tls_security_level, smtp_tls_security_level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsLevel {
    /// Not set: smtpd_use_tls decides; to next hops it is none.
    Unset,
    /// No TLS.
    None,
    /// TLS is offered.
    May,
    /// No mail without TLS.
    Encrypt,
}

/// One parameter that is honoured.
pub(crate) struct Row {
    /// Postfix's name, or one that begins with `vmaild_`.
    pub(crate) name: &'static str,
    /// Before expansion.
    pub(crate) default: &'static str,
    pub(crate) kind: &'static str,
    /// The least number or seconds.
    pub(crate) least: u64,
    pub(crate) what: &'static str,
    /// What Postfix does otherwise; empty where nothing.
    pub(crate) differs: &'static str,
}

macro_rules! parameters {
    ($($name:ident: $kind:ty = $default:literal $(, at least $least:literal)?; $what:literal $(, but $differs:literal)?)*) => {
        /// The values of main.cf. One field a parameter, under Postfix's name.
        #[derive(Debug, Clone)]
        pub struct Params {
            $(#[doc = $what] pub $name: $kind,)*
        }

        pub(super) static HONOURED: &[Row] = &[$(Row {
            name: stringify!($name),
            default: $default,
            kind: <$kind as Value>::KIND,
            least: 0 $(+ $least)?,
            what: $what,
            differs: concat!("" $(, $differs)?),
        }),*];

        impl Params {
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $(let $name = reader.value::<$kind>(stringify!($name));)*
                Some(Self { $($name: $name?),* })
            }
        }
    };
}

parameters! {
    myhostname: String = "$system_hostname"; "The server's name: in the greeting, in Received and in notices."
    mydomain: String = "$parent_of_myhostname"; "The domain that the server is in; used by other values."
    myorigin: String = "$myhostname"; "The domain of names without one. The path of a file means its first line."
    mail_name: String = "Postfix"; "The name of the mail system in the greeting and in Received."
    smtpd_banner: String = "$myhostname ESMTP $mail_name"; "The greeting after 220."
    inet_interfaces: Interfaces = "all"; "The addresses on which services without a host listen: all, loopback-only, or a list."
    inet_protocols: Protocols = "all"; "all, ipv4 or ipv6."
    mynetworks: Vec<Network> = "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"; "Clients that permit_mynetworks trusts.", but "the default has the machine's other addresses in it as well"
    mydestination: Maps = "$myhostname, localhost.$mydomain, localhost"; "Domains of the server itself: forwardings and postmaster only, for there are no system users here."
    relay_domains: Maps = ""; "Domains, with those below them, for which mail is taken from everybody and passed on.", but "relay_recipient_maps says which recipients are taken; here all are"
    relayhost: String = ""; "The next hop of all mail that has none of its own."
    recipient_delimiter: Option<char> = ""; "What separates user from extension: user+extension@domain.", but "several characters may be given"
    queue_directory: PathBuf = "/var/spool/postfix"; "Where mail waits."
    queue_minfree: u64 = "0"; "No mail is taken where fewer bytes are free for the queue; nor where it is less than one and a half of the largest message."
    maillog_file: PathBuf = ""; "The log file; without it the log goes to standard error.", but "without it, syslog"
    default_process_limit: usize = "100", at least 1; "Deliveries at once.", but "the processes of each service"
    virtual_alias_maps: Maps = ""; "Forwardings: an address to a list of addresses."
    virtual_alias_domains: Maps = "$virtual_alias_maps"; "Domains that have forwardings but no mailboxes."
    virtual_mailbox_domains: Maps = ""; "Domains whose mail is delivered here."
    virtual_mailbox_maps: Maps = ""; "Mailboxes: an address to a folder below virtual_mailbox_base.", but "a path without a slash at its end is an mbox file; here mail for it is put off"
    virtual_mailbox_base: PathBuf = ""; "The folder in which all mailboxes are."
    virtual_uid_maps: Maps = ""; "The user that owns a mailbox; with static: also the user that vmaild becomes when root starts it."
    virtual_gid_maps: Maps = ""; "The group that owns a mailbox."
    virtual_mailbox_limit: u64 = "51200000"; "The quota of a mailbox that virtual_mailbox_limit_maps does not list; 0 is none.", but "the size of an mbox file; the quota of a Maildir only with the VDA patch"
    virtual_mailbox_limit_maps: Maps = ""; "Quotas: an address to a number of bytes.", but "only with the VDA quota patch"
    virtual_mailbox_limit_override: bool = "no"; "A listed quota counts even where it is smaller than message_size_limit.", but "only with the VDA quota patch"
    virtual_maildir_limit_message: String = "Sorry, the user's maildir has overdrawn his diskspace quota, please try again later"; "What a sender reads when a mailbox is full.", but "only with the VDA quota patch"
    virtual_overquota_bounce: bool = "no"; "Mail for a full mailbox goes back at once, rather than being tried again.", but "only with the VDA quota patch"
    virtual_create_maildirsize: bool = "no"; "Keep the maildirsize file of Maildir++.", but "only with the VDA quota patch"
    virtual_mailbox_extended: bool = "$virtual_maildir_extended"; "Maildir++: names of messages carry their size.", but "only with the VDA quota patch"
    virtual_maildir_extended: bool = "no"; "The later name of virtual_mailbox_extended.", but "only with the VDA quota patch"
    virtual_alias_expansion_limit: usize = "1000", at least 1; "Addresses that one recipient may become."
    virtual_alias_recursion_limit: usize = "1000", at least 1; "Forwardings that may follow each other."
    transport_maps: Maps = ""; "Next hops: an address, domain, .parent domain or * to transport:nexthop.", but "a value may have several next hops; here that puts the mail off"
    message_size_limit: u64 = "10240000"; "The largest message in bytes; 0 is no limit."
    bounce_size_limit: u64 = "50000", at least 1; "How much of a message a failure notice returns."
    hopcount_limit: usize = "50", at least 1; "Received headers after which a message loops."
    minimal_backoff_time: Duration = "300s", at least 1; "The least time between two tries."
    maximal_backoff_time: Duration = "4000s", at least 1; "The most time between two tries."
    queue_run_delay: Duration = "300s", at least 1; "The distance of the runs in which mail that was put off is tried again."
    maximal_queue_lifetime: Duration = "5d"; "Mail is given up after this time."
    bounce_queue_lifetime: Duration = "5d"; "A failure notice is given up after this time."
    delay_warning_time: Duration = "0h"; "The sender hears of a delay after this time; 0 is never."
    smtp_tcp_port: u16 = "smtp"; "The port of next hops that name none."
    smtp_helo_timeout: Duration = "300s", at least 1; "How long a next hop may take for its greeting and for EHLO."
    smtp_connect_timeout: Duration = "30s", at least 1; "How long a connection to a next hop may take."
    smtp_mail_timeout: Duration = "300s", at least 1; "How long a next hop may take for MAIL."
    smtp_rcpt_timeout: Duration = "300s", at least 1; "How long a next hop may take for RCPT."
    smtp_data_init_timeout: Duration = "120s", at least 1; "How long a next hop may take for DATA."
    smtp_data_xfer_timeout: Duration = "180s", at least 1; "How long a piece of a message may take."
    smtp_data_done_timeout: Duration = "600s", at least 1; "How long a next hop may take for the end of a message."
    smtp_quit_timeout: Duration = "300s", at least 1; "How long a next hop may take for QUIT."
    smtp_tls_security_level: TlsLevel = ""; "none; may: TLS to next hops that offer it; encrypt: only to these. Certificates are not verified.", but "more levels: dane, verify, secure, fingerprint"
    default_destination_concurrency_limit: usize = "20", at least 1; "Connections to one next hop at a time; one over which more mail can go is used again.", but "begins with initial_destination_concurrency"
    smtp_destination_recipient_limit: usize = "50", at least 1; "Recipients of one transaction with a next hop."
    smtpd_client_restrictions: Vec<Restriction> = ""; "Asked first, at RCPT, VRFY and ETRN."
    smtpd_helo_restrictions: Vec<Restriction> = ""; "Asked second, at RCPT and VRFY."
    smtpd_sender_restrictions: Vec<Restriction> = ""; "Asked third, at RCPT."
    smtpd_relay_restrictions: Vec<Restriction> = "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"; "Asked fourth: who may send to other domains."
    smtpd_recipient_restrictions: Vec<Restriction> = ""; "Asked last: which recipients are taken.", but "many more restrictions; here they are mistakes at start"
    smtpd_delay_reject: bool = "yes"; "Restrictions are asked at RCPT. Only yes.", but "no is possible"
    smtpd_reject_unlisted_recipient: bool = "yes"; "Refuse recipients that do not exist."
    smtpd_helo_required: bool = "no"; "No MAIL before EHLO or HELO."
    smtpd_recipient_limit: usize = "1000", at least 1; "Recipients of one message."
    smtpd_recipient_overshoot_limit: u32 = "1000"; "Recipients over that limit that are refused before they count as errors."
    smtpd_soft_error_limit: u32 = "10", at least 1; "Errors after which replies are delayed."
    smtpd_hard_error_limit: u32 = "${stress?{1}:{20}}", at least 1; "Errors after which the session ends."
    smtpd_junk_command_limit: u32 = "${stress?{1}:{100}}", at least 1; "NOOP, RSET, VRFY and ETRN before they count as errors."
    smtpd_error_sleep_time: Duration = "1s"; "The delay after an error."
    smtpd_timeout: Duration = "${stress?{10}:{300}}s", at least 1; "How long a client may be silent, or slow to read."
    smtpd_starttls_timeout: Duration = "${stress?{10}:{300}}s", at least 1; "How long a client's handshake may take."
    smtpd_client_connection_count_limit: usize = "50"; "Connections of one client outside mynetworks to one service; 0 is no limit."
    smtpd_forbid_bare_newline: String = "reject"; "A line of a message that LF or CR alone ends: 550, and the session ends. Only reject; yes, normalize, note and no are warned about and mean the same.", but "no by default, normalize from 3.9 on; the clients of smtpd_forbid_bare_newline_exclusions are spared; a CR alone is passed on, and LF alone ends a command"
    smtpd_forbid_unauth_pipelining: bool = "no"; "Commands that come too early wait for their turn; those in clear behind STARTTLS are thrown away. Only no; yes is warned about and means the same.", but "yes from 3.9 on, which ends the session with 554 5.5.0"
    line_length_limit: usize = "2048", at least 512; "Longer command lines are cut."
    smtpd_sasl_auth_enable: bool = "no"; "Offer AUTH."
    smtpd_sasl_type: String = "cyrus"; "Only cyrus: its files are read, the work is done here.", but "dovecot as well"
    smtpd_sasl_path: String = "smtpd"; "The name of the file in cyrus_sasl_config_path, without .conf."
    cyrus_sasl_config_path: PathBuf = "sasl"; "The folder of smtpd.conf."
    smtpd_sasl_local_domain: String = ""; "Appended to user names without a domain."
    smtpd_sasl_security_options: String = "noanonymous"; "noplaintext: no AUTH in clear; noanonymous is always so.", but "noactive, nodictionary, mutual_auth and forward_secrecy as well"
    smtpd_sasl_tls_security_options: String = "$smtpd_sasl_security_options"; "The same under TLS; noplaintext leaves no mechanism there."
    broken_sasl_auth_clients: bool = "no"; "Offer AUTH=PLAIN LOGIN as well."
    smtpd_use_tls: bool = "no"; "As smtpd_tls_security_level = may, where that is not set."
    smtpd_tls_security_level: TlsLevel = ""; "none, may, or encrypt: before TLS nothing but EHLO, NOOP, STARTTLS and QUIT."
    smtpd_tls_wrappermode: bool = "no"; "TLS from the first byte (port 465)."
    smtpd_tls_auth_only: bool = "no"; "No AUTH without TLS."
    smtpd_tls_cert_file: PathBuf = ""; "The certificate and its chain, PEM. Without it there is no TLS."
    smtpd_tls_key_file: PathBuf = "$smtpd_tls_cert_file"; "The certificate's key, PEM.", but "a key that is encrypted cannot be read"
    vmaild_lookup_time_limit: Duration = "3s", at least 1; "How long a database may take for an answer.", but "does not have it; a lookup takes what the database's library allows"
    vmaild_session_limit: usize = "1000", at least 1; "Sessions at once on all ports.", but "does not have it; default_process_limit does it"
    vmaild_drain_time: Duration = "10s"; "How long transactions may go on after SIGTERM.", but "does not have it; each process ends when its client is done"
}

impl Params {
    /// The client is in mynetworks.
    pub fn is_neighbour(&self, ip: IpAddr) -> bool {
        self.mynetworks
            .iter()
            .any(|network| values::within(network, ip))
    }

    /// STARTTLS or implicit TLS is wanted.
    pub fn wants_tls(&self) -> bool {
        match self.smtpd_tls_security_level {
            TlsLevel::Unset => self.smtpd_use_tls || self.smtpd_tls_wrappermode,
            TlsLevel::None => self.smtpd_tls_wrappermode,
            TlsLevel::May | TlsLevel::Encrypt => true,
        }
    }
}

/// Names that change nothing that `vmaild` does, and why: passed over. One reason a line.
pub(super) const IRRELEVANT: &str = "\
alias_database alias_maps biff home_mailbox local_recipient_maps local_transport mail_spool_directory mailbox_command mailbox_size_limit: there is no delivery to system users here
append_dot_mydomain: mail submitted by system users is not handled here
command_directory daemon_directory debug_peer_level debugger_command html_directory mailq_path manpage_directory meta_directory newaliases_path readme_directory sample_directory sendmail_path setgid_group shlib_directory: Postfix's own programs are not used
compatibility_level: there is one level of behaviour
config_directory: it is what --config says
data_directory: nothing is kept outside queue_directory
mail_owner: with static: tables, virtual_uid_maps says who vmaild runs as
milter_macro_daemon_name: no milter is asked
notify_classes: nobody is notified of what goes wrong; the log says it
proxy_read_maps proxy_write_maps: database connections are always shared
smtp_tls_CAfile smtp_tls_CApath: certificates of next hops are not verified
smtp_tls_session_cache_database smtpd_tls_session_cache_database: TLS sessions are kept in memory
smtp_use_tls: smtp_tls_security_level decides
syslog_name: the log says postfix/smtpd and the like
unknown_local_recipient_reject_code: it is 550
virtual_minimum_uid: mailboxes belong to whom virtual_uid_maps says
smtpd_tls_loglevel: the log says of each session whether it had TLS
smtpd_tls_received_header: Received always says it
";

/// Names that would change something, but do not, and what happens instead: warned about.
pub(super) const NOT_HONOURED: &str = "\
always_bcc recipient_bcc_maps sender_bcc_maps: no copies are sent
body_checks content_filter header_checks non_smtpd_milters smtpd_milters: no filter is asked; mail goes on unfiltered
canonical_maps masquerade_domains recipient_canonical_maps sender_canonical_maps: addresses and headers are not rewritten
default_transport: mail for other domains goes by smtp
disable_vrfy_command: VRFY answers as RCPT would
luser_relay: there is no delivery to system users here
relay_recipient_maps: every recipient in relay_domains is taken
relay_transport: mail for relay_domains goes by smtp
relocated_maps: recipients that moved are unknown
smtp_sasl_auth_enable smtp_sasl_password_maps: no login is made at next hops
smtpd_data_restrictions smtpd_end_of_data_restrictions: restrictions are asked at RCPT only
smtpd_etrn_restrictions: ETRN asks smtpd_client_restrictions only
smtpd_sender_login_maps: a user may send under any address
smtpd_tls_mandatory_protocols smtpd_tls_protocols: TLS is 1.2 or 1.3
virtual_transport: mail for virtual_mailbox_domains goes into Maildirs
";

/// The names of each line of a list, between blanks, and what is said of them.
pub(super) fn others(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| line.split_once(": "))
}

/// The row of a parameter that is honoured.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    HONOURED.iter().find(|row| row.name == name)
}

/// A warning of everything set in `settings` that does nothing.
pub(super) fn unhonoured(settings: &Settings) -> impl Iterator<Item = Mistake> {
    let unknown = settings.sorted().filter(|(name, _)| row(name).is_none());
    unknown.filter_map(|(name, setting)| {
        let why =
            |list| others(list).find(|(names, _)| names.split(' ').any(|other| other == name));
        let text = match why(NOT_HONOURED) {
            Some(_) if setting.text.is_empty() => return None,
            Some((_, why)) => format!("{name} is not honoured: {why}"),
            None if why(IRRELEVANT).is_some() => return None,
            // An administrator's own name is there for others to refer to.
            None if settings
                .sorted()
                .any(|(_, other)| refers_to(&other.text, name)) =>
            {
                return None;
            }
            None => format!(
                "{name} is not known and does nothing; vmaild --help-parameters lists what is"
            ),
        };
        Some(Mistake::new(&setting.place, text))
    })
}

fn refers_to(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].trim_end_matches(['{', '(']);
        let after = text[at + name.len()..].chars().next();
        before.ends_with('$') && !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}
