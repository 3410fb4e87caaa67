//! Events of the settings.

use std::num::NonZeroU32;

use tracing::{info, warn};

use super::NOTICE_TARGET;
use crate::telemetry::Metrics;

/// The settings and the API key were read again, on SIGHUP.
#[derive(Debug)]
pub enum SettingsReloaded {
    /// They are valid and apply from now on.
    Applied {
        /// Whether the API key changed.
        is_key_new: bool,
        /// Requests per second; `None` if there is no limit.
        rate: Option<NonZeroU32>,
        /// Whether the reload ended a halt.
        was_halted: bool,
    },
    /// They are not valid; the old ones stay in use.
    Refused {
        /// Why, without secrets.
        reason: String,
    },
}

impl SettingsReloaded {
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::Applied { is_key_new, rate, was_halted } => {
                metrics.reloads.with_label_values(&["applied"]).inc();
                let key = if is_key_new { "changed" } else { "unchanged" };
                let rate = rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate}/s"));
                info!(
                    target: NOTICE_TARGET,
                    key,
                    rate,
                    "settings reloaded: API key and rate limit apply from now on; a pause is probed at once"
                );
                if was_halted {
                    warn!("halt ended by the reload: bulk resumes, and the outcome mix is counted from zero");
                }
            }
            Self::Refused { reason } => {
                metrics.reloads.with_label_values(&["refused"]).inc();
                warn!(reason, "settings not reloaded: the old ones stay in use");
            }
        }
    }
}
