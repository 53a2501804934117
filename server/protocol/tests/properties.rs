//! What holds for every input, beside what `fuzz` in the daemon says of it.
mod common;

use common::{Client, settings};
use proptest::prelude::*;
use vmaild_protocol::data::BLOCK;
use vmaild_protocol::{Action, Reply, ReplyReader, Session};

/// Pieces of dialogue: right, wrong and mad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => line().prop_map(|line| [line.as_bytes(), b"\r\n"].concat()),
        2 => Just(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n..y\r\n.\r\n".to_vec()),
        2 => Just(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 4\r\na\r\nbBDAT 2 LAST\r\nc\r".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::sample::select(vec![&b"\n"[..], b"\r", b".\r\n", b"\0", b"\x16\x03", b"\r\n.\r\n"])
            .prop_map(<[u8]>::to_vec),
    ]
}

/// A command whose answer is one reply, whatever came before, and that ends nothing.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "EHLO a",
            "HELO b",
            "MAIL FROM:<a@b> SIZE=1",
            "MAIL FROM:<>",
            "RCPT TO:<c@d>",
            "RCPT TO:<nobody@d>",
            "RCPT TO:<\u{e9}@d>",
            "RSET",
            "NOOP",
            "VRFY x",
            "ETRN b",
            "AUTH PLAIN =",
            "AUTH PLAIN AHUAbXlwYXNzd29yZA==",
            "AUTH FOO",
            "BDAT 0",
            "BOGUS",
            "",
            "DATA x",
        ])
        .prop_map(String::from),
        "[A-Z]{5,9} [ -~]{0,30}",
        "(MAIL FROM|RCPT TO):[ -~]{0,30}",
    ]
}

/// A patient server, so that dialogues get long.
fn patient() -> Client {
    Client::with(|settings| {
        (settings.soft_error_limit, settings.hard_error_limit) = (1000, 1000);
    })
}

proptest! {
    #[test]
    fn nothing_that_is_fed_or_answered_panics(
        pieces in prop::collection::vec((piece(), 0u8..12, 0u16..700), 0..40),
    ) {
        let mut session = Session::new(settings());
        for (octets, event, code) in pieces {
            match event {
                0 => session.answer(Reply::new(code, "x")),
                1 => session.tls_started(),
                2 if code < 20 => session.timed_out(),
                3 if code < 20 => session.shut_down(),
                4 if code < 20 => session.client_closed(),
                _ => session.feed(&octets),
            }
            while let Some(action) = session.poll() {
                if let (Action::Ask(_), 5..) = (action, event) {
                    session.answer(Reply::new(code, "x\r\ny"));
                }
            }
        }
    }

    #[test]
    fn every_command_has_exactly_one_reply(lines in prop::collection::vec(line(), 0..60)) {
        let mut client = patient();
        let replies = client.say(&lines.join("\r\n"));
        let foreign = client.is_closed();
        prop_assert!(foreign || replies.len() == lines.len().max(1), "{lines:?} {replies:?}");
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message(content in "[\r\n.\u{0} x]{0,40}") {
        let mut client = Client::in_transaction();
        client.expect(&["DATA"]);
        let stream = format!("\r\n{content}\r\n.\r\n");
        client.feed(&stream.as_bytes()[2..]);
        let bare = stream.replace("\r\n", "").contains(['\r', '\n']);
        let end = stream.find("\r\n.\r\n").unwrap();
        let before = &stream[..end + 2];
        if before.replace("\r\n", "").contains(['\r', '\n']) {
            prop_assert!(bare && client.stored.is_empty() && client.is_closed());
        } else {
            let lines: Vec<_> = before.split("\r\n").skip(1).map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
            let expected = lines.join("\r\n");
            prop_assert_eq!(&client.stored[0].content, expected.as_bytes());
        }
    }

    #[test]
    fn content_comes_in_blocks_of_one_size(length in 0usize..100_000, cut in 1usize..50_000) {
        let mut client = Client::in_transaction();
        client.expect(&["DATA"]);
        let octets = vec![b'x'; length];
        octets.chunks(cut).for_each(|piece| client.feed(piece));
        client.feed(b"\r\n.\r\n");
        let blocks: Vec<_> = client.actions.iter().filter_map(|action| match action {
            Action::Content(octets) => Some(octets.len()),
            _ => None,
        }).collect();
        prop_assert!(blocks[..blocks.len() - 1].iter().all(|&length| length == BLOCK));
        prop_assert_eq!(blocks.iter().sum::<usize>(), length + 2);
    }

    #[test]
    fn what_is_behind_starttls_is_never_executed(pieces in prop::collection::vec(piece(), 0..8), cut in 1usize..20) {
        let mut client = Client::new();
        client.handshakes = false;
        let clear = [b"STARTTLS\r\n".to_vec(), pieces.concat()].concat();
        clear.chunks(cut).for_each(|piece| client.feed(piece));
        prop_assert_eq!(client.heard(), ["220 2.0.0 Ready to start TLS"]);
        client.session.tls_started();
        client.run();
        prop_assert_eq!(client.reply("DATA"), "503 5.5.1 Error: need RCPT command");
    }

    #[test]
    fn a_reply_is_read_as_it_was_written(code in 200u16..600, lines in prop::collection::vec("[!-~]{0,80}", 1..20), cut in 1usize..50) {
        let reply = Reply::multi(code, lines);
        let mut reader = ReplyReader::new();
        let mut read = Vec::new();
        for piece in reply.to_wire().chunks(cut) {
            reader.feed(piece);
            read.extend(reader.next_reply().unwrap());
        }
        prop_assert_eq!(read, [reply]);
    }

    #[test]
    fn no_octets_make_the_reply_reader_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = ReplyReader::new();
        reader.feed(&octets);
        while let Ok(Some(_)) = reader.next_reply() {}
    }
}
