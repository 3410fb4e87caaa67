//! Commands that are printed for the user to run next, quoted for a POSIX shell.
//!
//! **Invariant:** a password that was typed in `--queue` is never printed.

use std::path::Path;

use crate::app::service::broker::is_sandbox_prefix;
use crate::config::{Origin, QueueUrl, Settings};

/// Reads the queue's URL from the terminal without showing it.
const READ_QUEUE_URL: &str = "read -rs PLU_ONBOARD__QUEUE__URL && export PLU_ONBOARD__QUEUE__URL && ";

/// The command line of this process. For a command that may hold a password, see [`resume_on_broker`].
pub(crate) fn resume_command() -> String {
    quoted(own_arguments())
}

/// The command line of this process with results in another folder.
pub(crate) fn command_with_out(folder: &str) -> String {
    let out = ["--out", folder].map(str::to_owned);
    quoted(without_flag("--out", own_arguments()).chain(out))
}

/// The `check` command that lists every problem of this file.
pub(crate) fn check_command(file: &Path) -> String {
    let program = own_arguments().next().unwrap_or_else(|| "plu-onboard".to_owned());
    quoted([program, "check".to_owned(), file.display().to_string(), "--all".to_owned()].into_iter())
}

/// The command that retries every dead letter of a run's queue.
pub(crate) fn retry_command(queue: &Path) -> String {
    let queue = format!("local:{}", queue.display());
    quoted(["plu-onboard", "dead", "retry", "--all", "--queue", &queue].map(str::to_owned).into_iter())
}

/// The command that starts a worker on this embedded queue with the same settings file.
pub(crate) fn worker_command(settings: &Settings, queue: &Path) -> String {
    let queue = ["--queue".to_owned(), format!("local:{}", queue.display())];
    quoted(worker_arguments(settings).chain(queue))
}

/// How to resume this command on the same broker: "with:" and the command line.
pub(crate) fn resume_on_broker(settings: &Settings) -> String {
    on_broker(settings, own_arguments())
}

/// How to start a worker on the same broker: "with:" and the command line.
pub(crate) fn worker_on_broker(settings: &Settings) -> String {
    let queue = matches!(settings.origin("queue.url"), Origin::Flag(_))
        .then(|| ["--queue".to_owned(), settings.queue.url.to_string()]);
    let sandbox = is_sandbox_prefix(&settings.amqp.prefix).then(|| "--sandbox".to_owned());
    on_broker(settings, worker_arguments(settings).chain(queue.into_iter().flatten()).chain(sandbox))
}

fn worker_arguments(settings: &Settings) -> impl Iterator<Item = String> {
    let config = settings.file().map(|file| ["--config".to_owned(), file.display().to_string()]);
    ["plu-onboard", "worker"].map(str::to_owned).into_iter().chain(config.into_iter().flatten())
}

fn own_arguments() -> impl Iterator<Item = String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned())
}

/// Names the environment variables about the queue, which the command line doesn't show. A `--queue` URL with a
/// password is left out of the command line, which asks for the URL instead.
fn on_broker(settings: &Settings, arguments: impl Iterator<Item = String>) -> String {
    let is_flag = matches!(settings.origin("queue.url"), Origin::Flag(_));
    let has_password = is_flag && matches!(&settings.queue.url, QueueUrl::Amqp(url) if url.password().is_some());
    let variables = settings.variables(&["queue", "amqp"]).collect::<Vec<_>>().join(", ");
    let variables = (!variables.is_empty()).then(|| format!("{variables} set as now"));
    let paste = has_password.then(|| "it waits for you to paste the URL of --queue and press Enter".to_owned());
    let notes = variables.into_iter().chain(paste).collect::<Vec<_>>().join("; ");
    let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
    let command = if has_password {
        format!("{READ_QUEUE_URL}{}", quoted(without_flag("--queue", arguments)))
    } else {
        quoted(arguments)
    };
    format!("with{notes}:\n  {command}")
}

/// Leaves out a flag and its value, in both forms: `--flag value` and `--flag=value`.
fn without_flag(flag: &'static str, arguments: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut is_value = false;
    arguments.filter(move |argument| {
        let was_flag = std::mem::replace(&mut is_value, argument == flag);
        !was_flag && !is_value && !argument.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    })
}

fn quoted(arguments: impl Iterator<Item = String>) -> String {
    let arguments: Vec<String> = arguments.collect();
    // Fails on a NUL byte only, which no argument of a process can hold.
    shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn settings(variables: &[(&str, &str)], queue: Option<&str>) -> Settings {
        let mut flags = Overrides::default();
        flags.set("--queue", "queue.url", queue.map(str::to_owned));
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(None, variables, &flags).unwrap()
    }

    #[test]
    fn the_worker_command_names_queue_settings_and_hides_a_password() {
        let url = ("PLU_ONBOARD__QUEUE__URL", "amqp://plu:s3cret@h/cards");
        let prefix = ("PLU_ONBOARD__AMQP__PREFIX", "eu.plu");
        for (settings, expected) in [
            (settings(&[url], None), "with (PLU_ONBOARD__QUEUE__URL set as now):\n  plu-onboard worker".to_owned()),
            (settings(&[], Some("amqp://h/cards")), "with:\n  plu-onboard worker --queue amqp://h/cards".to_owned()),
            (
                settings(&[("PLU_ONBOARD__AMQP__PREFIX", "plu.sandbox")], Some("amqp://h")),
                "with (PLU_ONBOARD__AMQP__PREFIX set as now):\n  plu-onboard worker --queue amqp://h --sandbox"
                    .to_owned(),
            ),
            (
                settings(&[prefix], Some(url.1)),
                format!(
                    "with (PLU_ONBOARD__AMQP__PREFIX set as now; it waits for you to paste the URL of --queue and \
                     press Enter):\n  {READ_QUEUE_URL}plu-onboard worker"
                ),
            ),
        ] {
            assert_eq!(worker_on_broker(&settings), expected);
        }
    }

    #[test]
    fn a_settings_file_is_part_of_the_command_and_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my queue.toml");
        std::fs::write(&file, "[queue]\nurl = \"amqp://plu:s3cret@h\"\n").unwrap();
        let settings = Settings::load(Some(&file), std::iter::empty(), &Overrides::default()).unwrap();
        assert_eq!(worker_on_broker(&settings), format!("with:\n  plu-onboard worker --config '{}'", file.display()));
    }

    #[test]
    fn a_url_with_a_password_is_left_out_in_both_forms_of_the_flag() {
        let settings = settings(&[], Some("amqp://plu:s3cret@h"));
        for line in ["plu import --queue amqp://plu:s3cret@h a.csv", "plu import --queue=amqp://plu:s3cret@h a.csv"] {
            let printed = on_broker(&settings, line.split(' ').map(str::to_owned));
            assert!(printed.ends_with(&format!("{READ_QUEUE_URL}plu import a.csv")), "{printed}");
        }
    }
}
