//! Drives a session as a server would, with a policy that answers every Ask at once, and keeps
//! what happened.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    reason = "what a test driver unwraps is a failed test"
)]

use vmaild_protocol::{Action, Ask, Envelope, Reply, ReplyReader, Session, Settings};

/// What Postfix's defaults and the tutorial configure.
pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "server.domain.com".into(),
        banner: "server.domain.com ESMTP".into(),
        message_size_limit: 10_240_000,
        line_length_limit: 2048,
        recipient_limit: 1000,
        overshoot_limit: 1000,
        soft_error_limit: 10,
        hard_error_limit: 20,
        junk_command_limit: 100,
        starttls: true,
        implicit_tls: false,
        auth: true,
        auth_equals: true,
        auth_needs_tls: false,
        tls_required: false,
        helo_required: false,
    }
}

/// Grants everything but what is named to be refused: local part `nobody`, senders `refused`,
/// `begin-refused`, `store-refused`, any password other than `mypassword`.
pub(crate) fn policy(ask: &Ask) -> Reply {
    match ask {
        Ask::Sender(envelope) if is_from(envelope, "refused") => Reply::new(550, "5.7.1 No"),
        Ask::Sender(_) => Reply::new(250, "2.1.0 Ok"),
        Ask::Recipient { recipient, .. } if recipient.mailbox.local == "nobody" => {
            Reply::new(550, "5.1.1 User unknown")
        }
        Ask::Recipient { .. } => Reply::new(250, "2.1.5 Ok"),
        Ask::Verify(mailbox) => Reply::new(252, format!("2.0.0 {mailbox}")),
        Ask::Etrn(_) => Reply::new(459, "4.0.0 service unavailable"),
        Ask::Password { password, .. } if password == "mypassword" => {
            Reply::new(235, "2.7.0 Authentication successful")
        }
        Ask::Password { .. } => Reply::new(535, "5.7.8 Error: authentication failed"),
        Ask::Begin(envelope) if is_from(envelope, "begin-refused") => {
            Reply::new(550, "5.7.1 Not now")
        }
        Ask::Begin(_) => Reply::new(354, "End data with <CR><LF>.<CR><LF>"),
        Ask::Store(envelope) if is_from(envelope, "store-refused") => {
            Reply::new(451, "4.3.0 Error: queue file write error")
        }
        Ask::Store(_) => Reply::new(250, "2.0.0 Ok: queued"),
    }
}

fn is_from(envelope: &Envelope, local: &str) -> bool {
    let mailbox = envelope.reverse_path.mailbox();
    mailbox.is_some_and(|mailbox| mailbox.local == local)
}

/// A message that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) envelope: Envelope,
    pub(crate) content: Vec<u8>,
}

/// A session, its client and its server in one.
pub(crate) struct Client {
    pub(crate) session: Session,
    /// Everything the session did, in order.
    pub(crate) actions: Vec<Action>,
    /// The messages that the policy took.
    pub(crate) stored: Vec<Stored>,
    /// Content handed out and neither stored nor discarded.
    pub(crate) half: Vec<u8>,
    /// Whether TLS starts as soon as it is asked for.
    pub(crate) handshakes: bool,
    replies: ReplyReader,
}

impl Client {
    /// Connected and greeted.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As `new`, of a server with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let mut client = Self {
            session: Session::new(settings),
            actions: Vec::new(),
            stored: Vec::new(),
            half: Vec::new(),
            handshakes: true,
            replies: ReplyReader::new(),
        };
        client.run();
        assert_eq!(client.heard(), ["220 server.domain.com ESMTP"]);
        client
    }

    /// Feeds octets and does what follows.
    pub(crate) fn feed(&mut self, octets: &[u8]) {
        self.session.feed(octets);
        self.run();
    }

    /// Polls until there is nothing to do.
    pub(crate) fn run(&mut self) {
        while let Some(action) = self.session.poll() {
            self.actions.push(action.clone());
            match action {
                Action::Send(octets) => self.replies.feed(&octets),
                Action::Content(octets) => {
                    assert!(!octets.is_empty(), "a block of content is never empty");
                    self.half.extend(octets);
                }
                Action::Discard => self.half.clear(),
                Action::StartTls if self.handshakes => self.session.tls_started(),
                Action::Ask(ask) => {
                    let reply = policy(&ask);
                    if let Ask::Store(envelope) = ask {
                        let content = std::mem::take(&mut self.half);
                        if reply.is_success() {
                            self.stored.push(Stored { envelope, content });
                        }
                    }
                    self.session.answer(reply);
                }
                Action::StartTls | Action::Pause | Action::Close => {}
            }
        }
    }

    /// What was said since the last time, each reply on one line.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.replies.next_reply().unwrap())
            .map(|reply| reply.to_string())
            .collect()
    }

    /// Sends a command, or several, and hears the replies.
    pub(crate) fn say(&mut self, line: &str) -> Vec<String> {
        self.feed(line.as_bytes());
        self.feed(b"\r\n");
        self.heard()
    }

    /// As `say`, for one reply.
    pub(crate) fn reply(&mut self, line: &str) -> String {
        let heard = self.say(line);
        assert_eq!(heard.len(), 1, "one reply to {line:?}: {heard:?}");
        heard.concat()
    }

    /// Says commands that must be granted.
    pub(crate) fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            let reply = self.reply(line);
            assert!(reply.starts_with(['2', '3']), "{line:?}: {reply}");
        }
    }

    /// In a transaction with one recipient.
    pub(crate) fn in_transaction() -> Self {
        let mut client = Self::new();
        client.expect(&["EHLO client.example"]);
        client.expect(&["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>"]);
        client
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.actions.last() == Some(&Action::Close)
    }
}
