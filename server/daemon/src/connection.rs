//! One session with one client: here the protocol meets a socket.
//!
//! It does what the session says (see the contract in `vmaild_protocol::session`), asks policy, auth
//! and queue, and keeps the time. Replies to what the client pipelined leave together (RFC 2920
//! §3.2). What it holds in memory for a client is bounded: one read, the session's own limits, and
//! the replies to one read.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use vmaild_protocol::{Action, Ask, Envelope, Reply, Session, Settings};

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
    /// Its certificate, where it wants TLS.
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
            starttls: self.tls.is_some() && !params.smtpd_tls_wrappermode,
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
pub async fn serve(port: &Port, plain: TcpStream, client: IpAddr, down: watch::Receiver<bool>) {
    let name = format!("unknown[{client}]");
    log!("smtpd", "connect from {name}");
    // A reply is small and its reader waits for it.
    let _ = plain.set_nodelay(true);
    let mut connection = Connection {
        port,
        session: Session::new(port.settings()),
        origin: Origin { client, tls: None },
        name: &name,
        out: Vec::new(),
        message: None,
        tally: Tally::default(),
        down,
    };
    let stream = if port.params().smtpd_tls_wrappermode {
        connection.handshake(plain).await
    } else {
        Ok(Stream::Plain(plain))
    };
    match stream {
        Err(error) => log!("smtpd", "SSL_accept error from {name}: {error}"),
        Ok(stream) => {
            if let Err(error) = tables::remembering(connection.run(stream)).await {
                log!("smtpd", "lost connection with {name}: {error}");
            }
        }
    }
    log!("smtpd", "disconnect from {name}{}", connection.tally);
}

#[derive(Debug)]
struct Connection<'a> {
    port: &'a Port,
    session: Session,
    origin: Origin,
    name: &'a str,
    out: Vec<u8>,
    /// The message that is being received, or why it could not be kept: the client hears that at
    /// its end.
    message: Option<Result<Incoming, Untaken>>,
    tally: Tally,
    down: watch::Receiver<bool>,
}

impl Connection<'_> {
    async fn handshake(&mut self, plain: TcpStream) -> io::Result<Stream> {
        let Some(acceptor) = &self.port.tls else {
            return Err(io::Error::other("there is no certificate"));
        };
        let limit = self.port.params().smtpd_starttls_timeout;
        let stream = timeout(limit, acceptor.accept(plain)).await??;
        self.origin.tls = stream.description();
        Ok(stream)
    }

    async fn run(&mut self, mut stream: Stream) -> io::Result<()> {
        let mut input = vec![0; READ_SIZE];
        let params = self.port.params();
        let limit = params.smtpd_timeout;
        loop {
            while let Some(action) = self.session.poll() {
                match action {
                    Action::Send(octets) => {
                        self.tally.replied(&octets);
                        self.out.extend_from_slice(&octets);
                        if self.out.len() > WRITE_SIZE {
                            self.flush(&mut stream).await?;
                        }
                    }
                    Action::Ask(ask) => {
                        let reply = self.answer(ask).await;
                        self.session.answer(reply);
                    }
                    Action::Content(octets) => {
                        if let Some(Ok(incoming)) = &mut self.message
                            && let Err(untaken) = incoming.write(&octets).await
                        {
                            self.message = Some(Err(untaken));
                        }
                    }
                    Action::Discard => self.message = None,
                    Action::Pause => {
                        self.flush(&mut stream).await?;
                        sleep(params.smtpd_error_sleep_time).await;
                    }
                    Action::StartTls => {
                        self.flush(&mut stream).await?;
                        self.tally.starttls.add(true);
                        let Stream::Plain(plain) = stream else {
                            return Ok(());
                        };
                        stream = self.handshake(plain).await?;
                        self.session.tls_started();
                        // What was learned in clear is forgotten (RFC 3207 §4.2), a login as well.
                        self.tally.user = None;
                    }
                    Action::Close => {
                        self.flush(&mut stream).await?;
                        // Under TLS this also says close_notify.
                        let _ = timeout(Duration::from_secs(5), stream.shutdown()).await;
                        return Ok(());
                    }
                }
            }
            self.flush(&mut stream).await?;
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

    async fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        let write = async {
            stream.write_all(&self.out).await?;
            stream.flush().await
        };
        timeout(self.port.params().smtpd_timeout, write).await??;
        self.out.clear();
        Ok(())
    }

    /// How policy sees the client, with the user that it has logged in as.
    fn client(&self, user: Option<&String>) -> Client<'_> {
        Client {
            params: self.port.params(),
            ip: self.origin.client,
            authenticated: user.is_some(),
        }
    }

    async fn answer(&mut self, ask: Ask) -> Reply {
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
                let client = self.client(envelope.user.as_ref());
                let reply = client.recipient(&recipient.mailbox, &envelope).await;
                self.tally.rcpt.count(reply)
            }
            Ask::Verify(mailbox) => {
                let client = self.client(self.tally.user.as_ref());
                client.verify(&mailbox).await
            }
            Ask::Etrn(domain) => self.client(self.tally.user.as_ref()).etrn(&domain),
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
        let domain = &self.port.params().smtpd_sasl_local_domain;
        let Some(table) = &self.port.service.passwords else {
            return Verdict::Failed.reply();
        };
        let passwords = &self.port.passwords;
        let verdict = passwords.check(table, domain, user, password).await;
        let what = match verdict {
            Verdict::Right => return verdict.reply(),
            Verdict::Wrong => "authentication failed",
            Verdict::Failed => "no answer from the database",
        };
        log!(
            "smtpd",
            "warning: {}: SASL {mechanism} authentication failed: {what}, sasl_username={user}",
            self.name
        );
        verdict.reply()
    }

    fn begin(&mut self, envelope: &Envelope) -> Reply {
        let incoming = self.port.queue.begin(&self.origin, envelope);
        let user = envelope.user.as_ref();
        let user = user.map(|user| format!(", sasl_username={user}"));
        let user = user.unwrap_or_default();
        log!("smtpd", "{}: client={}{user}", incoming.id(), self.name);
        self.message = Some(Ok(incoming));
        Reply::new(354, "End data with <CR><LF>.<CR><LF>")
    }

    async fn store(&mut self, envelope: &Envelope) -> Reply {
        let stored = match self.message.take() {
            Some(Ok(incoming)) => incoming.commit(envelope).await,
            Some(Err(untaken)) => Err(untaken),
            None => Err(io::Error::other("no message was begun").into()),
        };
        match stored {
            Ok(id) => Reply::new(250, format!("2.0.0 Ok: queued as {id}")),
            Err(untaken) => self.refused("END-OF-MESSAGE", &untaken, envelope),
        }
    }

    /// What the client hears when its message was not taken.
    fn refused(&self, at: &str, untaken: &Untaken, envelope: &Envelope) -> Reply {
        let (code, text) = match untaken {
            Untaken::Storage(_) => (452, "4.3.1 Insufficient system storage"),
            Untaken::Aliases(Unexpanded::Failed(_)) => (451, "4.3.0 Error: queue file write error"),
            Untaken::Aliases(Unexpanded::TooDeep(_)) => (451, "4.6.0 Alias expansion error"),
            Untaken::TooManyHops => (554, "5.4.0 Error: too many hops"),
        };
        let reply = Reply::new(code, text);
        let tail = format!(" ({untaken}); from={}", envelope.reverse_path);
        let client = self.client(envelope.user.as_ref());
        client.logged(at, reply, &tail)
    }
}

/// Counts for the last line of a session, `mail=1 rcpt=0/1 commands=3/4`: granted of all.
#[derive(Debug, Default)]
struct Tally {
    user: Option<String>,
    starttls: Count,
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
    fn add(&mut self, granted: bool) {
        self.all += 1;
        self.granted += u32::from(granted);
    }

    fn count(&mut self, reply: Reply) -> Reply {
        self.add(reply.is_positive());
        reply
    }
}

impl Tally {
    /// A reply that answers a command: neither the greeting nor a challenge.
    fn replied(&mut self, octets: &[u8]) {
        let greeting = octets.starts_with(b"220") && self.commands.all == 0;
        if !greeting && !octets.starts_with(b"3") {
            self.commands.add(octets.starts_with(b"2"));
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            ("starttls", &self.starttls),
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
