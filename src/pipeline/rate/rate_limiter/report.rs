//! What the rate limiter reports: the rate in effect, and why bulk is held.

use std::fmt;

use crate::domain::Timestamp;

/// Why the lane `bulk` is held, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BulkHold {
    /// The time is outside of the active hours.
    ActiveHours {
        /// When they begin.
        until: Timestamp,
        /// The same with date and zone, in the time zone of the active hours.
        local: String,
    },
    /// The daily quota is used up.
    DailyQuota {
        /// When there is room for the next user.
        until: Timestamp,
    },
}

impl BulkHold {
    /// Returns when the hold ends, as far as is known now.
    pub(crate) const fn until(&self) -> Timestamp {
        match self {
            Self::ActiveHours { until, .. } | Self::DailyQuota { until } => *until,
        }
    }

    /// Its name in labels and answers: the setting that holds bulk.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::ActiveHours { .. } => "active_hours",
            Self::DailyQuota { .. } => "per_day",
        }
    }
}

impl fmt::Display for BulkHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActiveHours { local, .. } => write!(f, "outside of the active hours until {local}"),
            Self::DailyQuota { until } => {
                write!(f, "as many users as per_day allows were created; resumes at {until}")
            }
        }
    }
}

/// How many requests may be sent now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EffectiveRate {
    /// There is no limit.
    Unlimited,
    /// Requests per second, in the long run.
    PerSecond(f64),
    /// None: the workers that share the rate are being counted.
    Unknown,
}

impl EffectiveRate {
    /// The value in metrics and on the status page: 0 is no limit; `None`: it isn't known yet.
    pub(crate) const fn shown(self) -> Option<f64> {
        match self {
            Self::Unlimited => Some(0.0),
            Self::PerSecond(per_second) => Some(per_second),
            Self::Unknown => None,
        }
    }
}
