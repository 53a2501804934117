//! xtext (RFC 3461 §4): what SMTP parameters cannot hold, and back.
use rstest::rstest;
use vmaild_protocol::xtext::{decode, encode};

#[rstest]
#[case("a+b", "a+2Bb")]
#[case("a=b", "a+3Db")]
#[case("a b", "a+20b")]
#[case("!~", "!~")]
#[case("é\u{7f}", "+C3+A9+7F")]
#[case("", "")]
fn what_parameters_cannot_hold_is_written_in_hexadecimal(#[case] text: &str, #[case] xtext: &str) {
    assert_eq!(encode(text), xtext);
}

#[rstest]
#[case("a+2Bb", Some("a+b"))]
#[case("+C3+A9", Some("é"))]
#[case("+7E", Some("~"))]
#[case("a=b", None)] // RFC 3461 §4: "=" is written as +3D
#[case("a b", None)]
#[case("é", None)]
#[case("+2b", None)] // lower case
#[case("+2", None)]
#[case("+", None)]
#[case("+0A", None)] // a line end
#[case("+E9", None)] // not UTF-8
fn what_is_no_xtext_is_not_guessed_at(#[case] xtext: &str, #[case] text: Option<&str>) {
    assert_eq!(decode(xtext).as_deref(), text);
}
