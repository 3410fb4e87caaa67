//! `POST /control`: changes the sandbox while it runs. The partner's API has no equivalent.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::sandbox::model_config::AccountState;
use crate::sandbox::money::Money;
use crate::sandbox::plan::FaultPlan;
use crate::sandbox::user_change::{UserChange, given};

/// Changes to a running sandbox; an absent field changes nothing.
///
/// As JSON, for example: `{"account": "paymentRequired", "latencyMs": 250, "rateLimit": null}`. If a field is an option in
/// an option, `null` switches it off. An unknown field is an error, as is an unknown user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SandboxControl {
    /// The state of the account: `ok`, `keyRevoked`, `paymentRequired` or `suspended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountState>,
    /// What a creation costs from now on, in dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee: Option<Money>,
    /// How many creations the wallet pays for: its balance becomes this many fees. `null` is any number.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Option<u64>>,
    /// The balance of the wallet, in dollars. `null` pays for any number of creations. Wins over `wallet`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub balance: Option<Option<Money>>,
    /// Changes of users, one after the other. If one of them names a user who doesn't exist, nothing is changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserChange>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_switches_off_and_absence_changes_nothing() {
        let parse = |json: &str| serde_json::from_str::<SandboxControl>(json).unwrap();
        assert_eq!(parse("{}"), SandboxControl::default());
        assert_eq!(parse(r#"{"wallet": null}"#).wallet, Some(None));
        assert_eq!(parse(r#"{"wallet": 3}"#).wallet, Some(Some(3)));
        assert_eq!(parse(r#"{"balance": null}"#).balance, Some(None));
        assert_eq!(parse(r#"{"balance": 4.5}"#).balance, Some(Some(Money::from_cents(450))));
    }

    #[test]
    fn unknown_fields_and_zero_intervals_are_refused() {
        for json in [
            r#"{"walet": 3}"#,
            r#"{"loseEvery": 0}"#,
            r#"{"account": "Ok"}"#,
            r#"{"faults": ["lots=5%"]}"#,
            r#"{"fee": -1}"#,
            r#"{"users": [{"status": "approved"}]}"#,
        ] {
            assert!(serde_json::from_str::<SandboxControl>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_control_survives_its_own_json() {
        let control = SandboxControl {
            account: Some(AccountState::Suspended),
            rate_limit: Some(None),
            ..SandboxControl::default()
        };
        let json = serde_json::to_string(&control).unwrap();
        assert_eq!(json, r#"{"account":"suspended","rateLimit":null}"#);
        assert_eq!(serde_json::from_str::<SandboxControl>(&json).unwrap(), control);
    }
}
