use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::config::api_key::PRODUCTION_HOST;
use crate::config::rules::RULES;
use crate::config::*;
use crate::domain::{KeySource, Lane};
use crate::telemetry::logging::LogFormat;

/// Environment variables: the name after `PLU_ONBOARD__`, and the text.
type Variables<'a> = &'a [(&'a str, &'a str)];
/// Flag, key, text.
type Flags = &'static [(&'static str, &'static str, &'static str)];

/// Loads the settings with a file of this text. The second value is the file's origin as it is displayed.
fn load(file: &str, variables: Variables<'_>, flags: Flags) -> (Result<Settings, SettingsError>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let variables =
        variables.iter().map(|(name, text)| (format!("PLU_ONBOARD__{name}"), (*text).to_owned())).collect::<Vec<_>>();
    let mut overrides = Overrides::default();
    for (flag, key, text) in flags {
        overrides.set(flag, key, Some(*text));
    }
    let result = Settings::load(Some(&path), variables.into_iter(), &overrides);
    (result, format!("file {}", path.display()))
}

/// The problems of the settings, with `FILE` for the file's origin.
fn problems(file: &str, variables: Variables<'_>, flags: Flags) -> Vec<String> {
    let (result, origin) = load(file, variables, flags);
    match result {
        Err(SettingsError::Invalid(problems)) => {
            problems.iter().map(|problem| problem.to_string().replace(&origin, "FILE")).collect()
        }
        other => panic!("not refused for a value: {other:?}"),
    }
}

fn defaults() -> Settings {
    Settings::load(None, std::iter::empty(), &Overrides::default()).unwrap()
}

#[test]
fn the_defaults_load_and_are_safe() {
    let settings = defaults();
    assert_eq!(settings.api.url.host_str(), Some(STAGING_HOST));
    assert_eq!(settings.import.lane, Lane::Bulk);
    assert_eq!(settings.log.format, LogFormat::Text);
    assert_eq!(settings.rate().map(std::num::NonZeroU32::get), Some(20));
    let rate_limit = settings.rate_limit();
    assert_eq!((rate_limit.bulk_share_percent, rate_limit.per_day, rate_limit.hours), (10, None, None));
    assert_eq!(settings.link_ttl(), Some(Duration::from_secs(86_400)));
    let policy = settings.policy(7);
    assert_eq!((policy.concurrency, policy.window, policy.seed), (64, 256, 7));
    assert_eq!(policy.backoff.initial, Duration::from_millis(500));
    assert_eq!(policy.limits.key_ttl, Duration::from_secs(300));
    assert_eq!(
        settings.refusal_marks().key_used_words,
        ["idempotency", "key already used", "key has already been used"]
    );
}

#[test]
fn default_toml_the_rules_and_the_structs_have_the_same_keys() {
    let toml: BTreeSet<_> = layers::defaults().unwrap().into_iter().map(|leaf| leaf.key).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.key.to_owned()).collect();
    let mut structs = BTreeSet::new();
    for (section, keys) in serde_json::to_value(defaults()).unwrap().as_object().unwrap() {
        structs.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
    }
    assert_eq!(toml, structs);
    assert_eq!(rules, structs);
}

#[test]
fn the_comments_of_default_toml_state_the_allowed_values() {
    let mut stated = BTreeMap::new();
    let (mut section, mut allowed) = ("", None);
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(text) = line.strip_prefix("# Allowed: ") {
            allowed = text.strip_suffix('.');
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            stated.insert(format!("{section}.{key}"), allowed.take().unwrap_or_default().to_owned());
        }
    }
    let expected: BTreeMap<_, _> = RULES.iter().map(|rule| (rule.key.to_owned(), rule.allowed.to_string())).collect();
    assert_eq!(stated, expected);
}

/// Users find the dozen settings that matter by the mark: in `default.toml` and in `config show`.
#[test]
fn everyday_settings_are_marked_in_default_toml_and_in_the_rendering() {
    let everyday: BTreeSet<_> = RULES.iter().filter(|rule| rule.is_everyday).map(|rule| rule.key.to_owned()).collect();
    assert!((10..=15).contains(&everyday.len()), "{everyday:?}");
    let (mut marked, mut section, mut is_marked) = (BTreeSet::new(), "", false);
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if line.starts_with("# Everyday. ") {
            is_marked = true;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
            && std::mem::take(&mut is_marked)
        {
            marked.insert(format!("{section}.{key}"));
        }
    }
    assert_eq!(marked, everyday);
    let (mut rendered, mut section) = (BTreeSet::new(), String::new());
    for line in defaults().render_redacted().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| line.ends_with(" (everyday)")) {
            rendered.insert(format!("{section}.{key}"));
        }
    }
    assert_eq!(rendered, everyday);
}

#[test]
fn each_layer_wins_over_the_previous_one() {
    let file = "[rate_limit]\nrate = 1";
    let variables: Variables<'_> = &[("RATE_LIMIT__RATE", "2")];
    let flags: Flags = &[("--rate", "rate_limit.rate", "3")];
    for (layers, rate, origin) in [
        (("", &[][..], &[][..]), 20, "default"),
        ((file, &[][..], &[][..]), 1, "file"),
        ((file, variables, &[][..]), 2, "environment PLU_ONBOARD__RATE_LIMIT__RATE"),
        ((file, variables, flags), 3, "flag --rate"),
        (("", &[][..], flags), 3, "flag --rate"),
    ] {
        let settings = load(layers.0, layers.1, layers.2).0.unwrap();
        assert_eq!(settings.rate_limit.rate, rate);
        assert!(
            settings.origin("rate_limit.rate").to_string().starts_with(origin),
            "{:?}",
            settings.origin("rate_limit.rate")
        );
    }
}

#[test]
fn variables_are_read_as_numbers_lists_and_texts() {
    let settings = load(
        "",
        &[
            ("API__KEY_USED_CODES", "A_CODE, ANOTHER"),
            ("API__KEY_USED_WORDS", ""),
            ("API__KEY_FILE", "123"),
            ("PLAN__FEE_PER_USER", "2"),
            ("WORKER__WINDOW", " 300 "),
            ("IMPORT__LANE", "signup"),
            ("queue__url", "local:x,y.db"),
        ],
        &[],
    );
    let settings = settings.0.unwrap();
    assert_eq!(settings.api.key_used_codes, ["A_CODE", "ANOTHER"]);
    assert_eq!(settings.api.key_used_words, [""; 0]);
    assert_eq!(settings.api.key_file, Path::new("123"));
    assert!((settings.plan.fee_per_user - 2.0).abs() < f64::EPSILON);
    assert_eq!(settings.worker.window, 300);
    assert_eq!(settings.import.lane, Lane::Signup);
    assert_eq!(settings.queue.url, QueueUrl::Local("x,y.db".into()));
}

#[test]
fn the_source_of_the_api_key_is_known() {
    for (file, source) in [
        ("", KeySource::Variable),
        ("/run/secrets/plu_api_key", KeySource::File),
        ("/run/credentials/plu-onboard.service/api-key", KeySource::Credential),
    ] {
        let (settings, _) = load("", &[("API__KEY_FILE", file)], &[]);
        assert_eq!(settings.unwrap().key_source(), source, "{file}");
    }
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let variables = [("PLU_ONBOARD_PORT", "tcp://10.0.0.1:80"), ("PLU_ONBOARD", "x"), ("PATH", "/bin")];
    let variables = variables.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert!(Settings::load(None, variables, &Overrides::default()).is_ok());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_all_known_keys() {
    for (file, variables, expected) in [
        (
            "[rate_limit]\nrat = 1",
            &[][..],
            "FILE: rate_limit.rat is not a setting; did you mean rate_limit.rate? (allowed: in [rate_limit]: rate, rate_per_minute, ",
        ),
        (
            "",
            &[("WORKER__CONCURENCY", "1")][..],
            "environment PLU_ONBOARD__WORKER__CONCURENCY: worker.concurency is not a setting; did you mean \
             worker.concurrency? (allowed: in [worker]: concurrency, window, ",
        ),
        ("[wroker]\nwindow = 1", &[], "FILE: wroker is not a setting; did you mean [worker]?"),
        (
            "[wroker]\nwindow = 1",
            &[],
            "(allowed: keys in [api], [queue], [amqp], [rate_limit], [worker], [circuit_breaker], ",
        ),
        (
            "[rate_limit]\nburst = 1",
            &[],
            "FILE: rate_limit.burst is not a setting (allowed: in [rate_limit]: rate, rate_per_minute, ",
        ),
        ("[ampq]", &[], "FILE: ampq is not a setting; did you mean [amqp]?"),
        ("rate = 1", &[], "FILE: rate is not a setting; did you mean rate_limit.rate?"),
        (
            "rate_limit = 1",
            &[],
            "FILE: rate_limit is a section, not a setting (allowed: in [rate_limit]: rate, rate_per_minute, ",
        ),
        ("[log.format]\nx = 1", &[], "FILE: log.format is a table (allowed: text or json)"),
        ("", &[("RATE_LIMIT", "1")], "environment PLU_ONBOARD__RATE_LIMIT: rate_limit is a section, not a setting"),
        ("[API]\nurl = 'x'", &[], "FILE: API is not a setting; did you mean [api]?"),
        ("", &[("API__KEY", "sk_live_s3cret")], "comes from the variable PLU_API_KEY or from the file api.key_file"),
    ] {
        let problems = problems(file, variables, &[]);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:#?}");
        assert!(!problems[0].contains("s3cret"));
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_origin_key_and_allowed_values() {
    let rate = "(allowed: a whole number from 0 to 100000)";
    for (file, variables, flags, expected) in [
        ("[rate_limit]\nrate = '5'", &[][..], &[][..], format!("FILE: rate_limit.rate is the text \"5\" {rate}")),
        ("[rate_limit]\nrate = 5.0", &[], &[], format!("FILE: rate_limit.rate is 5.0 {rate}")),
        ("[rate_limit]\nrate = true", &[], &[], format!("FILE: rate_limit.rate is true {rate}")),
        ("[rate_limit]\nrate = [1]", &[], &[], format!("FILE: rate_limit.rate is a list {rate}")),
        ("[rate_limit]\nrate = -1", &[], &[], format!("FILE: rate_limit.rate is -1 {rate}")),
        (
            "",
            &[("RATE_LIMIT__RATE", "fast")],
            &[],
            format!("environment PLU_ONBOARD__RATE_LIMIT__RATE: rate_limit.rate is the text \"fast\" {rate}"),
        ),
        (
            "",
            &[("RATE_LIMIT__RATE", "100001")],
            &[],
            format!("PLU_ONBOARD__RATE_LIMIT__RATE: rate_limit.rate is 100001 {rate}"),
        ),
        (
            "",
            &[],
            &[("--rate", "rate_limit.rate", "")],
            format!("flag --rate: rate_limit.rate is the text \"\" {rate}"),
        ),
        ("", &[], &[("--rate", "rate_limit.rate", "-5")], format!("flag --rate: rate_limit.rate is -5 {rate}")),
        ("", &[("IMPORT__LANE", "Bulk")], &[], "is the text \"Bulk\" (allowed: signup or bulk)".to_owned()),
        ("[api]\nurl = 5", &[], &[], "FILE: api.url is 5 (allowed: a base URL".to_owned()),
        ("[api]\nurl = 'getplu.com'", &[], &[], "FILE: api.url is not a URL".to_owned()),
        ("[api]\nurl = 'ftp://a'", &[], &[], "begins with something other than https://".to_owned()),
        ("[api]\nurl = 'https://a/?x=1'", &[], &[], "holds a query".to_owned()),
        ("[api]\nkey_used_words = ['']", &[], &[], "holds a text of 0 characters (allowed: a list".to_owned()),
        ("[api]\nkey_used_words = [1]", &[], &[], "holds 1 (allowed: a list".to_owned()),
        ("", &[("API__KEY_USED_CODES", "A,,B")], &[], "holds a text of 0 characters".to_owned()),
        ("[api]\nkey_file = \"a\\nb\"", &[], &[], "holds a control character (character 2)".to_owned()),
        ("[plan]\nfee_per_user = nan", &[], &[], "(allowed: a number from 0 to 1000)".to_owned()),
        ("[plan]\ncurrency = 'usd'", &[], &[], "(allowed: three capital letters".to_owned()),
        ("[log]\nfilter = 'plu=loud'", &[], &[], "FILE: log.filter can't be read".to_owned()),
        (
            "[rate_limit]\nactive_hours = '8-20'",
            &[],
            &[],
            "is not a time of day such as 08:00 (allowed: two times".to_owned(),
        ),
        ("", &[("RATE_LIMIT__TIME_ZONE", "Mars/Base")], &[], "is not a known time zone (allowed: a name".to_owned()),
        ("[queue]\nurl = 'redis://h'", &[], &[], "(allowed: local:PATH, or amqp://".to_owned()),
    ] {
        let problems = problems(file, variables, flags);
        assert!(problems.len() == 1 && problems[0].contains(&expected), "{expected}: {problems:#?}");
    }
}

#[test]
fn every_range_ends_at_its_stated_bounds() {
    for rule in RULES {
        let (key, allowed::AllowedValues::Whole { min, max }) = (rule.key, &rule.allowed) else { continue };
        let (section, name) = key.split_once('.').unwrap();
        let outside = [min.checked_sub(1), max.checked_add(1)];
        for number in outside.into_iter().flatten() {
            let problems = problems(&format!("[{section}]\n{name} = {number}"), &[], &[]);
            assert!(problems[0].starts_with(&format!("FILE: {key} is {number}")), "{problems:?}");
        }
        for number in [min, max] {
            let result = load(&format!("[{section}]\n{name} = {number}"), &[], &[]).0;
            // A bound may contradict the default of a related key, but its type and range are right.
            let refused = result.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!refused.contains("a whole number"), "{key} = {number}: {refused}");
            assert!(!refused.contains("defect"), "{key} = {number}: {refused}");
        }
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems = problems(
        "[worker]\nwindow = 99999\nattempts_max = 0\n[rate_limit]\nrate = 5\nburst = 1",
        &[("QUEUE__SIZE_MIB_MAX", "0")],
        &[("--rate", "rate_limit.rate", "x")],
    );
    let starts: Vec<_> = problems.iter().map(|problem| problem.split(" is ").next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "FILE: rate_limit.burst",
            "FILE: worker.attempts_max",
            "FILE: worker.window",
            "environment PLU_ONBOARD__QUEUE__SIZE_MIB_MAX: queue.size_mib_max",
            "flag --rate: rate_limit.rate"
        ]
    );
}

#[test]
fn values_that_contradict_each_other_are_refused_with_both_origins() {
    for (file, variables, expected) in [
        (
            "[worker]\nwindow = 10",
            &[("WORKER__CONCURRENCY", "11")][..],
            "environment PLU_ONBOARD__WORKER__CONCURRENCY: worker.concurrency is 11, which is more than \
             worker.window (allowed: at most worker.window, which is 10 (FILE))",
        ),
        ("[api]\ntimeout_s = 4", &[], "default: api.connect_timeout_s is 5, which is more than api.timeout_s"),
        (
            "[worker]\nbackoff_initial_ms = 2001\nbackoff_max_s = 2",
            &[],
            "at most worker.backoff_max_s, which is 2 (FILE)",
        ),
        ("[worker]\nprobe_max_s = 4", &[], "default: worker.probe_initial_s is 5"),
        ("[api]\nkey_used_codes = []\nkey_used_words = []", &[], "is empty, and so is api.key_used_codes (FILE)"),
    ] {
        let problems = problems(file, variables, &[]);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:#?}");
    }
    assert!(load("[worker]\nbackoff_initial_ms = 2000\nbackoff_max_s = 2", &[], &[]).0.is_ok());
    assert!(load("[api]\nkey_used_codes = []\nkey_used_words = []\nkey_ttl_s = 0", &[], &[]).0.is_ok());
}

#[test]
fn an_unreadable_settings_file_is_named_in_the_error() {
    let error = Settings::load(Some(Path::new("no-such.toml")), std::iter::empty(), &Overrides::default());
    assert!(error.unwrap_err().to_string().starts_with("the settings file no-such.toml can't be read: "));
}

#[test]
fn a_syntax_error_names_file_line_and_column_and_quotes_nothing() {
    let (result, origin) = load("[queue]\nurl = \"amqp://plu:s3cret@h", &[], &[]);
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with(&format!("{origin}: TOML parse error at line 2, column ")), "{message}");
    assert!(!message.contains("s3cret") && message.contains("string"), "{message}");
}

#[test]
fn no_output_holds_a_secret() {
    let (url, key) = ("amqp://plu:s3cret@rabbit.example/prod", "sk_live_s3cret");
    let variables = [("PLU_ONBOARD__QUEUE__URL", url), (API_KEY_VARIABLE, key)];
    let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let settings = Settings::load(None, variables.into_iter(), &Overrides::default()).unwrap();
    let rendered = settings.render_redacted();
    let all = format!("{settings:?} {rendered} {}", serde_json::to_string(&settings).unwrap());
    assert!(!all.contains("s3cret"), "{all}");
    assert!(
        rendered.contains("url = \"amqp://plu:[redacted]@rabbit.example/prod\" # environment PLU_ONBOARD__QUEUE__URL")
    );
    assert!(rendered.contains("# API key: set (PLU_API_KEY)"), "{rendered}");

    for (variable, text) in [
        ("QUEUE__URL", "ampq://plu:s3cret@h"),
        ("QUEUE__URL", "amqp://plu:s3cret@h:port"),
        ("API__URL", "https://plu:s3cret@h"),
        ("API__URL", "https//plu:s3cret@h"),
        ("API__KEY_FILE", "sk_live_s3cret"),
    ] {
        let error = load("", &[(variable, text)], &[]).0.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn the_rendering_is_a_settings_file_with_the_same_values() {
    let file = "[queue]\nurl = 'local:a \"b\" \\c.db'\n[api]\nkey_used_codes = []\n[plan]\nfee_per_user = 1.5";
    let first = load(file, &[("RATE_LIMIT__RATE", "3")], &[]).0.unwrap();
    let rendered = first.render_redacted();
    let first_value = "\n\n[api]\nurl = \"https://services-staging.getplu.com/api\" # default (everyday)\n";
    assert!(rendered.contains(first_value), "{rendered}");
    assert!(rendered.contains("# API key: not set\n"), "{rendered}");
    let second = load(&rendered, &[], &[]).0.unwrap();
    assert_eq!(serde_json::to_value(first).unwrap(), serde_json::to_value(second).unwrap());
}

#[test]
fn the_files_in_config_load() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (name, host, scheme) in [
        ("default.toml", STAGING_HOST, "https"),
        ("staging.toml", STAGING_HOST, "https"),
        ("production.toml", PRODUCTION_HOST, "https"),
        ("sandbox.toml", "127.0.0.1", "http"),
    ] {
        let settings = Settings::load(Some(&dir.join(name)), std::iter::empty(), &Overrides::default());
        let url = settings.unwrap_or_else(|error| panic!("{name}: {error}")).api.url;
        assert_eq!((url.host_str(), url.scheme()), (Some(host), scheme), "{name}");
    }
}

#[test]
fn files_for_an_environment_hold_only_differences_from_the_defaults() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let defaults = serde_json::to_value(defaults()).unwrap();
    for name in ["staging.toml", "production.toml", "sandbox.toml"] {
        let settings = Settings::load(Some(&dir.join(name)), std::iter::empty(), &Overrides::default()).unwrap();
        let values = serde_json::to_value(&settings).unwrap();
        for key in RULES.iter().map(|rule| rule.key).filter(|key| *settings.origin(key) != Origin::Default) {
            let (section, name_in_section) = key.split_once('.').unwrap();
            assert_ne!(values[section][name_in_section], defaults[section][name_in_section], "{name}: {key}");
        }
    }
}
