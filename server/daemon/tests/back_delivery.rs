//! From the queue into Maildirs and back to the sender.

mod back;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use back::{Back, envelope, eventually};
use vmaild::queue::Untaken;
use vmaild_protocol::session::{Notify, Ret};

const MESSAGE: &str = "From: Probe <probe@ext.example>\r\nSubject: probe\r\n\r\nhello\r\n";

/// Queue ids, times and the version of a message differ; all else stands still.
fn settled(text: &str, id: &str) -> String {
    let mut text = text.replace(id, "<QID>");
    let date = |word: &str| word.ends_with("(UTC)") || word.contains("+0000");
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.find(" +") {
            Some(_) if date(line) => {
                let at = line.rfind(", ").map_or(0, |at| at.saturating_sub(3));
                format!("{}<DATE>", &line[..at])
            }
            _ => line.to_owned(),
        })
        .collect();
    text = lines.join("\n");
    text
}

#[tokio::test]
async fn the_first_delivery_makes_the_mailbox() {
    let back = Back::start("").await;
    let id = back
        .send("probe@ext.example", &["address@mydomain.com"], MESSAGE)
        .await
        .unwrap();
    let mail = back.wait_for("mydomain.com/address", 1).await;
    insta::assert_snapshot!("first_delivery", settled(&mail[0], &id));
    let mailbox = back.folder.path().join("vmail/mydomain.com/address");
    for part in ["", "tmp", "new", "cur"] {
        let metadata = fs::metadata(mailbox.join(part)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{part}");
    }
    let file = fs::read_dir(mailbox.join("new"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let name = file.file_name().into_string().unwrap();
    assert!(name.ends_with(&format!(",S={}", mail[0].len())), "{name}");
    assert!(
        name.contains(&format!(".V{:x}I{:x}M", metadata.dev(), metadata.ino())),
        "{name}"
    );
    assert_eq!(fs::read_dir(mailbox.join("tmp")).unwrap().count(), 0);
    back.wait_until_empty().await;
}

#[tokio::test]
async fn the_tutorials_forwarding_delivers_one_copy_and_returns_one() {
    let back = Back::start("").await;
    let sent = back
        .send("sender@mydomain.com", &["myforward@mydomain.com"], MESSAGE)
        .await;
    let id = sent.unwrap();
    let mail = back.wait_for("mydomain.com/address", 1).await;
    assert!(
        mail[0].contains("X-Original-To: myforward@mydomain.com\n"),
        "{}",
        mail[0]
    );
    assert!(
        mail[0].contains("Delivered-To: address@mydomain.com\n"),
        "{}",
        mail[0]
    );
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.starts_with("Return-Path: <>\n"));
    let own = notice
        .split("\tid ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let secs = notice.split("boundary=\"").nth(1).unwrap();
    let secs = secs.split(['.', '/']).nth(1).unwrap().to_owned();
    let text = settled(&notice, &id)
        .replace(&own, "<NOTICE>")
        .replace(&secs, "<SECS>");
    let message_id = text.split("Message-Id: <").nth(1).unwrap()[..14].to_owned();
    insta::assert_snapshot!("failure_notice", text.replace(&message_id, "<TIME>"));
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
async fn a_loop_of_forwardings_is_not_taken() {
    let back = Back::start("").await;
    let sent = back
        .send("probe@ext.example", &["a@mydomain.com"], MESSAGE)
        .await;
    assert!(matches!(
        sent,
        Err(Untaken::Aliases(vmaild::aliases::Unexpanded::TooDeep(_)))
    ));
    assert!(back.queued().is_empty());
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
async fn a_mailbox_that_is_a_file_puts_off_and_is_delivered_once_repaired() {
    let back = Back::start("").await;
    let domain = back.folder.path().join("vmail/mydomain.com");
    fs::write(&domain, "").unwrap();
    back.send("sender@mydomain.com", &["address@mydomain.com"], MESSAGE)
        .await
        .unwrap();
    let listing = eventually(|| Some(back.listing()).filter(|l| l.contains("Not a dir"))).await;
    assert!(
        listing.contains("<address@mydomain.com> (maildir delivery failed"),
        "{listing}"
    );
    fs::remove_file(&domain).unwrap();
    back.queue.flush();
    back.wait_for("mydomain.com/address", 1).await;
    back.wait_until_empty().await;
    assert!(
        back.mail("mydomain.com/sender").is_empty(),
        "nothing is bounced before its time"
    );
}

#[tokio::test]
async fn mail_over_quota_goes_back_with_the_configured_message() {
    let back = Back::start("").await;
    let message = format!("Subject: big\r\n\r\n{}\r\n", "z".repeat(2000));
    for _ in 0..2 {
        let to = ["full@mydomain.com", "address@mydomain.com"];
        back.send("sender@mydomain.com", &to, &message)
            .await
            .unwrap();
        back.wait_until_empty().await;
    }
    assert_eq!(back.mail("mydomain.com/full").len(), 1);
    assert_eq!(
        back.mail("mydomain.com/address").len(),
        2,
        "the other's mail is delivered"
    );
    let notice = back
        .wait_for("mydomain.com/sender", 1)
        .await
        .remove(0)
        .replace("\n    ", " ");
    let text = "maildir delivery failed: \"The user you are trying to reach is over quota.\"";
    assert!(
        notice.contains(&format!("Diagnostic-Code: X-Vmaild; {text}")),
        "{notice}"
    );
    assert!(notice.contains("Status: 5.2.2\n"));
    assert!(!notice.contains("Final-Recipient: rfc822; address@"));
    let sum = fs::read_to_string(
        back.folder
            .path()
            .join("vmail/mydomain.com/full/maildirsize"),
    );
    let mail = back.mail("mydomain.com/full");
    assert_eq!(sum.unwrap(), format!("3000S\n{} 1\n", mail[0].len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_deliveries_do_not_pass_the_limit_together() {
    let rows = (0..20).map(|n| format!("{{ b{n}@mydomain.com = mydomain.com/b{n}/ }}"));
    let rows: Vec<String> = rows.collect();
    let more = format!(
        "virtual_mailbox_maps = inline:{{ {} }}\nvirtual_mailbox_limit_maps = static:3000",
        rows.join(" ")
    );
    let back = Arc::new(Back::start(&more).await);
    // Ten at once for each mailbox, and room for one.
    let sends: Vec<_> = (0..200)
        .map(|number| {
            let (back, to) = (back.clone(), format!("b{}@mydomain.com", number / 10));
            let message = format!("Subject: race\r\n\r\n{}\r\n", "r".repeat(2000));
            tokio::spawn(async move { back.send("<>", &[&to], &message).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    back.wait_until_empty().await;
    for number in 0..20 {
        let mailbox = format!("mydomain.com/b{number}");
        let mail = back.mail(&mailbox);
        assert_eq!(mail.len(), 1, "{mailbox}");
        let sum = back
            .folder
            .path()
            .join("vmail")
            .join(mailbox)
            .join("maildirsize");
        let held = format!("3000S\n0 0\n{} 1\n", mail[0].len());
        // Counted again for each that did not fit: one line, or two.
        let sum = fs::read_to_string(sum).unwrap();
        assert!([held.replace("0 0\n", ""), held].contains(&sum), "{sum}");
    }
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
    eventually(|| back.listing().contains("over quota").then_some(())).await;
    let new = back.folder.path().join("vmail/mydomain.com/full/new");
    for entry in fs::read_dir(&new).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    back.queue.flush();
    back.wait_until_empty().await;
    assert_eq!(back.mail("mydomain.com/full").len(), 1);
}

#[tokio::test]
async fn a_notice_is_never_answered() {
    let back = Back::start("").await;
    back.send("<>", &["dead@mydomain.com"], MESSAGE)
        .await
        .unwrap();
    back.send("nobody@mydomain.com", &["dead@mydomain.com"], MESSAGE)
        .await
        .unwrap();
    back.wait_until_empty().await;
    assert!(
        !back
            .folder
            .path()
            .join("vmail/mydomain.com/sender")
            .exists()
    );
}

#[tokio::test]
async fn the_sender_decides_what_he_hears_of() {
    let back = Back::start("").await;
    let notify = |success, failure| {
        Some(Notify {
            success,
            failure,
            delay: false,
        })
    };
    let mut asked = envelope(
        "sender@mydomain.com",
        &[
            "address@mydomain.com",
            "dead@mydomain.com",
            "gone@mydomain.com",
        ],
    );
    asked.envid = Some("env+2B1".to_owned());
    asked.ret = Some(Ret::Headers);
    asked.recipients[0].notify = notify(true, false);
    asked.recipients[1].notify = notify(false, false);
    asked.recipients[2].notify = notify(true, true);
    asked.recipients[2].orcpt = Some("rfc822;first+40old@x.example".to_owned());
    back.send_as(asked, MESSAGE).await.unwrap();
    let notices = back
        .wait_for("mydomain.com/sender", 2)
        .await
        .join("\n=====\n");
    back.wait_until_empty().await;
    assert!(
        notices.contains("Original-Envelope-Id: env+1\n"),
        "{notices}"
    );
    assert!(notices.contains("address@mydomain.com\nAction: delivered\nStatus: 2.0.0\n"));
    let gone =
        "gone@mydomain.com\nOriginal-Recipient: rfc822;first@old@x.example\nAction: failed\n";
    assert!(notices.contains(gone), "{notices}");
    assert!(
        !notices.contains("dead@"),
        "NOTIFY=NEVER is silence: {notices}"
    );
    assert!(
        !notices.contains("\nhello"),
        "RET=HDRS returns no body: {notices}"
    );
    assert_eq!(back.mail("mydomain.com/sender").len(), 2);
}

#[tokio::test]
async fn one_notice_is_about_all_that_failed() {
    let back = Back::start("").await;
    let to = ["dead@mydomain.com", "gone2@mydomain.com"];
    back.send("sender@mydomain.com", &to, MESSAGE)
        .await
        .unwrap();
    back.wait_until_empty().await;
    let notices = back.mail("mydomain.com/sender");
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].matches("\nAction: failed\n").count(), 2);
}

#[tokio::test]
async fn of_a_large_message_only_the_headers_come_back() {
    let back = Back::start("bounce_size_limit = 5000").await;
    let message = format!(
        "Subject: big\r\n\r\n{}\r\n",
        "line of text\r\n".repeat(1000)
    );
    back.send("sender@mydomain.com", &["dead@mydomain.com"], &message)
        .await
        .unwrap();
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("Content-Type: text/rfc822-headers\n"));
    assert!(notice.contains("\nSubject: big\n"));
    assert!(!notice.contains("line of text"));
}
