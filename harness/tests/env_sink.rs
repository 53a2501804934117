//! A sink takes what comes, remembers it, and answers as a case wants it to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use vmailspec::environment::random::free_port;
use vmailspec::environment::sink::{Sink, address};

const LIMIT: Duration = Duration::from_secs(10);

fn sink() -> Sink {
    let place = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Sink::start(
        SocketAddr::new(place, free_port(place).unwrap()),
        "sink.test",
    )
    .unwrap()
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(sink: &Sink) -> Self {
        let mut client = Self(BufReader::new(
            TcpStream::connect(sink.address()).await.unwrap(),
        ));
        assert_eq!(client.reply().await, "220 sink.test ESMTP sink");
        client
    }

    async fn send(&mut self, text: &str) {
        self.0
            .get_mut()
            .write_all(text.replace('\n', "\r\n").as_bytes())
            .await
            .unwrap();
    }

    /// The last line of the next reply; empty: closed.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            tokio::time::timeout(LIMIT, read)
                .await
                .expect("a reply")
                .unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    async fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\n")).await;
        self.reply().await
    }

    /// The answer to the dot.
    async fn deliver(&mut self, to: &str) -> String {
        self.send(&format!("MAIL FROM:<a@b.test>\nRCPT TO:<{to}>\nDATA\n"))
            .await;
        for code in ["250", "250", "354"] {
            assert!(self.reply().await.starts_with(code));
        }
        self.say("hello\n.").await
    }

    async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        tokio::time::timeout(LIMIT, self.0.read_to_end(&mut rest))
            .await
            .expect("closed")
            .unwrap();
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn a_message_is_remembered_with_envelope_parameters_and_unstuffed_content() {
    let sink = sink();
    let mut client = Client::connect(&sink).await;
    assert_eq!(client.say("EHLO client.test").await, "250 SMTPUTF8");
    client.send("MAIL FROM:<\"a>b\"@c.test> SIZE=10 BODY=8BITMIME\nRCPT TO:<x@y.test> NOTIFY=NEVER\nRCPT TO: z@y.test\nDATA\n").await;
    for code in ["250", "250", "250", "354"] {
        assert!(client.reply().await.starts_with(code));
    }
    assert!(
        client
            .say("Subject: x\n\n..two\n.one\n.")
            .await
            .starts_with("250")
    );
    let came = sink.sunk();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].from, "\"a>b\"@c.test");
    assert_eq!(came[0].to, ["x@y.test", "z@y.test"]);
    assert_eq!(came[0].helo, "client.test");
    assert_eq!(
        came[0].parameters,
        ["SIZE=10 BODY=8BITMIME", "NOTIFY=NEVER", ""]
    );
    assert_eq!(came[0].content, b"Subject: x\r\n\r\n.two\r\none\r\n");
    assert!(
        sink.dialogue()
            .contains(&"#1 C: RCPT TO:<x@y.test> NOTIFY=NEVER".to_owned())
    );
}

#[tokio::test]
async fn one_recipient_can_be_refused_and_taken_again() {
    let sink = sink();
    sink.answers("RCPT", Some("<Full@y.test>"), Some("452 4.2.2 full"));
    let mut client = Client::connect(&sink).await;
    client.say("EHLO c").await;
    client.say("MAIL FROM:<>").await;
    assert_eq!(client.say("RCPT TO:<full@Y.test>").await, "452 4.2.2 full");
    assert_eq!(client.say("RCPT TO:<free@y.test>").await, "250 2.1.5 Ok");
    sink.answers("RCPT", Some("full@y.test"), None);
    assert_eq!(client.say("RCPT TO:<full@y.test>").await, "250 2.1.5 Ok");
}

#[tokio::test]
async fn a_message_whose_dot_is_refused_is_not_remembered() {
    let sink = sink();
    sink.answers("DOT", None, Some("451 4.0.0 later"));
    let mut client = Client::connect(&sink).await;
    assert_eq!(client.deliver("x@y.test").await, "451 4.0.0 later");
    sink.answers("DOT", None, None);
    assert_eq!(client.deliver("x@y.test").await, "250 2.0.0 Sunk");
    assert_eq!(sink.sunk().len(), 1);
}

#[tokio::test]
async fn answers_can_have_several_lines_end_the_connection_or_never_come() {
    let sink = sink();
    sink.answers("EHLO", None, Some("250-sink.test\\n250 SIZE 5"));
    let mut client = Client::connect(&sink).await;
    assert_eq!(client.say("EHLO c").await, "250 SIZE 5");
    sink.answers("MAIL", None, Some("421 4.3.2 going"));
    assert_eq!(client.say("MAIL FROM:<>").await, "421 4.3.2 going");
    client.is_closed().await;

    sink.answers("MAIL", None, Some("closes"));
    let mut client = Client::connect(&sink).await;
    client.send("MAIL FROM:<>\n").await;
    client.is_closed().await;

    sink.answers("MAIL", None, Some("hangs"));
    let mut client = Client::connect(&sink).await;
    client.send("MAIL FROM:<>\nNOOP\n").await;
    let silence = tokio::time::timeout(Duration::from_millis(200), client.reply()).await;
    assert!(silence.is_err());
}

#[tokio::test]
async fn refusing_is_the_kernels_and_lets_a_message_under_way_be_finished() {
    let sink = sink();
    let mut idle = Client::connect(&sink).await;
    let mut busy = Client::connect(&sink).await;
    busy.say("MAIL FROM:<>").await;
    busy.say("RCPT TO:<x@y.test>").await;
    sink.listens(false).await.unwrap();
    let refused = TcpStream::connect(sink.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    idle.is_closed().await;
    assert!(busy.say("DATA").await.starts_with("354"));
    assert!(busy.say("x\n.").await.starts_with("250"));
    busy.is_closed().await;
    sink.listens(true).await.unwrap();
    Client::connect(&sink).await;
}

#[tokio::test]
async fn waiting_ends_with_the_message_or_with_the_limit() {
    let sink = sink();
    assert!(
        !sink
            .sunk_until(Duration::from_millis(50), |sunk| !sunk.is_empty())
            .await
    );
    let (arrived, ()) = tokio::join!(sink.sunk_until(LIMIT, |sunk| sunk.len() == 2), async {
        let mut client = Client::connect(&sink).await;
        client.deliver("x@y.test").await;
        client.deliver("x@y.test").await;
    });
    assert!(arrived);
}

#[test]
fn every_case_has_an_address_until_there_are_no_more() {
    assert_eq!(address(0), Some(Ipv4Addr::new(127, 9, 1, 1)));
    assert_eq!(address(249), Some(Ipv4Addr::new(127, 9, 1, 250)));
    assert_eq!(address(250), Some(Ipv4Addr::new(127, 9, 2, 1)));
    assert_eq!(address(63_500), Some(Ipv4Addr::new(127, 9, 255, 1)));
    assert_eq!(address(63_750), None);
}
