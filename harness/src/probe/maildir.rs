//! `maildir ADDRESS …`: what lies in a mailbox, and how.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

use super::sink::{about, date, has, header, line, width};
use super::{Look, Stop, messages};
use crate::driver::canary::{self, POLL};
use crate::driver::{Miss, Stage};
use crate::environment::Mail;
use crate::names::token_of;
use crate::scenario::{ANY, Detail};

/// How long maildirsize may take to say what is there.
const SETTLE: Duration = Duration::from_secs(10);

/// Exactly `count` messages of the case are in `new/` (or whatever came), with these details each.
pub(crate) async fn check<S: Stage>(
    look: &Look<'_, S>,
    address: &str,
    count: usize,
    details: &[Detail],
    within: Option<Duration>,
) -> Result<(), Stop> {
    if look.stage.maildir(address).is_none() {
        return Err(Stop::Environment(
            "the Maildirs of this target cannot be seen".into(),
        ));
    }
    if count == ANY {
        // What has not come before a canary on the same way does not come.
        let canary = canary::to_maildir(look.stage, look.from, look.tokens, look.journal).await;
        canary.map_err(|why| Stop::Environment(format!("absence cannot be shown: {why}")))?;
        return all_details(look, address, details).await;
    }
    let mut deadline = look.deadline(within);
    let mut times = 0;
    loop {
        let began = Instant::now();
        if ours(look, address).await?.len() >= count {
            break;
        }
        if Instant::now() >= deadline {
            let canary = canary::to_maildir(look.stage, look.from, look.tokens, look.journal);
            match look.later(&mut times, Box::pin(canary)).await {
                Some(later) => deadline = later,
                None => return Err(Stop::Missed(wrong_count(look, address, count).await?)),
            }
        }
        // Who looks at a thousand messages all the time takes from the target what it delivers with.
        sleep(POLL.max(began.elapsed())).await;
    }
    // The file of sums is written after the message; everything else is there with it.
    let follows = details.iter().any(|detail| detail.word == "maildirsize") && !look.evidence;
    let deadline = Instant::now() + look.journal.limit(SETTLE);
    loop {
        match all_details(look, address, details).await {
            Err(Stop::Missed(_)) if follows && Instant::now() < deadline => sleep(POLL).await,
            Err(stop) => return Err(stop),
            Ok(()) => break,
        }
    }
    let canary = if look.evidence {
        Ok(Duration::ZERO)
    } else {
        // A canary on the same way shows that there are no more.
        canary::to_maildir(look.stage, look.from, look.tokens, look.journal).await
    };
    if ours(look, address).await?.len() != count {
        return Err(Stop::Missed(wrong_count(look, address, count).await?));
    }
    match canary {
        Err(why) if count == 0 => Err(Stop::Environment(format!("absence cannot be shown: {why}"))),
        Err(why) => {
            look.journal
                .note(format!("that there are no more is not shown: {why}"));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// The files of a folder by name; none, if it is not there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default();
    paths.sort();
    paths
}

async fn ours<S: Stage>(look: &Look<'_, S>, address: &str) -> Result<Vec<Mail>, Stop> {
    let mails = look.stage.mails(address).await.map_err(Stop::Environment)?;
    Ok(mails
        .into_iter()
        .filter(|mail| parent(&mail.path) == Some("new"))
        .filter(|mail| token_of(&mail.content).is_none_or(|token| !look.tokens.is_foreign(&token)))
        .collect())
}

fn parent(path: &Path) -> Option<&str> {
    path.parent()?.file_name()?.to_str()
}

async fn wrong_count<S: Stage>(
    look: &Look<'_, S>,
    address: &str,
    count: usize,
) -> Result<Miss, Stop> {
    let there = ours(look, address).await?;
    let mut seen = messages(there.len());
    for mail in there.iter().take(3) {
        seen.push_str(", ");
        seen.push_str(&about(&mail.content));
    }
    let expected = format!("{} in the Maildir of {address}", messages(count));
    Ok(Miss::new(look.span, expected, seen).harmful())
}

async fn all_details<S: Stage>(
    look: &Look<'_, S>,
    address: &str,
    details: &[Detail],
) -> Result<(), Stop> {
    if details.is_empty() {
        return Ok(());
    }
    for mail in ours(look, address).await? {
        let mut lines = 0;
        for detail in details {
            let nth = lines;
            if detail.word == "first" {
                lines += 1;
            }
            one(look, address, &mail, detail, nth).map_err(|(expected, seen)| {
                let miss = Miss::new(detail.span, expected, seen);
                Stop::Missed(if detail.word == "lacks" {
                    miss.harmful()
                } else {
                    miss
                })
            })?;
        }
    }
    Ok(())
}

type Difference = (String, String);

fn one<S: Stage>(
    look: &Look<'_, S>,
    address: &str,
    mail: &Mail,
    detail: &Detail,
    nth: usize,
) -> Result<(), Difference> {
    let word = detail.word.as_str();
    let mut text = look.text(&detail.text);
    if word == "name" {
        text = text.replace("$size", &mail.content.len().to_string());
    }
    let differ = |good: bool, expected: String, seen: String| {
        if good { Ok(()) } else { Err((expected, seen)) }
    };
    match word {
        "has" | "lacks" => has(&mail.content, word, &text),
        "line" => line(&mail.content, &text),
        "header" => header(&mail.content, &text),
        "width" => width(&mail.content, &text),
        "date" => date(&mail.content, &text),
        "first" => {
            let line = mail
                .content
                .split(|&octet| octet == b'\n')
                .nth(nth)
                .unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            differ(
                begins(&line, &text),
                format!("line {} to begin {text}", nth + 1),
                line,
            )
        }
        "path" => {
            let root = look.stage.facts().maildir_root.unwrap_or_default();
            let path = mail
                .path
                .parent()
                .and_then(Path::parent)
                .unwrap_or(&mail.path);
            let path = path
                .strip_prefix(&root)
                .unwrap_or(path)
                .display()
                .to_string();
            let same = path.trim_matches('/') == text.trim_matches('/');
            differ(same, format!("the path {text}"), format!("{path}/"))
        }
        "mode" => mode(&mail.path, &text),
        "foldermode" => {
            let sub = mail.path.parent().unwrap_or(&mail.path);
            mode(sub, &text)?;
            mode(sub.parent().unwrap_or(sub), &text)
        }
        "owner" => owner(look, &mail.path),
        "name" => {
            let name = file_name(&mail.path);
            differ(
                name.contains(&text),
                format!("a file name with {text}"),
                name,
            )
        }
        "last" => {
            let end = mail.content.strip_suffix(b"\n").unwrap_or(&mail.content);
            let line = end
                .rsplit(|&octet| octet == b'\n')
                .next()
                .unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            differ(line == text, format!("the last line {text}"), line)
        }
        "lf" => {
            let seen = "a CR in the file".to_owned();
            differ(!mail.content.contains(&b'\r'), "LF line ends".into(), seen)
        }
        "maildirsize" => maildirsize(mail, &text),
        _ => way(look, address, mail, word),
    }
}

/// How a message came into its Maildir, and what is around it.
fn way<S: Stage>(
    look: &Look<'_, S>,
    address: &str,
    mail: &Mail,
    word: &str,
) -> Result<(), Difference> {
    let differ = |good: bool, expected: String, seen: String| {
        if good { Ok(()) } else { Err((expected, seen)) }
    };
    match word {
        "plainname" => {
            let name = file_name(&mail.path);
            // maildir(5): `:` begins what the reader notes, a dot hides the file.
            let plain = !name.starts_with('.') && !name.contains(':');
            differ(plain, "a name without `:` and no dot first".into(), name)
        }
        "dated" => dated(&mail.path),
        "folders" => {
            let folder = mailbox(mail);
            let missing: Vec<&str> = ["tmp", "new", "cur"]
                .into_iter()
                .filter(|sub| !folder.join(sub).is_dir())
                .collect();
            let seen = format!("no {}", missing.join(", no "));
            differ(missing.is_empty(), "tmp, new and cur".into(), seen)
        }
        "tidy" => {
            let left: Vec<String> = files(&mailbox(mail).join("tmp"))
                .iter()
                .map(|path| file_name(path))
                .collect();
            let seen = format!("there is {}", left.join(", "));
            differ(left.is_empty(), "nothing left in tmp".into(), seen)
        }
        "whole" | "throughtmp" => {
            let Some(watch) = look.watches.get(address) else {
                let seen = "no `maildir … watched` before it arrived".into();
                return Err(("a mailbox that was watched".into(), seen));
            };
            let name = file_name(&mail.path);
            match word {
                "whole" => watch.arrived_whole(&name),
                _ => watch.came_through_tmp(&name),
            }
        }
        _ => Ok(()),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The Maildir in which a message lies.
fn mailbox(mail: &Mail) -> &Path {
    let folder = mail.path.parent().and_then(Path::parent);
    folder.unwrap_or(&mail.path)
}

/// The file's date is that of its delivery, and so is the one that its name begins with (maildir(5)).
fn dated(path: &Path) -> Result<(), Difference> {
    let modified = std::fs::metadata(path)
        .and_then(|data| data.modified())
        .map_err(|error| ("a date".to_owned(), error.to_string()))?;
    is_now("a date", modified)?;
    let name = file_name(path);
    let what = "a name that begins with the seconds since 1970";
    let seconds = name
        .split('.')
        .next()
        .and_then(|number| number.parse().ok());
    let named = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    is_now(what, named.ok_or_else(|| (what.to_owned(), name))?)
}

fn is_now(what: &str, date: SystemTime) -> Result<(), Difference> {
    let distance = match date.elapsed() {
        Ok(past) => past,
        Err(ahead) => ahead.duration(),
    };
    if distance < Duration::from_mins(1) {
        return Ok(());
    }
    let expected = format!("{what}, within a minute of now");
    Err((expected, format!("one {} s away", distance.as_secs())))
}

fn mode(path: &Path, wanted: &str) -> Result<(), Difference> {
    let expected = || format!("mode {wanted} of {}", path.display());
    let mode = std::fs::metadata(path)
        .map_err(|error| (expected(), error.to_string()))?
        .mode()
        & 0o7777;
    if u32::from_str_radix(wanted.trim(), 8) == Ok(mode) {
        return Ok(());
    }
    Err((expected(), format!("mode {mode:04o}")))
}

fn owner<S: Stage>(look: &Look<'_, S>, path: &Path) -> Result<(), Difference> {
    let Some((uid, gid)) = look.stage.facts().owner else {
        return Err((
            "a known owner".into(),
            "the target does not say who owns Maildirs".into(),
        ));
    };
    let expected = || format!("owner {uid}:{gid}");
    for path in [
        Some(path),
        path.parent(),
        path.parent().and_then(Path::parent),
    ]
    .into_iter()
    .flatten()
    {
        let seen = std::fs::metadata(path).map_err(|error| (expected(), error.to_string()))?;
        if (seen.uid(), seen.gid()) != (uid, gid) {
            return Err((
                expected(),
                format!("{}:{} of {}", seen.uid(), seen.gid(), path.display()),
            ));
        }
    }
    Ok(())
}

/// Names of header fields are the same in any letters (RFC 5322 §1.2.2, RFC 5234 §2.3); values are not.
fn begins(line: &str, text: &str) -> bool {
    match (line.split_once(':'), text.split_once(':')) {
        (Some((name, value)), Some((wanted, rest))) => {
            name.eq_ignore_ascii_case(wanted) && value.starts_with(rest)
        }
        _ => line.starts_with(text),
    }
}

/// The limits of maildirsize's first line, in order; one of 0 is none (Maildir++).
fn limits(line: &str) -> Vec<&str> {
    let mut limits: Vec<&str> = line
        .split(',')
        .map(str::trim)
        .filter(|limit| !matches!(*limit, "0S" | "0C"))
        .collect();
    limits.sort_unstable();
    limits
}

/// The first line is the limit; the rest adds up to what is in new and cur.
fn maildirsize(mail: &Mail, limit: &str) -> Result<(), Difference> {
    let folder = mailbox(mail);
    let expected = |what: &str| format!("a maildirsize file {what}");
    let text = std::fs::read_to_string(folder.join("maildirsize"))
        .map_err(|error| (expected(&format!("that begins {limit}")), error.to_string()))?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim();
    if limits(first) != limits(limit) {
        return Err((expected(&format!("that begins {limit}")), first.to_owned()));
    }
    let (mut octets, mut count) = (0_i64, 0_i64);
    for line in lines {
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        let (Some(Ok(size)), Some(Ok(files)), None) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err((expected("of lines of two numbers"), line.to_owned()));
        };
        octets = octets.saturating_add(size);
        count = count.saturating_add(files);
    }
    let (mut real, mut there) = (0_i64, 0_i64);
    for path in ["new", "cur"]
        .iter()
        .flat_map(|sub| files(&folder.join(sub)))
    {
        real += std::fs::metadata(&path)
            .map_or(0, |data| i64::try_from(data.len()).unwrap_or(i64::MAX));
        there += 1;
    }
    if (octets, count) == (real, there) {
        return Ok(());
    }
    Err((
        expected(&format!("that adds up to {real} octets in {there} files")),
        format!("{octets} octets in {count} files"),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{begins, limits};

    #[rstest]
    #[case::any_letters("delivered-TO: a@b", "Delivered-To: a@b", true)]
    #[case::its_beginning("Received: from x by y", "Received: from x", true)]
    #[case::another_field("X-Received: from x", "Received: from x", false)]
    #[case::letters_of_the_value("Delivered-To: A@b", "Delivered-To: a@b", false)]
    #[case::no_field("From the first", "From the", true)]
    #[case::no_field_in_other_letters("from the first", "From the", false)]
    fn a_header_field_begins_so_whatever_letters_its_name_has(
        #[case] line: &str,
        #[case] text: &str,
        #[case] begins_so: bool,
    ) {
        assert_eq!(begins(line, text), begins_so);
    }

    #[rstest]
    #[case::no_count("102400S,0C", "102400S", true)]
    #[case::no_size("0S,100C", "100C", true)]
    #[case::in_any_order("100C,102400S", "102400S,100C", true)]
    #[case::blanks("102400S, 0C ", "102400S", true)]
    #[case::a_count("102400S,10C", "102400S", false)]
    #[case::another_size("1024000S", "102400S", false)]
    fn a_limit_of_zero_in_maildirsize_is_none(
        #[case] line: &str,
        #[case] wanted: &str,
        #[case] same: bool,
    ) {
        assert_eq!(limits(line) == limits(wanted), same);
    }
}
