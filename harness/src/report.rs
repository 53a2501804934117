//! Reports: they hear events and nothing else.

pub mod document;
pub mod json;
pub mod junit;
pub mod matrix;
pub mod summary;
pub mod tap;
pub mod terminal;

use crate::event::Event;

/// Who hears a run.
pub trait Report {
    /// One event, in the order in which they happened. An error: the report cannot be written.
    fn hear(&mut self, event: &Event) -> std::io::Result<()>;
}
