//! First request of a worker: it is sent alone, so that a revoked key costs one request instead of a full window.
//! Pure: time is passed in.
//!
//! | state | another request | the first is sent | the first has a result | the first is dropped |
//! | --- | --- | --- | --- | --- |
//! | not sent | becomes the first | | | |
//! | permitted | waits | in flight | done | not sent |
//! | in flight | waits for at most [`ALONE_MAX`] | | done | not sent |
//! | done | is admitted | | | |

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::wait_until::WaitUntil;

/// How long other requests wait for the result of the first one.
pub(super) const ALONE_MAX: Duration = Duration::from_secs(2);

/// State of a worker's first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstRequest {
    /// No request has a permit yet.
    NotSent,
    /// One request has the permit and waits for the rate limiter.
    Permitted,
    /// It was sent at this time.
    InFlight(Instant),
    /// Its result is known.
    Done,
}

/// How a request relates to the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstRequestRole {
    First,
    /// It follows the first request.
    Later,
}

impl FirstRequest {
    /// Returns the role of a request that asks for a permit.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn admit(self, now: Instant) -> Result<FirstRequestRole, WaitUntil> {
        match self {
            Self::NotSent => Ok(FirstRequestRole::First),
            Self::Permitted => Err(WaitUntil::Change),
            Self::InFlight(sent_at) if now < sent_at + ALONE_MAX => Err(WaitUntil::Time(sent_at + ALONE_MAX)),
            Self::InFlight(_) | Self::Done => Ok(FirstRequestRole::Later),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_requests_wait_for_the_first_one_for_a_bounded_time() {
        let now = Instant::now();
        let just_over = now + ALONE_MAX;
        let table = [
            (FirstRequest::NotSent, now, Ok(FirstRequestRole::First)),
            (FirstRequest::Permitted, just_over, Err(WaitUntil::Change)),
            (FirstRequest::InFlight(now), now, Err(WaitUntil::Time(just_over))),
            (FirstRequest::InFlight(now), just_over, Ok(FirstRequestRole::Later)),
            (FirstRequest::Done, now, Ok(FirstRequestRole::Later)),
        ];
        for (state, at, expected) in table {
            assert_eq!(state.admit(at), expected, "{state:?}");
        }
    }
}
