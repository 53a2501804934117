//! Whole dialogues: sequence, transactions, limits, the ends of a session.
mod common;

use common::Client;
use vmaild_protocol::Action;

#[test]
fn a_message_is_stored_with_its_envelope() {
    let mut client = Client::in_transaction();
    client.expect(&["RCPT TO:<\"e f\"@d.example> NOTIFY=NEVER", "DATA"]);
    assert_eq!(
        client.reply("Subject: x\r\n\r\n..\r\n.x\r\n."),
        "250 2.0.0 Ok: queued"
    );
    let stored = client.stored.remove(0);
    assert_eq!(stored.content, b"Subject: x\r\n\r\n.\r\nx\r\n");
    assert_eq!(stored.envelope.reverse_path.to_string(), "<a@b.example>");
    assert_eq!(stored.envelope.helo, "client.example");
    assert_eq!(stored.envelope.protocol, "ESMTP");
    let recipients: Vec<_> = stored
        .envelope
        .recipients
        .iter()
        .map(|rcpt| rcpt.mailbox.to_string())
        .collect();
    assert_eq!(recipients, ["c@d.example", "\"e f\"@d.example"]);
    assert!(!client.actions.contains(&Action::Discard));
}
