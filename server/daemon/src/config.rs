//! The configuration, read once: main.cf, master.cf, the table files, sasl/smtpd.conf, pam.d/smtp.
//!
//! Everybody else sees typed values only (`Params`); nobody asks for a parameter by name later.
//! Every mistake is reported with file, line and what was expected; all of them at once.

pub(crate) mod main_cf;
pub mod manual;
mod master_cf;
pub mod mistake;
pub mod params;
mod sasl;
mod scope;
mod values;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use master_cf::port_number;
pub use mistake::Mistake;
pub use params::{Network, Params};

use crate::policy::restrictions;
use crate::tables::Maps;
use crate::tables::source::Tables;
use main_cf::Settings;
use mistake::Place;
use scope::Scope;

/// Everything that the configuration says.
#[derive(Debug, Clone)]
pub struct Config {
    /// main.cf as it is, for the queue and for deliveries.
    pub params: Arc<Params>,
    /// The ports of master.cf, each with its own values.
    pub services: Vec<Service>,
    /// What is written in the configuration but not honoured, each once.
    pub warnings: Vec<Mistake>,
}

/// One smtpd service of master.cf (master(5)).
#[derive(Debug, Clone)]
pub struct Service {
    /// Its first field, `smtp` or `127.0.0.1:2525`: known by this name across a reload.
    pub name: String,
    /// Where it listens. Several addresses where postconf(5) inet_interfaces names several.
    pub addresses: Vec<SocketAddr>,
    /// main.cf with the service's own `-o name=value`.
    pub params: Arc<Params>,
    /// Where the crypt(3) hashes of users are; `None` where smtpd_sasl_auth_enable is off.
    pub passwords: Option<Maps>,
    pub(crate) place: Place,
}

impl Config {
    /// Reads the configuration in `folder`.
    pub fn read(folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let main_file = folder.join("main.cf");
        let main = Settings::read(&main_file, &mut mistakes);
        let master_file = folder.join("master.cf");
        let entries = match main_cf::read_text(&master_file) {
            Ok(text) => master_cf::parse(&master_file, &text, &mut mistakes),
            Err(reason) => {
                mistakes.push(Mistake::new(&Place::file(&master_file), reason));
                Vec::new()
            }
        };
        if !main_file.is_file() {
            return Err(mistakes);
        }
        params::report_unhonoured(&main, &mut warnings);
        let mut tables = Tables::new(folder);
        let base = Scope::new(folder, &main, "").read(&mut tables, &mut mistakes, &mut warnings);
        let mut passwords: Option<Option<Maps>> = None;
        let mut services = Vec::new();
        for entry in entries {
            let mut settings = main.clone();
            let mut own = Settings::default();
            for (name, value) in &entry.overrides {
                settings.set(name, value, entry.place.clone());
                own.set(name, value, entry.place.clone());
            }
            params::report_unhonoured(&own, &mut warnings);
            let scope = Scope::new(folder, &settings, &entry.name);
            let conf = scope.sasl_file(&mut tables, &mut mistakes, &mut warnings);
            let hashes = conf.and_then(|conf| {
                let open = || sasl::read(folder, &conf, &mut tables, &mut mistakes);
                passwords.get_or_insert_with(open).clone()
            });
            let Some(params) = scope.read(&mut tables, &mut mistakes, &mut warnings) else {
                continue;
            };
            mistakes.extend(relay_hole(&params, &settings, &main_file, &entry));
            mistakes.extend(no_mailbox_base(&params, &settings, &main_file));
            let addresses = match addresses(&params, &entry) {
                Ok(addresses) if addresses.is_empty() => {
                    let text = format!(
                        "service {}: listens nowhere, expected an address in inet_interfaces that is of \
                         inet_protocols",
                        entry.name
                    );
                    mistakes.push(Mistake::new(&entry.place, text));
                    continue;
                }
                Ok(addresses) => addresses,
                Err(text) => {
                    mistakes.push(Mistake::new(&entry.place, text));
                    continue;
                }
            };
            let params = Arc::new(params);
            services.push(Service {
                name: entry.name,
                addresses,
                params,
                passwords: hashes,
                place: entry.place,
            });
        }
        for list in [&mut mistakes, &mut warnings] {
            list.sort();
            list.dedup();
        }
        match base {
            Some(params) if mistakes.is_empty() => Ok(Self {
                params: Arc::new(params),
                services,
                warnings,
            }),
            _ => Err(mistakes),
        }
    }
}

/// A service whose restrictions let a stranger's mail for other domains through (smtpd(8) refuses
/// to work then, with these words).
fn relay_hole(
    params: &Params,
    settings: &Settings,
    main: &Path,
    entry: &master_cf::Entry,
) -> Option<Mistake> {
    let lists = [
        &params.smtpd_relay_restrictions,
        &params.smtpd_recipient_restrictions,
    ];
    if lists.iter().any(|list| restrictions::stops_relaying(list)) {
        return None;
    }
    let place = settings
        .get("smtpd_recipient_restrictions")
        .or_else(|| settings.get("smtpd_relay_restrictions"))
        .map_or_else(|| Place::file(main), |setting| setting.place.clone());
    let text = format!(
        "service {}: anybody could relay; in parameter smtpd_relay_restrictions or \
         smtpd_recipient_restrictions, specify at least one working instance of: \
         reject_unauth_destination, defer_unauth_destination or reject",
        entry.name
    );
    Some(Mistake::new(&place, text))
}

/// Mailboxes without a folder to be in (virtual(8) refuses to work then).
fn no_mailbox_base(params: &Params, settings: &Settings, main: &Path) -> Option<Mistake> {
    if params.virtual_mailbox_maps.is_empty() || params.virtual_mailbox_base.is_absolute() {
        return None;
    }
    let setting = settings.get("virtual_mailbox_base");
    let place = setting.map_or_else(|| Place::file(main), |setting| setting.place.clone());
    let text = "virtual_mailbox_base is empty, expected the folder in which all mailboxes are";
    Some(Mistake::new(&place, text))
}

fn addresses(params: &Params, entry: &master_cf::Entry) -> Result<Vec<SocketAddr>, String> {
    let with_port = |ips: Vec<IpAddr>| {
        ips.into_iter()
            .map(|ip| SocketAddr::new(ip, entry.port))
            .collect()
    };
    let Some(host) = &entry.host else {
        return Ok(with_port(
            params.inet_interfaces.addresses(params.inet_protocols),
        ));
    };
    match host.as_str() {
        "" | "*" => Ok(with_port(vec![Ipv4Addr::UNSPECIFIED.into()])),
        "localhost" => Ok(with_port(vec![Ipv4Addr::LOCALHOST.into()])),
        "ip6-localhost" => Ok(with_port(vec![Ipv6Addr::LOCALHOST.into()])),
        host => match host.parse() {
            Ok(ip) => Ok(with_port(vec![ip])),
            Err(_) => Err(format!(
                "host {host:?} of service {:?}, expected an address",
                entry.name
            )),
        },
    }
}

/// Reads a small file's first line, as Debian's `myorigin = /etc/mailname` asks.
pub(crate) fn first_line(path: &PathBuf) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests;
