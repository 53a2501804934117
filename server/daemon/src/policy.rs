//! Who may send where, and where a recipient's mail goes.

pub mod resolve;
pub mod restrictions;
