//! `smtp://user:password@host:port`: a server of which no more is known.

use super::{Account, Outside, Place, Rows, Secret};
use crate::wire::Trust;

/// `smtp://user:password@host:port`: a server of which no more is known.
///
/// `%40` stands for `@` in the user's name and the password. Without a port 25 is meant, of
/// `smtps://` 465.
pub fn black_box(url: &str, trust: Trust, password: Option<Secret>) -> Result<Outside, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (login, server) = match rest.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, rest),
    };
    let wanted = |what: &str| {
        format!(
            "{what}: expected smtp://user:password@host:port, or smtps:// (in a user or password @ : / % are written %40 %3A %2F %25)"
        )
    };
    let usual = match scheme {
        "smtp" => 25,
        "smtps" => 465,
        _ => return Err(wanted(&format!("`{scheme}://`"))),
    };
    let server = server.trim_end_matches('/');
    let place = Place::parse(server)
        .or_else(|| Place::parse(&format!("{server}:{usual}")))
        .ok_or_else(|| wanted(&format!("`{server}`")))?;
    let rows = match login {
        None if password.is_some() => return Err(wanted("a password without a user")),
        None => Rows::None,
        Some(login) => {
            let (user, word) = match login.split_once(':') {
                Some((user, word)) => (user, Some(word)),
                None => (login, None),
            };
            let decoded = |text: &str| decoded(text).ok_or_else(|| wanted("a lone %"));
            let password = match (password, word) {
                (Some(password), None) => password,
                (None, Some(word)) => Secret(decoded(word)?),
                (None, None) => {
                    return Err("the account has no password: expected it in the URL, by --password-file FILE or in VMAILSPEC_PASSWORD".to_owned());
                }
                (Some(_), Some(_)) => {
                    return Err("two passwords: expected one, in the URL or elsewhere".to_owned());
                }
            };
            Rows::Account(Account::new(&decoded(user)?, password)?)
        }
    };
    let (smtp, smtps) = if scheme == "smtps" {
        (None, Some(place.clone()))
    } else {
        (Some(place.clone()), None)
    };
    Ok(Outside {
        smtp,
        smtps,
        hostname: place.host,
        is_named: false,
        trust,
        rows,
        maildirs: None,
        queue: None,
        queue_delete: None,
        log: None,
        owner: None,
        next_hop: None,
        stranger: None,
        neighbour: None,
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            octets.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            octets.push(first);
        }
    }
    String::from_utf8(octets).ok()
}
