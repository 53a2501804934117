//! Wrong servers made of right ones: a TCP proxy before the target that breaks one thing on the
//! wire. A check that has never failed is not evidence; each of these must turn its clauses red.
//!
//! A file `*.wire` holds rules, one a line; `#` begins a comment; the first comment says which
//! clauses it must turn red. The first rule that fits a line is applied to it.
//!
//! ```text
//! reply 250-SIZE => drop                 # a line of a reply that begins so is left out
//! after RSET reply 250 => 500            # its beginning is replaced, in answers to RSET only
//! after greeting reply 220 => close      # the connection is closed instead
//! command NOOP => RSET                   # the beginning of a command line is replaced
//! command QUIT => drop                   # the command never arrives
//! content .. => .                        # the beginning of a line of content is replaced
//! ending \n => \r\n                      # its end is replaced
//! connection => 220 hello\r\n            # is sent to each client as it connects
//! after CONTENT reply 250 => again       # the server gets the whole message a second time
//! ```
//!
//! Texts may hold the escapes of scenarios: `\r \n \t \0 \\ \xHH`.
//!
//! The proxy connects to the target from the client's own address, so that strangers stay
//! strangers. TLS passes through it unchanged: what is broken, is broken in clear.

mod proxy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::scenario::unescape;

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Lines from the server, in answer to a command that begins so.
    Reply(Option<String>),
    /// Command lines from the client.
    Command,
    /// Lines between DATA and the final dot.
    Content,
    /// The ends of these lines.
    Ending,
    /// The connection itself, as it begins.
    Connection,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The beginning is replaced by this text.
    Text(Vec<u8>),
    /// The line is left out.
    Drop,
    /// The connection is closed.
    Close,
    /// The message that was answered so is handed over once more, on a connection of its own.
    Again,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which lines.
    pub what: What,
    /// How they begin, or end; letters in either case.
    pub part: Vec<u8>,
    /// What happens to them.
    pub change: Change,
}

/// The rules of a run and the proxies that obey them.
#[derive(Debug)]
pub struct Wrong {
    rules: Arc<Vec<Rule>>,
    proxies: Mutex<BTreeMap<SocketAddr, SocketAddr>>,
}

impl Wrong {
    /// Reads the rules of a file.
    pub fn read(path: &Path) -> Result<Vec<Rule>, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        parse(&text).map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))
    }

    /// A wrong server by these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules: Arc::new(rules),
            proxies: Mutex::new(BTreeMap::new()),
        }
    }

    /// The address of the proxy before `target`, started when first asked for.
    pub async fn before(&self, target: SocketAddr) -> Result<SocketAddr, String> {
        let mut proxies = self.proxies.lock().await;
        if let Some(&proxy) = proxies.get(&target) {
            return Ok(proxy);
        }
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = proxy::start(free, target, Arc::clone(&self.rules))
            .await
            .map_err(|error| format!("no proxy before {target}: {error}"))?;
        proxies.insert(target, address);
        Ok(address)
    }
}

impl Wrong {
    /// A second address for `target`, with nothing changed.
    pub async fn passing(listen: SocketAddr, target: SocketAddr) -> std::io::Result<SocketAddr> {
        proxy::start(listen, target, Arc::default()).await
    }
}

/// Reads rules; the error holds line and reason.
pub fn parse(text: &str) -> Result<Vec<Rule>, (usize, String)> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            rules.push(rule(line).map_err(|why| (number + 1, why))?);
        }
    }
    Ok(rules)
}

fn rule(line: &str) -> Result<Rule, String> {
    let (left, right) = line
        .split_once(" => ")
        .ok_or("expected `reply|command|content|ending PART => TEXT|drop|close|again`")?;
    let (after, left) = match left.strip_prefix("after ") {
        Some(rest) => {
            let (command, rest) = rest
                .split_once(" reply ")
                .ok_or("expected `reply` behind `after COMMAND`")?;
            (
                Some(command.trim().to_ascii_uppercase()),
                format!("reply {rest}"),
            )
        }
        None => (None, left.to_owned()),
    };
    let (word, part) = left.split_once(' ').unwrap_or((left.as_str(), ""));
    let what = match word {
        "reply" => What::Reply(after),
        "command" => What::Command,
        "content" => What::Content,
        "ending" => What::Ending,
        "connection" => What::Connection,
        other => {
            return Err(format!(
                "`{other}`: expected reply, command, content, ending, connection or after"
            ));
        }
    };
    if part.is_empty() && what != What::Connection {
        return Err("a rule needs the beginning of the lines that it changes".into());
    }
    let octets = |text: &str| unescape(text).map_err(|error| error.to_string());
    let change = match right.trim() {
        "drop" => Change::Drop,
        "close" => Change::Close,
        "again" => Change::Again,
        text => Change::Text(octets(text)?),
    };
    Ok(Rule {
        what,
        part: octets(part)?,
        change,
    })
}

/// What becomes of one line, with its line end, and of which of its octets.
pub(crate) fn apply(
    rules: &[Rule],
    fits: impl Fn(&What) -> bool,
    line: &[u8],
) -> Option<(Change, Range<usize>)> {
    rules
        .iter()
        .filter(|rule| fits(&rule.what))
        .find_map(|rule| {
            let place = match rule.what {
                What::Ending => line.len().checked_sub(rule.part.len())?..line.len(),
                _ => 0..rule.part.len(),
            };
            let part = line.get(place.clone())?;
            part.eq_ignore_ascii_case(&rule.part)
                .then(|| (rule.change.clone(), place))
        })
}
