//! The configuration of a sandbox: the partner, and the network in front of it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::Timestamp;
use crate::sandbox::model_config::ModelConfig;
use crate::sandbox::plan::FaultPlan;

/// The simulated partner and the network in front of it. `Debug` doesn't print the key.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// The partner.
    pub model: ModelConfig,
    /// The wall-clock time at which the sandbox starts; `createdAt` counts from it. Default `None`: the real time.
    pub epoch: Option<Timestamp>,
    /// How long every answer of the API is delayed, after the request took effect. Default zero.
    pub latency: Duration,
    /// The maximum that is added to `latency`: evenly distributed from zero, by the model's seed. Default zero.
    pub latency_jitter: Duration,
    /// Every n-th creation takes effect, and its connection is closed without an answer. Wins over `error_every`.
    /// Default `None`: never.
    pub lose_every: Option<NonZeroU32>,
    /// Every n-th creation takes effect and is answered 500. Default `None`: never.
    pub error_every: Option<NonZeroU32>,
    /// The fault list. Default: empty.
    pub faults: FaultPlan,
}

#[cfg(test)]
mod tests {
    use super::SandboxConfig;

    #[test]
    fn debug_output_does_not_hold_the_key() {
        let printed = format!("{:?}", SandboxConfig::default());
        assert!(printed.contains("REDACTED"), "{printed}");
        assert!(!printed.contains("sk_staging"), "{printed}");
    }
}
