//! xtext (RFC 3461 §4): what SMTP parameters cannot hold.
use rstest::rstest;
use vmaild_protocol::xtext::decode;

#[rstest]
#[case("", Some(""))]
#[case("!~", Some("!~"))]
#[case("a+2Bb", Some("a+b"))]
#[case("a+3Db", Some("a=b"))]
#[case("a+20b", Some("a b"))]
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
