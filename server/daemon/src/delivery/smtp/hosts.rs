//! The hosts of a next hop, in the order in which they are to be tried (RFC 5321 §5.1).
//!
//! A name is asked for its mail exchangers, then for addresses of its own; a name in brackets for
//! addresses only. Not there at all is a failure (5.4.4), not to be learned now is put off (4.4.3),
//! "takes no mail" is a failure (5.1.10, RFC 7505), and the server itself is a loop (5.4.6).

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use vmaild_protocol::Reply;

use super::NextHop;
use crate::config::Params;
use crate::delivery::Verdict;
use crate::log;
use crate::queue::Services;
use crate::queue::file::{Reason, now};

/// "There is no such name" is believed for this long at most: names are made while mail waits.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

/// `mx.example[192.0.2.1]`, as logs and notices have it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.address.ip())
    }
}

impl Host {
    /// `mx.example[192.0.2.1]:25`.
    pub(super) fn relay(&self) -> String {
        format!("{self}:{}", self.address.port())
    }

    /// Its reply is the reason.
    pub(super) fn reason(&self, status: &str, reply: &Reply, text: String) -> Reason {
        Reason {
            mta: Some(self.name.clone()),
            reply: reply.to_string(),
            ..Reason::new(status, &self.relay(), text)
        }
    }

    /// What a reply that is not the one hoped for means.
    pub(super) fn said(&self, reply: &Reply, command: &str) -> Verdict {
        // A 2yz or 3yz where it means nothing is no promise.
        let class = if reply.is_permanent() { '5' } else { '4' };
        let status = reply.enhanced().filter(|code| code.starts_with(class));
        let status = status.map_or_else(|| format!("{class}.0.0"), str::to_owned);
        let text = format!("host {self} said: {reply} (in reply to {command})");
        let reason = self.reason(&status, reply, text);
        if reply.is_permanent() {
            Verdict::Failed(reason)
        } else {
            Verdict::PutOff(reason)
        }
    }
}

/// Knows where the hosts of a next hop are.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Absent where there is no usable configuration: then only addresses work.
    resolver: Option<TokioResolver>,
    /// Where this server itself is.
    listening: Vec<SocketAddr>,
}

impl Resolver {
    /// Asks the name server of `services` instead of those of /etc/resolv.conf.
    pub(super) fn new(services: &Services) -> Self {
        let builder = match services.resolver {
            Some(server) => {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut config.connections {
                    connection.port = server.port();
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
                Ok(TokioResolver::builder_with_config(
                    config,
                    TokioRuntimeProvider::default(),
                ))
            }
            None => TokioResolver::builder_tokio(),
        };
        let resolver = builder.and_then(|mut builder| {
            builder.options_mut().negative_max_ttl = Some(NEGATIVE_TTL);
            builder.build()
        });
        if let Err(error) = &resolver {
            log!("smtp", "warning: no name server can be asked: {error}");
        }
        Self {
            resolver: resolver.ok(),
            listening: services.listening.clone(),
        }
    }

    /// The hosts of a next hop, or why there are none.
    pub(super) async fn hosts(&self, to: &NextHop, params: &Params) -> Result<Vec<Host>, Verdict> {
        let nexthop = &to.nexthop;
        let port = to.port.unwrap_or(params.smtp_tcp_port);
        let bracketed = nexthop
            .strip_prefix('[')
            .map(|rest| rest.strip_suffix(']').unwrap_or(""));
        let name = bracketed.unwrap_or(nexthop).trim_end_matches('.');
        if name.is_empty() || port == 0 {
            log!("smtp", "warning: {nexthop:?} port {port} is no next hop");
            let text = "mail system configuration error";
            return Err(Verdict::put_off("4.3.5", "none", text));
        }
        let loops = || {
            let text = format!("mail for {name} loops back to myself");
            Verdict::failed("5.4.6", "none", text)
        };
        let mine = |host: &Host| is_mine(host.address, &self.listening);
        let literal = literal(name);
        let exchangers = if bracketed.is_some() || literal.is_some() {
            Vec::new()
        } else {
            self.exchangers(name).await?
        };
        if let [(_, only)] = exchangers.as_slice()
            && only.is_empty()
        {
            let text = format!("Domain {name} does not accept mail (nullMX)");
            return Err(Verdict::failed("5.1.10", "none", text));
        }
        if exchangers.is_empty() {
            let hosts = match literal {
                Some(ip) => vec![Host {
                    name: ip.to_string(),
                    address: SocketAddr::new(ip, port),
                }],
                None => self.addresses(name, port).await?,
            };
            if hosts.is_empty() {
                let text = format!(
                    "Host or domain name not found. Name service error for name={name} \
                     type=AAAA: Host not found"
                );
                return Err(Verdict::failed("5.4.4", "none", text));
            }
            return if hosts.iter().any(mine) {
                Err(loops())
            } else {
                Ok(hosts)
            };
        }
        let best = exchangers.first().map(|(preference, _)| *preference);
        let (mut hosts, mut failed) = (Vec::new(), None);
        for (preference, exchanger) in exchangers {
            let is_called_me = exchanger.eq_ignore_ascii_case(&params.myhostname);
            match self.addresses(&exchanger, port).await {
                Err(verdict) => failed = Some(verdict),
                Ok(found) if found.is_empty() => {}
                Ok(found) if is_called_me || found.iter().any(mine) => {
                    // Those behind this server would only bring it back (RFC 5321 §5.1).
                    hosts.retain(|(better, _)| *better < preference);
                    if hosts.is_empty() {
                        if best == Some(preference) {
                            return Err(loops());
                        }
                        // A better one has no address that could be found now.
                        let text = format!("unable to find primary relay for {name}");
                        return Err(Verdict::put_off("4.4.4", "none", text));
                    }
                    break;
                }
                Ok(found) => hosts.extend(found.into_iter().map(|host| (preference, host))),
            }
        }
        if hosts.is_empty() {
            let text = format!("no mail exchanger of {name} has an address");
            return Err(failed.unwrap_or_else(|| Verdict::failed("5.4.4", "none", text)));
        }
        Ok(hosts.into_iter().map(|(_, host)| host).collect())
    }

    /// Mail exchangers, best first; those of equal preference in no particular order.
    async fn exchangers(&self, name: &str) -> Result<Vec<(u16, String)>, Verdict> {
        let found = self.ask(name, RecordType::MX).await?.into_iter();
        let mut exchangers: Vec<_> = found
            .filter_map(|data| match data {
                RData::MX(mx) => {
                    let name = mx.exchange.to_ascii();
                    Some((mx.preference, name.trim_end_matches('.').to_owned()))
                }
                _ => None,
            })
            .collect();
        // Load is spread over equals (RFC 5321 §5.1).
        let count = exchangers.len().max(1);
        exchangers.rotate_left(now().subsec_nanos() as usize % count);
        exchangers.sort_by_key(|(preference, _)| *preference);
        Ok(exchangers)
    }

    /// IPv4 and IPv6 addresses of a host.
    async fn addresses(&self, name: &str, port: u16) -> Result<Vec<Host>, Verdict> {
        let (v4, v6) = tokio::join!(
            self.ask(name, RecordType::A),
            self.ask(name, RecordType::AAAA)
        );
        let failed = v4.is_err() || v6.is_err();
        let found = [v4, v6].into_iter().flatten().flatten();
        let hosts: Vec<_> = found
            .filter_map(|data| {
                let ip = match data {
                    RData::A(a) => IpAddr::V4(a.0),
                    RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
                    _ => return None,
                };
                Some(Host {
                    name: name.to_owned(),
                    address: SocketAddr::new(ip, port),
                })
            })
            .collect();
        if hosts.is_empty() && failed {
            return Err(try_again(name, RecordType::A));
        }
        Ok(hosts)
    }

    /// The records of a name; none where it does not exist. Not to be learned now is an error.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, Verdict> {
        let Some(resolver) = &self.resolver else {
            return Err(try_again(name, kind));
        };
        // With the dot no search list is tried. A name that cannot be asked for does not exist.
        let Ok(asked) = Name::from_utf8(format!("{name}.")) else {
            return Ok(Vec::new());
        };
        match resolver.lookup(asked, kind).await {
            Ok(found) => Ok(found.answers().iter().map(|one| one.data.clone()).collect()),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => {
                log!("smtp", "warning: lookup of {name} {kind}: {error}");
                Err(try_again(name, kind))
            }
        }
    }
}

/// The name servers know that there is nothing; anything else is not knowing.
fn is_absent(error: &NetError) -> bool {
    matches!(
        error,
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
    )
}

fn try_again(name: &str, kind: RecordType) -> Verdict {
    let text = format!(
        "Host or domain name not found. Name service error for name={name} type={kind}: \
         Host not found, try again"
    );
    Verdict::put_off("4.4.3", "none", text)
}

/// An address instead of a name, as transport tables and domain literals write it.
fn literal(name: &str) -> Option<IpAddr> {
    match name.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6.parse().ok().map(IpAddr::V6),
        _ => name.parse().ok(),
    }
}

/// Whether this server listens there: exactly, or on all addresses of this machine.
fn is_mine(address: SocketAddr, listening: &[SocketAddr]) -> bool {
    listening.iter().any(|mine| {
        let local = || UdpSocket::bind((address.ip(), 0)).is_ok();
        mine.port() == address.port()
            && (mine.ip() == address.ip() || (mine.ip().is_unspecified() && local()))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.9", Some("127.0.0.9"))]
    #[case("::1", Some("::1"))]
    #[case("IPv6:::1", Some("::1"))]
    #[case("ipv6:2001:db8::1", Some("2001:db8::1"))]
    #[case("mx.example", None)]
    #[case("IPv6é", None)]
    fn literals_are_addresses(#[case] text: &str, #[case] address: Option<&str>) {
        assert_eq!(
            literal(text),
            address.map(|address| address.parse().unwrap())
        );
    }

    #[rstest]
    #[case::itself("127.0.0.1:25", "127.0.0.1:25", true)]
    #[case::another_port("127.0.0.1:25", "127.0.0.1:2525", false)]
    #[case::another_address("127.0.0.1:25", "127.0.0.9:25", false)]
    #[case::all_include_loopback_ones("0.0.0.0:25", "127.0.0.7:25", true)]
    #[case::all_are_those_of_the_machine("0.0.0.0:25", "192.0.2.1:25", false)]
    fn an_address_is_this_servers(#[case] mine: &str, #[case] address: &str, #[case] is: bool) {
        let listening = [mine.parse().unwrap()];
        assert_eq!(is_mine(address.parse().unwrap(), &listening), is);
    }
}
