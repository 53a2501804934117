//! What the queue keeps through restarts and crashes.

mod back;

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use back::{Back, Sink, Surroundings, envelope, eventually, friendly};
use rstest::rstest;
use vmaild::queue::file;

const MESSAGE: &str = "Subject: probe\r\n\r\nhello\r\n";

/// A queue with one message that no host takes, stopped; and the file of that message.
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
async fn stopped_with_a_message() -> (tempfile::TempDir, String, Vec<u8>) {
    let back = Back::start("transport_maps = static:smtp:[127.0.0.1]:1").await;
    let id = back.sent(&["address@mydomain.com"], MESSAGE).await;
    eventually(|| back.listing().contains("refused").then_some(())).await;
    back.queue.drain(Duration::from_secs(5)).await;
    let path = back.folder.path().join("queue/active").join(&id);
    let octets = fs::read(path).unwrap();
    (back.folder, id, octets)
}

#[tokio::test]
async fn a_queue_file_can_be_read_by_a_person() {
    let (_folder, id, octets) = stopped_with_a_message().await;
    let shown = |line: &str| match line.split_once([' ', '\t']) {
        Some(("arrived:", _)) => "arrived: <TIME>".to_owned(),
        Some(("end:", _)) => "end: <HASH>".to_owned(),
        Some((time, rest)) if time.parse::<u64>().is_ok() => format!("<TIME>\t{rest}"),
        _ => match line.rsplit_once("; ") {
            Some((before, date)) if date.contains("+0000") => format!("{before}; <DATE>"),
            _ => line.to_owned(),
        },
    };
    let text = String::from_utf8(octets).unwrap().replace(&id, "<QID>");
    let lines: Vec<String> = text.lines().map(shown).collect();
    insta::assert_snapshot!("queue_file", lines.join("\n"));
}

#[tokio::test]
async fn a_file_cut_off_anywhere_is_either_whole_or_never_was() {
    let (folder, id, octets) = stopped_with_a_message().await;
    let text = String::from_utf8_lossy(&octets).into_owned();
    let end = text.find("\nend: ").unwrap() + "\nend: 0123456789abcdef\n".len();
    let path = folder.path().join("cut");
    for length in 0..octets.len() {
        fs::write(&path, &octets[..length]).unwrap();
        match file::read(&path, true) {
            Ok(stored) => {
                assert!(length >= end, "{length} of {end}");
                assert_eq!(stored.record.id, id);
            }
            Err(error) => {
                assert!(length < end, "{length} of {end}: {error}");
                assert!(
                    matches!(error, file::Unreadable::Partial),
                    "{length}: {error}"
                );
            }
        }
    }
}

#[rstest]
#[case::never_written(|octets: &mut Vec<u8>| octets.clear())]
#[case::half(|octets: &mut Vec<u8>| octets.truncate(octets.len() / 4))]
#[case::zeros(|octets: &mut Vec<u8>| octets.fill(0))]
#[tokio::test]
async fn what_a_crash_left_of_a_message_is_removed(#[case] damage: fn(&mut Vec<u8>)) {
    let (folder, id, mut octets) = stopped_with_a_message().await;
    damage(&mut octets);
    fs::write(folder.path().join("queue/active").join(id), octets).unwrap();
    let back = Back::start_in(folder, "", Surroundings::default()).await;
    assert!(back.queued().is_empty());
    assert!(back.mail("mydomain.com/address").is_empty());
}

#[rstest]
#[case::other_content("hello", "he\0\0o")]
#[case::another_sum("end: ", "end: 0")]
#[case::more_octets_than_there_are("content: ", "content: 9")]
#[case::more_octets_than_any_disk_holds("content: ", "content: 1844674407370955")]
#[case::fewer_octets("content: 2", "content: ")]
#[case::no_number("content: ", "content: x")]
#[tokio::test]
async fn a_whole_file_that_is_not_what_was_written_is_set_aside(
    #[case] written: &str,
    #[case] damaged: &str,
) {
    let (folder, id, octets) = stopped_with_a_message().await;
    let text = String::from_utf8(octets).unwrap();
    let text = text.replacen(written, damaged, 1);
    let path = folder.path().join("queue/active").join(&id);
    fs::write(&path, &text).unwrap();
    // A running server looks at no more than the numbers; it must not think otherwise.
    let seen = file::read(&path, false);
    assert!(!matches!(seen, Err(file::Unreadable::Partial)));
    let back = Back::start_in(folder, "", Surroundings::default()).await;
    assert!(back.queued().is_empty());
    let aside = back.folder.path().join("queue/corrupt").join(id);
    assert_eq!(fs::read_to_string(aside).unwrap(), text);
}

/// A next hop that puts everybody off.
fn later() -> Sink {
    Sink::start(|line| match line {
        "RCPT TO:<x@ext.example>" => Some("450 4.2.0 try again later (sink)".to_owned()),
        line => Some(friendly(line, "250 8BITMIME")),
    })
}

#[tokio::test]
async fn a_recipient_that_was_done_before_a_crash_is_not_done_again() {
    let back = Back::start(&later().transport()).await;
    let to = ["address@mydomain.com", "out@mydomain.com"];
    let id = back.sent(&to, MESSAGE).await;
    eventually(|| back.listing().contains("later").then_some(())).await;
    // A crash: what was appended last is cut off in its middle.
    let path = back.folder.path().join("queue/active").join(&id);
    back.queue.drain(Duration::from_secs(5)).await;
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b"1795400000\t1\tdo").unwrap();
    let accepting = Sink::friendly();
    let back = back.restart_with(&accepting.transport()).await;
    let heard = accepting.session().await;
    assert!(
        heard.contains(&"RCPT TO:<x@ext.example>".to_owned()),
        "{heard:?}"
    );
    back.wait_until_empty().await;
    assert_eq!(back.mail("mydomain.com/address").len(), 1);
}

#[tokio::test]
async fn ids_are_never_given_twice_even_when_the_clock_goes_back() {
    let (folder, _, octets) = stopped_with_a_message().await;
    // A message from a server whose clock was in the year 2500.
    let future = "3B7A5F0A00000";
    fs::write(folder.path().join("queue/hold").join(future), octets).unwrap();
    let back = Back::start_in(folder, "", Surroundings::default()).await;
    let mut last = u64::from_str_radix(future, 16).unwrap();
    for _ in 0..100 {
        let incoming = back.queue.begin(&back::origin(), &envelope("<>", &[]));
        let number = u64::from_str_radix(incoming.id(), 16).unwrap();
        assert!(number > last);
        last = number;
    }
}

#[tokio::test]
async fn a_delay_is_told_once() {
    let sink = later();
    let back = Back::start(&format!("delay_warning_time = 1s\n{}", sink.transport())).await;
    let id = back.sent(&["x@ext.example"], MESSAGE).await;
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("Subject: Delayed Mail (still being retried)\n"));
    assert!(
        notice.contains("Action: delayed\nStatus: 4.2.0\n"),
        "{notice}"
    );
    assert!(notice.contains("Will-Retry-Until: "));
    // It says so in its file, so another round does not say it again.
    let path = back.folder.path().join("queue/active").join(id);
    let warned = || file::read(&path, false).unwrap().record.warned;
    eventually(|| warned().then_some(())).await;
    while sink.ended().is_some() {}
    for _ in 0..2 {
        back.queue.flush();
        sink.session().await;
    }
    assert_eq!(back.mail("mydomain.com/sender").len(), 1);
    // And a reason that stays the same is written down once, however often it comes.
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches("\tput-off\t").count(), 1, "{text}");
}

#[rstest]
#[case::a_notice("<>", "bounce_queue_lifetime = 0", true)]
#[case::a_letter("sender@mydomain.com", "maximal_queue_lifetime = 0", true)]
#[case::not_by_the_others_time("<>", "maximal_queue_lifetime = 0", false)]
#[case::nor_the_other_way("sender@mydomain.com", "bounce_queue_lifetime = 0", false)]
#[tokio::test]
async fn each_kind_of_mail_has_its_own_lifetime(
    #[case] sender: &str,
    #[case] more: &str,
    #[case] given_up: bool,
) {
    let sink = later();
    let back = Back::start(&format!("{more}\n{}", sink.transport())).await;
    let sent = back.send(sender, &["x@ext.example"], MESSAGE);
    sent.await.unwrap();
    sink.session().await;
    if given_up {
        back.wait_until_empty().await;
    } else {
        // It is tried again, so it was not given up.
        sink.session().await;
    }
    let told = back.mail("mydomain.com/sender");
    assert_eq!(told.len(), usize::from(given_up && sender != "<>"));
    // With the last reason.
    let diagnostic = "Status: 4.2.0\nRemote-MTA: dns; 127.0.0.1\n\
                      Diagnostic-Code: smtp; 450 4.2.0 try again later (sink)\n";
    assert!(
        told.iter().all(|notice| notice.contains(diagnostic)),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_is_recorded_behind_a_line_that_a_crash_cut_off_counts() {
    let (folder, id, _) = stopped_with_a_message().await;
    let path = folder.path().join("queue/active").join(id);
    let append = |text: &[u8]| {
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(text).unwrap();
    };
    append(b"1795400000\t0\tput-off caf\xc3");
    file::read(&path, true).unwrap();
    append(b"1795400001\t0\tdone\n");
    assert!(!file::read(&path, true).unwrap().record.recipients[0].is_open());
}

#[tokio::test]
async fn a_notice_whose_reader_is_a_loop_is_dropped() {
    let back = Back::start("").await;
    let sent = back.send("a@mydomain.com", &["dead@mydomain.com"], MESSAGE);
    sent.await.unwrap();
    back.wait_until_empty().await;
    assert!(!back.folder.path().join("vmail/mydomain.com").exists());
}
