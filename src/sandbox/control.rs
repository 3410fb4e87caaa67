//! `POST /control`: changes the sandbox while it runs. The partner's API has no equivalent.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

use crate::sandbox::model_config::AccountState;
use crate::sandbox::plan::FaultPlan;

/// Changes to a running sandbox; an absent field changes nothing.
///
/// As JSON, for example: `{"account": "walletEmpty", "latencyMs": 250, "rateLimit": null}`. If a field is an option in
/// an option, `null` switches it off. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Control {
    /// The state of the account: `ok`, `keyRevoked`, `walletEmpty` or `suspended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountState>,
    /// How many creations the wallet pays for; `null` is any number.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Option<u64>>,
    /// Maximum number of requests in any rolling second; `null` is no limit.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Option<u32>>,
    /// How long every answer is delayed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// The maximum that is added to the latency, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_jitter_ms: Option<u64>,
    /// Every n-th creation takes effect, and its connection is closed without an answer; `null` is never.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub lose_every: Option<Option<NonZeroU32>>,
    /// Every n-th creation takes effect and is answered 500; `null` is never.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub error_every: Option<Option<NonZeroU32>>,
    /// The whole fault list, such as `["lost=5%", "401=10s..30s"]`; an empty one ends all faults. Times and request
    /// numbers count from this change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultPlan>,
}

/// Distinguishes a field that is `null` from an absent one, which serde by default reads as the same.
fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_switches_off_and_absence_changes_nothing() {
        let parse = |json: &str| serde_json::from_str::<Control>(json).unwrap();
        assert_eq!(parse("{}"), Control::default());
        assert_eq!(parse(r#"{"wallet": null}"#).wallet, Some(None));
        assert_eq!(parse(r#"{"wallet": 3}"#).wallet, Some(Some(3)));
    }

    #[test]
    fn unknown_fields_and_zero_intervals_are_refused() {
        for json in [r#"{"walet": 3}"#, r#"{"loseEvery": 0}"#, r#"{"account": "Ok"}"#, r#"{"faults": ["lots=5%"]}"#] {
            assert!(serde_json::from_str::<Control>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_control_survives_its_own_json() {
        let control = Control { account: Some(AccountState::Suspended), rate_limit: Some(None), ..Control::default() };
        let json = serde_json::to_string(&control).unwrap();
        assert_eq!(json, r#"{"account":"suspended","rateLimit":null}"#);
        assert_eq!(serde_json::from_str::<Control>(&json).unwrap(), control);
    }
}
