//! The everyday client: the library lettre, as mail programs use it, says what a real client
//! makes of the target. It connects from the case's own source address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use crate::environment::manners::{Guard, Manners};
use crate::ledger::body::Body;
use crate::ledger::follow::{End, Recipient, Transaction};
use crate::names::TOKEN_FIELD;
use crate::scenario::{Entry, Span};
use crate::wire::Trust;

/// One message and the way it goes.
#[derive(Debug)]
pub struct Letter {
    /// From where.
    pub source: IpAddr,
    /// To where.
    pub address: SocketAddr,
    /// The way in.
    pub entry: Entry,
    /// Which certificates are the target's.
    pub trust: Trust,
    /// The name in the certificate.
    pub hostname: String,
    /// What the target is spared.
    pub manners: Option<Manners>,
    /// What EHLO says.
    pub client: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Sender; empty: null.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// The token.
    pub token: String,
}

/// Why the client gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    /// What the client says.
    pub text: String,
    /// What it came from.
    pub cause: Cause,
}

/// What kept a client from sending its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The suite itself: mail would have gone to a domain that nobody named, or to an address that
    /// this client cannot say.
    HeldBack,
    /// A reply of the target's.
    Refused,
    /// No reply, before the message was sent.
    BrokenOff,
    /// No reply, and the end of data may have been sent: the message may be on its way.
    Unknown,
}

/// Sends; the reply at the end of data.
pub async fn send(letter: &Letter) -> Result<String, GaveUp> {
    let held_back = |text: String| GaveUp {
        text,
        cause: Cause::HeldBack,
    };
    if let Some(manners) = &letter.manners {
        let mut guard = Guard::new(&manners.domains);
        for to in &letter.to {
            guard
                .passes(format!("RCPT TO:<{to}>\r\n").as_bytes())
                .map_err(held_back)?;
        }
        guard.passes(b"DATA\r\n").map_err(held_back)?;
        if let Some(pace) = &manners.pace {
            pace.turn().await;
        }
    }
    let words = |error| gave_up(&error, Cause::BrokenOff);
    let envelope = envelope(letter).map_err(held_back)?;
    // lettre takes no certificate because it was named itself, as the tutorial's may be: it takes
    // any, and `Trust` looks before anything is said that matters.
    let tls = TlsParameters::builder(letter.hostname.clone())
        .dangerous_accept_invalid_certs(true)
        .dangerous_accept_invalid_hostnames(true)
        .build()
        .map_err(words)?;
    let client = ClientId::Domain(letter.client.clone());
    let wrapped = (letter.entry == Entry::Smtps).then(|| tls.clone());
    let mut connection = AsyncSmtpConnection::connect_tokio1(
        letter.address,
        Some(Duration::from_secs(10)),
        &client,
        wrapped,
        Some(letter.source),
    )
    .await
    .map_err(words)?;
    if letter.entry == Entry::StartTls {
        connection.starttls(tls, &client).await.map_err(words)?;
    }
    if letter.entry != Entry::Plain {
        let chain = connection.certificate_chain().map_err(words)?;
        letter
            .trust
            .takes(&chain, &letter.hostname)
            .map_err(|text| GaveUp {
                text,
                cause: Cause::BrokenOff,
            })?;
    }
    if let Some((user, password)) = &letter.login {
        let credentials = Credentials::new(user.clone(), password.clone());
        connection
            .auth(DEFAULT_MECHANISMS, &credentials)
            .await
            .map_err(words)?;
    }
    let text = text(letter);
    let response = connection
        .send(&envelope, text.as_bytes())
        .await
        .map_err(|error| gave_up(&error, Cause::Unknown))?;
    // The message is handed over; what QUIT is answered changes nothing.
    let _ = connection.quit().await;
    let first = response.first_line().unwrap_or_default();
    Ok(format!("{} {first}", response.code()))
}

/// The client's own error; `silent` is what it comes from where the target did not reply.
fn gave_up(error: &lettre::transport::smtp::Error, silent: Cause) -> GaveUp {
    GaveUp {
        text: in_words(error),
        cause: error.status().map_or(silent, |_| Cause::Refused),
    }
}

/// What the ledger keeps of it. A client of this kind does not tell which recipient was refused:
/// where it gave up, none is taken for granted.
#[must_use]
pub fn transaction(letter: &Letter, result: &Result<String, GaveUp>, span: Span) -> Transaction {
    let end = match result {
        Ok(reply) => End::Accepted(reply.clone()),
        Err(why) if why.cause == Cause::Unknown => End::Unknown,
        Err(why) => End::Refused(why.text.clone()),
    };
    let code = if result.is_ok() { 250 } else { 0 };
    let recipients = letter
        .to
        .iter()
        .map(|address| Recipient {
            address: address.clone(),
            parameters: String::new(),
            code,
        })
        .collect();
    let token = Some(letter.token.clone());
    Transaction {
        from: letter.from.clone(),
        recipients,
        token,
        body: Body::sent(text(letter).as_bytes()),
        end,
        span,
    }
}

/// Now, as RFC 5322 writes it.
#[must_use]
pub fn date() -> String {
    jiff::Zoned::now()
        .strftime("%a, %d %b %Y %H:%M:%S %z")
        .to_string()
}

fn envelope(letter: &Letter) -> Result<Envelope, String> {
    let address = |text: &String| {
        text.parse::<Address>()
            .map_err(|error| format!("the mailer cannot say <{text}>: {error}"))
    };
    let from = if letter.from.is_empty() {
        None
    } else {
        Some(address(&letter.from)?)
    };
    let to = letter
        .to
        .iter()
        .map(address)
        .collect::<Result<Vec<_>, _>>()?;
    Envelope::new(from, to).map_err(|error| error.to_string())
}

/// Its last line is without an end, for the library gives it one.
fn text(letter: &Letter) -> String {
    let Letter {
        token, from, to, ..
    } = letter;
    let to: Vec<String> = to.iter().map(|address| format!("<{address}>")).collect();
    format!(
        "{TOKEN_FIELD}: {token}\r\nFrom: <{from}>\r\nTo: {}\r\nDate: {}\r\nMessage-ID: \
         <{token}@{}>\r\nSubject: A message of an everyday client\r\n\r\nA line of text.",
        to.join(", "),
        date(),
        letter.client,
    )
}

fn in_words(error: &lettre::transport::smtp::Error) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
