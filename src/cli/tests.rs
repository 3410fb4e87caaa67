use std::collections::BTreeMap;
use std::fs;

use clap::{CommandFactory as _, Parser as _};
use secrecy::ExposeSecret as _;

use crate::cli::*;
use crate::config::{Overrides, Settings};
use crate::telemetry::logging::LogFormat;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("plu-onboard").chain(line.split(' ')))
}

/// The settings of a command line, without environment variables and a file.
fn settings(line: &str) -> Settings {
    Settings::load(None, std::iter::empty(), &Overrides::from(&parse(line).unwrap())).unwrap()
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

/// Every command that can be typed, with the flags that it inherits.
fn commands() -> Vec<(String, clap::Command)> {
    let mut program = Cli::command();
    program.build();
    let mut found = vec![(String::new(), program)];
    let mut next = 0;
    while next < found.len() {
        let (path, command) = found[next].clone();
        let subcommands = command.get_subcommands().filter(|command| command.get_name() != "help");
        found.extend(subcommands.map(|sub| (format!("{path} {}", sub.get_name()).trim().to_owned(), sub.clone())));
        next += 1;
    }
    found
}

/// The visible flags of a command, with their help headings.
fn flags(command: &clap::Command) -> impl Iterator<Item = (&str, &str)> {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    visible.filter_map(|argument| Some((argument.get_long()?, argument.get_help_heading().unwrap_or("none"))))
}

#[test]
fn each_command_has_only_the_flags_that_apply_to_it() {
    let commands: BTreeMap<_, _> = commands().into_iter().collect();
    for (command, expected) in [
        (
            "run",
            "api-key-file api-url canary concurrency delimiter encoding fault header-row lane listen mend-double-encoding out \
             phone-without-plus queue rate sandbox sheet yes",
        ),
        ("check", "all delimiter encoding header-row mend-double-encoding phone-without-plus rate sheet"),
        ("import", "delimiter encoding header-row lane mend-double-encoding out phone-without-plus queue sheet yes"),
        ("dead list", "json limit queue reason"),
        ("dead show", "json queue reveal"),
        ("dead retry", "all queue reason"),
        ("dead drop", "all queue reason yes"),
        ("worker", "api-key-file api-url concurrency fault listen out queue rate sandbox yes"),
        ("webhooks", "listen out queue receive"),
        ("sandbox", "allow-remote fault key-ttl latency-ms listen rate-limit seed"),
        ("purge", "force out queue yes"),
        ("health", "url"),
        ("topology", "queue"),
        ("config check", "api-key-file api-url concurrency lane queue rate"),
        ("config show", "api-key-file api-url concurrency lane queue rate"),
    ] {
        let (general, mut own): (Vec<_>, Vec<_>) =
            flags(&commands[command]).partition(|(_, group)| *group == "General");
        own.sort_unstable();
        let own: Vec<_> = own.into_iter().map(|(flag, _)| flag).collect();
        assert_eq!(own.join(" "), expected, "{command}");
        assert_eq!(general.len(), 3, "{command}: {general:?}");
    }
}

#[test]
fn general_flags_work_before_and_after_the_command() {
    for line in [
        "--config c.toml --log-format json dead list",
        "dead --config c.toml --log-format json list",
        "dead list --config c.toml --log-format json",
        "--config c.toml dead list --log-format json",
    ] {
        let general = parse(line).unwrap().general;
        let given = (general.config.as_deref(), general.log_format.as_deref());
        assert_eq!(given, (Some("c.toml".as_ref()), Some("json")), "{line}");
        assert_eq!(settings(line).log.format, LogFormat::Json, "{line}");
    }
}

#[test]
fn every_help_text_has_groups_and_examples_and_fits_80_columns() {
    for (path, mut command) in commands() {
        for (flag, group) in flags(&command) {
            assert!(
                [
                    "Input",
                    "Queue",
                    "Partner API",
                    "Simulated API",
                    "Rate",
                    "Selection",
                    "Output",
                    "Operations",
                    "General"
                ]
                .contains(&group),
                "{path} --{flag} is in the group {group}"
            );
        }
        let help = command.render_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{path}: {line}");
        }
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{path} has no example"));
        for example in examples.lines().map(str::trim) {
            let words = example.strip_prefix("plu-onboard ").unwrap_or_else(|| panic!("{path}: {example}"));
            // Two spaces separate an example from its comment.
            let words = words.split("  ").next().unwrap_or_default();
            assert!(words.starts_with(&path), "{path}: {example}");
            if let Err(error) = parse(words) {
                assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{example}: {error}");
            }
        }
    }
}

#[test]
fn every_default_in_a_help_text_is_that_of_its_setting() {
    let defaults = Settings::load(None, std::iter::empty(), &Overrides::default()).unwrap();
    let defaults = serde_json::to_value(defaults).unwrap();
    let mut compared = 0;
    for (path, command) in commands() {
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let Some((before, after)) = help.split_once("] [setting: ") else { continue };
            let stated = before.rsplit_once("[default: ").unwrap_or_else(|| panic!("{path}: {help}")).1;
            let (section, name) = after.trim_end_matches(']').split_once('.').unwrap();
            let actual = match &defaults[section][name] {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(items) if items.is_empty() => "none".to_owned(),
                other => other.to_string(),
            };
            assert_eq!(stated, actual, "{path}: {help}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} defaults were found");
}

#[test]
fn a_mistyped_flag_or_command_gets_a_suggestion() {
    for (line, suggestion) in [
        ("run f.csv --ratte 5", "'--rate'"),
        ("run f.csv --confg c.toml", "'--config'"),
        ("worker --concurency 5", "'--concurrency'"),
        ("wroker", "'worker'"),
        ("dead retri 5", "'retry'"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(suggestion), "{line}: {error}");
    }
}

#[test]
fn every_flag_of_a_setting_sets_it() {
    for (line, key, value) in [
        ("run f.csv --queue local:q.db", "queue.url", "\"local:q.db\""),
        ("run f.csv --api-url https://a.example/x", "api.url", "\"https://a.example/x\""),
        ("worker --api-key-file k", "api.key_file", "\"k\""),
        ("check f.csv --rate 0", "rate_limit.rate", "0"),
        ("worker --concurrency 7", "worker.concurrency", "7"),
        ("import f.csv --lane signup", "import.lane", "\"signup\""),
        ("dead list --queue local:d.db", "queue.url", "\"local:d.db\""),
        ("worker --log-format json", "log.format", "\"json\""),
        ("sandbox --key-ttl 2", "sandbox.key_ttl_s", "2"),
        ("sandbox --latency-ms 3", "sandbox.latency_ms", "3"),
        ("sandbox --rate-limit 4", "sandbox.rate_limit", "4"),
        ("sandbox --fault lost=5%,cut=1/9", "sandbox.faults", "[\"lost=5%\",\"cut=1/9\"]"),
        ("worker --sandbox --fault lost=5%", "sandbox.faults", "[\"lost=5%\"]"),
        ("sandbox --seed 5", "sandbox.seed", "5"),
        ("config show --rate 6", "rate_limit.rate", "6"),
    ] {
        let name = key.split('.').next_back().unwrap();
        let flag = line.split(' ').rfind(|word| word.starts_with("--")).unwrap();
        let rendered = settings(line).render_redacted();
        let expected = format!("{name} = {value} # flag {flag}");
        assert!(
            rendered.lines().any(|line| line.trim_end_matches(" (everyday)") == expected),
            "{line}: no {expected} in\n{rendered}"
        );
    }
}

#[test]
fn a_negative_number_is_refused_by_its_setting_and_not_read_as_a_flag() {
    for (line, key) in [
        ("run f.csv --rate -1", "rate_limit.rate"),
        ("worker --concurrency -1", "worker.concurrency"),
        ("sandbox --key-ttl -1", "sandbox.key_ttl_s"),
        ("sandbox --latency-ms -1", "sandbox.latency_ms"),
        ("sandbox --rate-limit -1", "sandbox.rate_limit"),
        ("sandbox --seed -1", "sandbox.seed"),
    ] {
        let overrides = Overrides::from(&parse(line).unwrap());
        let wrong = Settings::load(None, std::iter::empty(), &overrides).unwrap_err().to_string();
        assert!(wrong.contains(&format!("{key} is -1 (allowed: ")), "{line}: {wrong}");
    }
}

#[test]
fn an_invalid_number_is_refused_with_the_allowed_ones() {
    for (line, allowed) in [
        ("run f.csv --canary x", "write a whole number from 1 to 100000"),
        ("run f.csv --canary 0", "write a whole number from 1 to 100000"),
        ("run f.csv --canary -1", "write a whole number from 1 to 100000"),
        ("dead list --limit 1.5", "write a whole number"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(allowed), "{line}: {error}");
    }
    assert!(matches!(parse("run f.csv --canary 7").unwrap().command, CliCommand::Run(run) if run.canary == Some(7)));
}

#[test]
fn usage_errors_exit_with_2() {
    for line in [
        "run",
        "onboard f.csv",
        "run f.csv g.csv",
        "check f.csv --queue local:q.db",
        "import f.csv --lane fast",
        "dead",
        "dead retry",
        "dead drop --yes",
        "dead retry 1 2 --all",
        "dead retry --reason X --all",
        "worker --listen localhost",
        "worker --fault lost=5%",
        "worker --sandbox --api-url https://a.example",
        "check f.csv --delimiter ab",
        "check f.csv --delimiter \"",
        "check f.csv --encoding utf-9",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn an_api_key_as_an_argument_is_refused_without_repeating_it() {
    for line in [
        "--api-key sk_live_s3cret run f.csv",
        "run f.csv --api-key sk_live_s3cret",
        "worker --api-key=sk_live_s3cret",
        "config show --api-key sk_live_s3cret",
    ] {
        let error = parse(line).unwrap_err();
        let message = format!("{error} {error:?}");
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(message.contains("PLU_API_KEY") && message.contains("--api-key-file"), "{line}: {message}");
        assert!(!message.contains("s3cret"), "{line}: {message}");
    }
    for line in ["worker --apikey=sk_live_s3cret", "worker --api_key sk_live_s3cret", "worker --key=sk_live_s3cret"] {
        let message = parse(line).unwrap_err().to_string();
        assert!(!message.contains("s3cret"), "{line}: {message}");
    }
}

#[test]
fn the_refused_api_key_flag_is_not_in_the_help() {
    for command in ["run", "worker", "config"] {
        let help = parse(&format!("{command} --help")).unwrap_err().to_string();
        assert!(!help.contains("--api-key "), "{help}");
    }
}

#[test]
fn parsed_arguments_do_not_show_secrets() {
    let cli = parse("worker --queue amqp://plu:s3cret@h/ --api-url https://u:s3cret@h/ --api-key-file sk_live_s3cret");
    let cli = cli.unwrap();
    let shown = format!("{cli:?} {:?}", Overrides::from(&cli));
    assert!(!shown.contains("s3cret"), "{shown}");
    let error = Settings::load(None, std::iter::empty(), &Overrides::from(&cli)).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cret") && shown.contains("flag --api-key-file: api.key_file looks like"), "{shown}");
}

#[test]
fn csv_options_are_read() {
    for (text, byte) in
        [(",", b','), (";", b';'), ("|", b'|'), ("pipe", b'|'), ("tab", b'\t'), ("\\t", b'\t'), ("\t", b'\t')]
    {
        assert_eq!(values::delimiter(text), Ok(byte), "{text:?}");
    }
    for text in ["", "a", "\"", "\n", " ", ":", ";;"] {
        assert!(values::delimiter(text).is_err(), "{text:?}");
    }
    assert_eq!(values::encoding("Latin1").unwrap().name(), "windows-1252");
    assert!(values::encoding("utf-9").is_err());
}

#[test]
fn the_key_file_of_a_flag_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "sk_staging_1\n").unwrap();
    let settings = settings(&format!("worker --api-key-file {}", path.display()));
    assert_eq!(settings.api_key().unwrap().0.secret().expose_secret(), "sk_staging_1");
}

#[test]
fn the_sandbox_listens_on_loopback_by_default() {
    let CliCommand::Sandbox(args) = parse("sandbox").unwrap().command else { unreachable!() };
    assert!(args.listen.ip().is_loopback() && args.listen.port() == 8_787 && !args.allow_remote);
}

#[test]
fn a_port_alone_is_an_address_of_this_machine() {
    for (text, address) in [
        ("9464", "127.0.0.1:9464"),
        (":9464", "127.0.0.1:9464"),
        ("0.0.0.0:9464", "0.0.0.0:9464"),
        ("[::1]:9464", "[::1]:9464"),
    ] {
        assert_eq!(values::listen(text).map(|address| address.to_string()).as_deref(), Ok(address));
    }
    for text in ["", ":", "70000", "localhost", "0.0.0.0"] {
        assert!(values::listen(text).is_err(), "{text:?}");
    }
}
