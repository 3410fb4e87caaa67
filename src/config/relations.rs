//! Rules about two keys. Each problem names both values and their origins.

use crate::config::Settings;
use crate::config::error::SettingsProblem;

/// All values that don't fit together.
pub(super) fn problems(settings: &Settings) -> Vec<SettingsProblem> {
    let Settings { api, worker, circuit_breaker, .. } = settings;
    let concurrency = worker.concurrency as u64;
    // 0 means a multiple of the concurrency.
    let window = if worker.window == 0 { concurrency } else { worker.window as u64 };
    let too_large = [
        // The time for a connection is part of the time for the answer.
        at_most(settings, ("api.connect_timeout_s", api.connect_timeout_s), ("api.timeout_s", api.timeout_s), 1),
        // A job with a request in flight is a job in progress.
        at_most(settings, ("worker.concurrency", concurrency), ("worker.window", window), 1),
        at_most(
            settings,
            ("worker.backoff_initial_ms", worker.backoff_initial_ms),
            ("worker.backoff_max_s", worker.backoff_max_s),
            1_000,
        ),
        at_most(
            settings,
            ("worker.probe_initial_s", worker.probe_initial_s),
            ("worker.probe_max_s", worker.probe_max_s),
            1,
        ),
        at_most(
            settings,
            ("circuit_breaker.open_s", circuit_breaker.open_s),
            ("circuit_breaker.open_max_s", circuit_breaker.open_max_s),
            1,
        ),
    ];
    too_large
        .into_iter()
        .flatten()
        .chain(no_mark_of_a_used_key(settings))
        .chain(half_a_client_certificate(settings))
        .collect()
}

/// A problem if `small` is more than `large`. A unit of `large` is `factor` units of `small`.
fn at_most(
    settings: &Settings,
    (small_key, small): (&str, u64),
    (large_key, large): (&str, u64),
    factor: u64,
) -> Option<SettingsProblem> {
    (small > large * factor).then(|| SettingsProblem {
        origin: settings.origin(small_key).clone(),
        key: small_key.to_owned(),
        wrong: format!("is {small}, which is more than {large_key}"),
        allowed: format!("at most {large_key}, which is {large} ({})", settings.origin(large_key)),
    })
}

/// A problem if no code or word identifies "key already used": it would count as a refusal of the job, and a created
/// user would be reported as rejected.
fn no_mark_of_a_used_key(settings: &Settings) -> Option<SettingsProblem> {
    let api = &settings.api;
    let is_missing = api.key_used_codes.is_empty() && api.key_used_words.is_empty() && api.key_ttl_s > 0;
    is_missing.then(|| SettingsProblem {
        origin: settings.origin("api.key_used_words").clone(),
        key: "api.key_used_words".to_owned(),
        wrong: format!("is empty, and so is api.key_used_codes ({})", settings.origin("api.key_used_codes")),
        allowed: "at least one code or word, unless api.key_ttl_s is 0".to_owned(),
    })
}

/// A problem if only one of the client certificate and its key is set.
fn half_a_client_certificate(settings: &Settings) -> Option<SettingsProblem> {
    let amqp = &settings.amqp;
    let files = [
        ("amqp.client_cert_file", amqp.client_cert_file.as_os_str()),
        ("amqp.client_key_file", amqp.client_key_file.as_os_str()),
    ];
    let (missing, there) = match files.map(|(_, file)| file.is_empty()) {
        [true, false] => (files[0].0, files[1].0),
        [false, true] => (files[1].0, files[0].0),
        _ => return None,
    };
    Some(SettingsProblem {
        origin: settings.origin(missing).clone(),
        key: missing.to_owned(),
        wrong: format!("is empty, and {there} isn't ({})", settings.origin(there)),
        allowed: "both or neither".to_owned(),
    })
}
