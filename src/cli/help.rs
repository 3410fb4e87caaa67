//! Help texts: the examples at their end, each of which a test parses, and texts of shared flags that differ by
//! command.

use clap::Arg;

/// Maximum width of help texts, in columns.
pub(super) const WIDTH: usize = 80;

/// Replaces the help of some flags, in place: `Command::mut_arg` would move a flag and its group to the end.
pub(super) fn replaced(texts: &'static [(&'static str, &'static str)]) -> impl FnMut(Arg) -> Arg {
    |flag| match texts.iter().find(|(id, _)| flag.get_id() == *id) {
        Some((_, text)) => flag.help(*text),
        None => flag,
    }
}

pub(super) const PROGRAM: &str = "\
Examples:
  plu-onboard check customers.csv            validate the file
  plu-onboard run customers.csv --sandbox    try it without a partner
  plu-onboard run customers.csv              create the users
  plu-onboard run --help                     show the flags of a command";

pub(super) const RUN: &str = "\
Examples:
  plu-onboard run customers.csv --sandbox
  plu-onboard run customers.csv --rate 5 --canary 50
  plu-onboard run customers.csv --config config/production.toml --out june";

pub(super) const CHECK: &str = "\
Examples:
  plu-onboard check customers.csv
  plu-onboard check customers.xlsx --sheet June --all --rate 10";

pub(super) const IMPORT: &str = "\
Examples:
  plu-onboard import customers.csv --config worker.toml
  plu-onboard import signups.csv --lane signup --queue local:jobs.db";

pub(super) const WORKER: &str = "\
Examples:
  plu-onboard worker --config worker.toml --listen 9464
  plu-onboard worker --queue local:jobs.db --sandbox --fault lost=5%";

pub(super) const WEBHOOKS: &str = "\
Examples:
  plu-onboard webhooks --config worker.toml --receive 8788
  plu-onboard webhooks --queue local:jobs.db --out verifications";

pub(super) const DEAD: &str = "\
Examples:
  plu-onboard dead list --config worker.toml
  plu-onboard dead retry --reason ATTEMPTS_EXHAUSTED --config worker.toml";

pub(super) const DEAD_LIST: &str = "\
Examples:
  plu-onboard dead list --queue local:jobs.db
  plu-onboard dead list --reason ATTEMPTS_EXHAUSTED --json --limit 1000";

pub(super) const DEAD_SHOW: &str = "\
Examples:
  plu-onboard dead show 0e2f5a6c-9d41-5b7e-8c1a-3f6d2b9e4a70
  plu-onboard dead show 0e2f5a6c-9d41-5b7e-8c1a-3f6d2b9e4a70 --reveal --json";

pub(super) const DEAD_RETRY: &str = "\
Examples:
  plu-onboard dead retry 0e2f5a6c-9d41-5b7e-8c1a-3f6d2b9e4a70
  plu-onboard dead retry --all --config worker.toml";

pub(super) const DEAD_DROP: &str = "\
Examples:
  plu-onboard dead drop 0e2f5a6c-9d41-5b7e-8c1a-3f6d2b9e4a70
  plu-onboard dead drop --reason MALFORMED_JOB --yes";

pub(super) const SANDBOX: &str = "\
Examples:
  plu-onboard sandbox --listen 127.0.0.1:8787
  plu-onboard sandbox --fault lost=5%,401=10s..30s --rate-limit 20";

pub(super) const PURGE: &str = "\
Examples:
  plu-onboard purge --out customers-results          print what would be removed
  plu-onboard purge --out customers-results --yes    remove it
  plu-onboard purge --queue local:jobs.db --yes";

pub(super) const HEALTH: &str = "\
Examples:
  plu-onboard health
  plu-onboard health --url http://127.0.0.1:9464/readyz";

pub(super) const TOPOLOGY: &str = "\
Examples:
  plu-onboard topology --config worker.toml
  plu-onboard topology --queue amqp://rabbit.example/cards";

pub(super) const CONFIG: &str = "\
Examples:
  plu-onboard config check --config worker.toml
  plu-onboard config show";

pub(super) const CONFIG_CHECK: &str = "\
Examples:
  plu-onboard config check --config worker.toml";

pub(super) const CONFIG_SHOW: &str = "\
Examples:
  plu-onboard config show
  plu-onboard config show --config worker.toml --rate 50";
