//! The fault list of the sandbox: which faults happen, and to which requests.
//!
//! The grammar is the same for the flag `--fault`, the setting `sandbox.faults` and the member `faults` of
//! `POST /control`. `NAME=WHEN` names a fault of single requests ([`FaultKind`]), `REQUEST:NAME=WHEN` one of a single
//! kind of requests ([`RequestKind`]); `NAME=VALUE` sets a property of the partner ([`Quirk`]). If several faults apply
//! to a request, the first of the list happens.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::fault_kind::FaultKind;
use crate::sandbox::model_config::ModelConfig;
use crate::sandbox::quirk::Quirk;
use crate::sandbox::request::RequestKind;

/// The requests that a fault applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultTiming {
    /// A random share of them, from 0 to 1.
    Share(f64),
    /// Every n-th.
    Every(NonZeroU32),
    /// The requests with these numbers, counted from 1. Requests of all kinds count together, unless the fault is
    /// limited to one kind.
    Requests(Range<u64>),
    /// The requests that arrive in this time after the start.
    Time(Range<Duration>),
}

/// A fault, and the requests that it applies to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FaultRule {
    pub(super) fault: FaultKind,
    /// The only kind of requests that the fault applies to; `None`: all that it can apply to.
    pub(super) request: Option<RequestKind>,
    pub(super) timing: FaultTiming,
}

/// A fault list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct FaultPlan {
    texts: Vec<String>,
    pub(super) rules: Vec<FaultRule>,
    quirks: Vec<Quirk>,
}

/// The form of a fault list, for error messages.
pub const FAULT_FORM: &str =
    "a list of faults such as lost=5%, 429=100..120, 401=10s..30s, error-after=1/20, key-reuse=replay";

/// Maximum number of entries.
const ENTRIES_MAX: usize = 64;

/// A known name is suggested for a wrong one if they are this similar, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.5;

impl FaultPlan {
    /// Reads a list. Empty entries are skipped, so that an empty environment variable is an empty list.
    ///
    /// # Errors
    /// What is wrong with an entry, as a predicate for the name of the setting.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, String> {
        let mut plan = Self::default();
        let entries = entries.iter().map(|entry| entry.as_ref().trim()).filter(|entry| !entry.is_empty());
        for (nth, entry) in entries.enumerate() {
            if nth == ENTRIES_MAX {
                return Err(format!("has more than {ENTRIES_MAX} faults"));
            }
            plan.add(entry).map_err(|wrong| format!("holds {entry:?}, {wrong}"))?;
            plan.texts.push(entry.to_owned());
        }
        Ok(plan)
    }

    /// The entries as they were written.
    pub fn entries(&self) -> &[String] {
        &self.texts
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        let Some((name, value)) = entry.split_once('=') else {
            return Err("which lacks a \"=\": write NAME=WHEN, such as lost=5%".to_owned());
        };
        let (name, value) = (name.trim(), value.trim());
        if let Some((request, fault)) = name.split_once(':') {
            self.rules.push(FaultRule::limited(request.trim(), fault.trim(), value)?);
        } else if let Ok(fault) = FaultKind::from_str(name) {
            self.rules.push(FaultRule { fault, request: None, timing: FaultTiming::parse(value)? });
        } else {
            self.quirks.push(Quirk::parse(name, value).unwrap_or_else(|| Err(unknown(name)))?);
        }
        Ok(())
    }

    /// Returns `model` with the quirks of this list.
    #[must_use]
    pub fn applied_to(&self, mut model: ModelConfig) -> ModelConfig {
        self.quirks.iter().for_each(|quirk| quirk.apply_to(&mut model));
        model
    }
}

impl FaultRule {
    /// Reads a fault of a single kind of requests.
    fn limited(request: &str, fault: &str, when: &str) -> Result<Self, String> {
        let Ok(request) = RequestKind::from_str(request) else {
            let known: Vec<_> = RequestKind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!("but no kind of request is called {request:?} (there are {})", known.join(", ")));
        };
        let fault = FaultKind::from_str(fault).map_err(|_| unknown(fault))?;
        if !fault.applies_to(request) {
            return Err(format!("which is never: {} doesn't happen to {}", fault.name(), request.name()));
        }
        Ok(Self { fault, request: Some(request), timing: FaultTiming::parse(when)? })
    }
}

impl TryFrom<Vec<String>> for FaultPlan {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Self, String> {
        Self::parse(&entries)
    }
}

impl From<FaultPlan> for Vec<String> {
    fn from(plan: FaultPlan) -> Self {
        plan.texts
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts.join(","))
    }
}

impl FaultTiming {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "which doesn't say when: write a share (5% or 0.5%), every n-th (1/20), requests (100..120) or seconds \
             (10s..30s)"
                .to_owned()
        };
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Share(percent / 100.0)) } else { Err(wrong()) };
        }
        if let Some(every) = text.strip_prefix("1/") {
            return every.parse().map(Self::Every).map_err(|_| wrong());
        }
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        match (from.strip_suffix('s'), to.strip_suffix('s')) {
            (Some(from), Some(to)) => {
                let seconds = |text: &str| {
                    let seconds = text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
                    seconds.ok_or_else(wrong)
                };
                not_empty(seconds(from)?..seconds(to)?).map(Self::Time)
            }
            (None, None) => {
                let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
                not_empty(number(from)?..number(to)?).map(Self::Requests)
            }
            _ => Err(wrong()),
        }
    }
}

/// Refuses an empty range: its fault would never happen, and a test of it would pass for the wrong reason.
fn not_empty<T: PartialOrd>(range: Range<T>) -> Result<Range<T>, String> {
    if range.is_empty() {
        return Err("which is never: write the earlier end first, and a later one after it".to_owned());
    }
    Ok(range)
}

fn unknown(name: &str) -> String {
    let names = || FaultKind::ALL.iter().map(|kind| kind.name()).chain(Quirk::names());
    let similarity = |known: &&str| strsim::normalized_damerau_levenshtein(known, &name.to_lowercase());
    let nearest = names().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let guess = nearest.filter(|nearest| similarity(nearest) >= SIMILARITY_MIN);
    let guess = guess.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
    format!("but no fault is called {name:?}{guess} (there are {})", names().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::model_config::KeyReuse;

    #[test]
    fn every_fault_and_every_quirk_can_be_named() {
        for kind in FaultKind::ALL {
            for (text, timing) in [
                ("5%", FaultTiming::Share(0.05)),
                ("0.5%", FaultTiming::Share(0.005)),
                ("1/20", FaultTiming::Every(NonZeroU32::new(20).unwrap())),
                ("100..120", FaultTiming::Requests(100..120)),
                ("10s..12.5s", FaultTiming::Time(Duration::from_secs(10)..Duration::from_millis(12_500))),
            ] {
                let plan = FaultPlan::parse(&[format!("{}={text}", kind.name())]).unwrap();
                assert_eq!(plan.rules, [FaultRule { fault: *kind, request: None, timing }]);
            }
        }
        for quirk in Quirk::names() {
            let values = ["403", "404", "409", "SOME_CODE", "-90s", "missing", "shuffled", "7", "refuse"];
            let readable = values.iter().filter(|value| FaultPlan::parse(&[format!("{quirk}={value}")]).is_ok());
            assert!(readable.count() > 0, "{quirk}");
        }
    }

    /// The names are an interface: users write them, and the documentation lists them.
    #[test]
    fn the_names_of_faults_and_quirks_are_the_documented_ones() {
        let names: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).chain(Quirk::names()).collect();
        assert_eq!(
            names.join(" "),
            "drop lost cut error-before error-after truncated wrong-json drip 429 429-date 429-bare 401 402 403 404 \
             html-200 html-502 odd-400 429-long 503 503-after bom gzip deflate deflate-raw type-text type-none twice \
             twice-differs flat nested open-end open-link id-number id-none id-long id-nul link-none link-null \
             link-renamed link-object link-script link-http link-formula link-nul link-long gateway-405 gateway-406 \
             gateway-407 gateway-408 gateway-409 gateway-410 gateway-411 gateway-412 gateway-413 gateway-414 \
             gateway-415 gateway-417 gateway-421 gateway-422 gateway-425 gateway-426 gateway-428 gateway-431 \
             gateway-451 key-reuse key-used-code dup-user-code clock-skew created-at list-order \
             list-limit list-over-limit list-grows list-lag list-refused users status kyc-after fee user-not-found"
        );
    }

    #[test]
    fn a_fault_can_be_limited_to_a_kind_of_requests() {
        let plan = FaultPlan::parse(&["delete:lost=1/20", " wallet : 403 = 5..6 "]).unwrap();
        let rule = |fault, request, timing| FaultRule { fault, request: Some(request), timing };
        let expected = [
            rule(FaultKind::Lost, RequestKind::Delete, FaultTiming::Every(NonZeroU32::new(20).unwrap())),
            rule(FaultKind::Forbidden, RequestKind::Wallet, FaultTiming::Requests(5..6)),
        ];
        assert_eq!(plan.rules, expected);
        for (entry, expected) in [
            ("update:lost=5%", "but no kind of request is called \"update\" (there are create, list, delete, wallet)"),
            ("list:402=5%", "which is never: 402 doesn't happen to list"),
            ("delete:los=5%", "did you mean lost?"),
            ("delete:list-order=oldest", "but no fault is called \"list-order\""),
        ] {
            let wrong = FaultPlan::parse(&[entry]).unwrap_err();
            assert!(wrong.contains(expected), "{entry}: {wrong}");
        }
    }

    #[test]
    fn an_unreadable_entry_is_refused_with_a_suggestion_or_the_form() {
        for (entry, expected) in [
            (
                "los=5%",
                r#"holds "los=5%", but no fault is called "los"; did you mean lost? (there are drop, lost, cut, "#,
            ),
            ("eror-after=5%", "did you mean error-after?"),
            ("key-resue=replay", "did you mean key-reuse?"),
            ("whatever=1%", r#", but no fault is called "whatever" (there are drop, lost, "#),
            ("lost", r#"holds "lost", which lacks a "=": write NAME=WHEN"#),
            ("lost=5", "write a share"),
            ("lost=101%", "write a share"),
            ("lost=1/0", "write a share"),
            ("401=10s..20", "write a share"),
            ("401=20s..10s", "which is never"),
            ("lost=7..7", "which is never"),
            ("key-reuse=410", r#"holds "key-reuse=410", but key-reuse is 400, 409 or replay"#),
            ("created-at=gone", "but created-at is missing or shown"),
            ("clock-skew=90000s", "but clock-skew is seconds, at most a day's"),
            ("clock-skew=9ss", "but clock-skew is seconds"),
            ("list-lag=-1s", "but list-lag is seconds"),
            ("list-limit=0", "but list-limit is a number of users from 1 up"),
            ("list-refused=402", "but list-refused is 401, 403 or 404"),
            ("users=1000001", "but users is a number of users up to 1000000"),
            ("fee=1.505", "but fee is an amount such as 1.50"),
            ("user-not-found=410", "but user-not-found is 400 or 404"),
            ("kyc-after=-1s", "but kyc-after is seconds"),
            ("dup-user-code=dup user", "but dup-user-code is a code of 1 to 64 capital letters"),
        ] {
            let wrong = FaultPlan::parse(&[entry]).unwrap_err();
            assert!(wrong.contains(expected) && wrong.contains(entry), "{entry}: {wrong}");
        }
    }

    #[test]
    fn a_plan_survives_its_own_json_and_an_empty_one_changes_nothing() {
        let plan = FaultPlan::parse(&["lost=5%", " key-reuse=409 ", ""]).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(json, r#"["lost=5%","key-reuse=409"]"#);
        assert_eq!(serde_json::from_str::<FaultPlan>(&json).unwrap(), plan);
        assert!(serde_json::from_str::<FaultPlan>(r#"["lots=5%"]"#).is_err());
        assert_eq!(plan.applied_to(ModelConfig::default()).key_reuse, KeyReuse::Refused409);
        assert_eq!(FaultPlan::default().applied_to(ModelConfig::default()).key_reuse, KeyReuse::Refused400);
    }
}
