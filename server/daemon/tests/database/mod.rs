//! Just enough of a MySQL server to be moody: it knows one row, `mydomain.com`, and whoever asks for
//! another finds nothing.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it is today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// Says nothing to anybody until its mood changes.
    Hangs,
    /// Closes every connection at the next thing that it hears.
    HangsUp,
    /// Knows no user of this password.
    RefusesLogins,
}

/// A running one; its thread ends with the test.
pub struct Database {
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
}

impl Database {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(Mood::Answers));
        let of_all = mood.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mood = of_all.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &mood));
            }
        });
        Self { address, mood }
    }

    pub fn is_now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// Waits while it hangs; `None` where it hangs up.
fn mood(now: &Mutex<Mood>) -> Option<Mood> {
    loop {
        match *now.lock().unwrap() {
            Mood::Hangs => {}
            Mood::HangsUp => return None,
            mood => return Some(mood),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
/// The end of rows, where CLIENT_DEPRECATE_EOF is agreed.
const END: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];

/// The protocol of MySQL 4.1 and later, with prepared statements.
fn serve(mut stream: TcpStream, now: &Mutex<Mood>) -> Option<()> {
    mood(now)?;
    // PROTOCOL_41, SECURE_CONNECTION, CONNECT_WITH_DB; DEPRECATE_EOF, PLUGIN_AUTH.
    let greeting = [
        b"\x0a8.0.0\0\x01\0\0\0saltsalt\0\x08\x82\x2d\x02\0\x08\x01\x15".as_slice(),
        &[0; 10],
        b"saltsaltsalt\0mysql_native_password\0",
    ];
    send(&mut stream, 0, &[&greeting.concat()])?;
    let (number, _) = receive(&mut stream)?;
    if mood(now)? == Mood::RefusesLogins {
        let refusal = b"\xff\x15\x04#28000Access denied for user".as_slice();
        return send(&mut stream, number + 1, &[refusal]);
    }
    send(&mut stream, number + 1, &[OK])?;
    loop {
        let (number, command) = receive(&mut stream)?;
        mood(now)?;
        let definition = b"\x03def\0\0\0\x01x\0\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0".as_slice();
        let answer: &[&[u8]] = match command.first()? {
            // COM_STMT_PREPARE: statement 1, columns said later, one parameter.
            0x16 => &[&[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], definition],
            // COM_STMT_EXECUTE
            0x17 if command.ends_with(b"mydomain.com") => {
                &[&[1], definition, b"\0\0\x07virtual", END]
            }
            0x17 => &[&[1], definition, END],
            // COM_STMT_CLOSE has no answer.
            0x19 => continue,
            0x01 => return None,
            _ => &[OK],
        };
        send(&mut stream, number + 1, answer)?;
    }
}

fn receive(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).ok()?;
    Some((head[3], packet))
}

fn send(stream: &mut TcpStream, first: u8, packets: &[&[u8]]) -> Option<()> {
    for (number, packet) in (first..).zip(packets) {
        let length = u32::try_from(packet.len()).ok()?.to_le_bytes();
        let head = [length[0], length[1], length[2], number];
        stream.write_all(&[&head, *packet].concat()).ok()?;
    }
    Some(())
}
