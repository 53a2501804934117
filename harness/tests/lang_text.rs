//! Names and escapes in texts, references, ids.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;
use vmailspec::scenario::refs::{Reference, in_words, is_id};
use vmailspec::scenario::text::expand_str;
use vmailspec::scenario::unescape;

fn names() -> BTreeMap<String, String> {
    [
        ("domain", "d1.example"),
        ("elsewhere", "e1.test"),
        ("who", "friend@$elsewhere"),
        ("hash", "$$6$$salt$$x"),
        ("loop", "$loop"),
        ("ending", r"\r.\r"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

#[rstest]
#[case::none("RCPT", "RCPT")]
#[case::name("<a@$domain>", "<a@d1.example>")]
#[case::name_ends_at_a_dot("mail.$domain.", "mail.d1.example.")]
#[case::name_ends_at_a_dash("$domain-x", "d1.example-x")]
#[case::value_with_a_name("$who", "friend@e1.test")]
#[case::dollar("$$domain costs 5$$", "$domain costs 5$")]
#[case::dollars_in_a_value("'$hash'", "'$6$salt$x'")]
#[case::base64("$base64(address@$domain)", "YWRkcmVzc0BkMS5leGFtcGxl")]
#[case::base64_with_escapes(r"$base64(\0a\0b\xff)", "AGEAYv8=")]
#[case::base64_of_nothing("[$base64()]", "[]")]
#[case::brackets_inside("$base64((a))", "KGEp")]
#[case::times("$times(3 ab)c", "abababc")]
#[case::plain("$plain(a@$domain pass word)", "AGFAZDEuZXhhbXBsZQBwYXNzIHdvcmQ=")]
#[case::call_in_call("$base64($base64(a))", "WVE9PQ==")]
#[case::unknown_stays("$nobody $base64(a", "$nobody $base64(a")]
fn a_text_is_expanded(#[case] raw: &str, #[case] expected: &str) {
    assert_eq!(expand_str(raw, &names()), expected);
}

#[test]
fn a_value_that_names_itself_ends() {
    assert_eq!(expand_str("$loop", &names()), "$loop");
}

#[test]
fn a_cell_may_hold_escapes_that_bytes_decodes() {
    assert_eq!(
        unescape(&expand_str("x$ending", &names())).unwrap(),
        b"x\r.\r"
    );
}

#[rstest]
#[case(r"\r\n\t\0\\", b"\r\n\t\0\\")]
#[case(r"\x00\xfF\x7f", b"\x00\xff\x7f")]
#[case("é", "é".as_bytes())]
fn escapes_are_decoded(#[case] text: &str, #[case] expected: &[u8]) {
    assert_eq!(unescape(text).unwrap(), expected);
}

#[rstest]
#[case(r"ab\q", 2, 2)]
#[case(r"\x1", 0, 2)]
#[case(r"\xzz", 0, 2)]
#[case("\\", 0, 1)]
#[case("\\é", 0, 3)]
fn what_is_no_escape_is_told_with_its_place(
    #[case] text: &str,
    #[case] at: usize,
    #[case] len: usize,
) {
    let error = unescape(text).unwrap_err();
    assert_eq!((error.at, error.len), (at, len));
}

#[rstest]
#[case(
    "rfc5321#4.5.2",
    "RFC 5321, section 4.5.2 <https://www.rfc-editor.org/rfc/rfc5321#section-4.5.2>"
)]
#[case("rfc5321", "RFC 5321 <https://www.rfc-editor.org/rfc/rfc5321>")]
#[case(
    "rfc5321#F.2",
    "RFC 5321, appendix F.2 <https://www.rfc-editor.org/rfc/rfc5321#appendix-F.2>"
)]
#[case(
    "draft-ietf-emailcore-rfc5321bis-43#2.3.8",
    "draft-ietf-emailcore-rfc5321bis-43, section 2.3.8 <https://datatracker.ietf.org/doc/html/draft-ietf-emailcore-rfc5321bis-43#section-2.3.8>"
)]
#[case(
    "postfix:smtpd_recipient_restrictions",
    "Postfix, postconf(5): smtpd_recipient_restrictions"
)]
#[case("postfix:virtual(8)", "Postfix, virtual(8)")]
#[case(
    "tutorial:mysql-virtual_domains.cf",
    "the tutorial: mysql-virtual_domains.cf"
)]
#[case("vmailspec:ledger", "this suite's own: ledger")]
#[case("maildir++", "Maildir++")]
#[case("maildir5", "maildir(5)")]
#[case("crypt3", "crypt(3)")]
fn a_reference_in_words(#[case] reference: &str, #[case] words: &str) {
    assert!(Reference::parse(reference).is_some());
    assert_eq!(in_words(reference), words);
}

#[rstest]
#[case("rfc")]
#[case("rfc5321#")]
#[case("rfc5321#4..5")]
#[case("rfc5321#section-4")]
#[case("rfc05321")]
#[case("RFC5321")]
#[case("rfc5321.4.5")]
#[case("postfix:")]
#[case("postfix:Virtual")]
#[case("tutorial:")]
#[case("exim:x")]
#[case("draft-")]
#[case("draft-x-")]
#[case("maildir")]
#[case("")]
fn what_is_no_reference(#[case] text: &str) {
    assert_eq!(Reference::parse(text), None);
}

#[rstest]
#[case("relay.null-sender-foreign", true)]
#[case("8bit.body-7bit", true)]
#[case("esc.code-5.2.2-or-4.2.2", true)]
#[case("relay", false)]
#[case("relay.", false)]
#[case(".x", false)]
#[case("relay.-x", false)]
#[case("relay.X", false)]
#[case("relay.a_b", false)]
#[case("relay.a b", false)]
fn ids_are_group_dot_name(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(is_id(text), expected);
}

proptest! {
    // What fails is printed in full: it becomes a test of its own, not a seed in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expanding_and_unescaping_never_panic(raw in "[$a-z0-9()\\\\x é]{0,40}|.{0,40}") {
        let text = expand_str(&raw, &names());
        let _ = unescape(&text);
        let _ = unescape(&raw);
    }

    #[test]
    fn every_octet_can_be_written(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        let text: Vec<String> = octets.iter().map(|octet| format!("\\x{octet:02x}")).collect();
        let text = text.concat();
        prop_assert_eq!(unescape(&text).unwrap(), octets);
    }

    #[test]
    fn a_text_without_dollar_and_backslash_is_itself(raw in "[^$\\\\]{0,40}") {
        prop_assert_eq!(expand_str(&raw, &names()), raw.clone());
        prop_assert_eq!(unescape(&raw).unwrap(), raw.into_bytes());
    }

    #[test]
    fn a_reference_never_panics(text in ".{0,40}") {
        let _ = in_words(&text);
    }
}
