//! master.cf (master(5)): which ports are served, and what differs from main.cf on each.
//!
//! Only `inet` services that run smtpd are served. The other services of a Postfix master.cf are
//! parts of `vmaild` itself or have no counterpart in it; they are passed over quietly. An inet
//! service with another command is an error: somebody expects a port to be open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::main_cf::{bracketed, logical_lines};
use super::mistake::{Mistake, Place};
use super::values::number;

/// One smtpd service.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The first field as written: `smtp`, `127.0.0.1:2525`.
    pub(crate) name: String,
    /// What stands before the colon; `None` where inet_interfaces says it.
    pub(crate) host: Option<IpAddr>,
    pub(crate) port: u16,
    /// `-o name=value`, in order.
    pub(crate) overrides: Vec<(String, String)>,
    pub(crate) place: Place,
}

/// The smtpd services of the text of `file`.
pub(crate) fn parse(file: &Path, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in logical_lines(text) {
        let place = Place::new(file, number);
        match entry(&line, &place) {
            Ok(Some(entry)) => {
                // As in master(8), the later of two services with one name wins.
                entries.retain(|other| other.name != entry.name);
                entries.push(entry);
            }
            Ok(None) => {}
            Err(text) => mistakes.push(Mistake::new(&place, text)),
        }
    }
    if entries.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new(
            &Place::file(file),
            "no port to listen on, expected a service such as: smtp inet n - y - - smtpd",
        ));
    }
    entries
}

fn entry(line: &str, place: &Place) -> Result<Option<Entry>, String> {
    let fields = arguments(line)?;
    let [name, kind, _, _, _, _, _, command, rest @ ..] = fields.as_slice() else {
        return Err(format!(
            "{} fields, expected 8: service type private unpriv chroot wakeup maxproc command (lines \
             of options must be indented)",
            fields.len()
        ));
    };
    match (*kind, *command) {
        ("inet", "smtpd") => {}
        ("unix" | "unix-dgram" | "fifo" | "pass", _) => return Ok(None),
        ("inet", other) => {
            return Err(format!(
                "command {other:?} cannot serve a port, expected smtpd"
            ));
        }
        (other, _) => return Err(format!("type {other:?}, expected inet, unix, fifo or pass")),
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (Some(address(host, name)?), port),
        None => (None, *name),
    };
    let port = port_number(port).ok_or_else(|| {
        format!("unknown port {port:?}, expected a number, smtp, smtps, submission or submissions")
    })?;
    Ok(Some(Entry {
        name: (*name).to_owned(),
        host,
        port,
        overrides: overrides(rest)?,
        place: place.clone(),
    }))
}

fn address(host: &str, service: &str) -> Result<IpAddr, String> {
    match host.trim_matches(['[', ']']) {
        "" | "*" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        "ip6-localhost" => Ok(Ipv6Addr::LOCALHOST.into()),
        host => host
            .parse()
            .map_err(|_| format!("host {host:?} of service {service:?}, expected an address")),
    }
}

/// A port by number or by the few names that mail has (services(5)).
pub(crate) fn port_number(text: &str) -> Option<u16> {
    match text {
        "smtp" => Some(25),
        "smtps" | "submissions" | "urd" => Some(465),
        "submission" | "msa" => Some(587),
        "lmtp" => Some(24),
        _ => number(text),
    }
}

fn overrides(arguments: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let setting = match option.strip_prefix("-o") {
            None if ["-v", "-D"].contains(option) => continue,
            Some("") => arguments.next().copied(),
            joined => joined,
        };
        let (name, value) = setting
            .and_then(|setting| setting.split_once('='))
            .ok_or_else(|| {
                let written = setting.unwrap_or(option);
                format!("option {written:?}, expected -o name=value")
            })?;
        found.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

/// Splits at blanks; `{ name = value }` is one argument without its braces (master(5)).
fn arguments(line: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (argument, behind) = if rest.starts_with('{') {
            bracketed(rest, '{')?
        } else {
            let blank = rest.find(|c: char| c.is_ascii_whitespace());
            rest.split_at(blank.unwrap_or(rest.len()))
        };
        found.push(argument.trim());
        rest = behind.trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn one(text: &str) -> Result<Entry, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let entry = parse(Path::new("master.cf"), text, &mut mistakes).pop();
        entry.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    #[rstest]
    #[case("smtp inet n - y - - smtpd", None, 25)]
    #[case("127.0.0.1:2525 inet n - n - - smtpd", Some("127.0.0.1"), 2525)]
    #[case("[::1]:submission inet n - n - - smtpd -v", Some("::1"), 587)]
    #[case("submissions inet n - n - - smtpd", None, 465)]
    fn a_service_has_a_host_and_a_port(
        #[case] line: &str,
        #[case] host: Option<&str>,
        #[case] port: u16,
    ) {
        let entry = one(line).unwrap();
        let host = host.map(|host| host.parse().unwrap());
        assert_eq!((entry.host, entry.port), (host, port));
    }

    #[rstest]
    #[case("-o a=b")]
    #[case("-oa=b")]
    #[case("-o { a = b }")]
    #[case("\n  -o a=b")]
    #[case("\n\n# comment\n -o a=b\n")]
    fn an_option_may_be_written_in_all_these_ways(#[case] option: &str) {
        let entry = one(&format!("smtp inet n - y - - smtpd {option}")).unwrap();
        assert_eq!(entry.overrides, [("a".to_owned(), "b".to_owned())]);
    }

    #[rstest]
    #[case::the_tutorial_as_printed("smtps inet n - - - - smtpd\n-o smtpd_tls_wrappermode=yes")]
    #[case("smtp inet n - y - 1 postscreen")]
    #[case("smtp tcp n - y - - smtpd")]
    #[case("mail inet n - y - - smtpd")]
    #[case("smtp inet n - y - - smtpd -o { a = b")]
    #[case("smtp inet n - y - - smtpd -o a")]
    #[case("pickup unix n - y 60 1 pickup")]
    fn a_line_that_cannot_be_served_is_a_mistake(#[case] text: &str) {
        assert!(one(text).is_err());
    }
}
