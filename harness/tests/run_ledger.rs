//! The ledger on books that a test writes: what adds up, and each way in which it does not.

use std::collections::BTreeMap;

use rstest::rstest;
use vmailspec::ledger::body::Body;
use vmailspec::ledger::books::{Books, Places, queue_id};
use vmailspec::ledger::follow::{End, Recipient, Transaction};
use vmailspec::ledger::sightings::{Place, Sighting};
use vmailspec::scenario::Span;

const ADDRESS: &str = "address@d.test";
const FORWARD: &str = "myforward@d.test";
const FOREIGN: &str = "someone@e.test";

fn books() -> Books {
    let names = [
        ("domain", "d.test"),
        ("elsewhere", "e.test"),
        ("sender", "s.test"),
    ];
    let names: BTreeMap<String, String> = names
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Books {
        prefix: "r-1-".into(),
        places: Places::new(&names, false),
        log_is_seen: true,
        ..Books::default()
    }
}

fn to(addresses: &[(&str, u16)], end: End) -> Transaction {
    let recipients = addresses
        .iter()
        .map(|&(address, code)| Recipient {
            address: address.into(),
            parameters: String::new(),
            code,
        })
        .collect();
    Transaction {
        from: "friend@s.test".into(),
        recipients,
        token: Some("r-1-1".into()),
        body: Body::sent(b"A: b\r\n\r\ntext\r\n"),
        end,
        span: Span::default(),
    }
}

fn taken() -> End {
    End::Accepted("250 2.0.0 Ok: queued as 4ABC".into())
}

fn seen(place: Place, original_to: Option<&str>) -> Sighting {
    let delivered_to = match &place {
        Place::Maildir(address) => Some(address.clone()),
        _ => None,
    };
    let original_to = original_to.map(str::to_owned);
    Sighting {
        token: Some("r-1-1".into()),
        place,
        original_to,
        delivered_to,
        body: Body::arrived(b"A: b\n\ntext\n"),
    }
}

fn mailbox(address: &str) -> Sighting {
    seen(Place::Maildir(address.into()), Some(address))
}

fn sink(address: &str) -> Sighting {
    seen(Place::Sink(address.into()), None)
}

fn bounce(recipient: &str, original: &str) -> Sighting {
    let place = Place::Bounce {
        recipient: recipient.into(),
        to: "friend@s.test".into(),
    };
    seen(place, Some(original))
}

fn ids(books: &Books) -> Vec<&'static str> {
    books.findings().iter().map(|finding| finding.id).collect()
}

#[rstest]
#[case::delivered(ADDRESS, mailbox(ADDRESS))]
#[case::relayed(FOREIGN, sink(FOREIGN))]
#[case::reported(ADDRESS, bounce(ADDRESS, ADDRESS))]
#[case::forwarded(FORWARD, seen(Place::Maildir(ADDRESS.into()), Some(FORWARD)))]
#[case::elsewhere(FORWARD, sink("other@x.test"))]
#[case::folded("ADDRESS@D.test", mailbox(ADDRESS))]
fn an_accepted_message_that_is_seen_adds_up(#[case] address: &str, #[case] sighting: Sighting) {
    let mut books = books();
    books.transactions.push(to(&[(address, 250)], taken()));
    books.sightings.push(sighting);
    assert_eq!(ids(&books), [""; 0]);
}

#[rstest]
#[case::nowhere(ADDRESS, None)]
#[case::wrong_mailbox(ADDRESS, Some(mailbox("other@d.test")))]
#[case::wrong_recipient(FOREIGN, Some(sink("other@e.test")))]
#[case::nothing_forwarded(FORWARD, None)]
fn an_accepted_message_without_a_trace_is_lost(
    #[case] address: &str,
    #[case] sighting: Option<Sighting>,
) {
    let mut books = books();
    books.transactions.push(to(&[(address, 250)], taken()));
    books.sightings.extend(sighting);
    assert_eq!(ids(&books), ["ledger.lost"]);
    assert!(books.findings()[0].may_pass);
}

#[test]
fn a_sighting_of_one_recipient_does_not_account_for_another() {
    let mut books = books();
    books
        .transactions
        .push(to(&[(ADDRESS, 250), (FORWARD, 250)], taken()));
    books.sightings.push(mailbox(ADDRESS));
    assert_eq!(ids(&books), ["ledger.lost"]);
}

#[test]
fn what_the_queue_holds_is_kept_and_what_was_put_off_need_not_be_waited_for() {
    let mut books = books();
    books.transactions.push(to(&[(FOREIGN, 250)], taken()));
    books.queued.push("r-1-1".into());
    assert!(books.findings()[0].kept && books.findings()[0].may_pass);
    books
        .log
        .push("vmaild[1]: 4ABC: to=<someone@e.test>, dsn=4.4.1, status=deferred (x)".into());
    assert!(books.findings()[0].kept && !books.findings()[0].may_pass);
}

#[test]
fn what_may_wait_in_a_queue_out_of_sight_is_not_called_lost() {
    let mut books = books();
    books.queue_is_hidden = true;
    books.transactions.push(to(&[(FOREIGN, 250)], taken()));
    assert_eq!(ids(&books), [""; 0]);
    // A mailbox that is there has its mail.
    books.transactions.push(to(&[(ADDRESS, 250)], taken()));
    assert_eq!(ids(&books), ["ledger.lost"]);
}

#[test]
fn a_failure_that_nobody_may_hear_of_shows_in_the_log() {
    let mut books = books();
    let mut silent = to(&[(ADDRESS, 250)], taken());
    silent.from = String::new();
    books.transactions.push(silent);
    assert_eq!(ids(&books), ["ledger.lost"]);
    books
        .log
        .push("vmaild[1]: 4ABC: to=<address@d.test>, dsn=5.2.2, status=bounced (x)".into());
    assert_eq!(ids(&books), [""; 0]);
    // For a sender who wants to hear of it the log is no bounce.
    books.transactions[0].from = "friend@s.test".into();
    assert_eq!(ids(&books), ["ledger.lost"]);
}

#[test]
fn a_failure_that_nobody_may_hear_of_is_no_loss_where_the_log_cannot_be_seen() {
    let mut books = books();
    books.log_is_seen = false;
    let mut silent = to(&[(FOREIGN, 250)], taken());
    silent.recipients[0].parameters = "NOTIFY=SUCCESS".into();
    books.transactions.push(silent);
    assert_eq!(ids(&books), [""; 0]);
    // A mailbox that is there has its mail, and a sender who wants to hear hears.
    books.transactions[0].recipients[0].address = ADDRESS.into();
    assert_eq!(ids(&books), ["ledger.lost"]);
    books.transactions[0] = to(&[(FOREIGN, 250)], taken());
    assert_eq!(ids(&books), ["ledger.lost"]);
}

#[rstest]
#[case::in_a_mailbox(mailbox(ADDRESS), mailbox(ADDRESS))]
#[case::at_the_next_hop(sink(FOREIGN), sink(FOREIGN))]
#[case::reported_twice(bounce(FOREIGN, FOREIGN), bounce(FOREIGN, FOREIGN))]
fn a_message_twice_in_one_place_is_doubled(#[case] one: Sighting, #[case] two: Sighting) {
    let mut books = books();
    books
        .transactions
        .push(to(&[(ADDRESS, 250), (FOREIGN, 250)], taken()));
    books.sightings = vec![mailbox(ADDRESS), sink(FOREIGN)];
    books.sightings.retain(|sighting| *sighting != one);
    books.sightings.extend([one, two]);
    assert!(ids(&books).contains(&"ledger.doubled"));
    books.repeats_allowed = true;
    assert!(!ids(&books).contains(&"ledger.doubled"));
}

#[rstest]
#[case::refused(End::Refused("554 no".into()))]
#[case::broken_off(End::Unfinished)]
fn a_message_that_was_not_taken_arrives_nowhere(#[case] end: End) {
    let mut books = books();
    books.transactions.push(to(&[(ADDRESS, 250)], end));
    assert_eq!(ids(&books), [""; 0]);
    books.sightings.push(mailbox(ADDRESS));
    assert_eq!(ids(&books), ["ledger.refused"]);
}

#[test]
fn without_a_reply_at_the_end_both_ends_are_honest() {
    let mut books = books();
    books.transactions.push(to(&[(ADDRESS, 250)], End::Unknown));
    assert_eq!(ids(&books), [""; 0]);
    books.sightings.push(mailbox(ADDRESS));
    assert_eq!(ids(&books), [""; 0]);
}

#[test]
fn a_refused_recipient_gets_nothing_of_an_accepted_message() {
    let mut books = books();
    books
        .transactions
        .push(to(&[(ADDRESS, 250), (FOREIGN, 554)], taken()));
    books.sightings.push(mailbox(ADDRESS));
    assert_eq!(ids(&books), [""; 0]);
    books.sightings.push(sink(FOREIGN));
    assert_eq!(ids(&books), ["ledger.refused"]);
}

#[test]
fn a_message_within_a_message_that_arrives_by_itself_was_smuggled() {
    let mut books = books();
    books.transactions.push(to(&[(ADDRESS, 250)], taken()));
    books.sightings.push(mailbox(ADDRESS));
    let mut stray = sink(FOREIGN);
    stray.token = Some("r-1-2".into());
    books.sightings.push(stray);
    assert_eq!(ids(&books), ["ledger.refused"]);
}

#[test]
fn delivered_and_reported_for_one_final_recipient_is_both() {
    let mut books = books();
    books.transactions.push(to(&[(FORWARD, 250)], taken()));
    books
        .sightings
        .push(seen(Place::Maildir(ADDRESS.into()), Some(FORWARD)));
    // The tutorial's own trap: one destination has a mailbox, the other has none.
    books.sightings.push(bounce("otheraddress@d.test", FORWARD));
    assert_eq!(ids(&books), [""; 0]);
    books.sightings.push(bounce(ADDRESS, FORWARD));
    assert_eq!(ids(&books), ["ledger.both"]);
}

#[rstest]
#[case::in_a_mailbox(mailbox(ADDRESS))]
#[case::at_the_next_hop(sink(FOREIGN))]
fn another_body_than_the_one_that_was_sent_is_changed(#[case] mut sighting: Sighting) {
    let mut books = books();
    let recipients = [(ADDRESS, 250), (FOREIGN, 250)];
    books.transactions.push(to(&recipients, taken()));
    books.sightings = vec![mailbox(ADDRESS), sink(FOREIGN)];
    assert_eq!(ids(&books), [""; 0]);
    books.sightings.retain(|other| *other != sighting);
    sighting.body = Body::arrived(b"A: b\n\ntext \n");
    books.sightings.push(sighting);
    assert_eq!(ids(&books), ["ledger.changed"]);
    // What was sent may be something that a server changes.
    books.transactions[0].body = None;
    assert_eq!(ids(&books), [""; 0]);
}

#[test]
fn eight_bits_may_reach_a_next_hop_in_seven() {
    let mut books = books();
    books.transactions.push(to(&[(FOREIGN, 250)], taken()));
    books.transactions[0].body = Body::sent("A: b\r\n\r\nköln\r\n".as_bytes());
    books.sightings.push(sink(FOREIGN));
    assert_eq!(ids(&books), [""; 0]);
    books.transactions[0].recipients[0].address = ADDRESS.into();
    books.sightings = vec![mailbox(ADDRESS)];
    assert_eq!(ids(&books), ["ledger.changed"]);
}

#[test]
fn a_case_that_changes_rows_leaves_every_place_open() {
    let names = BTreeMap::from([("domain".to_owned(), "d.test".to_owned())]);
    let mut books = books();
    books.places = Places::new(&names, true);
    books.transactions.push(to(&[(ADDRESS, 250)], taken()));
    books.sightings.push(mailbox("other@d.test"));
    assert_eq!(ids(&books), [""; 0]);
}

#[rstest]
#[case("250 2.0.0 Ok: queued as 4ABC", Some("4ABC"))]
#[case("250 ok", None)]
#[case("250 queued as ", None)]
fn the_queue_id_is_read_from_the_reply(#[case] reply: &str, #[case] id: Option<&str>) {
    assert_eq!(queue_id(reply), id);
}
