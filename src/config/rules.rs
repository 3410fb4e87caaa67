//! What each key may hold, as one table, in the order of `default.toml`.
//!
//! The table is the list of known keys; a test holds that it, `default.toml` (with the ranges in its comments) and
//! the structs agree.

use config::Value;

use crate::config::allowed::{
    ACTIVE_HOURS, AMQP_PREFIX, AMQP_USER, API_URL, Allowed, CURRENCY, FAULTS, FILE, HEADER_NAME, KEY_FILE, LOG_FILTER,
    QUEUE_URL, SECRET_FILE, TIME_ZONE, WEBHOOK_PATH,
};
use crate::config::error::SettingsProblem;
use crate::config::layers::{Leaf, LeafValue, Origin};

const DAY_S: i64 = 86_400;
const MIB: i64 = 1_024 * 1_024;

/// Every key.
pub(super) const RULES: &[(&str, Allowed)] = &[
    ("api.url", API_URL),
    ("api.key_file", KEY_FILE),
    ("api.connect_timeout_s", Allowed::Whole { min: 1, max: 60 }),
    ("api.timeout_s", Allowed::Whole { min: 1, max: 300 }),
    ("api.body_bytes_max", Allowed::Whole { min: 65_536, max: 64 * MIB }),
    ("api.key_ttl_s", Allowed::Whole { min: 0, max: DAY_S }),
    ("api.key_used_codes", Allowed::Texts),
    ("api.key_used_words", Allowed::Texts),
    ("api.user_exists_codes", Allowed::Texts),
    ("api.clock_skew_s", Allowed::Whole { min: 0, max: 3_600 }),
    ("api.page_size", Allowed::Whole { min: 1, max: 1_000 }),
    ("api.look_up_cache_s", Allowed::Whole { min: 0, max: DAY_S }),
    ("api.link_ttl_h", Allowed::Whole { min: 0, max: 8_760 }),
    ("queue.url", QUEUE_URL),
    ("queue.poll_ms", Allowed::Whole { min: 1, max: 60_000 }),
    ("queue.size_mib_max", Allowed::Whole { min: 16, max: MIB }),
    ("queue.message_bytes_max", Allowed::Whole { min: 4_096, max: 16 * MIB }),
    ("amqp.prefix", AMQP_PREFIX),
    ("amqp.topology", Allowed::OneOf(&["declare", "verify"])),
    ("amqp.connect_timeout_s", Allowed::Whole { min: 1, max: 300 }),
    ("amqp.confirm_timeout_s", Allowed::Whole { min: 1, max: 300 }),
    ("amqp.heartbeat_s", Allowed::Whole { min: 0, max: 600 }),
    ("amqp.user", AMQP_USER),
    ("amqp.password_file", FILE),
    ("amqp.ca_file", FILE),
    ("amqp.client_cert_file", FILE),
    ("amqp.client_key_file", FILE),
    ("rate_limit.rate", Allowed::Whole { min: 0, max: 100_000 }),
    ("rate_limit.rate_per_minute", Allowed::Whole { min: 0, max: 60_000 }),
    ("rate_limit.cut_percent", Allowed::Whole { min: 1, max: 90 }),
    ("rate_limit.climb_percent_per_minute", Allowed::Whole { min: 1, max: 1_000 }),
    ("rate_limit.per_day", Allowed::Whole { min: 0, max: 100_000_000 }),
    ("rate_limit.active_hours", ACTIVE_HOURS),
    ("rate_limit.time_zone", TIME_ZONE),
    ("worker.concurrency", Allowed::Whole { min: 1, max: 4_096 }),
    ("worker.window", Allowed::Whole { min: 0, max: 65_536 }),
    ("worker.bulk_share_percent", Allowed::Whole { min: 0, max: 50 }),
    ("worker.attempts_max", Allowed::Whole { min: 1, max: 100 }),
    ("worker.give_up_after_s", Allowed::Whole { min: 1, max: 30 * DAY_S }),
    ("worker.backoff_initial_ms", Allowed::Whole { min: 1, max: 60_000 }),
    ("worker.backoff_max_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("worker.wait_in_hand_max_s", Allowed::Whole { min: 0, max: 600 }),
    ("worker.probe_initial_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("worker.probe_max_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("worker.shutdown_grace_s", Allowed::Whole { min: 0, max: 600 }),
    ("breaker.window_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("breaker.requests_min", Allowed::Whole { min: 1, max: 100_000 }),
    ("breaker.failures_in_a_row", Allowed::Whole { min: 1, max: 100_000 }),
    ("breaker.failure_share", Allowed::Decimal { min: 0.05, max: 1.1 }),
    ("breaker.slow_after_s", Allowed::Whole { min: 1, max: 300 }),
    ("breaker.open_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("breaker.open_max_s", Allowed::Whole { min: 1, max: 3_600 }),
    ("breaker.trials", Allowed::Whole { min: 1, max: 100 }),
    ("retry.budget_share", Allowed::Decimal { min: 0.0, max: 10.0 }),
    ("retry.budget_per_s_min", Allowed::Decimal { min: 0.1, max: 10_000.0 }),
    ("halt.window", Allowed::Whole { min: 1, max: 10_000 }),
    ("halt.on_rejected_share", Allowed::Decimal { min: 0.0, max: 1.0 }),
    ("halt.on_existing_share", Allowed::Decimal { min: 0.0, max: 1.0 }),
    ("import.lane", Allowed::OneOf(&["signup", "bulk"])),
    ("import.record_bytes_max", Allowed::Whole { min: 1_024, max: MIB }),
    ("plan.fee_per_user", Allowed::Decimal { min: 0.0, max: 1_000.0 }),
    ("plan.currency", CURRENCY),
    ("webhooks.path", WEBHOOK_PATH),
    ("webhooks.secret_file", SECRET_FILE),
    ("webhooks.signature_header", HEADER_NAME),
    ("webhooks.signature_encoding", Allowed::OneOf(&["hex", "base64"])),
    ("webhooks.body_bytes_max", Allowed::Whole { min: 1_024, max: MIB }),
    ("webhooks.publish_timeout_s", Allowed::Whole { min: 1, max: 300 }),
    ("log.format", Allowed::OneOf(&["text", "json"])),
    ("log.filter", LOG_FILTER),
    ("sandbox.key_ttl_s", Allowed::Whole { min: 0, max: DAY_S }),
    ("sandbox.latency_ms", Allowed::Whole { min: 0, max: 60_000 }),
    ("sandbox.rate_limit", Allowed::Whole { min: 0, max: 100_000 }),
    ("sandbox.faults", FAULTS),
    ("sandbox.seed", Allowed::Whole { min: 0, max: i64::MAX }),
];

/// How alike a wrong key and a known one have to be for a suggestion, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;

/// Checks one value on its own.
pub(super) fn admit(leaf: Leaf) -> Result<(&'static str, Origin, Value), SettingsProblem> {
    let Leaf { origin, key, value } = leaf;
    let Some((key, allowed)) = RULES.iter().find(|(known, _)| *known == key) else {
        let (wrong, allowed) = unknown(&key);
        return Err(SettingsProblem { origin, key, wrong, allowed });
    };
    let kind = match value {
        LeafValue::Typed(kind) => kind,
        LeafValue::Text(text) => allowed.read(&text),
    };
    match allowed.check(&kind) {
        Ok(()) => Ok((key, origin, Value::new(None, kind))),
        Err(wrong) => Err(SettingsProblem { origin, key: (*key).to_owned(), wrong, allowed: allowed.to_string() }),
    }
}

/// Whether there is a section of this name.
pub(super) fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// What is wrong with a key that isn't in the table, and what there is instead.
fn unknown(key: &str) -> (String, String) {
    let section = key.split('.').next().unwrap_or_default();
    let allowed = if is_section(section) {
        let names: Vec<_> =
            RULES.iter().filter_map(|(known, _)| known.strip_prefix(section)?.strip_prefix('.')).collect();
        format!("in [{section}]: {}", names.join(", "))
    } else {
        let names: Vec<_> = sections().map(|section| format!("[{section}]")).collect();
        format!("keys in {}", names.join(", "))
    };
    let wrong = match key {
        "api.key" | "api.api_key" | "api.token" => {
            "is not a setting: the API key comes from the variable PLU_API_KEY or from the file api.key_file".to_owned()
        }
        "webhooks.secret" => {
            "is not a setting: the secret comes from the variable PLU_WEBHOOK_SECRET or from the file webhooks.secret_file".to_owned()
        }
        _ if is_section(key) => "is a section, not a setting".to_owned(),
        _ => match nearest(key) {
            Some(nearest) => format!("is not a setting; did you mean {nearest}?"),
            None => "is not a setting".to_owned(),
        },
    };
    (wrong, allowed)
}

/// The section names, each once: the table keeps a section's keys together.
fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    RULES.iter().filter_map(move |(key, _)| {
        let section = key.split('.').next().unwrap_or_default();
        (std::mem::replace(&mut last, section) != section).then_some(section)
    })
}

/// The key or `[section]` that was probably meant. A name without a section may be either.
fn nearest(key: &str) -> Option<String> {
    let key = key.to_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(known, &key);
    let (section, wrong_name) = key.split_once('.').unwrap_or_default();
    let known_keys = RULES.iter().map(|(known, _)| match known.split_once('.') {
        Some((_, name)) if !key.contains('.') => (likeness(name), (*known).to_owned()),
        // Within one section only the names are compared: a long section name would make all of them alike.
        Some((of, name)) if of == section => {
            (strsim::normalized_damerau_levenshtein(name, wrong_name), (*known).to_owned())
        }
        _ => (likeness(known), (*known).to_owned()),
    });
    let known_sections = sections().map(|section| (likeness(section), format!("[{section}]")));
    let (likeness, nearest) = known_keys.chain(known_sections).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= LIKENESS_MIN).then_some(nearest)
}
