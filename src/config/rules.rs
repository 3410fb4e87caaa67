//! The rules: one table of all keys with their allowed values, in the order of `default.toml`.
//!
//! Invariant: the table, `default.toml` (with the "Allowed:" lines of its comments) and the structs have the same keys;
//! a test checks it.

use config::Value;

use crate::config::allowed::AllowedValues::{self, OneOf, Texts};
use crate::config::allowed::{
    ACTIVE_HOURS, AMQP_PREFIX, AMQP_USER, API_URL, CURRENCY, FAULTS, FILE, HEADER_NAME, KEY_FILE, LOG_FILTER,
    QUEUE_URL, SECRET_FILE, TIME_ZONE, WEBHOOK_PATH,
};
use crate::config::error::SettingsProblem;
use crate::config::leaf::{Leaf, LeafValue, Origin};

const DAY_S: i64 = 86_400;
const MIB: i64 = 1_024 * 1_024;

/// The rule of one key.
pub(super) struct SettingRule {
    /// `section.key`.
    pub(super) key: &'static str,
    pub(super) allowed: AllowedValues,
    /// Whether most users set it; `default.toml` and `config show` mark these keys.
    pub(super) is_everyday: bool,
}

const fn everyday(key: &'static str, allowed: AllowedValues) -> SettingRule {
    SettingRule { key, allowed, is_everyday: true }
}

const fn rare(key: &'static str, allowed: AllowedValues) -> SettingRule {
    SettingRule { key, allowed, is_everyday: false }
}

const fn whole(min: i64, max: i64) -> AllowedValues {
    AllowedValues::Whole { min, max }
}

const fn decimal(min: f64, max: f64) -> AllowedValues {
    AllowedValues::Decimal { min, max }
}

/// Every key.
pub(super) const RULES: &[SettingRule] = &[
    everyday("api.url", API_URL),
    everyday("api.key_file", KEY_FILE),
    rare("api.connect_timeout_s", whole(1, 60)),
    rare("api.timeout_s", whole(1, 300)),
    rare("api.key_ttl_s", whole(0, DAY_S)),
    rare("api.key_used_codes", Texts),
    rare("api.key_used_words", Texts),
    rare("api.user_exists_codes", Texts),
    rare("api.clock_skew_s", whole(0, 3_600)),
    rare("api.link_ttl_h", whole(0, 8_760)),
    everyday("queue.url", QUEUE_URL),
    rare("queue.size_mib_max", whole(16, MIB)),
    rare("queue.message_bytes_max", whole(4_096, 16 * MIB)),
    rare("amqp.prefix", AMQP_PREFIX),
    rare("amqp.topology", OneOf(&["declare", "verify"])),
    rare("amqp.connect_timeout_s", whole(1, 300)),
    rare("amqp.confirm_timeout_s", whole(1, 300)),
    rare("amqp.heartbeat_s", whole(0, 600)),
    rare("amqp.user", AMQP_USER),
    rare("amqp.password_file", FILE),
    rare("amqp.ca_file", FILE),
    rare("amqp.client_cert_file", FILE),
    rare("amqp.client_key_file", FILE),
    everyday("rate_limit.rate", whole(0, 100_000)),
    rare("rate_limit.rate_per_minute", whole(0, 60_000)),
    everyday("rate_limit.per_day", whole(0, 100_000_000)),
    everyday("rate_limit.active_hours", ACTIVE_HOURS),
    everyday("rate_limit.time_zone", TIME_ZONE),
    everyday("worker.concurrency", whole(1, 4_096)),
    rare("worker.window", whole(0, 65_536)),
    rare("worker.bulk_share_percent", whole(0, 50)),
    rare("worker.attempts_max", whole(1, 100)),
    rare("worker.give_up_after_s", whole(1, 30 * DAY_S)),
    rare("worker.backoff_initial_ms", whole(1, 60_000)),
    rare("worker.backoff_max_s", whole(1, 3_600)),
    rare("worker.delay_in_memory_max_s", whole(0, 600)),
    rare("worker.probe_initial_s", whole(1, 3_600)),
    rare("worker.probe_max_s", whole(1, 3_600)),
    rare("worker.shutdown_grace_s", whole(0, 600)),
    rare("circuit_breaker.window_s", whole(1, 3_600)),
    rare("circuit_breaker.failure_share", decimal(0.05, 1.1)),
    rare("circuit_breaker.slow_after_s", whole(1, 300)),
    rare("circuit_breaker.open_s", whole(1, 3_600)),
    rare("circuit_breaker.open_max_s", whole(1, 3_600)),
    rare("halt.window", whole(1, 10_000)),
    rare("halt.on_rejected_share", decimal(0.0, 1.0)),
    rare("halt.on_existing_share", decimal(0.0, 1.0)),
    rare("halt.on_lost_link_share", decimal(0.0, 1.0)),
    rare("import.lane", OneOf(&["signup", "bulk"])),
    everyday("plan.fee_per_user", decimal(0.0, 1_000.0)),
    everyday("plan.currency", CURRENCY),
    rare("webhooks.path", WEBHOOK_PATH),
    everyday("webhooks.secret_file", SECRET_FILE),
    rare("webhooks.signature_header", HEADER_NAME),
    rare("webhooks.signature_encoding", OneOf(&["hex", "base64"])),
    rare("webhooks.publish_timeout_s", whole(1, 300)),
    everyday("log.format", OneOf(&["text", "json"])),
    rare("log.filter", LOG_FILTER),
    rare("sandbox.key_ttl_s", whole(0, DAY_S)),
    rare("sandbox.latency_ms", whole(0, 60_000)),
    rare("sandbox.rate_limit", whole(0, 100_000)),
    rare("sandbox.faults", FAULTS),
    rare("sandbox.seed", whole(0, i64::MAX)),
];

/// A known key is suggested for a wrong one if they are this similar, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.7;

/// Checks the key and the value of a leaf.
pub(super) fn check(leaf: Leaf) -> Result<(&'static str, Origin, Value), SettingsProblem> {
    let Leaf { origin, key, value } = leaf;
    let Some(SettingRule { key, allowed, .. }) = RULES.iter().find(|rule| rule.key == key) else {
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

/// Whether a section has this name.
pub(super) fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// What is wrong with an unknown key, and the known keys.
fn unknown(key: &str) -> (String, String) {
    let section = key.split('.').next().unwrap_or_default();
    let allowed = if is_section(section) {
        let names: Vec<_> = RULES.iter().filter_map(|rule| rule.key.strip_prefix(section)?.strip_prefix('.')).collect();
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
            "is not a setting: the secret comes from the variable PLU_WEBHOOK_SECRET or from the file \
             webhooks.secret_file"
                .to_owned()
        }
        _ if is_section(key) => "is a section, not a setting".to_owned(),
        _ => match nearest(key) {
            Some(nearest) => format!("is not a setting; did you mean {nearest}?"),
            None => "is not a setting".to_owned(),
        },
    };
    (wrong, allowed)
}

/// The name of each section. The keys of a section are neighbours in the table.
fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    RULES.iter().filter_map(move |rule| {
        let section = rule.key.split('.').next().unwrap_or_default();
        (std::mem::replace(&mut last, section) != section).then_some(section)
    })
}

/// The key or `[section]` that is most similar to an unknown key. A name without a section may be either.
fn nearest(key: &str) -> Option<String> {
    let key = key.to_lowercase();
    let similarity = |known: &str| strsim::normalized_damerau_levenshtein(known, &key);
    let (section, wrong_name) = key.split_once('.').unwrap_or_default();
    let known_keys = RULES.iter().map(|rule| match rule.key.split_once('.') {
        Some((_, name)) if !key.contains('.') => (similarity(name), rule.key.to_owned()),
        // Within a section only the names are compared: a long section name would make all keys similar.
        Some((of, name)) if of == section => {
            (strsim::normalized_damerau_levenshtein(name, wrong_name), rule.key.to_owned())
        }
        _ => (similarity(rule.key), rule.key.to_owned()),
    });
    let known_sections = sections().map(|section| (similarity(section), format!("[{section}]")));
    let (similarity, nearest) = known_keys.chain(known_sections).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (similarity >= SIMILARITY_MIN).then_some(nearest)
}
