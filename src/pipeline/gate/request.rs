//! What a request is for: the gate admits requests by it.

use crate::domain::Lane;

/// A request that waits for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Creates a user.
    Create(Lane),
    /// Reads a page of the user list.
    Read,
}
