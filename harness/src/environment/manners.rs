//! What a server of somebody else's is spared: mail for domains that nobody named, and haste.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Why a message was not sent.
pub const FOREIGN: &str = "not sent: mail for a domain that the target's description does not name";

/// What every connection to it observes.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Mail goes to these domains, and to no other; `.d1.test` is every name below `d1.test`.
    pub domains: Vec<String>,
    /// How fast connections may follow one another; `None`: as they come.
    pub pace: Option<Arc<Pace>>,
}

/// A time that passes from one connection to the next.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// One each `every`.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            every,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for one's turn.
    pub async fn turn(&self) {
        let mine = {
            let mut next = self.next.lock().await;
            let mine = (*next).max(Instant::now());
            *next = mine + self.every;
            mine
        };
        sleep_until(mine).await;
    }
}

/// Reads along what leaves on one connection, and stops mail for domains that are not named.
///
/// It looks at every line, content too: what a server may take for commands counts as such. A
/// foreign recipient is harmless until data is asked for, so relaying can be asked about.
#[derive(Debug)]
pub struct Guard {
    domains: Vec<String>,
    line: Vec<u8>,
    foreign: Option<String>,
}

impl Guard {
    /// Lets mail for these domains pass.
    #[must_use]
    pub fn new(domains: &[String]) -> Self {
        Self {
            domains: domains.to_vec(),
            line: Vec::new(),
            foreign: None,
        }
    }

    /// Whether these octets may leave; the error says why not.
    pub fn passes(&mut self, octets: &[u8]) -> Result<(), String> {
        for &octet in octets {
            if matches!(octet, b'\r' | b'\n') {
                let line = std::mem::take(&mut self.line);
                self.line_passes(&line)?;
            } else if self.line.len() < 4096 {
                self.line.push(octet);
            }
        }
        // Data that is not asked for to the end yet: whoever waits for the end of the line says more.
        let line = self.line.trim_ascii_start().to_ascii_uppercase();
        if line.starts_with(b"DATA") || line.starts_with(b"BDAT") {
            return self.line_passes(&line);
        }
        Ok(())
    }

    fn line_passes(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_start();
        let begins = |verb: &str| {
            text.get(..verb.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(verb))
        };
        if begins("MAIL") || begins("RSET") || begins("EHLO") || begins("HELO") {
            self.foreign = None;
        } else if begins("RCPT") {
            if !self.is_named(text) {
                self.foreign = Some(text.to_owned());
            }
        } else if let Some(foreign) = &self.foreign
            && (begins("DATA") || begins("BDAT"))
        {
            return Err(format!("behind `{foreign}` {FOREIGN}"));
        }
        Ok(())
    }

    /// What the server has answered by now: only recipients that it granted get the message.
    pub fn granted(&mut self, granted: &[String]) {
        self.foreign = granted
            .iter()
            .map(|address| format!("RCPT TO:<{address}>"))
            .find(|rcpt| !self.is_named(rcpt));
    }

    /// Whether this recipient lives in one of the domains, or in none (`<postmaster>`).
    fn is_named(&self, rcpt: &str) -> bool {
        let (_, path) = rcpt.split_once(':').unwrap_or(("", rcpt));
        let path = path.trim_start();
        let address = path.strip_prefix('<').map_or(path, |inner| {
            inner.rsplit_once('>').map_or(inner, |(address, _)| address)
        });
        let Some((local, domain)) = address.rsplit_once('@') else {
            return !address.contains(['%', '!']);
        };
        !leads_on(local) && self.names(domain.trim_end_matches('.'))
    }

    fn names(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        self.domains.iter().any(|named| {
            let named = named.to_ascii_lowercase();
            if named.starts_with('.') {
                domain.ends_with(&named)
            } else {
                domain == named
            }
        })
    }
}

/// Whether a local part is an address itself, which a server may send on: `a%there.test`,
/// `there.test!a`, `"a@there.test"`, and a route. What could be no domain leads nowhere.
fn leads_on(local: &str) -> bool {
    let domain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"-.[]:".contains(&octet))
    };
    local.contains(['@', ':'])
        || local.rsplit_once('%').is_some_and(|(_, to)| domain(to))
        || local.split_once('!').is_some_and(|(to, _)| domain(to))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Guard;

    fn guard() -> Guard {
        Guard::new(&["here.test".to_owned(), ".ours.test".to_owned()])
    }

    #[rstest]
    #[case::named("RCPT TO:<a@Here.TEST>\r\nDATA\r\n", true)]
    #[case::no_domain("RCPT TO:<postmaster>\r\nDATA\r\n", true)]
    #[case::asked_only("RCPT TO:<a@there.test>\r\nRSET\r\n", true)]
    #[case::begun_anew(
        "RCPT TO:<a@there.test>\r\nMAIL FROM:<>\r\nRCPT TO:<a@here.test>\r\nDATA\r\n",
        true
    )]
    #[case::foreign("rcpt to: <a@there.test>\r\ndata\r\n", false)]
    #[case::one_of_two("RCPT TO:<a@here.test>\r\nRCPT TO:<a@there.test>\r\nDATA\r\n", false)]
    #[case::chunks("RCPT TO:<a@there.test>\r\nBDAT 3 LAST\r\n", false)]
    #[case::below("RCPT TO:<a@x.here.test>\r\nDATA\r\n", false)]
    #[case::below_ours("RCPT TO:<a@x.Ours.test>\r\nDATA\r\n", true)]
    #[case::not_below_ours("RCPT TO:<a@xours.test>\r\nDATA\r\n", false)]
    #[case::odd("RCPT TO:<!#$%&'*-=?^_`.{|}~@here.test>\r\nDATA\r\n", true)]
    #[case::bang("RCPT TO:<there.test!a@here.test>\r\nDATA\r\n", false)]
    #[case::literal("RCPT TO:<a@[192.0.2.1]>\r\nDATA\r\n", false)]
    #[case::percent("RCPT TO:<a%there.test@here.test>\r\nDATA\r\n", false)]
    #[case::route("RCPT TO:<@here.test:a@there.test>\r\nDATA\r\n", false)]
    #[case::smuggled(
        "RCPT TO:<a@here.test>\r\nDATA\r\nx\n.\nMAIL FROM:<>\nRCPT TO:<a@there.test>\nDATA\n",
        false
    )]
    fn mail_goes_to_named_domains_only(#[case] said: &str, #[case] passes: bool) {
        assert_eq!(guard().passes(said.as_bytes()).is_ok(), passes);
        // However it is cut.
        let mut guard = guard();
        let cut = said.bytes().all(|octet| guard.passes(&[octet]).is_ok());
        assert_eq!(cut, passes);
    }
}
