//! The parser on hostile files, and the layout: printed and read again a scenario is the same.

#![allow(clippy::expect_used, reason = "what a test takes for granted ends it")]

use proptest::prelude::*;
use vmailspec::scenario::error::render;
use vmailspec::scenario::{builtin, format, load, parse};

/// What a scenario means, without the places in which it says so.
fn meaning(source: &str) -> Option<String> {
    let scenario = parse("a/b.case", source).ok()?;
    let debug = format!(
        "{:?} {:?} {:?}",
        scenario.title, scenario.header, scenario.steps
    );
    let mut out = String::new();
    let mut rest = debug.as_str();
    while let Some(at) = rest.find("span: Span {") {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        rest = &tail[tail.find('}').expect("a span ends") + 1..];
    }
    out.push_str(rest);
    Some(out)
}

/// The comments of a file, in order.
fn comments(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| {
            let body = line.trim_start();
            let at = if body.starts_with('#') {
                0
            } else {
                body.find("  #")? + 2
            };
            Some(body[at..].trim())
        })
        .collect()
}

/// Laid out it means the same, and stays as it is when laid out again.
fn assert_layout(source: &str) {
    let Some(before) = meaning(source) else {
        format(source).expect_err("a file with mistakes is not laid out");
        return;
    };
    let once = format(source).expect("it parses");
    assert_eq!(
        meaning(&once).as_ref(),
        Some(&before),
        "{source}\n--- became ---\n{once}"
    );
    assert_eq!(
        comments(source),
        comments(&once),
        "{source}\n--- became ---\n{once}"
    );
    assert_eq!(
        format(&once).expect("it parses"),
        once,
        "laid out twice it changes again"
    );
}

/// All that may be done with a file is done, and its messages are rendered.
fn assert_calm(octets: &[u8]) {
    if let Err(mistakes) = parse("a/b.case", octets) {
        assert!(!mistakes.is_empty());
        let text = String::from_utf8_lossy(octets);
        for mistake in &mistakes {
            assert!(
                mistake.span.start + mistake.span.len <= octets.len(),
                "{mistake:?}"
            );
            assert!(!mistake.label().is_empty() && !mistake.advice().is_empty());
        }
        // All are rendered alike, and rendering is what takes time here.
        let some = mistakes.get(..3).unwrap_or(&mistakes);
        assert!(render("a/b.case".as_ref(), &text, some, false).contains("help: "));
    } else if let Ok(text) = std::str::from_utf8(octets) {
        assert_layout(text);
    }
}

const UNTIDY: &str = "\
#  About this case
title     A   case


each   entry   25,25+starttls ,465   # the ways in
cases code  text
   250  it is well
     # the bad one
   5yz  \"\"
needs  maildir   sink
main.cf   mynetworks=127.0.0.2/32,  ::1
master.cf   smtps   smtpd_tls_wrappermode   =   yes

C: MAIL FROM:<a@$sender>   # who
S:   250|  25z   2.x.x  within 2s
MUST  relay.x  rfc5321#7.9    rfc2505#2.1 the  claim
S=    250
     # in its block
     has   Sender ok
SHOULD-NOT   relay.longer   postfix:mynetworks   another
message  2000   bytes
    line
    header  Subject:  x
S: 250
repeat   3
      C: RCPT TO:<a$n@$domain>
      S: 250
         has ok
      # last in repeat
sql  SELECT   1
sink   answers   RCPT   <a@$transport>   450  later  please
maildir   address@$domain   1   message   within  5s
  first   Return-Path:
bytes a  b\\r\\n
# the end


";

#[test]
fn an_untidy_file_is_laid_out() {
    assert_layout(UNTIDY);
    insta::with_settings!({omit_expression => true}, {
        insta::assert_snapshot!("untidy", format(UNTIDY).unwrap());
    });
}

#[test]
fn the_page_s_example_is_in_its_layout() {
    let page = include_str!("../../scenarios/README.md");
    let example = page.split("```\n").nth(1).expect("an example");
    assert_layout(example);
}

#[test]
fn the_scenarios_of_the_binary_have_no_mistakes_and_keep_their_meaning() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    match (builtin(), load(folder.as_ref())) {
        (Ok(carried), Ok(there)) => {
            let carried: Vec<_> = carried.iter().map(|s| (&s.path, &s.source)).collect();
            let there_now: Vec<_> = there.iter().map(|s| (&s.path, &s.source)).collect();
            assert_eq!(
                carried, there_now,
                "the binary carries the scenarios of the folder"
            );
            for scenario in &there {
                assert_layout(&scenario.source);
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            if let load::LoadError::Mistakes(files) = &error {
                for file in files {
                    eprintln!("{}", file.render(false));
                }
            }
            panic!("{error}");
        }
    }
}

#[test]
fn deep_and_long_files_end() {
    let deep: String = (0..150).map(|n| " ".repeat(n) + "repeat 2\n").collect();
    assert_calm(deep.as_bytes());
    assert_calm(("title a\nC: ".to_owned() + &"$base64(".repeat(20_000)).as_bytes());
    let closed = "$base64(".repeat(5_000) + &")".repeat(5_000);
    assert_calm(("title a\nC: ".to_owned() + &closed).as_bytes());
    assert_calm("C: x\n".repeat(5_000).as_bytes());
    assert_calm(b"");
    assert_calm(b"\n\n");
    assert_calm(b"#");
    assert_calm(b"\xff");
}

/// Words of the language and what looks like them.
fn word() -> impl Strategy<Value = String> {
    let words = "title each cases from entry start names needs profile main.cf master.cf slow MUST \
                 MUST-NOT SHOULD MAY ROBUST NOT relay.x rfc5321#7.9 postfix:x tutorial: C: bytes \
                 message S: S= connect tls close mailer sql database sink target repeat maildir \
                 queue rows 25 25+starttls 465 stranger neighbour nothing authenticated a@$domain \
                 $elsewhere $n $size $$ $ $base64(a) $plain(a b) $base64( <a@b> <> empty 1 2 3 \
                 message messages bytes within 2s 500ms | 250 5.7.1 closed has lacks header line \
                 lf mode 0600 to answers as usual RCPT stop restart accepted , = # \\r \\x41 \\q \
                 <cut> \"\" é ü, entry SELECT quota";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    prop::sample::select(words)
}

fn line() -> impl Strategy<Value = String> {
    (
        0_usize..5,
        prop::collection::vec((word(), 1_usize..4), 0..8),
    )
        .prop_map(|(indent, words)| {
            let words: String = words
                .into_iter()
                .map(|(word, blanks)| word + &" ".repeat(blanks))
                .collect();
            " ".repeat(indent) + words.trim_end()
        })
}

/// Lines that are right by themselves, with the lines that belong to them.
fn right_step() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::select(vec![
        vec!["C: MAIL FROM:<a  b@$sender>"],
        vec!["bytes A\\r\\n<cut>  b"],
        vec!["message"],
        vec![
            "message  20  bytes",
            "header  Subject: a  b",
            "line a  b",
            "line",
            "unfinished",
        ],
        vec![
            "S:  250  |  5yz   5.x.1   within   2s",
            "has  a  b",
            "lacks x",
        ],
        vec!["S: nothing  within 500ms"],
        vec!["connect  from   neighbour"],
        vec!["tls"],
        vec![
            "mailer  25   a@$domain  mypassword",
            "from <a@$domain>",
            "to  <b@$domain>",
        ],
        vec!["sql  SELECT '  $$ '"],
        vec!["database  stop"],
        vec!["sink  answers  RCPT  <a@$domain>  450  a  b"],
        vec![
            "sink   $elsewhere   2   messages",
            "status  Status:  5.x.x",
            "part  2   a/b",
        ],
        vec!["target  restart"],
        vec!["repeat   2", "C: A$n", "S: 250"],
        vec![
            "maildir  a@$domain   1   message",
            "mode  0600",
            "lf",
            "name  ,S=$size",
        ],
        vec!["queue   empty  within  1m"],
        vec!["rows  1  SELECT  a"],
    ])
}

fn right_header() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "from   neighbour",
        "each   verb  A,B ,  C  D",
        "needs  quota   sink",
        "main.cf  a=b   c",
        "main.cf  d =",
        "master.cf  smtps  a = b",
        "slow",
        "",
        "start  authenticated   a@$domain",
    ])
}

prop_compose! {
    /// A right scenario, untidily written.
    fn scenario()(
        headers in prop::collection::hash_set(right_header(), 0..4),
        steps in prop::collection::vec((right_step(), 1_usize..6, 0_u8..6), 0..8),
        gap in 1_usize..5,
    ) -> String {
        let gap = " ".repeat(gap);
        let mut text = format!("title{gap}A  case\n");
        for header in headers {
            text += header;
            text += "\n";
        }
        text += &["MUST", "a.b", "rfc5321#7.9", "claim", "it\nC: A\nS:", "250\n"].join(&gap);
        for (lines, indent, noise) in steps {
            for (n, line) in lines.iter().enumerate() {
                if noise == 1 {
                    text += &" ".repeat(if n == 0 { 0 } else { indent });
                    text += "# a  comment
";
                }
                if noise == 2 {
                    text += "\n\n";
                }
                text += &" ".repeat(if n == 0 { 0 } else { indent });
                text += line;
                text += if noise == 3 { "   # why\n" } else { "\n" };
            }
        }
        text
    }
}

proptest! {
    // What fails is printed in full: it becomes a test of its own, not a seed in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_read_calmly(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_calm(&octets);
    }

    #[test]
    fn any_text_is_read_calmly(text in "(.|\n| ){0,200}") {
        assert_calm(text.as_bytes());
    }

    #[test]
    fn any_lines_of_words_are_read_calmly(lines in prop::collection::vec(line(), 0..12)) {
        assert_calm(lines.join("\n").as_bytes());
    }

    #[test]
    fn lines_below_a_right_beginning_are_read_calmly(lines in prop::collection::vec(line(), 0..4)) {
        let text = format!("title a\nMUST a.b rfc1 c\nS: 250\n{}", lines.join("\n"));
        assert_calm(text.as_bytes());
    }

    #[test]
    fn a_real_scenario_with_slips_is_read_calmly(
        file in any::<prop::sample::Index>(),
        slips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..6), 1..5),
    ) {
        let sources = load::builtin_sources();
        let mut lines: Vec<String> =
            file.get(sources).1.lines().map(str::to_owned).collect();
        for (at, slip) in slips {
            let at = at.index(lines.len());
            match slip {
                0 if lines.len() > 1 => _ = lines.remove(at),
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at].insert(0, ' '),
                3 => lines[at] = lines[at].trim_start().to_owned(),
                4 => lines[at] = lines[at].replacen(' ', "   ", 1),
                _ => _ = lines[at].pop(),
            }
        }
        assert_calm(lines.join("\n").as_bytes());
    }

    #[test]
    fn printed_and_read_again_a_scenario_is_the_same(text in scenario()) {
        if let Err(mistakes) = parse("a/b.case", &text) {
            panic!("{}", render("a/b.case".as_ref(), &text, &mistakes, false));
        }
        assert_layout(&text);
    }
}
