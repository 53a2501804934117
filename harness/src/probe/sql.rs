//! `rows N SELECT …`: what the database holds.

use super::{Look, Stop};
use crate::driver::{Miss, Stage};
use crate::scenario::Text;

/// The statement yields `count` rows.
pub(crate) async fn check<S: Stage>(
    look: &Look<'_, S>,
    count: usize,
    statement: &Text,
) -> Result<(), Stop> {
    let statement = look.text(statement);
    let rows = look
        .stage
        .rows(&statement)
        .await
        .map_err(Stop::Environment)?;
    look.journal.note(format!("rows {rows} {statement}"));
    if rows == count {
        return Ok(());
    }
    Err(Stop::Missed(Miss::new(
        look.span,
        format!("{count} rows"),
        format!("{rows} rows"),
    )))
}
