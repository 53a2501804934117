//! The wire: replies read the same however they are cut, ends are told apart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use vmailspec::wire::reply::{shown, take};
use vmailspec::wire::{End, Fault, Heard, Reply, Wire};

/// Every reply in these octets, fed in pieces of these sizes.
fn replies(octets: &[u8], cuts: &[usize]) -> (Vec<Reply>, Vec<u8>) {
    let (mut buffer, mut found, mut rest) = (Vec::new(), Vec::new(), octets);
    let mut cuts = cuts
        .iter()
        .copied()
        .chain(std::iter::repeat(octets.len().max(1)));
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
        buffer.extend_from_slice(piece);
        rest = behind;
        while let Some(reply) = take(&mut buffer) {
            found.push(reply);
        }
    }
    (found, buffer)
}

fn reply_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"250".to_vec()),
        Just(b"550".to_vec()),
        Just(b"-".to_vec()),
        Just(b" ok".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_reply_cut_anywhere_reads_the_same(
        octets in reply_like(),
        cuts in proptest::collection::vec(1_usize..9, 0..60),
    ) {
        prop_assert_eq!(replies(&octets, &cuts), replies(&octets, &[]));
    }

    #[test]
    fn no_octet_is_lost_or_invented(octets in reply_like()) {
        let (found, rest) = replies(&octets, &[3, 1]);
        let mut all: Vec<u8> = found.into_iter().flat_map(|reply| reply.raw).collect();
        all.extend(rest);
        prop_assert_eq!(all, octets);
    }

    #[test]
    fn showing_octets_never_panics_and_never_shows_control_characters(
        octets in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        prop_assert!(shown(&octets).chars().all(|letter| !letter.is_control()));
    }
}

#[rstest]
#[case("250 ok\r\n", 250, &[])]
#[case("250\r\n", 250, &[])]
#[case("250-one\r\n250 two\r\n", 250, &[])]
#[case("250-one\r\n251 two\r\n", 250, &[Fault::MixedCodes])]
#[case("250 ok\n", 250, &[Fault::BareLf])]
#[case("250 o\rk\r\n", 250, &[Fault::BareCr])]
#[case("250_ok\r\n", 250, &[Fault::Separator])]
#[case("hello\r\n", 0, &[Fault::NoCode])]
#[case("650 ok\r\n", 0, &[Fault::NoCode])]
#[case("250 \u{e4}\r\n", 250, &[Fault::NotPrintable])]
#[case("250-one\r\ntwo\r\n250 three\r\n", 250, &[Fault::NoCode])]
fn what_is_malformed_is_named(#[case] text: &str, #[case] code: u16, #[case] faults: &[Fault]) {
    let (found, rest) = replies(text.as_bytes(), &[]);
    assert_eq!((found.len(), rest.len()), (1, 0));
    assert_eq!((found[0].code, found[0].faults.as_slice()), (code, faults));
}

#[test]
fn a_line_of_more_than_512_octets_is_named() {
    let fits = format!("250 {}\r\n", "x".repeat(506));
    let longer = format!("250 {}\r\n", "x".repeat(507));
    assert!(replies(fits.as_bytes(), &[]).0[0].faults.is_empty());
    assert_eq!(
        replies(longer.as_bytes(), &[]).0[0].faults,
        [Fault::TooLong]
    );
}

#[test]
fn a_reply_without_end_ends_the_reading() {
    let endless = "250-more\r\n".repeat(20_000);
    let (found, _) = replies(endless.as_bytes(), &[]);
    assert!(found[0].faults.contains(&Fault::Endless));
}

#[test]
fn the_enhanced_code_is_that_of_the_first_line() {
    let (found, _) = replies(b"554 5.7.1 no\r\n250 5.7 no\r\n250 2.0.0.0 no\r\n", &[]);
    let codes: Vec<_> = found.iter().map(Reply::enhanced).collect();
    assert_eq!(codes, [Some([5, 7, 1]), None, None]);
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(5);

async fn connected() -> (Wire, TcpStream) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    let (wire, accepted) = tokio::join!(Wire::connect(source, address, LIMIT), listener.accept());
    let (peer, from) = accepted.unwrap();
    assert_eq!(from.ip(), source);
    (wire.unwrap(), peer)
}

#[tokio::test]
async fn fin_and_rst_are_told_apart() {
    let (mut wire, peer) = connected().await;
    drop(peer);
    assert!(matches!(wire.hear(LIMIT).await, Heard::Closed(End::Eof, rest) if rest.is_empty()));

    let (mut wire, peer) = connected().await;
    // What was sent and not read makes the close a reset.
    wire.send(b"NOOP\r\n", LIMIT).await;
    peer.readable().await.unwrap();
    drop(peer);
    assert!(matches!(
        wire.hear(LIMIT).await,
        Heard::Closed(End::Reset, _)
    ));
}

#[tokio::test]
async fn half_a_reply_is_kept_when_the_server_closes_or_is_silent() {
    let (mut wire, mut peer) = connected().await;
    peer.write_all(b"250-ha").await.unwrap();
    assert!(matches!(
        wire.hear(Duration::from_millis(50)).await,
        Heard::Silence(_)
    ));
    drop(peer);
    assert!(matches!(wire.hear(LIMIT).await, Heard::Closed(End::Eof, rest) if rest == b"250-ha"));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_in_words() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let error = Wire::connect(LOOPBACK, address, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
