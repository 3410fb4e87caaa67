use std::fs;

use clap::{CommandFactory as _, Parser as _};
use secrecy::ExposeSecret as _;

use crate::cli::*;
use crate::config::{Overrides, Settings};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("plu-onboard").chain(line.split(' ')))
}

/// The settings of a command line, without variables and file.
fn settings(line: &str) -> Settings {
    Settings::load(None, std::iter::empty(), &Overrides::from(&parse(line).unwrap().command)).unwrap()
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn each_command_has_only_the_flags_that_apply_to_it() {
    for (command, expected) in [
        (
            "run",
            "api-key-file api-url canary concurrency config delimiter encoding fault lane listen log-format out queue \
             rate sandbox yes",
        ),
        ("check", "all config delimiter encoding log-format rate"),
        ("import", "config delimiter encoding lane log-format out queue"),
        ("dead list", "config json limit log-format queue reason"),
        ("dead show", "config json log-format queue reveal"),
        ("dead retry", "all config log-format queue reason"),
        ("dead drop", "all config log-format queue reason yes"),
        ("worker", "api-key-file api-url concurrency config fault listen log-format out queue rate sandbox yes"),
        ("webhooks", "config listen log-format out queue receive"),
        ("sandbox", "allow-remote config fault key-ttl latency-ms listen log-format rate-limit seed"),
        ("purge", "config force log-format out queue yes"),
        ("health", "config log-format url"),
        ("config check", "api-key-file api-url concurrency config lane log-format queue rate"),
        ("config show", "api-key-file api-url concurrency config lane log-format queue rate"),
    ] {
        let mut definition = Cli::command();
        for name in command.split(' ') {
            definition = definition.find_subcommand(name).unwrap().clone();
        }
        let mut flags: Vec<_> = definition.get_arguments().filter_map(clap::Arg::get_long).collect();
        flags.sort_unstable();
        assert_eq!(flags.join(" "), expected, "{command}");
    }
}

#[test]
fn every_flag_that_stands_for_a_setting_sets_it() {
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
        assert!(rendered.lines().any(|line| line == expected), "{line}: no {expected} in\n{rendered}");
    }
}

#[test]
fn a_number_below_zero_is_refused_by_its_setting_rather_than_taken_for_a_flag() {
    for (line, key) in [
        ("run f.csv --rate -1", "rate_limit.rate"),
        ("worker --concurrency -1", "worker.concurrency"),
        ("sandbox --key-ttl -1", "sandbox.key_ttl_s"),
        ("sandbox --latency-ms -1", "sandbox.latency_ms"),
        ("sandbox --rate-limit -1", "sandbox.rate_limit"),
        ("sandbox --seed -1", "sandbox.seed"),
    ] {
        let overrides = Overrides::from(&parse(line).unwrap().command);
        let wrong = Settings::load(None, std::iter::empty(), &overrides).unwrap_err().to_string();
        assert!(wrong.contains(&format!("{key} is -1 (allowed: ")), "{line}: {wrong}");
    }
}

#[test]
fn a_number_that_is_none_is_told_what_may_stand_there() {
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
    assert!(matches!(parse("run f.csv --canary 7").unwrap().command, Command::Run(run) if run.canary == Some(7)));
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
fn the_refused_flag_is_not_in_the_help() {
    for command in ["run", "worker", "config"] {
        let help = parse(&format!("{command} --help")).unwrap_err().to_string();
        assert!(!help.contains("--api-key "), "{help}");
    }
}

#[test]
fn parsed_arguments_do_not_show_secrets() {
    let cli = parse("worker --queue amqp://plu:s3cret@h/ --api-url https://u:s3cret@h/ --api-key-file sk_live_s3cret");
    let command = cli.unwrap().command;
    let shown = format!("{command:?} {:?}", Overrides::from(&command));
    assert!(!shown.contains("s3cret"), "{shown}");
    let error = Settings::load(None, std::iter::empty(), &Overrides::from(&command)).unwrap_err();
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
fn the_key_file_of_a_flag_is_the_one_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "sk_staging_1\n").unwrap();
    let settings = settings(&format!("worker --api-key-file {}", path.display()));
    assert_eq!(settings.api_key().unwrap().0.secret().expose_secret(), "sk_staging_1");
}

#[test]
fn the_sandbox_listens_on_loopback_unless_told_otherwise() {
    let Command::Sandbox(args) = parse("sandbox").unwrap().command else { unreachable!() };
    assert!(args.listen.ip().is_loopback() && args.listen.port() == 8_787 && !args.allow_remote);
}

#[test]
fn a_port_alone_is_served_on_this_machine_only() {
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
