//! Paths and mailboxes: what is read, what is refused, what is written.
use rstest::rstest;
use vmaild_protocol::{Mailbox, ReversePath};

#[rstest]
#[case::plain("<a@b.example>", "a", "b.example")]
#[case::every_atom_letter("<!#$%&'*+-/=?^_`.{|}~@b>", "!#$%&'*+-/=?^_`.{|}~", "b")]
#[case::no_brackets("a@b.example", "a", "b.example")]
#[case::brackets_twice("<<a@b.example>>", "a", "b.example")]
#[case::blanks_around("< a @ b.example >", "a", "b.example")]
#[case::quoted("<\"a\"@b>", "a", "b")]
#[case::quoted_blank("<\"a b\"@b>", "a b", "b")]
#[case::quoted_at("<\"a@x\"@b>", "a@x", "b")]
#[case::quoted_bracket("<\"a>b\"@c>", "a>b", "c")]
#[case::quoted_quote(r#"<"a\"b\\"@c>"#, "a\"b\\", "c")]
#[case::quoted_pair_of_a_letter(r#"<"addr\ess"@b>"#, "address", "b")]
#[case::word_and_quoted_word("<a.\"x\"@b>", "a.x", "b")]
#[case::dots_in_odd_places("<.a..b.@c>", ".a..b.", "c")]
#[case::percent_and_bang("<a%b!c@d>", "a%b!c", "d")]
#[case::case_is_kept("<Mixed.Case@Dom.Example>", "Mixed.Case", "Dom.Example")]
#[case::trailing_dot("<a@b.example.>", "a", "b.example")]
#[case::underscore("<a@b_c.example>", "a", "b_c.example")]
#[case::literal("<a@[127.0.0.1]>", "a", "[127.0.0.1]")]
#[case::literal_v6("<a@[IPv6:::1]>", "a", "[IPv6:::1]")]
#[case::source_route("<@a.example,@b.example:c@d.example>", "c", "d.example")]
#[case::source_route_of_a_literal("<@[127.0.0.1]:c@d.example>", "c", "d.example")]
#[case::postmaster("<postmaster>", "postmaster", "")]
#[case::beyond_ascii("<δοκ@παρ.example>", "δοκ", "παρ.example")]
fn an_address_is_read(#[case] text: &str, #[case] local: &str, #[case] domain: &str) {
    let mailbox: Mailbox = text.parse().unwrap();
    assert_eq!(
        (mailbox.local.as_str(), mailbox.domain.as_str()),
        (local, domain)
    );
}

#[rstest]
#[case::unclosed_bracket("<a@b")]
#[case::closing_bracket_only("a@b>")]
#[case::text_behind("<a@b>x")]
#[case::two_addresses("<a@b>,<c@d>")]
#[case::two_in_one("<a@b,c@d>")]
#[case::two_ats("<a@b@c>")]
#[case::comment("<a@b (comment)>")]
#[case::comment_in_front("(comment)<a@b>")]
#[case::blank_inside("<a b@c>")]
#[case::blank_in_domain("<a@b c>")]
#[case::backslash_outside_quotes(r"<\a@b>")]
#[case::quote_in_word("<a\"b\"@c>")]
#[case::word_behind_quote("<\"a\"b@c>")]
#[case::unclosed_quote("<\"a@b>")]
#[case::no_local_part("<@b>")]
#[case::empty_quoted_local_part("<\"\"@b>")]
#[case::quoted_address_alone("<\"a@b\">")]
#[case::nothing_but_at("<@>")]
#[case::no_domain("<a@>")]
#[case::empty_label("<a@b..c>")]
#[case::two_trailing_dots("<a@b..>")]
#[case::leading_dot("<a@.b>")]
#[case::leading_hyphen("<a@-b>")]
#[case::trailing_hyphen("<a@b-.example>")]
#[case::port("<a@b:25>")]
#[case::bare_number("<a@127.0.0.1>")]
#[case::literal_name("<a@[b.example]>")]
#[case::literal_of_another_tag("<a@[x:::1]>")]
#[case::literal_empty("<a@[]>")]
#[case::literal_short("<a@[1.2.3]>")]
#[case::tab("<a\tb@c>")]
#[case::nul("<a\0b@c>")]
#[case::escape("<\"a\u{1b}\"@c>")]
#[case::delete("<a\u{7f}@c>")]
#[case::quoted_line_end("<\"a\r\n\"@c>")]
#[case::colon("<a:b@c>")]
#[case::route_without_end("<@a.example,a@b>")]
#[case::route_of_no_domain("<@-:a@b>")]
#[case::null("<>")]
fn what_is_no_address_is_refused(#[case] text: &str) {
    assert!(text.parse::<Mailbox>().is_err());
}

#[test]
fn labels_have_63_octets_and_domains_255_at_most() {
    let of = |labels: &[usize]| {
        let labels: Vec<String> = labels.iter().map(|&length| "a".repeat(length)).collect();
        format!("<a@{}>", labels.join(".")).parse::<Mailbox>()
    };
    assert!(of(&[63]).is_ok());
    assert!(of(&[64]).is_err());
    assert!(of(&[63, 63, 63, 63]).is_ok());
    assert!(of(&[63, 63, 63, 62, 1]).is_err());
}

#[rstest]
fn several_texts_are_the_null_path(#[values("<>", "< >", "<<>>", "\"\"", "<\"\">")] text: &str) {
    assert_eq!(text.parse(), Ok(ReversePath::Null));
    assert_eq!(ReversePath::Null.to_string(), "<>");
}

#[rstest]
#[case("<a.b@c>", "<a.b@c>")]
#[case("<\"a\"@c>", "<a@c>")]
#[case("<\"a b\"@c>", "<\"a b\"@c>")]
#[case("<a..b@c>", "<\"a..b\"@c>")]
#[case(r#"<"\"\\"@c>"#, r#"<"\"\\"@c>"#)]
#[case("<postmaster>", "<postmaster>")]
fn an_address_is_written_with_quotes_where_it_needs_them(#[case] text: &str, #[case] out: &str) {
    let path: ReversePath = text.parse().unwrap();
    assert_eq!(path.to_string(), out);
    assert_eq!(out.parse(), Ok(path));
}

#[test]
fn a_mailbox_put_together_by_hand_writes_no_line_end() {
    let mailbox = Mailbox {
        local: "a\r\nb".into(),
        domain: "c\r\nd".into(),
    };
    assert_eq!(mailbox.to_string(), "\"a??b\"@c??d");
}

#[rstest]
#[case("<User@Dom.Example>", "user@dom.example")]
#[case("<\"A b\"@C>", "a b@c")]
#[case("<Postmaster>", "postmaster")]
#[case("<ÀB@C>", "àb@c")]
fn the_key_is_unquoted_and_in_lower_case(#[case] text: &str, #[case] key: &str) {
    assert_eq!(text.parse::<Mailbox>().unwrap().key(), key);
}

#[rstest]
#[case("<Postmaster>", true)]
#[case("<postmaster@b>", false)]
#[case("<probe>", false)]
fn postmaster_is_bare_without_a_domain(#[case] text: &str, #[case] bare: bool) {
    assert_eq!(text.parse::<Mailbox>().unwrap().is_bare_postmaster(), bare);
}

#[test]
fn what_is_no_address_says_what_was_expected() {
    let why = "a b".parse::<Mailbox>().unwrap_err().to_string();
    assert_eq!(why, "not an address: expected local-part@domain");
}
