//! How fast requests are sent, and which lane sends next.

pub(crate) mod adapt;
pub(crate) mod backoff;
pub(crate) mod day;
pub(crate) mod hours;
pub(crate) mod lanes;
pub(crate) mod limiter;
pub(crate) mod rate_limiter;
pub(crate) mod share;
