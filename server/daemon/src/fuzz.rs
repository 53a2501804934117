//! What holds for any input, whatever its octets: one function a parser, driven by cargo-fuzz
//! (`ci/fuzz`), and under `cargo test` by what cargo-fuzz found (`server/fuzz/corpus`) and at random.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "what panics here is a promise that was not kept"
)]

use std::collections::VecDeque;
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;

use vmaild_protocol::command;
use vmaild_protocol::data::{Bare, Content};
use vmaild_protocol::session::{Notify, Ret};
use vmaild_protocol::{
    Action, Ask, Envelope, Reply, ReplyReader, ReversePath, Session, Settings, sasl, xtext,
};

use crate::aliases;
use crate::config::{Config, Params};
use crate::delivery::bounce::{Kind, Notice, Returned, entries};
use crate::delivery::maildir;
use crate::delivery::smtp::Encoder;
use crate::message::Filter;
use crate::policy::resolve::{self, Route};
use crate::queue::file::{Reason, Recipient, Record, State};
use crate::queue::zoned;
use crate::tables::source::Tables;
use crate::tables::sql::Statement;

/// How input is cut into pieces; whole is the first.
const CUTS: [usize; 4] = [usize::MAX, 1, 2, 7];

/// Octets from here on are in no text: they stand for what else can happen to a session.
const EVENT: u8 = 0xf8;
/// Small, so that short inputs reach it.
const SIZE_LIMIT: u64 = 200;

fn settings() -> Settings {
    Settings {
        hostname: "server.domain.com".into(),
        banner: "server.domain.com ESMTP".into(),
        message_size_limit: SIZE_LIMIT,
        line_length_limit: 512,
        recipient_limit: 3,
        overshoot_limit: 1,
        soft_error_limit: 5,
        hard_error_limit: 20,
        junk_command_limit: 10,
        starttls: true,
        implicit_tls: false,
        auth: true,
        auth_equals: true,
        auth_needs_tls: false,
        tls_required: false,
        helo_required: false,
    }
}

/// Grants, but for what begins with a code: `550x@d` is answered with 550. The content and the end
/// of a message look one letter and two letters further on in the sender.
fn answer(ask: &Ask) -> Reply {
    let sender = |envelope: &Envelope| match &envelope.reverse_path {
        ReversePath::Null => String::new(),
        ReversePath::Mailbox(sender) => sender.local.clone(),
    };
    let (granted, skip, word) = match ask {
        Ask::Sender(envelope) => (250, 0, sender(envelope)),
        Ask::Recipient { recipient, .. } => (250, 0, recipient.mailbox.local.clone()),
        Ask::Verify(mailbox) => (252, 0, mailbox.local.clone()),
        Ask::Etrn(domain) => (459, 0, domain.clone()),
        Ask::Password { password, .. } => (235, 0, password.clone()),
        Ask::Begin(envelope) => (354, 1, sender(envelope)),
        Ask::Store(envelope) => (250, 2, sender(envelope)),
    };
    let code = word.get(skip..skip + 3).and_then(|code| code.parse().ok());
    Reply::new(code.unwrap_or(granted), "said")
}

/// What a session does, fed with pieces of `cut` octets.
fn dialogue(octets: &[u8], cut: usize) -> Vec<Action> {
    let mut session = Session::new(settings());
    let mut actions = Vec::new();
    let mut run = |session: &mut Session| {
        while let Some(action) = session.poll() {
            if let Action::Ask(ask) = &action {
                session.answer(answer(ask));
            }
            actions.push(action);
        }
    };
    run(&mut session);
    for part in octets.split_inclusive(|&octet| octet >= EVENT) {
        let (text, event) = match part.split_last() {
            Some((&last, text)) if last >= EVENT => (text, last),
            _ => (part, 0),
        };
        for piece in text.chunks(cut) {
            session.feed(piece);
            run(&mut session);
        }
        match event {
            0xf8 => session.timed_out(),
            0xf9 => session.shut_down(),
            0xfa => session.client_closed(),
            0xfb.. => session.tls_started(),
            _ => {}
        }
        run(&mut session);
    }
    actions
}

/// A session: the cuts change nothing, each reply is one that may be sent, each message that began
/// is stored or discarded once, and nothing follows the end.
pub fn session(octets: &[u8]) {
    let actions = dialogue(octets, CUTS[0]);
    for cut in CUTS {
        assert_eq!(dialogue(octets, cut), actions, "in pieces of {cut}");
    }
    let mut message: Option<Vec<u8>> = None;
    for (left, action) in (0..actions.len()).rev().zip(&actions) {
        match action {
            Action::Send(wire) => one_reply(wire),
            Action::Ask(ask @ Ask::Begin(_)) => {
                assert_eq!(message, None, "one at a time");
                message = answer(ask).is_positive().then(Vec::new);
            }
            Action::Content(piece) => message.as_mut().unwrap().extend(piece),
            Action::Discard => assert!(message.take().is_some()),
            Action::Ask(Ask::Store(envelope)) => {
                let message = message.take().unwrap();
                assert!(!envelope.recipients.is_empty());
                assert!(only_crlf(&message) && message.len() as u64 <= SIZE_LIMIT + 2);
                assert!(message.is_empty() || message.ends_with(b"\r\n"));
            }
            Action::Close => assert!(left == 0 && message.is_none()),
            Action::Ask(_) | Action::Pause | Action::StartTls => {}
        }
    }
}

/// One reply, each line short and printable (RFC 5321 §4.5.3.1.5).
fn one_reply(wire: &[u8]) {
    let mut reader = ReplyReader::new();
    reader.feed(wire);
    assert!(matches!(reader.next_reply(), Ok(Some(_))) && matches!(reader.next_reply(), Ok(None)));
    for line in wire.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap();
        assert!(line.len() <= 512 && text.iter().all(|octet| (b' '..=b'~').contains(octet)));
    }
}

/// Whether every CR and every LF is part of CRLF.
fn only_crlf(octets: &[u8]) -> bool {
    let mut lines = octets.split(|&octet| octet == b'\n').rev();
    let last = lines.next().unwrap_or_default();
    let ended = |line: &[u8]| {
        line.strip_suffix(b"\r")
            .is_some_and(|line| !line.contains(&b'\r'))
    };
    !last.contains(&b'\r') && lines.all(ended)
}

/// A command line: what is refused is refused by a reply that may be sent; what is read can be
/// written and read again, and hides no control character.
pub fn command(octets: &[u8]) {
    let refused = |reply: &Reply| {
        assert!(matches!(reply.code, 221 | 500..=555), "{reply}");
        one_reply(&reply.to_wire());
    };
    let arguments = match command::verb(octets) {
        Ok((_, arguments)) => arguments,
        Err(reply) => return refused(&reply),
    };
    match command::mail(arguments) {
        Ok((mail, _)) => {
            let again = command::mail(&format!("FROM:{} SMTPUTF8", mail.reverse_path));
            assert_eq!(again.unwrap().0.reverse_path, mail.reverse_path);
            if let Some(envid) = mail.envid {
                no_control(&xtext::decode(&envid).unwrap());
            }
        }
        Err(reply) => refused(&reply),
    }
    match command::rcpt(arguments, true) {
        Ok(to) => {
            let orcpt = to.orcpt.iter().map(|orcpt| format!(" ORCPT={orcpt}"));
            let written = format!("TO:<{}>{}", to.mailbox, orcpt.collect::<String>());
            let again = command::rcpt(&written, true).unwrap();
            assert_eq!((again.mailbox, again.orcpt), (to.mailbox, to.orcpt));
        }
        Err(reply) => refused(&reply),
    }
    match command::vrfy(arguments) {
        Ok(mailbox) => no_control(&mailbox.to_string()),
        Err(reply) => refused(&reply),
    }
    command::etrn(arguments).map_or_else(|reply| refused(&reply), |domain| no_control(&domain));
    if let Some((size, last)) = command::bdat(arguments) {
        let again = format!("{size}{}", if last { " last" } else { "" });
        assert_eq!(command::bdat(&again), Some((size, last)));
    }
    if let Ok(sasl::Step::Credentials { user, password, .. }) = sasl::begin(arguments) {
        assert!(!user.is_empty() && !password.is_empty() && !(user + &password).contains('\0'));
    }
}

fn no_control(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// An address, in a command or a table: what is written is read as what it was.
pub fn address(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else {
        return;
    };
    if let Ok(path) = text.parse::<ReversePath>() {
        no_control(&path.to_string());
        assert_eq!(path.to_string().parse(), Ok(path));
    }
    for mailbox in aliases::destinations(text) {
        no_control(&mailbox.to_string());
        assert_eq!(aliases::mailbox(&mailbox.to_string()), Some(mailbox));
    }
    if let Some(route @ Route::Smtp { nexthop, port }) = &resolve::next_hop(text) {
        let written = port.map_or_else(|| nexthop.clone(), |port| format!("{nexthop}:{port}"));
        assert_eq!(resolve::next_hop(&written).as_ref(), Some(route));
    }
    let octets: Vec<String> = text.bytes().map(|octet| format!("+{octet:02X}")).collect();
    let xtext = octets.concat();
    let decodable = !text.contains(char::is_control);
    assert_eq!(xtext::decode(&xtext), decodable.then(|| text.to_owned()));
}

/// Content after DATA, and where its end was, if it came.
fn unstuffed(octets: &[u8], cut: usize) -> Result<(Vec<u8>, Option<usize>), Bare> {
    let (mut content, mut actions) = (Content::new(0, true), VecDeque::new());
    let (mut count, mut ended) = (0, false);
    for piece in octets.chunks(cut) {
        let read;
        (read, ended) = content.read(piece, &mut actions)?;
        count += read;
        if ended {
            break;
        }
    }
    content.finish(&mut actions)?;
    Ok((handed_out(&actions), ended.then_some(count)))
}

/// The content that these actions hand out.
fn handed_out<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Vec<u8> {
    let pieces = actions.into_iter().filter_map(|action| match action {
        Action::Content(piece) => Some(piece.as_slice()),
        _ => None,
    });
    pieces.flatten().copied().collect()
}

fn stored(content: &[u8], cut: usize) -> Vec<u8> {
    let (mut filter, mut stored) = (Filter::default(), Vec::new());
    for piece in content.chunks(cut) {
        filter.write(piece, &mut stored);
    }
    filter.end(&mut stored);
    stored
}

fn sent(stored: &[u8], cut: usize) -> Vec<u8> {
    let (mut encoder, mut wire) = (Encoder::default(), Vec::new());
    for piece in stored.chunks(cut) {
        encoder.encode(piece, &mut wire);
    }
    encoder.end(&mut wire);
    wire
}

/// A message on its way through: received, stored, sent on; where the octets are cut changes
/// nothing, no CR and no LF gets out alone, and what is sent on ends where it ends and nowhere else.
pub fn data(octets: &[u8]) {
    let received = unstuffed(octets, CUTS[0]);
    let content = received.as_ref().map_or(octets, |(content, _)| content);
    let file = stored(content, CUTS[0]);
    let wire = sent(&file, CUTS[0]);
    for cut in CUTS {
        assert_eq!(unstuffed(octets, cut), received, "in pieces of {cut}");
        assert_eq!(stored(content, cut), file, "in pieces of {cut}");
        assert_eq!(sent(&file, cut), wire, "in pieces of {cut}");
    }
    if let Ok((content, Some(end))) = &received {
        assert!(only_crlf(content) && octets[..*end].ends_with(b".\r\n"));
    }
    assert!(!file.contains(&b'\r') && (file.is_empty() || file.ends_with(b"\n")));
    // Only a first line is a mailbox's separator; one that a dropped field stood before is none.
    let separator = |file: &[u8]| {
        let quotes = file.iter().take_while(|&&octet| octet == b'>').count();
        file[quotes..].starts_with(b"From ")
    };
    if !separator(&file) {
        assert_eq!(stored(&file, CUTS[0]), file, "it is stored already");
    }
    assert!(only_crlf(&wire));
    let (again, end) = unstuffed(&wire, CUTS[0]).unwrap();
    assert_eq!(end, Some(wire.len()));
    let lines = |text: &[u8]| text.split(|&octet| octet == b'\n').map(<[u8]>::len).max();
    assert!(lines(&again) <= Some(999));
    if lines(&file) <= Some(998) {
        let again: Vec<u8> = again.into_iter().filter(|&octet| octet != b'\r').collect();
        assert_eq!(again, file);
    }
}

/// A message in chunks, between octets that are in no text: it is stored as it came if every line
/// in it ends with CRLF and it is not too big, and not at all otherwise.
pub fn bdat(octets: &[u8]) {
    let mut wire = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n".to_vec();
    let mut chunks = octets.split(|&octet| octet >= EVENT).peekable();
    let mut message = Vec::new();
    while let Some(chunk) = chunks.next() {
        let last = if chunks.peek().is_none() { " LAST" } else { "" };
        if chunk.is_empty() && last.is_empty() {
            // It counts as a command that moves nothing forward; too many end the session.
            continue;
        }
        wire.extend(format!("BDAT {}{last}\r\n", chunk.len()).into_bytes());
        wire.extend(chunk);
        message.extend(chunk);
    }
    let actions = dialogue(&wire, CUTS[0]);
    for cut in CUTS {
        assert_eq!(dialogue(&wire, cut), actions, "in pieces of {cut}");
    }
    let is_store = |action: &Action| matches!(action, Action::Ask(Ask::Store(_)));
    let fits = only_crlf(&message) && message.len() as u64 <= SIZE_LIMIT;
    assert_eq!(actions.iter().any(is_store), fits);
    if fits {
        if !message.is_empty() && !message.ends_with(b"\n") {
            message.extend(b"\r\n");
        }
        assert_eq!(handed_out(&actions), message);
    }
}

/// main.cf, master.cf, pam.d/smtp and sasl/smtpd.conf, between NULs: every mistake and every warning
/// is one line that names its file; who would relay for anybody does not start.
pub fn configuration(octets: &[u8], folder: &Path) {
    let mut parts = octets.split(|&octet| octet == 0);
    for (name, otherwise) in [
        ("main.cf", ""),
        ("master.cf", "smtp inet n - y - - smtpd\n"),
        (
            "pam.d/smtp",
            "auth required pam_mysql.so user=u db=m table=t usercolumn=e passwdcolumn=p crypt=1\n",
        ),
        (
            "sasl/smtpd.conf",
            "pwcheck_method: saslauthd\nmech_list: plain login\n",
        ),
    ] {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, parts.next().unwrap_or(otherwise.as_bytes())).unwrap();
    }
    let said = match Config::read(folder) {
        Ok(config) => config.warnings,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            mistakes
        }
    };
    for mistake in said {
        let text = mistake.to_string();
        let names_file = text.starts_with(&folder.display().to_string());
        assert!(names_file && !text.contains('\n'), "{text:?}");
    }
}

/// A table file, the table that it makes, and what rows may hold: a mistake is said or there is
/// none, a query without `%` stays as it is, and no path leads out of the mailboxes' folder.
pub fn table(octets: &[u8], folder: &Path) {
    fs::write(folder.join("t.cf"), octets).unwrap();
    let text = String::from_utf8_lossy(octets);
    for name in [
        "mysql:t.cf".to_owned(),
        "proxy:sqlite:t.cf".to_owned(),
        format!("inline:{text}"),
    ] {
        let mut mistakes = Vec::new();
        let opened = Tables::new(folder).open(&name, &mut mistakes);
        let refused = matches!(opened, Ok(None));
        assert_eq!(refused, !mistakes.is_empty(), "{mistakes:?}");
    }
    if let Ok(statement) = Statement::compile(&text) {
        let values = statement.values("o'x\\\"@d.example").unwrap();
        if !text.contains('%') {
            assert_eq!((statement.sql("?"), values), (text.to_string(), Vec::new()));
        }
    }
    if let Ok(path) = maildir::below(Path::new("/base"), &text) {
        let mut inside = path.strip_prefix("/base").unwrap().components();
        assert!(inside.all(|part| matches!(part, Component::Normal(_))));
    }
    let (status, said) = resolve::status_and_text(&text, '5');
    assert!(status.starts_with("5.") && !said.is_empty());
}

/// What a server without any configuration of its own has.
pub fn params(folder: &Path) -> Arc<Params> {
    fs::write(folder.join("main.cf"), "myhostname = server.domain.com\n").unwrap();
    fs::write(folder.join("master.cf"), "smtp inet n - y - - smtpd\n").unwrap();
    Config::read(folder).unwrap().params
}

/// A notice about a message that came with any parameters and failed for any reason, its words
/// between NULs: no line of ours is longer than 998 octets (RFC 5322 §2.1.1), none holds a control
/// character, and no word of theirs ends a part or begins a field.
pub fn dsn(octets: &[u8], params: &Params) {
    let text = String::from_utf8_lossy(octets);
    let mut words = text.split('\0');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let flags = word();
    let flag = |letter: char| flags.contains(letter);
    let mut mailbox = || aliases::mailbox(&word()).unwrap_or_else(|| "a@b".parse().unwrap());
    let (sender, recipient, original) = (mailbox(), mailbox(), mailbox());
    let (orcpt, envid) = (Some(word()), Some(word()));
    let mta = Some(word()).filter(|mta| !mta.is_empty());
    let reason = Reason {
        status: "5.1.1".into(),
        relay: word(),
        mta,
        reply: word(),
        text: word(),
    };
    let (kind, state) = match () {
        () if flag('d') => (Kind::Delayed, State::PutOff(reason)),
        () if flag('s') => (Kind::Delivered, State::Sent(reason)),
        () => (Kind::Failed, State::Failed(reason)),
    };
    let notify = (kind == Kind::Delivered).then_some(Notify {
        success: true,
        ..Notify::default()
    });
    let to = Recipient {
        mailbox: recipient,
        original,
        notify,
        orcpt,
        expanded: flag('e'),
        state,
    };
    let record = Record {
        id: "64A5C0B1F2E37".into(),
        arrived: 1_795_353_299_123_456,
        sender: ReversePath::Mailbox(sender.clone()),
        ret: flag('h').then_some(Ret::Headers),
        envid,
        smtputf8: flag('u'),
        recipients: vec![to.clone(), to],
        ..Record::default()
    };
    let entries = entries(kind, &record).0;
    let notice = Notice {
        params,
        kind,
        record: &record,
        entries: &entries,
    };
    let returned = Returned {
        text: b"Subject: x\n".to_vec(),
        whole: flag('w'),
    };
    let notice = notice.text(&sender, "64A5C0B1F2E38", &zoned(record.arrived), &returned);
    let notice = String::from_utf8(notice).unwrap();
    for line in notice.lines() {
        assert!(line.len() <= 998, "{} octets: {line}", line.len());
        no_control(line.trim_start_matches('\t'));
    }
    let parts: Vec<&str> = notice.split("\n--64A5C0B1F2E37.1795353299/").collect();
    let [_, _, report, _, _] = parts.as_slice() else {
        panic!("five parts: {notice}")
    };
    assert!(record.smtputf8 || report.is_ascii(), "{report}");
    let actions = report.lines().filter(|line| line.starts_with("Action: "));
    assert_eq!(actions.count(), 2, "{report}");
    // Its header, the message, two recipients.
    let groups = report.split("\n\n").filter(|group| group.contains(':'));
    assert_eq!(groups.count(), 4, "{report}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rstest::rstest;

    use super::*;

    /// What cargo-fuzz found of a target, and pieces of it put together anew.
    fn holds(name: &str, target: impl Fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let files = fs::read_dir(corpus).unwrap();
        let found: Vec<Vec<u8>> = files
            .map(|file| fs::read(file.unwrap().path()).unwrap())
            .collect();
        for octets in &found {
            target(octets);
        }
        let (any_index, junk) = (any::<[Index; 4]>, prop::collection::vec(any::<u8>(), 0..8));
        proptest!(|([one, to, other, from] in any_index(), junk in junk)| {
            let (one, other) = (one.get(&found), other.get(&found));
            let (to, from) = (to.index(one.len() + 1), from.index(other.len() + 1));
            target(&[&one[..to], &junk, &other[from..]].concat());
        });
    }

    #[rstest]
    #[case("session", session)]
    #[case("command", command)]
    #[case("address", address)]
    #[case("data", data)]
    #[case("bdat", bdat)]
    fn what_is_promised_of_octets_holds(#[case] name: &str, #[case] target: fn(&[u8])) {
        holds(name, target);
    }

    #[rstest]
    #[case("main_cf", configuration)]
    #[case("table", table)]
    fn what_is_promised_of_files_holds(#[case] name: &str, #[case] target: fn(&[u8], &Path)) {
        let folder = tempfile::tempdir().unwrap();
        holds(name, |octets| target(octets, folder.path()));
    }

    #[test]
    fn what_is_promised_of_notices_holds() {
        let folder = tempfile::tempdir().unwrap();
        let params = params(folder.path());
        holds("dsn", |octets| dsn(octets, &params));
    }
}
