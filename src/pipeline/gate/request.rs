//! What a request is for: the gate admits requests by it.

use std::time::Duration;

use crate::domain::Lane;

/// A request that waits for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Creates a user.
    Create(Lane),
    /// Deletes a user, who is created again at once. Leaves every probe and trial to creations for [`DELETE_DELAY`], and
    /// is never sent while the wallet is empty.
    Delete(Lane),
    /// Reads a page of the user list.
    Read,
    /// Reads a page of the user list to find out whether an open circuit breaker can try a creation.
    ReadProbe,
}

impl Request {
    pub(super) const fn is_creation(self) -> bool {
        matches!(self, Self::Create(_))
    }
}

/// How long a deletion leaves a probe or trial to others. If no creation takes it, none waits; then only deletions can find
/// out whether requests succeed again. Shorter than the time for which the page is fresh that a deletion needs.
pub(super) const DELETE_DELAY: Duration = Duration::from_secs(5);

/// How long a request leaves a probe to others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProbeDelays {
    /// Delay before it is the probe of a pause. A job that alone gets a bad answer must not always be the probe.
    pub probe: Duration,
    /// Delay before it is the trial of the circuit breaker, or the probe that shows whether the API can be reached. A
    /// job whose link may be lost already goes first, because it can't lose another one.
    pub trial: Duration,
}

impl From<Duration> for ProbeDelays {
    fn from(probe: Duration) -> Self {
        Self { probe, trial: Duration::ZERO }
    }
}
