//! A reply (RFC 5321 §4.2): three digits, an enhanced code (RFC 3463), text.
use alloc::string::String;
use alloc::vec::Vec;

/// One reply of one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The lines' text without code and separator; the enhanced code, where there is one, is part of it.
    pub lines: Vec<String>,
}
