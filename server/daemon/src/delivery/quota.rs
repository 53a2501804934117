//! Quota by Maildir++: how much a mailbox may hold, and how much it holds.
//!
//! `maildirsize` in the mailbox keeps the sum: a line with the limit (`102400S`), then a line of
//! bytes and messages for each change. It is counted anew when it cannot be trusted: missing, longer
//! than 5120 octets, not parsable, made for another limit, or saying *full*, for somebody may have
//! made room since (Maildir++ would believe a fresh one of one line). A message is refused if and
//! only if it would not fit; equal fits. Whoever calls holds the mailbox's lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use vmaild_protocol::Mailbox;

use super::Verdict;
use crate::config::Params;
use crate::log;
use crate::queue::file;

/// A longer maildirsize is counted anew, which makes it short again.
const LONGEST: u64 = 5120;

/// How many bytes the mailbox of `address` may hold; `None` is as many as there are.
///
/// 0 and NULL are unlimited; no row and a negative number mean virtual_mailbox_limit; a number
/// below message_size_limit counts only with virtual_mailbox_limit_override (oracle, VDA).
pub(crate) async fn limit(params: &Params, address: &Mailbox) -> Result<Option<u64>, Verdict> {
    let default = Some(params.virtual_mailbox_limit).filter(|&limit| limit > 0);
    let maps = &params.virtual_mailbox_limit_maps;
    if maps.is_empty() {
        // Without the maps virtual_mailbox_limit bounds files, not mailboxes (virtual(8)).
        return Ok(None);
    }
    let found = maps
        .find_even_empty(&address.local, &address.domain, params.recipient_delimiter)
        .await
        .map_err(|failed| Verdict::lookup("virtual", &failed))?;
    let Some(text) = found else {
        return Ok(default);
    };
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("null") {
        return Ok(None);
    }
    let address = address.key();
    let limit = match text.parse::<i128>() {
        Ok(..0) => return Ok(default),
        Ok(0) => return Ok(None),
        // More than any disk holds is as good as the most that a number holds.
        Ok(limit) => u64::try_from(limit).unwrap_or(u64::MAX),
        Err(_) => {
            log!(
                "virtual",
                "warning: quota of {address} is {text:?}, which is not a number of bytes"
            );
            let text = "mail system configuration error";
            return Err(Verdict::put_off("4.3.5", "virtual", text));
        }
    };
    if limit < params.message_size_limit && !params.virtual_mailbox_limit_override {
        log!(
            "virtual",
            "warning: quota of {address} ({limit}) is below message_size_limit and is \
                 ignored; set virtual_mailbox_limit_override = yes to use it"
        );
        return Ok(default);
    }
    Ok(Some(limit))
}

/// Whether `size` more bytes fit into the mailbox at `path`; `keep` is virtual_create_maildirsize.
pub(crate) fn fits(path: &Path, limit: u64, size: u64, keep: bool) -> io::Result<bool> {
    let fits = |bytes: i64| {
        let bytes = u64::try_from(bytes).unwrap_or_default();
        bytes.saturating_add(size) <= limit
    };
    if !keep {
        return Ok(fits(count(path)?.0));
    }
    // One that says *full* is counted anew: somebody may have made room. Less than nothing is nowhere.
    if matches!(read(path), Some((of, bytes)) if of == limit && bytes >= 0 && fits(bytes)) {
        return Ok(true);
    }
    let (bytes, messages) = count(path)?;
    write(path, limit, bytes, messages)?;
    Ok(fits(bytes))
}

/// Adds a message of `size` bytes to `maildirsize`, where there is one.
pub(crate) fn add(path: &Path, size: u64) {
    let path = path.join("maildirsize");
    let file = File::options().append(true).open(&path);
    let added = file.and_then(|mut file| file.write_all(format!("{size} 1\n").as_bytes()));
    if added.is_err() {
        // The message is delivered; the sum is counted when it is needed.
        let _ = fs::remove_file(path);
    }
}

/// The limit and the sum of `maildirsize`; `None` where it is not to be trusted.
fn read(path: &Path) -> Option<(u64, i64)> {
    let path = path.join("maildirsize");
    let metadata = fs::symlink_metadata(&path).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    parse(&fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<(u64, i64)> {
    let mut lines = text.lines();
    // `102400S`, `102400S,1000C` or `1000C,102400S`: only the size is of interest here.
    let limit = lines
        .next()?
        .split(',')
        .find_map(|part| part.trim().strip_suffix('S'))?;
    let mut sum = 0_i64;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        let (bytes, _messages) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        sum = sum.checked_add(bytes)?;
    }
    Some((limit.parse().ok()?, sum))
}

/// Bytes and messages of the mailbox and its folders: `new` and `cur`, without what is in the
/// trash or marked as deleted (Maildir++).
fn count(path: &Path) -> io::Result<(i64, i64)> {
    let (mut bytes, mut messages) = (0_i64, 0_i64);
    let mut folders = vec![path.to_owned()];
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let trash = name == ".Trash" || name.starts_with(".Trash.");
        if name.starts_with('.') && !trash && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    for folder in folders {
        for part in ["new", "cur"] {
            let entries = there(fs::read_dir(folder.join(part)))?;
            for entry in entries.into_iter().flatten() {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let flags = name.rsplit_once(":2,").map_or("", |(_, flags)| flags);
                if name.starts_with('.') || flags.contains('T') {
                    continue;
                }
                let size = match size_in_name(&name) {
                    Some(size) => Some(size),
                    None => there(entry.metadata())?.map(|metadata| metadata.len()),
                };
                if let Some(size) = size {
                    bytes = bytes.saturating_add(i64::try_from(size).unwrap_or(i64::MAX));
                    messages += 1;
                }
            }
        }
    }
    Ok((bytes, messages))
}

/// What its reader moved or deleted a moment ago is not there, which is no failure.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// `,S=<size>` in the name of a file.
fn size_in_name(name: &str) -> Option<u64> {
    let (_, rest) = name.split_once(",S=")?;
    let digits = rest.split([',', ':']).next()?;
    digits.parse().ok()
}

/// Replaces `maildirsize`, as a whole.
fn write(path: &Path, limit: u64, bytes: i64, messages: i64) -> io::Result<()> {
    let temporary = path.join(format!("tmp/maildirsize.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = file::create(&temporary)?;
    file.write_all(format!("{limit}S\n{bytes} {messages}\n").as_bytes())?;
    fs::rename(&temporary, path.join("maildirsize"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn maildir() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for part in ["tmp", "new", "cur"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        folder
    }

    #[rstest]
    #[case("1000S\n10 1\n", Some((1000, 10)))]
    #[case("1000S,5C\n10 1\n-4 -1\n", Some((1000, 6)))]
    #[case("5C,1000S\n", Some((1000, 0)))]
    #[case("1000S\n        10           1\n", Some((1000, 10)))]
    #[case("", None)]
    #[case("5C\n", None)]
    #[case("1000S\nten 1\n", None)]
    #[case("1000S\n10\n", None)]
    fn maildirsize_is_read(#[case] text: &str, #[case] sum: Option<(u64, i64)>) {
        assert_eq!(parse(text), sum);
    }

    #[rstest]
    #[case::the_name_is_believed("cur/1,S=90:2,S", 90)]
    #[case::folder_in_the_trash(".Trash.old/new/1", 0)]
    #[case::unfinished("tmp/1", 0)]
    fn what_counts(#[case] file: &str, #[case] bytes: i64) {
        let folder = maildir();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "0123456789").unwrap();
        assert_eq!(count(folder.path()).unwrap().0, bytes);
    }

    #[test]
    fn another_limit_is_counted_anew() {
        let folder = maildir();
        fs::write(folder.path().join("maildirsize"), "99S\n90 1\n").unwrap();
        assert!(fits(folder.path(), 30, 30, true).unwrap());
    }

    #[test]
    fn a_sum_below_nothing_is_counted_anew() {
        let folder = maildir();
        fs::write(folder.path().join("new/1,S=90"), "").unwrap();
        fs::write(folder.path().join("maildirsize"), "100S\n-50 -1\n").unwrap();
        assert!(!fits(folder.path(), 100, 30, true).unwrap());
    }

    proptest! {
        #[test]
        fn the_sum_never_passes_the_limit(sizes in prop::collection::vec(0u64..40, 1..40)) {
            let folder = maildir();
            let mut held = 0;
            for (number, size) in sizes.into_iter().enumerate() {
                if fits(folder.path(), 100, size, true).unwrap() {
                    let name = format!("new/{number},S={size}");
                    fs::write(folder.path().join(name), "").unwrap();
                    add(folder.path(), size);
                    held += size;
                }
                prop_assert!(held <= 100);
                prop_assert_eq!(read(folder.path()).map(|(_, sum)| sum), i64::try_from(held).ok());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            parse(&text);
        }
    }

    #[test]
    fn a_maildirsize_of_5120_octets_is_believed_and_a_longer_one_is_not() {
        let folder = maildir();
        let path = folder.path().join("maildirsize");
        let line = "0 0\n";
        let lines = (LONGEST as usize - "100000S\n".len()) / line.len();
        let text = format!("100000S\n{}", line.repeat(lines));
        fs::write(&path, &text).unwrap();
        assert_eq!(text.len() as u64, LONGEST);
        assert!(read(folder.path()).is_some());
        fs::write(&path, text + line).unwrap();
        assert!(read(folder.path()).is_none());
    }
}
