//! The command that a person goes on with, as it can be pasted into a shell.

use std::path::Path;

use crate::app::commands::worker::REHEARSAL;
use crate::config::{Origin, QueueUrl, Settings};

/// Asks for the queue's URL without showing it.
const ASK: &str = "read -rs PLU_ONBOARD__QUEUE__URL && export PLU_ONBOARD__QUEUE__URL && ";

/// This command, as it can be typed again. Of a command that may hold a password, see [`resume_on_the_same_broker`].
pub(crate) fn resume_command() -> String {
    typed(words())
}

/// The same with results in another folder.
pub(crate) fn command_with_out(folder: &str) -> String {
    let out = ["--out", folder].map(str::to_owned);
    typed(without("--out", words()).chain(out))
}

/// The command that lists everything about the rows of this file.
pub(crate) fn check_command(file: &Path) -> String {
    let program = words().next().unwrap_or_else(|| "plu-onboard".to_owned());
    typed([program, "check".to_owned(), file.display().to_string(), "--all".to_owned()].into_iter())
}

/// The command that puts every failed job of a run on its queue again.
pub(crate) fn retry_command(queue: &Path) -> String {
    let queue = format!("local:{}", queue.display());
    typed(["plu-onboard", "dead", "retry", "--all", "--queue", &queue].map(str::to_owned).into_iter())
}

/// A worker on this embedded queue, with the settings of now.
pub(crate) fn worker_command(settings: &Settings, queue: &Path) -> String {
    let config = settings.file().map(|file| ["--config".to_owned(), file.display().to_string()]);
    let queue = ["--queue".to_owned(), format!("local:{}", queue.display())];
    let program = ["plu-onboard", "worker"].map(str::to_owned);
    typed(program.into_iter().chain(config.into_iter().flatten()).chain(queue))
}

/// The same where the queue is on a broker, from "with" on.
pub(crate) fn resume_on_the_same_broker(settings: &Settings) -> String {
    on_the_same_broker(settings, words())
}

fn words() -> impl Iterator<Item = String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned())
}

/// A worker on the same broker, from "with" on.
pub(crate) fn worker_on_the_same_broker(settings: &Settings) -> String {
    let config = settings.file().map(|file| ["--config".to_owned(), file.display().to_string()]);
    let queue = matches!(settings.origin("queue.url"), Origin::Flag(_))
        .then(|| ["--queue".to_owned(), settings.queue.url.to_string()]);
    // Whoever goes on with a rehearsal goes on with a rehearsal.
    let sandbox = settings.amqp.prefix.ends_with(REHEARSAL).then(|| "--sandbox".to_owned());
    let options = config.into_iter().chain(queue).flatten().chain(sandbox);
    on_the_same_broker(settings, ["plu-onboard", "worker"].map(str::to_owned).into_iter().chain(options))
}

/// Whatever of the queue's settings isn't in the command is named; a URL that was typed with its password is asked for instead.
fn on_the_same_broker(settings: &Settings, words: impl Iterator<Item = String>) -> String {
    let is_typed = matches!(settings.origin("queue.url"), Origin::Flag(_));
    let is_secret = is_typed && matches!(&settings.queue.url, QueueUrl::Amqp(url) if url.password().is_some());
    let variables = settings.variables(&["queue", "amqp"]).collect::<Vec<_>>().join(", ");
    let set = (!variables.is_empty()).then(|| format!("{variables} set as now"));
    let paste = is_secret.then(|| "it waits for you to paste the URL of --queue and press Enter".to_owned());
    let notes = set.into_iter().chain(paste).collect::<Vec<_>>().join("; ");
    let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
    let command = if is_secret { format!("{ASK}{}", typed(without("--queue", words))) } else { typed(words) };
    format!("with{notes}:\n  {command}")
}

/// Without a flag and its value.
fn without(flag: &'static str, words: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut is_value = false;
    words.filter(move |word| {
        let was_flag = std::mem::replace(&mut is_value, word == flag);
        !was_flag && !is_value && !word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    })
}

/// Words as they can be typed into a shell.
fn typed(words: impl Iterator<Item = String>) -> String {
    let quoted = |word: String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
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
    fn the_next_worker_is_told_with_the_settings_by_which_the_queue_was_given_and_without_a_password() {
        let url = ("PLU_ONBOARD__QUEUE__URL", "amqp://plu:s3cret@h/cards");
        let prefix = ("PLU_ONBOARD__AMQP__PREFIX", "eu.plu");
        for (settings, told) in [
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
                    "with (PLU_ONBOARD__AMQP__PREFIX set as now; it waits for you to paste the URL of --queue and press \
                     Enter):\n  {ASK}plu-onboard worker"
                ),
            ),
        ] {
            assert_eq!(worker_on_the_same_broker(&settings), told);
        }
    }

    #[test]
    fn a_settings_file_is_part_of_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my queue.toml");
        std::fs::write(&file, "[queue]\nurl = \"amqp://plu:s3cret@h\"\n").unwrap();
        let settings = Settings::load(Some(&file), std::iter::empty(), &Overrides::default()).unwrap();
        assert_eq!(
            worker_on_the_same_broker(&settings),
            format!("with:\n  plu-onboard worker --config '{}'", file.display())
        );
    }

    #[test]
    fn a_typed_url_with_a_password_leaves_the_command_however_it_was_typed() {
        let settings = settings(&[], Some("amqp://plu:s3cret@h"));
        for line in ["plu import --queue amqp://plu:s3cret@h a.csv", "plu import --queue=amqp://plu:s3cret@h a.csv"] {
            let told = on_the_same_broker(&settings, line.split(' ').map(str::to_owned));
            assert!(told.ends_with(&format!("{ASK}plu import a.csv")), "{told}");
        }
    }
}
