//! One session with one client: here the protocol meets a socket.
//!
//! It does what the session says (see the contract in `vmaild_protocol::session`), asks policy, auth
//! and queue, and keeps the time. Replies to what the client pipelined leave together (RFC 2920
//! §3.2). What it holds in memory for a client is bounded: one read, the session's own limits, and
//! the replies to one read.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use vmaild_protocol::{Action, Ask, Envelope, Reply, ReversePath, Session, Settings};

use crate::aliases::Unexpanded;
use crate::auth::{Passwords, Verdict};
use crate::config::params::TlsLevel;
use crate::config::{Params, Service};
use crate::log;
use crate::policy::Client;
use crate::queue::{Incoming, Origin, Queue, Untaken};
use crate::tables;
use crate::tls::{Acceptor, Stream};

/// Read at once.
const READ_SIZE: usize = 32 * 1024;
/// Replies are sent at the latest when so much has gathered.
const WRITE_SIZE: usize = 64 * 1024;

/// What all sessions of one port use. Made anew by a reload.
#[derive(Debug)]
pub struct Port {
    /// Its values.
    pub service: Service,
    /// Its certificate.
    pub tls: Option<Acceptor>,
    /// Where messages go.
    pub queue: Arc<Queue>,
    /// Checks passwords.
    pub passwords: Arc<Passwords>,
}

impl Port {
    fn params(&self) -> &Params {
        &self.service.params
    }

    /// What the protocol has to know.
    fn settings(&self) -> Settings {
        let params = self.params();
        let tls_required = params.smtpd_tls_security_level == TlsLevel::Encrypt;
        let offered = params.wants_tls() && self.tls.is_some();
        // PLAIN and LOGIN are all there is, so without plaintext there is no AUTH.
        let allows_plaintext = |options: &str| !options.contains("noplaintext");
        Settings {
            hostname: params.myhostname.clone(),
            banner: params.smtpd_banner.clone(),
            message_size_limit: params.message_size_limit,
            line_length_limit: params.line_length_limit,
            recipient_limit: params.smtpd_recipient_limit,
            overshoot_limit: params.smtpd_recipient_overshoot_limit,
            soft_error_limit: params.smtpd_soft_error_limit,
            hard_error_limit: params.smtpd_hard_error_limit,
            junk_command_limit: params.smtpd_junk_command_limit,
            starttls: offered && !params.smtpd_tls_wrappermode,
            implicit_tls: params.smtpd_tls_wrappermode,
            auth: self.service.passwords.is_some()
                && allows_plaintext(&params.smtpd_sasl_tls_security_options),
            auth_equals: params.broken_sasl_auth_clients,
            auth_needs_tls: params.smtpd_tls_auth_only
                || !allows_plaintext(&params.smtpd_sasl_security_options)
                || tls_required,
            tls_required,
            helo_required: params.smtpd_helo_required,
        }
    }
}

/// Serves one client until it or the server closes.
pub async fn serve(
    port: Arc<Port>,
    plain: TcpStream,
    client: SocketAddr,
    down: watch::Receiver<bool>,
) {
    let name = format!("unknown[{}]", client.ip());
    log!("smtpd", "connect from {name}");
    // A reply is small and its reader waits for it.
    let _ = plain.set_nodelay(true);
    let params = port.params();
    let stream = if params.smtpd_tls_wrappermode {
        match &port.tls {
            Some(acceptor) => handshake(acceptor, plain, params.smtpd_starttls_timeout).await,
            None => Err(io::Error::other("there is no certificate")),
        }
    } else {
        Ok(Stream::Plain(plain))
    };
    let mut tally = Tally::default();
    match stream {
        Err(error) => log!("smtpd", "SSL_accept error from {name}: {error}"),
        Ok(stream) => {
            let session = Session::new(port.settings());
            let mut connection = Connection {
                port: &port,
                session,
                stream: Some(stream),
                client,
                name: &name,
                out: Vec::new(),
                message: Message::None,
                tally,
                down,
            };
            if let Err(error) = tables::remembering(connection.run()).await {
                log!("smtpd", "lost connection with {name}: {error}");
            }
            tally = connection.tally;
        }
    }
    log!("smtpd", "disconnect from {name}{tally}");
}

async fn handshake(acceptor: &Acceptor, plain: TcpStream, limit: Duration) -> io::Result<Stream> {
    timeout(limit, acceptor.accept(plain))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The message that is being received.
#[derive(Debug)]
enum Message {
    None,
    Incoming(Incoming),
    /// It could not be kept; the client hears why at its end.
    Untaken(Untaken),
}

#[derive(Debug)]
struct Connection<'a> {
    port: &'a Port,
    session: Session,
    /// Missing only while a handshake takes it.
    stream: Option<Stream>,
    client: SocketAddr,
    name: &'a str,
    out: Vec<u8>,
    message: Message,
    tally: Tally,
    down: watch::Receiver<bool>,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        let mut input = vec![0; READ_SIZE];
        let limit = self.port.params().smtpd_timeout;
        loop {
            while let Some(action) = self.session.poll() {
                if self.act(action).await?.is_break() {
                    return Ok(());
                }
            }
            self.flush().await?;
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            // Whether it is said now or was said while the session was busy.
            let read = tokio::select! {
                read = timeout(limit, stream.read(&mut input)) => read,
                _ = self.down.wait_for(|down| *down) => {
                    self.session.shut_down();
                    continue;
                }
            };
            match read {
                Ok(Ok(0)) => self.session.client_closed(),
                Ok(Ok(count)) => self.session.feed(input.get(..count).unwrap_or_default()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    log!("smtpd", "timeout after {limit:?} from {}", self.name);
                    self.session.timed_out();
                }
            }
        }
    }

    /// Does it; `Break` where the connection has ended.
    async fn act(&mut self, action: Action) -> io::Result<ControlFlow<()>> {
        match action {
            Action::Send(octets) => {
                self.tally.replied(&octets);
                self.out.extend_from_slice(&octets);
                if self.out.len() > WRITE_SIZE {
                    self.flush().await?;
                }
            }
            Action::Ask(ask) => {
                let reply = self.answer(ask).await;
                self.session.answer(reply);
            }
            Action::Content(octets) => {
                if let Message::Incoming(incoming) = &mut self.message
                    && let Err(untaken) = incoming.write(&octets).await
                {
                    self.message = Message::Untaken(untaken);
                }
            }
            Action::Discard => self.message = Message::None,
            Action::Pause => {
                self.flush().await?;
                sleep(self.port.params().smtpd_error_sleep_time).await;
            }
            Action::StartTls => {
                self.flush().await?;
                self.tally.starttls += 1;
                let limit = self.port.params().smtpd_starttls_timeout;
                match (self.stream.take(), &self.port.tls) {
                    (Some(Stream::Plain(plain)), Some(acceptor)) => {
                        self.stream = Some(handshake(acceptor, plain, limit).await?);
                        self.session.tls_started();
                        // What was learned in clear is forgotten (RFC 3207 §4.2), a login as well.
                        self.tally.user = None;
                    }
                    _ => return Ok(ControlFlow::Break(())),
                }
            }
            Action::Close => {
                self.flush().await?;
                if let Some(stream) = &mut self.stream {
                    // Under TLS this also says close_notify.
                    let _ = timeout(Duration::from_secs(5), stream.shutdown()).await;
                }
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.out.is_empty()) else {
            return Ok(());
        };
        let write = async {
            stream.write_all(&self.out).await?;
            stream.flush().await
        };
        let limit = self.port.params().smtpd_timeout;
        let written = timeout(limit, write)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.out.clear();
        written
    }

    async fn answer(&mut self, ask: Ask) -> Reply {
        let params = self.port.params();
        let client = |user: &Option<String>| Client {
            params,
            ip: self.client.ip(),
            authenticated: user.is_some(),
        };
        if !matches!(ask, Ask::Begin(_) | Ask::Store(_)) {
            tables::forget();
        }
        match ask {
            Ask::Sender(envelope) => {
                let reply = match self.port.queue.room(envelope.size.unwrap_or(0)) {
                    Ok(()) => Reply::new(250, "2.1.0 Ok"), // Restrictions wait for RCPT.
                    Err(untaken) => self.refused("MAIL", &untaken, &envelope),
                };
                self.tally.mail.count(reply)
            }
            Ask::Recipient {
                recipient,
                envelope,
            } => {
                let client = client(&envelope.user);
                let reply = client.recipient(&recipient.mailbox, &envelope).await;
                self.tally.rcpt.count(reply)
            }
            Ask::Verify(mailbox) => client(&self.tally.user).verify(&mailbox).await,
            Ask::Etrn(domain) => client(&self.tally.user).etrn(&domain),
            Ask::Password {
                mechanism,
                user,
                password,
            } => {
                let reply = self.password(mechanism, &user, password).await;
                if reply.is_success() {
                    self.tally.user = Some(user);
                }
                self.tally.auth.count(reply)
            }
            Ask::Begin(envelope) => self.begin(&envelope),
            Ask::Store(envelope) => {
                let reply = self.store(&envelope).await;
                self.tally.data.count(reply)
            }
        }
    }

    async fn password(&self, mechanism: &str, user: &str, password: String) -> Reply {
        let params = self.port.params();
        let Some(table) = &self.port.service.passwords else {
            return Verdict::Failed.reply();
        };
        let verdict = self
            .port
            .passwords
            .check(table, &params.smtpd_sasl_local_domain, user, password)
            .await;
        if verdict != Verdict::Right {
            let what = if verdict == Verdict::Wrong {
                "authentication failed"
            } else {
                "no answer from the database"
            };
            log!(
                "smtpd",
                "warning: {}: SASL {mechanism} authentication failed: {what}, sasl_username={user}",
                self.name
            );
        }
        verdict.reply()
    }

    fn begin(&mut self, envelope: &Envelope) -> Reply {
        let tls = self.stream.as_ref().and_then(Stream::description);
        let origin = Origin {
            client: self.client.ip(),
            tls,
        };
        let incoming = self.port.queue.begin(&origin, envelope);
        let user = envelope
            .user
            .as_ref()
            .map(|user| format!(", sasl_username={user}"))
            .unwrap_or_default();
        log!("smtpd", "{}: client={}{user}", incoming.id(), self.name);
        self.message = Message::Incoming(incoming);
        Reply::new(354, "End data with <CR><LF>.<CR><LF>")
    }

    async fn store(&mut self, envelope: &Envelope) -> Reply {
        let stored = match std::mem::replace(&mut self.message, Message::None) {
            Message::Incoming(incoming) => incoming.commit(envelope).await,
            Message::Untaken(untaken) => Err(untaken),
            Message::None => Err(io::Error::other("no message was begun").into()),
        };
        match stored {
            Ok(id) => Reply::new(250, format!("2.0.0 Ok: queued as {id}")),
            Err(untaken) => self.refused("END-OF-MESSAGE", &untaken, envelope),
        }
    }

    fn refused(&self, at: &str, untaken: &Untaken, envelope: &Envelope) -> Reply {
        let reply = untaken_reply(untaken);
        let from = match &envelope.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Mailbox(mailbox) => mailbox.to_string(),
        };
        let text = reply.lines.first().map_or("", String::as_str);
        let code = reply.code;
        log!(
            "smtpd",
            "NOQUEUE: reject: {at} from {}: {code} {text} ({untaken}); from=<{from}>",
            self.name
        );
        reply
    }
}

/// What the client hears when its message was not taken.
fn untaken_reply(untaken: &Untaken) -> Reply {
    match untaken {
        Untaken::Storage(_) => Reply::new(452, "4.3.1 Insufficient system storage"),
        Untaken::Aliases(Unexpanded::Failed(_)) => {
            Reply::new(451, "4.3.0 Error: queue file write error")
        }
        Untaken::Aliases(Unexpanded::TooDeep(_)) => Reply::new(451, "4.6.0 Alias expansion error"),
        Untaken::TooManyHops => Reply::new(554, "5.4.0 Error: too many hops"),
    }
}

/// Counts for the last line of a session, `mail=1 rcpt=0/1 commands=3/4`: granted of all.
#[derive(Debug, Default)]
struct Tally {
    user: Option<String>,
    starttls: u32,
    auth: Count,
    mail: Count,
    rcpt: Count,
    data: Count,
    commands: Count,
}

#[derive(Debug, Default)]
struct Count {
    granted: u32,
    all: u32,
}

impl Count {
    fn count(&mut self, reply: Reply) -> Reply {
        self.all += 1;
        self.granted += u32::from(reply.is_positive());
        reply
    }
}

impl Tally {
    /// A reply that answers a command: neither the greeting nor a challenge.
    fn replied(&mut self, octets: &[u8]) {
        let greeting = octets.starts_with(b"220") && self.commands.all == 0 && self.starttls == 0;
        if !greeting && !octets.starts_with(b"3") {
            self.commands.all += 1;
            self.commands.granted += u32::from(octets.starts_with(b"2"));
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.starttls > 0 {
            write!(f, " starttls={}", self.starttls)?;
        }
        let counts = [
            ("auth", &self.auth),
            ("mail", &self.mail),
            ("rcpt", &self.rcpt),
            ("data", &self.data),
            ("commands", &self.commands),
        ];
        for (name, count) in counts {
            match (count.granted, count.all) {
                (_, 0) => {}
                (granted, all) if granted == all => write!(f, " {name}={all}")?,
                (granted, all) => write!(f, " {name}={granted}/{all}")?,
            }
        }
        Ok(())
    }
}
