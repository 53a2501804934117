//! Replies: written for strict readers, read from careless writers.
#![expect(clippy::indexing_slicing, reason = "what panics here is a failed test")]
use rstest::rstest;
use vmaild_protocol::{Reply, ReplyReader};

#[rstest]
#[case(Reply::new(250, "2.1.0 Ok"), "250 2.1.0 Ok\r\n")]
#[case(Reply::new(334, ""), "334 \r\n")]
#[case(Reply::multi(250, ["a", "b", "c"]), "250-a\r\n250-b\r\n250 c\r\n")]
#[case(Reply::multi(550, [""; 0]), "550 \r\n")]
#[case(Reply::new(550, "a\r\n250 b\0\u{e9}\t"), "550 a??250 b???\r\n")]
#[case(Reply::new(7, "x"), "200 x\r\n")]
fn a_reply_is_written(#[case] reply: Reply, #[case] wire: &str) {
    assert_eq!(reply.to_wire(), wire.as_bytes());
}

#[test]
fn a_line_has_512_octets_at_most() {
    assert_eq!(Reply::new(550, "x".repeat(507)).to_wire().len(), 512);
}

#[rstest]
#[case("250 2.1.0 Ok\r\n", Some("2.1.0"))]
#[case("550 5.1.1\r\n", Some("5.1.1"))]
#[case("550 4.1.1 another class\r\n", None)]
#[case("250 2.1.0.1 x\r\n", None)]
#[case("250 2.1234.0 x\r\n", None)]
#[case("250 Ok\r\n", None)]
fn an_enhanced_code_is_recognised(#[case] wire: &str, #[case] code: Option<&str>) {
    assert_eq!(read(wire).unwrap()[0].enhanced(), code);
}

/// Fed octet by octet.
fn read(wire: &str) -> Result<Vec<Reply>, &'static str> {
    let mut reader = ReplyReader::new();
    let mut replies = Vec::new();
    for octet in wire.bytes() {
        reader.feed(&[octet]);
        replies.extend(reader.next_reply()?);
    }
    Ok(replies)
}

#[rstest]
#[case("220 a\r\n250-b\r\n250 c\r\n", &["220 a", "250 b c"])]
#[case("250\r\n", &["250 "])]
#[case("250 \n250-x\n250\n", &["250 ", "250 x "])]
#[case("250-a\r\n251 b\r\n", &["251 a b"])]
#[case("250 no end", &[])]
fn replies_are_read(#[case] wire: &str, #[case] expected: &[&str]) {
    let replies = read(wire).unwrap();
    let replies: Vec<_> = replies.iter().map(ToString::to_string).collect();
    assert_eq!(replies, expected);
}

const NO_CODE: &str = "a reply line does not begin with a three-digit code";
const MIXED: &str = "the lines of one reply have different codes";
const TOO_LONG: &str = "a reply is longer than 64 KiB or 500 lines";

#[rstest]
#[case("hello\r\n", NO_CODE)]
#[case("\r\n", NO_CODE)]
#[case("+25 x\r\n", NO_CODE)]
#[case("199 x\r\n", NO_CODE)]
#[case("600 x\r\n", NO_CODE)]
#[case("250x\r\n", NO_CODE)]
#[case("250-a\r\n550 b\r\n", MIXED)]
#[case(&"250-a\r\n".repeat(501), TOO_LONG)]
#[case(&"2".repeat(70_000), TOO_LONG)]
#[case(&format!("250-{}\r\n", "x".repeat(500)).repeat(200), TOO_LONG)]
fn what_is_no_reply_is_an_error(#[case] wire: &str, #[case] error: &'static str) {
    assert_eq!(read(wire), Err(error));
}

/// The first lines of a reply, of so many octets in all, and its last line begun.
fn unfinished(size: usize) -> Vec<u8> {
    let line = format!("250-{}\r\n", "x".repeat(494));
    let mut wire = line.repeat(size / line.len() - 1);
    wire.push_str("250 ");
    wire.extend(core::iter::repeat_n('x', size - wire.len()));
    wire.into_bytes()
}

#[test]
fn a_reply_has_64_kib_and_not_an_octet_more() {
    for (end, more) in [("", false), ("\n", true)] {
        let size = 65_536 - end.len();
        let read = |octets: Vec<u8>| {
            let mut reader = ReplyReader::new();
            reader.feed(&[&octets, end.as_bytes()].concat());
            reader.next_reply().map(|reply| reply.is_some())
        };
        assert_eq!(read(unfinished(size)), Ok(more));
        assert_eq!(read(unfinished(size + 1)), Err(TOO_LONG));
    }
}

#[rstest]
#[case(250, [true, false, false])]
#[case(354, [false, true, false])]
#[case(450, [false; 3])]
#[case(550, [false, false, true])]
fn the_first_digit_says_what_a_reply_means(#[case] code: u16, #[case] means: [bool; 3]) {
    let reply = Reply::new(code, "x");
    let heard = [
        reply.is_success(),
        reply.is_intermediate(),
        reply.is_permanent(),
    ];
    assert_eq!(heard, means);
}
