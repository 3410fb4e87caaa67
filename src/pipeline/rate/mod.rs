//! Rate limiting: decides when a request may be sent, and which lane sends next.
//!
//! | module | decides |
//! | --- | --- |
//! | [`rate_limiter`] | when a request may be sent; combines the modules below |
//! | [`lanes`] | which waiting request is next: `signup` before `bulk` |
//! | [`limiter`] | how many requests may be sent in a second and in a minute |
//! | [`share`] | which share of the fleet's rate this worker has |
//! | [`adapt`] | how far a 429 without `Retry-After` lowers the rate |
//! | [`hours`], [`day`] | whether `bulk` may create users now |
//! | [`backoff`] | how long a retry waits |

pub(crate) mod adapt;
pub(crate) mod backoff;
pub(crate) mod day;
pub(crate) mod hours;
pub(crate) mod lanes;
pub(crate) mod limiter;
pub(crate) mod rate_limiter;
pub(crate) mod share;
