//! The run's name server answers for the names that cases own, and for no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
use tokio::net::UdpSocket;
use vmailspec::environment::dns::{Dns, Zones};

const SINK: Ipv4Addr = Ipv4Addr::new(127, 9, 1, 7);

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    let name = Name::new(name).unwrap().into_owned();
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

/// `NoError 10 mail.t1.test`, `NameError` …
async fn ask(dns: &Dns, name: &str, kind: TYPE) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&query(name, kind), dns.address())
        .await
        .unwrap();
    let mut buffer = [0; 1500];
    let reply = tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await;
    let (length, _) = reply.expect("an answer within 5 s").unwrap();
    let packet = Packet::parse(&buffer[..length]).unwrap();
    assert_eq!(packet.id(), 77);
    let mut text = format!("{:?}", packet.rcode());
    for answer in &packet.answers {
        match &answer.rdata {
            RData::A(a) => write!(text, " {}", Ipv4Addr::from(a.address)),
            RData::MX(mx) => write!(text, " {} {}", mx.preference, mx.exchange),
            other => write!(text, " {other:?}"),
        }
        .unwrap();
    }
    text
}

#[rstest]
#[case("t1.4f.test", TYPE::MX, "NoError 10 mail.t1.4f.test")]
#[case("T1.4F.Test", TYPE::MX, "NoError 10 mail.t1.4f.test")]
#[case("t1.4f.test", TYPE::A, "NoError")]
#[case("mail.t1.4f.test", TYPE::A, "NoError 127.9.1.7")]
#[case("mail.t1.4f.test", TYPE::MX, "NoError")]
#[case("mail.t1.4f.test", TYPE::AAAA, "NoError")]
#[case("sub.t1.4f.test", TYPE::MX, "NoError 10 mail.sub.t1.4f.test")]
#[case("mail.sub.t1.4f.test", TYPE::A, "NoError 127.9.1.7")]
#[case("nomx.t1.4f.test", TYPE::MX, "NoError")]
#[case("nomx.t1.4f.test", TYPE::A, "NoError 127.9.1.7")]
#[case("nohost.t1.4f.test", TYPE::A, "NoError")]
#[case("nullmx.t1.4f.test", TYPE::MX, "NoError 0 ")]
#[case(
    "twomx.t1.4f.test",
    TYPE::MX,
    "NoError 10 dead.t1.4f.test 20 mail.t1.4f.test"
)]
#[case("deadmx.t1.4f.test", TYPE::MX, "NoError 10 dead.t1.4f.test")]
#[case("dead.t1.4f.test", TYPE::A, "NoError 127.9.0.254")]
#[case("nxdomain.t1.4f.test", TYPE::MX, "NameError")]
#[case("servfail.t1.4f.test", TYPE::MX, "ServerFailure")]
#[case("refused.t1.4f.test", TYPE::MX, "Refused")]
#[case("server.domain.com", TYPE::A, "NoError 127.0.0.1")]
#[case("t11.4f.test", TYPE::MX, "NameError")]
#[case("xt1.4f.test", TYPE::MX, "NameError")]
#[case("example.com", TYPE::A, "NameError")]
#[tokio::test]
async fn names_are_answered_as_their_first_label_says(
    #[case] name: &str,
    #[case] kind: TYPE,
    #[case] expected: &str,
) {
    let dns = Dns::start(None).unwrap();
    dns.add("t1.4f.test", SINK);
    dns.add_host("server.domain.com", Ipv4Addr::LOCALHOST);
    assert_eq!(ask(&dns, name, kind).await, expected);
}

#[tokio::test]
async fn a_name_that_was_removed_does_not_exist_and_queries_are_remembered() {
    let dns = Dns::start(None).unwrap();
    dns.add("t1.4f.test", SINK);
    ask(&dns, "t1.4f.test", TYPE::MX).await;
    ask(&dns, "mail.t1.4f.test", TYPE::A).await;
    ask(&dns, "other.test", TYPE::A).await;
    assert_eq!(
        dns.queries("t1.4f.test"),
        ["MX t1.4f.test", "A mail.t1.4f.test"]
    );
    dns.remove("t1.4f.test");
    assert_eq!(ask(&dns, "t1.4f.test", TYPE::MX).await, "NameError");
}

#[test]
fn replies_are_not_answered() {
    let mut zones = Zones::default();
    assert_eq!(
        zones.answer(&Packet::new_reply(1).build_bytes_vec().unwrap()),
        None
    );
}

#[tokio::test]
async fn a_silent_name_is_heard_and_not_answered() {
    let dns = Dns::start(None).unwrap();
    dns.add("t1.4f.test", SINK);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = query("silent.t1.4f.test", TYPE::MX);
    socket.send_to(&asked, dns.address()).await.unwrap();
    // This one stands behind it, and is answered.
    ask(&dns, "t1.4f.test", TYPE::MX).await;
    assert_eq!(dns.queries("silent.t1.4f.test").len(), 1);
    assert!(socket.try_recv(&mut [0; 64]).is_err());
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Zones::default().answer(&octets);
    }

    #[test]
    fn a_query_with_some_octets_changed_is_survived(
        changes in proptest::collection::vec((0_usize..40, any::<u8>()), 1..6),
    ) {
        let mut octets = query("mail.t1.4f.test", TYPE::MX);
        for (at, octet) in changes {
            let length = octets.len();
            octets[at % length] = octet;
        }
        let _ = Zones::default().answer(&octets);
    }
}
