//! The configuration, read once: main.cf, master.cf, the table files, sasl/smtpd.conf, pam.d/smtp.
//!
//! Everybody else sees typed values only (`Params`); nobody asks for a parameter by name later.
//! Every mistake is reported with file, line and what was expected; all of them at once.

pub(crate) mod main_cf;
pub mod manual;
mod master_cf;
pub mod mistake;
pub mod params;
mod reader;
mod sasl;
mod values;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub(crate) use master_cf::port_number;
pub use mistake::Mistake;
pub use params::{Network, Params};

use crate::policy::restrictions;
use crate::tables::Maps;
use crate::tables::source::Tables;
use main_cf::Settings;
use master_cf::Entry;
use mistake::Place;
use reader::Reader;

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
        let mut reader = Reader {
            tables: Tables::new(folder),
            ..Reader::default()
        };
        let file = folder.join("main.cf");
        let main = Settings::read(&file, &mut reader.mistakes);
        let master = folder.join("master.cf");
        let text = main_cf::read_text(&master, &mut reader.mistakes).unwrap_or_default();
        let entries = master_cf::parse(&master, &text, &mut reader.mistakes);
        if !file.is_file() {
            return Err(reader.mistakes);
        }
        reader.settings = main.clone();
        let params = reader.params();
        let mut services = Vec::new();
        for entry in entries {
            reader.settings = main.clone();
            for (name, value) in &entry.overrides {
                reader.settings.set(name, value, entry.place.clone());
            }
            reader.service.clone_from(&entry.name);
            services.extend(Service::read(&mut reader, entry));
        }
        for list in [&mut reader.mistakes, &mut reader.warnings] {
            list.sort();
            list.dedup();
        }
        match params {
            Some(params) if reader.mistakes.is_empty() => Ok(Self {
                params: Arc::new(params),
                services,
                warnings: reader.warnings,
            }),
            _ => Err(reader.mistakes),
        }
    }
}

impl Service {
    fn read(reader: &mut Reader, entry: Entry) -> Option<Self> {
        let params = reader.params();
        let passwords = sasl::read(reader);
        let params = Arc::new(params?);
        let mut mistake = |place: &Place, text: String| {
            reader.mistakes.push(Mistake::new(place, text));
        };
        // smtpd(8) refuses to work then, with these words.
        let lists = [
            &params.smtpd_relay_restrictions,
            &params.smtpd_recipient_restrictions,
        ];
        if !lists.iter().any(|list| restrictions::stops_relaying(list)) {
            let text = format!(
                "service {}: anybody could relay; in parameter smtpd_relay_restrictions or \
                 smtpd_recipient_restrictions, specify at least one working instance of: \
                 reject_unauth_destination, defer_unauth_destination or reject",
                entry.name
            );
            mistake(&reader.settings.place("smtpd_relay_restrictions"), text);
        }
        // virtual(8) refuses to work then.
        if !params.virtual_mailbox_maps.is_empty() && !params.virtual_mailbox_base.is_absolute() {
            let text =
                "virtual_mailbox_base is empty, expected the folder in which all mailboxes are";
            mistake(
                &reader.settings.place("virtual_mailbox_base"),
                text.to_owned(),
            );
        }
        let ips = entry.host.map_or_else(
            || params.inet_interfaces.addresses(params.inet_protocols),
            |ip| vec![ip],
        );
        if ips.is_empty() {
            let text = format!(
                "service {}: listens nowhere, expected an address in inet_interfaces that is of \
                 inet_protocols",
                entry.name
            );
            mistake(&entry.place, text);
        }
        let with_port = |ip| SocketAddr::new(ip, entry.port);
        Some(Self {
            name: entry.name,
            addresses: ips.into_iter().map(with_port).collect(),
            params,
            passwords,
            place: entry.place,
        })
    }
}

#[cfg(test)]
mod tests;
