//! Follows one connection from the outside: which messages were handed over to which recipients,
//! and what the server said to each.
//!
//! It sees the octets that left and the replies that came, whatever wrote them, so that raw
//! `bytes` are followed as `message` is. Every reply belongs to the oldest command without one.

use super::body::Body;
use crate::driver::message::unstuffed;
use crate::names::{TOKEN_FIELD, token_of};
use crate::scenario::Span;
use crate::wire::Reply;

/// One mail transaction that came as far as content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// MAIL FROM, without brackets; empty: the null sender.
    pub from: String,
    /// Every recipient asked for.
    pub recipients: Vec<Recipient>,
    /// The token in its header, where it has one.
    pub token: Option<String>,
    /// Its body, where every server passes it on as it is.
    pub body: Option<Body>,
    /// What became of it.
    pub end: End,
    /// The step that sent the end of it.
    pub span: Span,
}

/// A recipient of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// RCPT TO, without brackets.
    pub address: String,
    /// What stood behind it: NOTIFY, ORCPT.
    pub parameters: String,
    /// The reply's code.
    pub code: u16,
}

impl Recipient {
    /// Whether the server took it.
    #[must_use]
    pub fn granted(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether its sender asked to hear of no failure (RFC 3461 §4.1).
    #[must_use]
    pub fn wants_no_failure(&self) -> bool {
        self.parameters
            .to_ascii_uppercase()
            .split_ascii_whitespace()
            .filter_map(|parameter| parameter.strip_prefix("NOTIFY="))
            .any(|when| !when.split(',').any(|word| word == "FAILURE"))
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server took responsibility; its reply.
    Accepted(String),
    /// It did not; its reply.
    Refused(String),
    /// The client never sent the end of data.
    Unfinished,
    /// The end of data was sent and no reply came: either is possible.
    Unknown,
}

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Greeting,
    Command,
    Data,
}

#[derive(Debug, Default)]
struct Open {
    from: String,
    recipients: Vec<Recipient>,
    chunks: Vec<u8>,
}

/// The follower of one connection.
#[derive(Debug, Default)]
pub struct Follower {
    mode: Mode,
    pending: Vec<u8>,
    open: Option<Open>,
    span: Span,
    done: Vec<Transaction>,
}

impl Follower {
    /// Octets left, because of the step at `span`.
    pub fn sent(&mut self, octets: &[u8], span: Span) {
        self.pending.extend_from_slice(octets);
        self.span = span;
    }

    /// A reply came.
    pub fn heard(&mut self, reply: &Reply) {
        match self.mode {
            Mode::Greeting => self.mode = Mode::Command,
            Mode::Command => self.answered(reply),
            Mode::Data => {
                // A reply without an end of data in what was sent: the server saw one of its own.
                let content = take_content(&mut self.pending)
                    .unwrap_or_else(|| std::mem::take(&mut self.pending));
                let text = reply.shown();
                let end = if reply.class() == 2 {
                    End::Accepted(text)
                } else {
                    End::Refused(text)
                };
                self.finish(&unstuffed(&content), end);
                self.mode = Mode::Command;
            }
        }
    }

    /// The recipients that the server took for the message to come; `None`: something is still
    /// without an answer.
    #[must_use]
    pub fn granted(&self) -> Option<Vec<String>> {
        if !matches!(self.mode, Mode::Command) || !self.pending.is_empty() {
            return None;
        }
        let open = self.open.iter().flat_map(|open| &open.recipients);
        Some(
            open.filter(|one| one.granted())
                .map(|one| one.address.clone())
                .collect(),
        )
    }

    /// The handshake: everything learned before is forgotten (RFC 3207 §4.2).
    pub fn handshake(&mut self) {
        self.pending.clear();
        self.open = None;
        self.mode = Mode::Command;
    }

    /// The connection ended; every transaction that it carried.
    #[must_use]
    pub fn ended(mut self) -> Vec<Transaction> {
        if matches!(self.mode, Mode::Data) {
            let (content, end) = match take_content(&mut self.pending) {
                Some(content) => (content, End::Unknown),
                None => (std::mem::take(&mut self.pending), End::Unfinished),
            };
            self.finish(&content, end);
        } else if let Some(open) = self.open.as_mut().filter(|open| !open.chunks.is_empty()) {
            let content = std::mem::take(&mut open.chunks);
            self.finish(&content, End::Unfinished);
        } else if token_anywhere(&self.pending) {
            // Sent ahead of a reply that never came.
            let content = std::mem::take(&mut self.pending);
            self.open.get_or_insert_default();
            self.finish(&content, End::Unknown);
        }
        self.done
    }

    fn answered(&mut self, reply: &Reply) {
        let Some(line) = take_line(&mut self.pending) else {
            return;
        };
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let good = reply.class() == 2;
        match verb.to_ascii_uppercase().as_str() {
            "MAIL" if good => {
                let (from, _) = path(rest);
                self.open = Some(Open {
                    from,
                    ..Open::default()
                });
            }
            "RCPT" => {
                let (address, parameters) = path(rest);
                if let Some(open) = &mut self.open {
                    open.recipients.push(Recipient {
                        address,
                        parameters,
                        code: reply.code,
                    });
                }
            }
            "DATA" if reply.code == 354 => self.mode = Mode::Data,
            "BDAT" => self.chunk(rest, reply),
            "EHLO" | "HELO" | "RSET" if good => self.open = None,
            _ => {}
        }
    }

    fn chunk(&mut self, rest: &str, reply: &Reply) {
        let mut words = rest.split_ascii_whitespace();
        let size = words
            .next()
            .and_then(|word| word.parse::<usize>().ok())
            .unwrap_or(0);
        let last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let size = size.min(self.pending.len());
        let octets: Vec<u8> = self.pending.drain(..size).collect();
        let Some(open) = &mut self.open else { return };
        open.chunks.extend_from_slice(&octets);
        let content = open.chunks.clone();
        if reply.class() != 2 {
            self.finish(&content, End::Refused(reply.shown()));
        } else if last {
            self.finish(&content, End::Accepted(reply.shown()));
        }
    }

    fn finish(&mut self, content: &[u8], end: End) {
        let Some(open) = self.open.take() else { return };
        self.done.push(Transaction {
            from: open.from,
            recipients: open.recipients,
            token: token_of(content),
            body: Body::sent(content),
            end,
            span: self.span,
        });
    }
}

/// The path in angle brackets behind `FROM:` or `TO:`, and the parameters behind it.
fn path(rest: &str) -> (String, String) {
    let behind = rest
        .split_once(':')
        .map_or("", |(_, behind)| behind)
        .trim_start();
    let Some(inner) = behind.strip_prefix('<') else {
        let (address, parameters) = behind.split_once(' ').unwrap_or((behind, ""));
        return (address.to_owned(), parameters.to_owned());
    };
    let (mut quoted, mut escaped) = (false, false);
    for (place, letter) in inner.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let (address, behind) = inner.split_at(place);
                // A source route is not part of the mailbox (RFC 5321 §4.1.1.3).
                let address = address
                    .strip_prefix('@')
                    .and_then(|route| route.split_once(':'))
                    .map_or(address, |(_, mailbox)| mailbox);
                return (
                    address.to_owned(),
                    behind.trim_start_matches('>').trim().to_owned(),
                );
            }
            _ => {}
        }
    }
    (inner.to_owned(), String::new())
}

fn take_line(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = pending.iter().position(|&octet| octet == b'\n')?;
    Some(pending.drain(..=end).collect())
}

/// Takes content up to and with CRLF.CRLF; only that ends it (RFC 5321 §4.1.1.4).
fn take_content(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    if pending.starts_with(b".\r\n") {
        pending.drain(..3);
        return Some(Vec::new());
    }
    let end = pending.windows(5).position(|five| five == b"\r\n.\r\n")?;
    let mut content: Vec<u8> = pending.drain(..end + 5).collect();
    content.truncate(end + 2);
    Some(content)
}

fn token_anywhere(octets: &[u8]) -> bool {
    octets
        .windows(TOKEN_FIELD.len())
        .any(|window| window == TOKEN_FIELD.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply;

    fn say(follower: &mut Follower, text: &str) {
        follower.sent(text.as_bytes(), Span::default());
    }

    fn hear(follower: &mut Follower, text: &str) {
        let mut octets = format!("{text}\r\n").into_bytes();
        follower.heard(&reply::take(&mut octets).unwrap());
    }

    #[test]
    fn a_pipelined_transaction_is_followed_reply_by_reply() {
        let mut follower = Follower::default();
        hear(&mut follower, "220 hello");
        say(
            &mut follower,
            "MAIL FROM:<a@b>\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nRCPT TO:<e@f>\r\nDATA\r\n",
        );
        for reply in ["250 ok", "250 ok", "550 no", "354 go"] {
            hear(&mut follower, reply);
        }
        say(
            &mut follower,
            "X-Vmailspec-Token: t-1\r\n\r\n..x\r\n.\r\nQUIT\r\n",
        );
        hear(&mut follower, "250 queued as Q1");
        let done = follower.ended();
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].from, "a@b");
        assert_eq!(done[0].token.as_deref(), Some("t-1"));
        assert!(done[0].recipients[0].granted() && done[0].recipients[0].wants_no_failure());
        assert!(!done[0].recipients[1].granted());
        assert_eq!(done[0].end, End::Accepted("250 queued as Q1".into()));
    }

    #[test]
    fn content_without_its_end_is_unfinished_and_with_it_unknown() {
        for (tail, end) in [("half", End::Unfinished), ("half\r\n.\r\n", End::Unknown)] {
            let mut follower = Follower::default();
            hear(&mut follower, "220 hello");
            say(&mut follower, "MAIL FROM:<>\r\n");
            hear(&mut follower, "250 ok");
            say(&mut follower, "DATA\r\n");
            hear(&mut follower, "354 go");
            say(&mut follower, tail);
            assert_eq!(follower.ended()[0].end, end);
        }
    }

    #[test]
    fn chunks_are_followed_to_the_last() {
        let mut follower = Follower::default();
        hear(&mut follower, "220 hello");
        say(&mut follower, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
        hear(&mut follower, "250 ok");
        hear(&mut follower, "250 ok");
        say(
            &mut follower,
            "BDAT 26\r\nX-Vmailspec-Token: t-9\r\n\r\nBDAT 2 LAST\r\nok",
        );
        hear(&mut follower, "250 ok");
        hear(&mut follower, "250 ok");
        let done = follower.ended();
        assert_eq!(done[0].token.as_deref(), Some("t-9"));
        assert!(matches!(done[0].end, End::Accepted(_)));
    }

    #[test]
    fn what_was_said_before_the_handshake_is_forgotten() {
        let mut follower = Follower::default();
        hear(&mut follower, "220 hello");
        say(&mut follower, "STARTTLS\r\nNOOP\r\n");
        hear(&mut follower, "220 go");
        follower.handshake();
        say(&mut follower, "MAIL FROM:<\"a>b\"@c>\r\n");
        hear(&mut follower, "250 ok");
        assert_eq!(follower.open.as_ref().unwrap().from, "\"a>b\"@c");
    }
}
