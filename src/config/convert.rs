//! What the pipeline and the domain want to know, in their own types. They don't know the settings.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Settings;
use crate::domain::answer::KeyUsedMarks;
use crate::domain::decide::Limits;
use crate::pipeline::Policy;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::gate::ProbeSchedule;

/// Jobs in hand for each request on its way, where `worker.window` doesn't say. Measured: a window well above the
/// concurrency keeps requests going while outcomes are being recorded.
const WINDOW_PER_REQUEST: usize = 4;

impl Settings {
    /// How the pipeline behaves. `seed` is that of its jitter.
    pub fn policy(&self, seed: u64) -> Policy {
        let Self { api, worker, .. } = self;
        Policy {
            concurrency: worker.concurrency,
            window: if worker.window == 0 { WINDOW_PER_REQUEST * worker.concurrency } else { worker.window },
            limits: Limits {
                attempts_max: worker.attempts_max,
                give_up_after: Duration::from_secs(worker.give_up_after_s),
                key_ttl: Duration::from_secs(api.key_ttl_s),
                clock_skew: Duration::from_secs(api.clock_skew_s),
            },
            backoff: Backoff {
                initial: Duration::from_millis(worker.backoff_initial_ms),
                max: Duration::from_secs(worker.backoff_max_s),
            },
            wait_in_hand_max: Duration::from_secs(worker.wait_in_hand_max_s),
            probes: ProbeSchedule {
                initial: Duration::from_secs(worker.probe_initial_s),
                max: Duration::from_secs(worker.probe_max_s),
            },
            shutdown_grace: Duration::from_secs(worker.shutdown_grace_s),
            seed,
        }
    }

    /// How "key already used" is recognised.
    pub fn key_used_marks(&self) -> KeyUsedMarks {
        KeyUsedMarks { codes: self.api.key_used_codes.clone(), words: self.api.key_used_words.clone() }
    }

    /// Most requests per second; `None`: no limit.
    pub fn rate(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.pace.rate)
    }
}
