//! What of the rate limiter can be set.

use std::num::{NonZeroU32, NonZeroU64};

use crate::pipeline::rate::hours::ActiveHours;

/// Default share of the lane `bulk`, in percent.
const BULK_SHARE_PERCENT: u32 = 10;

/// Settings of the rate limiter. All of them can change while the worker runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateLimitConfig {
    /// Most requests in any rolling second; `None`: no limit.
    pub rate: Option<NonZeroU32>,
    /// Most requests in any rolling minute; `None`: no limit.
    pub rate_per_minute: Option<NonZeroU32>,
    /// Bulk's share of the requests while signups always wait.
    pub bulk_share_percent: u32,
    /// Bulk is held once this many users were created in 24 hours, by either lane; `None`: no limit.
    pub per_day: Option<NonZeroU64>,
    /// Bulk is held outside of these hours; `None`: never.
    pub hours: Option<ActiveHours>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { rate: None, rate_per_minute: None, bulk_share_percent: BULK_SHARE_PERCENT, per_day: None, hours: None }
    }
}
