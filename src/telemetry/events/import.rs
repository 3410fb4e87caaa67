//! Events of an import.

use tracing::{info, warn};

/// An import paused because the broker accepts no rows, or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStateChanged {
    /// The broker has a memory or disk alarm (`connection.blocked`).
    Blocked,
    /// The broker refuses rows (negative confirms).
    Refused,
    /// The broker accepts rows again.
    Resumed,
}

impl ImportStateChanged {
    pub fn emit(self) {
        match self {
            Self::Blocked => {
                warn!("import paused: the broker has a memory or disk alarm and accepts no messages; no row is lost");
            }
            Self::Refused => {
                warn!("import paused: the broker refuses rows, possibly because the queue is full; retrying");
            }
            Self::Resumed => info!("import resumed: the broker accepts messages again"),
        }
    }
}
