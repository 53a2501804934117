//! The types that parameters have, each with what is accepted and what is said otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use vmaild_protocol::address::is_domain;

use super::main_cf::words;
use super::params::{Interfaces, Network, Protocols, Row, TlsLevel};
use super::reader::Reader;
use crate::policy::resolve::next_hop;
use crate::policy::restrictions::Restriction;
use crate::tables::Maps;
use crate::tables::source::open_list;

/// A parameter's type.
pub(crate) trait Value: Sized {
    /// What the manual calls it.
    const KIND: &str;

    /// Parses an expanded, trimmed value. The error continues `name = `.
    fn parse(text: &str, row: &Row, reader: &mut Reader) -> Result<Self, String>;
}

impl Value for String {
    const KIND: &str = "text";

    fn parse(text: &str, row: &Row, reader: &mut Reader) -> Result<Self, String> {
        match (row.name, text) {
            // postconf(5) myorigin: on Debian it is written in a file.
            ("myorigin", file) if file.starts_with('/') => {
                let text =
                    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
                Ok(text.lines().next().unwrap_or_default().trim().to_owned())
            }
            ("myhostname" | "myorigin", name) if !is_domain(name) => {
                Err(format!("{name:?}, expected a domain name"))
            }
            ("smtpd_forbid_bare_newline", "yes" | "normalize" | "note" | "no") => {
                reader.always(row, text);
                Ok(row.default.to_owned())
            }
            ("smtpd_forbid_bare_newline", other) if other != "reject" => Err(format!(
                "{other:?}, expected reject, or yes, normalize, note or no"
            )),
            ("smtpd_sasl_type", other) if other != "cyrus" => {
                Err(format!("{other:?}, expected cyrus"))
            }
            ("relayhost", hop) if !hop.is_empty() && next_hop(hop).is_none() => Err(format!(
                "{hop:?}, expected host, host:port, [host] or [host]:port"
            )),
            _ => Ok(text.to_owned()),
        }
    }
}

impl Value for bool {
    const KIND: &str = "yes or no";

    fn parse(text: &str, row: &Row, reader: &mut Reader) -> Result<Self, String> {
        let value = match text.to_ascii_lowercase().as_str() {
            "yes" => true,
            "no" => false,
            _ => return Err(format!("{text:?}, expected yes or no")),
        };
        match (row.name, value) {
            ("smtpd_delay_reject", false) => Err("no is not supported, expected yes".to_owned()),
            ("smtpd_forbid_unauth_pipelining", true) => {
                reader.always(row, text);
                Ok(false)
            }
            _ => Ok(value),
        }
    }
}

/// A number of digits alone: `parse` takes a plus as well.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// `value`, which `text` stands for, where it is not less than the row's least.
fn at_least<T: TryInto<u64> + Copy>(row: &Row, text: &str, value: T) -> Result<T, String> {
    match value.try_into() {
        Ok(number) if number < row.least => {
            Err(format!("{text:?}, expected {} or more", row.least))
        }
        _ => Ok(value),
    }
}

macro_rules! numbers {
    ($($kind:ty: $name:literal),*) => {$(
        impl Value for $kind {
            const KIND: &str = $name;

            fn parse(text: &str, row: &Row, _: &mut Reader) -> Result<Self, String> {
                let expected = || format!("{text:?}, expected a number up to {}", Self::MAX);
                at_least(row, text, number(text).ok_or_else(expected)?)
            }
        }
    )*};
}
numbers!(u64: "bytes", usize: "number", u32: "number");

impl Value for u16 {
    const KIND: &str = "port";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        super::port_number(text).ok_or_else(|| {
            format!("{text:?}, expected a port: a number up to 65535 or smtp, submission, ...")
        })
    }
}

impl Value for Duration {
    const KIND: &str = "time";

    fn parse(text: &str, row: &Row, _: &mut Reader) -> Result<Self, String> {
        let unit = row.default.chars().last().unwrap_or('s');
        let seconds = time(text, unit).ok_or_else(|| {
            format!(
                "{text:?}, expected a time such as 30s, 5m, 4h, 5d or 1w (without unit: {unit})"
            )
        })?;
        at_least(row, text, seconds).map(Self::from_secs)
    }
}

/// A number of seconds, or of `default_unit`, or with a unit of its own.
fn time(text: &str, default_unit: char) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.len() - digits.len() {
        0 => default_unit,
        1 => text.chars().last()?,
        _ => return None,
    };
    let seconds = match unit.to_ascii_lowercase() {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let seconds = number::<u64>(digits)?.checked_mul(seconds)?;
    // A hundred years are enough for any queue.
    Some(seconds).filter(|&seconds| seconds < 3_200_000_000)
}

impl Value for PathBuf {
    const KIND: &str = "path";

    fn parse(text: &str, row: &Row, reader: &mut Reader) -> Result<Self, String> {
        // An empty path is "none"; a relative one is relative to the configuration.
        match text {
            "" if row.default.is_empty() || row.default.starts_with('$') => Ok(Self::new()),
            "" => Err("\"\", expected a path".to_owned()),
            path => Ok(reader.tables.folder.join(path)),
        }
    }
}

impl Value for Option<char> {
    const KIND: &str = "character";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (first, None) if first != Some('@') => Ok(first),
            _ => Err(format!(
                "{text:?}, expected one character other than @, or nothing"
            )),
        }
    }
}

impl Value for Maps {
    const KIND: &str = "tables";

    fn parse(text: &str, row: &Row, reader: &mut Reader) -> Result<Self, String> {
        let names = !row.name.ends_with("_maps");
        let before = reader.mistakes.len();
        let tables = open_list(text, names, &mut reader.tables, &mut reader.mistakes)?;
        if reader.mistakes.len() > before {
            return Err(format!(
                "{text} cannot be used because of the mistakes in its files"
            ));
        }
        Ok(Self::new(tables))
    }
}

impl Value for Vec<Network> {
    const KIND: &str = "networks";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        words(text).map(network).collect()
    }
}

fn network(text: &str) -> Result<Network, String> {
    let expected = || {
        format!("{text:?}, expected an address or a network such as 192.168.1.0/24 or [fe80::]/10")
    };
    let (host, bits) = match text.rsplit_once('/') {
        Some((host, bits)) => (host, Some(bits)),
        None => (text, None),
    };
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let ip = ip.map_err(|_| expected())?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(width), number);
    let bits = bits.filter(|bits| *bits <= width).ok_or_else(expected)?;
    if masked(ip, bits) != ip {
        return Err(format!(
            "{text:?} has bits set after the first {bits}, expected {}/{bits}",
            masked(ip, bits)
        ));
    }
    Ok((ip, bits))
}

/// `ip` with all bits after the first `bits` cleared.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// `true` where `ip` lies in `network` (postconf(5) mynetworks).
pub(crate) fn within(network: &Network, ip: IpAddr) -> bool {
    network.0.is_ipv4() == ip.is_ipv4() && masked(ip, network.1) == network.0
}

impl Value for Vec<Restriction> {
    const KIND: &str = "restrictions";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        words(text).map(str::parse).collect()
    }
}

impl Value for Interfaces {
    const KIND: &str = "addresses";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "loopback-only" => Ok(Self::These(vec![
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ])),
            list => {
                let expected =
                    |word: &str| format!("{word:?}, expected all, loopback-only or addresses");
                let address = |word: &str| match word.trim_matches(['[', ']']) {
                    "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
                    other => other.parse().map_err(|_| expected(word)),
                };
                let addresses = words(list).map(address).collect::<Result<Vec<_>, _>>()?;
                if addresses.is_empty() {
                    return Err(expected(""));
                }
                Ok(Self::These(addresses))
            }
        }
    }
}

impl Value for Protocols {
    const KIND: &str = "protocols";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        let list: Vec<_> = words(text).collect();
        let is_known = |word: &&str| ["all", "ipv4", "ipv6"].contains(word);
        if list.is_empty() || !list.iter().all(is_known) {
            return Err(format!("{text:?}, expected all, ipv4 or ipv6"));
        }
        let has = |name| list.contains(&name) || list.contains(&"all");
        Ok(Self {
            ipv4: has("ipv4"),
            ipv6: has("ipv6"),
        })
    }
}

impl Value for TlsLevel {
    const KIND: &str = "none, may or encrypt";

    fn parse(text: &str, _: &Row, _: &mut Reader) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Unset),
            "none" => Ok(Self::None),
            "may" => Ok(Self::May),
            "encrypt" => Ok(Self::Encrypt),
            _ => Err(format!("{text:?}, expected none, may or encrypt")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("30", 's', Some(30))]
    #[case("5", 'd', Some(432_000))]
    #[case("2m", 's', Some(120))]
    #[case("1w", 's', Some(604_800))]
    #[case("4H", 's', Some(14_400))]
    #[case("1y", 's', None)]
    #[case("-1s", 's', None)]
    #[case("s", 's', None)]
    #[case("", 's', None)]
    #[case("99999999999999999999w", 's', None)]
    #[case("5\u{e9}", 's', None)]
    fn a_time_has_a_unit_or_that_of_its_default(
        #[case] text: &str,
        #[case] unit: char,
        #[case] seconds: Option<u64>,
    ) {
        assert_eq!(time(text, unit), seconds);
    }

    #[rstest]
    #[case("127.0.0.2/32", "127.0.0.2", true)]
    #[case("127.0.0.0/8", "127.9.9.9", true)]
    #[case("0.0.0.0/0", "8.8.8.8", true)]
    #[case("127.0.0.2", "127.0.0.3", false)]
    #[case("[::1]/128", "::1", true)]
    #[case("::/0", "1.2.3.4", false)]
    fn an_address_lies_in_a_network(#[case] text: &str, #[case] ip: &str, #[case] inside: bool) {
        assert_eq!(within(&network(text).unwrap(), ip.parse().unwrap()), inside);
    }

    #[rstest]
    #[case("127.0.0.1/8")]
    #[case("10.0.0.0/33")]
    #[case("hash:/etc/postfix/networks")]
    #[case("!10.0.0.0/8")]
    #[case("localhost")]
    fn a_network_that_is_none_is_a_mistake(#[case] text: &str) {
        assert!(network(text).is_err());
    }
}
