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
//! ```
//!
//! The proxy connects to the target from the client's own address, so that strangers stay
//! strangers. TLS passes through it unchanged: what is broken, is broken in clear.

mod proxy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Lines from the server, in answer to a command that begins so.
    Reply(Option<String>),
    /// Command lines from the client.
    Command,
    /// Lines between DATA and the final dot.
    Content,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The beginning is replaced by this text.
    Text(String),
    /// The line is left out.
    Drop,
    /// The connection is closed.
    Close,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which lines.
    pub what: What,
    /// How they begin; letters in either case.
    pub prefix: String,
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
        .ok_or("expected `reply|command|content BEGINNING => TEXT|drop|close`")?;
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
    let (word, prefix) = left.split_once(' ').unwrap_or((left.as_str(), ""));
    let what = match word {
        "reply" => What::Reply(after),
        "command" => What::Command,
        "content" => What::Content,
        other => {
            return Err(format!(
                "`{other}`: expected reply, command, content or after"
            ));
        }
    };
    if prefix.is_empty() {
        return Err("a rule needs the beginning of the lines that it changes".into());
    }
    let change = match right.trim() {
        "drop" => Change::Drop,
        "close" => Change::Close,
        text => Change::Text(text.to_owned()),
    };
    Ok(Rule {
        what,
        prefix: prefix.to_owned(),
        change,
    })
}

/// What becomes of one line, without its line end.
pub(crate) fn apply(
    rules: &[Rule],
    fits: impl Fn(&What) -> bool,
    line: &[u8],
) -> Option<(Change, usize)> {
    rules
        .iter()
        .filter(|rule| fits(&rule.what))
        .find(|rule| {
            line.get(..rule.prefix.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(rule.prefix.as_bytes()))
        })
        .map(|rule| (rule.change.clone(), rule.prefix.len()))
}
