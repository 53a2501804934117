//! From the queue into Maildirs and back to the sender.

mod back;

use std::fs;
use std::os::unix::fs::symlink;

use back::{Back, eventually};
use vmaild::queue::Untaken;

const MESSAGE: &str = "From: Probe <probe@ext.example>\r\nSubject: probe\r\n\r\nhello\r\n";

/// Ids and times differ; all else stands still.
#[tokio::test]
async fn a_notice_tells_people_and_programs_what_failed() {
    let back = Back::start("").await;
    let to = ["myforward@mydomain.com"];
    let id = back
        .send("sender@mydomain.com", &to, MESSAGE)
        .await
        .unwrap();
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    let between = |before: &str, after: &[char]| {
        let rest = notice.split(before).nth(1).unwrap();
        rest.split(after).next().unwrap().to_owned()
    };
    let own = between("\tid ", &[';']);
    let time = between("Message-Id: <", &['.']);
    let secs = between(&format!("boundary=\"{id}."), &['/']);
    let mut text = notice.replace(&id, "<QID>").replace(&own, "<NOTICE>");
    text = text.replace(&time, "<TIME>").replace(&secs, "<SECS>");
    let lines = text.lines().map(|line| match line.rfind(", ") {
        Some(at) if line.contains(" +0000") => format!("{}<DATE>", &line[..at - 3]),
        _ => line.to_owned(),
    });
    insta::assert_snapshot!("failure_notice", lines.collect::<Vec<_>>().join("\n"));
    back.wait_until_empty().await;
}

#[tokio::test]
async fn two_addresses_of_one_mailbox_get_one_copy() {
    let back = Back::start("").await;
    let to = [
        "address@mydomain.com",
        "f@mydomain.com",
        "address+tag@mydomain.com",
    ];
    back.send("probe@ext.example", &to, MESSAGE).await.unwrap();
    back.wait_until_empty().await;
    assert_eq!(back.mail("mydomain.com/address").len(), 1);
}

#[tokio::test]
async fn fifty_hops_are_a_loop() {
    let back = Back::start("").await;
    let message = |hops: usize| "Received: by x\r\n".repeat(hops) + MESSAGE;
    let to = ["address@mydomain.com"];
    back.send("probe@ext.example", &to, &message(48))
        .await
        .unwrap();
    let sent = back.send("probe@ext.example", &to, &message(49)).await;
    assert!(matches!(sent, Err(Untaken::TooManyHops)));
}

#[tokio::test]
async fn a_message_longer_than_what_memory_holds_is_taken_and_leaves_nothing() {
    let back = Back::start("").await;
    let to = ["address@mydomain.com"];
    // It goes through the unnamed file.
    let long = format!("Subject: long\r\n\r\n{}\r\n", "y".repeat(590_000));
    back.send("probe@ext.example", &to, &long).await.unwrap();
    let mail = back.wait_for("mydomain.com/address", 1).await;
    assert!(mail[0].ends_with(&format!("\n{}\n", "y".repeat(590_000))));
    back.wait_until_empty().await;
}

#[tokio::test]
async fn a_path_that_leads_out_bounces_and_a_link_puts_off_and_neither_makes_anything() {
    let back = Back::start("").await;
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), back.folder.path().join("vmail/link")).unwrap();
    let to = ["up@mydomain.com", "link@mydomain.com"];
    back.send("sender@mydomain.com", &to, MESSAGE)
        .await
        .unwrap();
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert_eq!(notice.matches("Status: 5.3.5").count(), 1, "{notice}");
    let listing = eventually(|| Some(back.listing()).filter(|l| l.contains("cross-device"))).await;
    assert!(listing.contains("<link@mydomain.com>"), "{listing}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!back.folder.path().join("up").exists());
}

#[tokio::test]
async fn without_overquota_bounce_mail_waits_for_room() {
    let back = Back::start("virtual_overquota_bounce = no").await;
    let message = format!("Subject: big\r\n\r\n{}\r\n", "z".repeat(2000));
    for _ in 0..2 {
        back.send("sender@mydomain.com", &["full@mydomain.com"], &message)
            .await
            .unwrap();
    }
    eventually(|| back.listing().contains("diskspace quota").then_some(())).await;
    let new = back.folder.path().join("vmail/mydomain.com/full/new");
    for entry in fs::read_dir(&new).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    back.queue.flush();
    back.wait_until_empty().await;
    assert_eq!(back.mail("mydomain.com/full").len(), 1);
}
