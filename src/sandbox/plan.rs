//! What a hostile sandbox does wrong, and when: the list of faults as people write it.
//!
//! One grammar everywhere (the flag `--fault`, the setting `sandbox.faults`, `faults` of `/control`): `NAME=WHEN` for
//! what happens to single requests, `NAME=VALUE` for how the partner is. The first fault of the list that applies to a
//! request decides.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::config::{KeyReuse, ListOrder, ModelConfig};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The connection is closed before the request takes effect.
    Drop,
    /// The request takes effect; the connection is closed without an answer.
    Lost,
    /// The request takes effect; the connection is closed in the middle of the answer.
    Cut,
    /// 500 without any effect.
    ErrorBefore,
    /// 500 after the request took effect.
    ErrorAfter,
    /// The right status, and a JSON body that ends too early.
    Truncated,
    /// A success in JSON of another shape; refusals stay as they are.
    WrongJson,
    /// The answer comes so slowly that no patient client waits for it: [`DRIP`] in all.
    Drip,
    /// 429 with `Retry-After` in seconds.
    Throttled,
    /// 429 with `Retry-After` as an HTTP date.
    ThrottledDate,
    /// 429 without `Retry-After`.
    ThrottledBare,
    /// 401.
    Unauthorized,
    /// 402, for creations only.
    WalletEmpty,
    /// 403.
    Suspended,
    /// 404.
    NotFound,
    /// A proxy answers with a page of its own and 200; the partner never sees the request.
    Html200,
    /// The request takes effect; a proxy answers with a page of its own and 502.
    Html502,
    /// 400 with JSON of a shape that is documented nowhere; the partner never sees the request.
    Odd400,
}

/// How long a dripping answer takes.
pub const DRIP: Duration = Duration::from_secs(40);

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Drop,
        Self::Lost,
        Self::Cut,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::Truncated,
        Self::WrongJson,
        Self::Drip,
        Self::Throttled,
        Self::ThrottledDate,
        Self::ThrottledBare,
        Self::Unauthorized,
        Self::WalletEmpty,
        Self::Suspended,
        Self::NotFound,
        Self::Html200,
        Self::Html502,
        Self::Odd400,
    ];

    /// Its name in a fault list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Lost => "lost",
            Self::Cut => "cut",
            Self::ErrorBefore => "error-before",
            Self::ErrorAfter => "error-after",
            Self::Truncated => "truncated",
            Self::WrongJson => "wrong-json",
            Self::Drip => "drip",
            Self::Throttled => "429",
            Self::ThrottledDate => "429-date",
            Self::ThrottledBare => "429-bare",
            Self::Unauthorized => "401",
            Self::WalletEmpty => "402",
            Self::Suspended => "403",
            Self::NotFound => "404",
            Self::Html200 => "html-200",
            Self::Html502 => "html-502",
            Self::Odd400 => "odd-400",
        }
    }
}

/// Which requests a fault applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// This share of them, by chance; from 0 to 1.
    Share(f64),
    /// Every n-th.
    Every(NonZeroU32),
    /// The ones with these numbers, counted from 1, creations and pages of the list alike.
    Requests(Range<u64>),
    /// The ones that arrive in this time after the start.
    Time(Range<Duration>),
}

/// A list of faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct FaultPlan {
    texts: Vec<String>,
    pub(super) rules: Vec<(FaultKind, When)>,
    quirks: Vec<Quirk>,
}

/// How the partner is, where the vendor leaves it open.
#[derive(Clone, Debug, PartialEq)]
enum Quirk {
    KeyReuse(KeyReuse),
    KeyUsedCode(String),
    DupUserCode(String),
    ClockSkew(i64),
    CreatedAt(bool),
    ListOrder(ListOrder),
    ListLimit(u32),
    ListGrows(u32),
    ListLag(u64),
    ListRefused(u16),
}

/// The names of what is not a [`FaultKind`].
const QUIRKS: [&str; 10] = [
    "key-reuse",
    "key-used-code",
    "dup-user-code",
    "clock-skew",
    "created-at",
    "list-order",
    "list-limit",
    "list-grows",
    "list-lag",
    "list-refused",
];

/// What an entry may look like, for error messages.
pub const FAULT_FORM: &str =
    "a list of faults such as lost=5%, 429=100..120, 401=10s..30s, error-after=1/20, key-reuse=replay";

/// Most entries.
const ENTRIES_MAX: usize = 64;

impl FaultPlan {
    /// Reads a list. Empty entries are skipped, so that an empty variable is an empty list.
    ///
    /// # Errors
    /// What is wrong, with the entry, to follow the name of the setting in a sentence.
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

    /// The entries, as they were written.
    pub fn entries(&self) -> &[String] {
        &self.texts
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        let Some((name, value)) = entry.split_once('=') else {
            return Err("which lacks a \"=\": write NAME=WHEN, such as lost=5%".to_owned());
        };
        let (name, value) = (name.trim(), value.trim());
        if let Some(kind) = FaultKind::ALL.into_iter().find(|kind| kind.name() == name) {
            self.rules.push((kind, When::parse(value)?));
        } else {
            self.quirks.push(Quirk::parse(name, value)?);
        }
        Ok(())
    }

    /// The partner as the list wants it; what the list doesn't name stays.
    #[must_use]
    pub fn applied_to(&self, mut model: ModelConfig) -> ModelConfig {
        for quirk in &self.quirks {
            match quirk.clone() {
                Quirk::KeyReuse(reuse) => model.key_reuse = reuse,
                Quirk::KeyUsedCode(code) => model.key_used_code = code,
                Quirk::DupUserCode(code) => model.dup_user_code = code,
                Quirk::ClockSkew(seconds) => model.clock_skew_s = seconds,
                Quirk::CreatedAt(shown) => model.shows_created_at = shown,
                Quirk::ListOrder(order) => model.list_order = order,
                Quirk::ListLimit(users) => model.list_limit_max = users,
                Quirk::ListGrows(users) => model.list_grows = users,
                Quirk::ListLag(seconds) => model.list_lag_s = seconds,
                Quirk::ListRefused(status) => model.list_refused = Some(status),
            }
        }
        model
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

impl When {
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
                some(seconds(from)?..seconds(to)?).map(Self::Time)
            }
            (None, None) => {
                let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
                some(number(from)?..number(to)?).map(Self::Requests)
            }
            _ => Err(wrong()),
        }
    }
}

/// A range that holds something: the other way round it would make a rehearsal in which nothing goes wrong.
fn some<T: PartialOrd>(range: Range<T>) -> Result<Range<T>, String> {
    if range.is_empty() {
        return Err("which is never: write the earlier end first, and a later one after it".to_owned());
    }
    Ok(range)
}

impl Quirk {
    fn parse(name: &str, value: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let seconds = |text: &str| text.strip_suffix('s').unwrap_or(text).parse::<i64>().ok();
        let (parsed, form) = match name {
            "key-reuse" => {
                let reuse = match value {
                    "400" => Some(KeyReuse::Refused400),
                    "409" => Some(KeyReuse::Refused409),
                    "replay" => Some(KeyReuse::Replayed),
                    _ => None,
                };
                (reuse.map(Self::KeyReuse), "400, 409 or replay")
            }
            "key-used-code" => (code(value).map(Self::KeyUsedCode), CODE_FORM),
            "dup-user-code" => (code(value).map(Self::DupUserCode), CODE_FORM),
            "clock-skew" => {
                let skew = seconds(value).filter(|seconds| (-DAY_S..=DAY_S).contains(seconds));
                (skew.map(Self::ClockSkew), "seconds, at most a day's, such as 90s or -90s")
            }
            "created-at" => {
                let shown = match value {
                    "missing" => Some(false),
                    "shown" => Some(true),
                    _ => None,
                };
                (shown.map(Self::CreatedAt), "missing or shown")
            }
            "list-order" => {
                let order = match value {
                    "newest" => Some(ListOrder::NewestFirst),
                    "oldest" => Some(ListOrder::OldestFirst),
                    "shuffled" => Some(ListOrder::Shuffled),
                    _ => None,
                };
                (order.map(Self::ListOrder), "newest, oldest or shuffled")
            }
            "list-limit" => {
                (number(value).filter(|users| *users > 0).map(Self::ListLimit), "a number of users from 1 on")
            }
            "list-grows" => {
                (number(value).filter(|users| *users <= 100).map(Self::ListGrows), "a number of users up to 100")
            }
            "list-lag" => {
                let lag =
                    seconds(value).filter(|seconds| *seconds <= DAY_S).and_then(|seconds| seconds.try_into().ok());
                (lag.map(Self::ListLag), "seconds, at most a day's, such as 30s")
            }
            "list-refused" => {
                let status = number(value).and_then(|status| u16::try_from(status).ok());
                let status = status.filter(|status| [401, 403, 404].contains(status));
                (status.map(Self::ListRefused), "401, 403 or 404")
            }
            _ => return Err(unknown(name)),
        };
        parsed.ok_or_else(|| format!("but {name} is {form}"))
    }
}

const CODE_FORM: &str = "a code of 1 to 64 capital letters, digits and _";

const DAY_S: i64 = 86_400;

fn code(text: &str) -> Option<String> {
    let is_fit = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    ((1..=64).contains(&text.len()) && text.bytes().all(is_fit)).then(|| text.to_owned())
}

/// How alike a wrong name and a known one have to be for a suggestion, from 0 to 1.
const LIKENESS_MIN: f64 = 0.5;

fn unknown(name: &str) -> String {
    let names = || FaultKind::ALL.into_iter().map(FaultKind::name).chain(QUIRKS);
    let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(known, &name.to_lowercase());
    let nearest = names().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let guess = nearest.filter(|nearest| likeness(nearest) >= LIKENESS_MIN);
    let guess = guess.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
    format!("but no fault is called {name:?}{guess} (there are {})", names().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_and_every_quirk_can_be_named() {
        for kind in FaultKind::ALL {
            for (text, when) in [
                ("5%", When::Share(0.05)),
                ("0.5%", When::Share(0.005)),
                ("1/20", When::Every(NonZeroU32::new(20).unwrap())),
                ("100..120", When::Requests(100..120)),
                ("10s..12.5s", When::Time(Duration::from_secs(10)..Duration::from_millis(12_500))),
            ] {
                let plan = FaultPlan::parse(&[format!("{}={text}", kind.name())]).unwrap();
                assert_eq!(plan.rules, [(kind, when)]);
            }
        }
        for quirk in QUIRKS {
            let values = ["403", "409", "SOME_CODE", "-90s", "missing", "shuffled", "7"];
            let readable = values.iter().filter(|value| FaultPlan::parse(&[format!("{quirk}={value}")]).is_ok());
            assert!(readable.count() > 0, "{quirk}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused_with_a_suggestion_or_the_form() {
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
            ("list-limit=0", "but list-limit is a number of users from 1 on"),
            ("list-refused=402", "but list-refused is 401, 403 or 404"),
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
