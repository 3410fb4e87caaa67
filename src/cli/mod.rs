//! The command line: commands, flags and their help.
//!
//! A flag that sets a setting is text here and becomes an entry of `config::Overrides`. So its value is
//! checked in one place, and an error reads the same for a file, a variable and a flag. Usage errors exit with
//! status 2.
//!
//! | module | holds |
//! | --- | --- |
//! | `flags` | groups of flags that several commands share |
//! | `help` | the examples of each command |
//! | `overrides` | which flag sets which setting |
//! | `values` | values that aren't settings |

mod flags;
mod help;
mod overrides;
#[cfg(test)]
mod tests;
mod values;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use url::Url;

pub(crate) use self::flags::{
    ApiArgs, ConcurrencyArgs, CsvArgs, FaultArgs, GeneralArgs, LaneArgs, OutArgs, QueueArgs, RateArgs, ServiceArgs,
};

/// Create users at the Plu card partner API: each exactly once, with a verification link.
#[derive(Debug, Parser)]
#[command(name = "plu-onboard", version, max_term_width = help::WIDTH, after_help = help::PROGRAM)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,

    #[command(flatten)]
    pub(crate) general: GeneralArgs,

    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "General")]
    version: Option<bool>,

    /// Always refused. The flag is known so that the error doesn't repeat the key.
    #[arg(long, global = true, hide = true, value_name = "KEY", value_parser = values::RefusedApiKey)]
    api_key: Option<Infallible>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Create every user of a CSV file or workbook and write the results; started again, it resumes
    #[command(after_help = help::RUN)]
    Run(RunArgs),
    /// Validate a CSV file or workbook and print the plan; nothing is sent
    #[command(after_help = help::CHECK)]
    Check(CheckArgs),
    /// Put the rows of a CSV file or workbook on the queue
    #[command(after_help = help::IMPORT)]
    Import(ImportArgs),
    /// Process the jobs of the queue until stopped
    #[command(after_help = help::WORKER)]
    Worker(WorkerArgs),
    /// Receive the partner's webhooks about verifications and publish them as events
    #[command(after_help = help::WEBHOOKS)]
    Webhooks(WebhooksArgs),
    /// List, show, retry or delete dead letters
    #[command(subcommand, after_help = help::DEAD)]
    Dead(DeadCommand),
    /// Serve a simulated Plu API, with faults on demand
    #[command(after_help = help::SANDBOX)]
    Sandbox(SandboxArgs),
    /// Remove the personal data of a finished run or an empty queue
    #[command(after_help = help::PURGE)]
    Purge(PurgeArgs),
    /// Check a running worker: exit status 0 if it is healthy, otherwise 1
    #[command(after_help = help::HEALTH)]
    Health(HealthArgs),
    /// Print the exchanges and queues as definitions that RabbitMQ can import
    #[command(after_help = help::TOPOLOGY)]
    Topology(TopologyArgs),
    /// Check or print the settings
    #[command(subcommand, after_help = help::CONFIG)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the settings and the API key without starting anything
    #[command(after_help = help::CONFIG_CHECK)]
    Check(ConfigArgs),
    /// Print the settings in force as TOML, each with its origin, without secrets
    #[command(after_help = help::CONFIG_SHOW)]
    Show(ConfigArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters and count them by reason
    #[command(after_help = help::DEAD_LIST)]
    List(DeadListArgs),
    /// Show one dead letter, without personal data
    #[command(after_help = help::DEAD_SHOW)]
    Show(DeadShowArgs),
    /// Return jobs to their lane, with new attempts
    #[command(after_help = help::DEAD_RETRY)]
    Retry(DeadRetryArgs),
    /// Delete dead letters; this can't be undone
    #[command(after_help = help::DEAD_DROP)]
    Drop(DeadDropArgs),
}

impl DeadCommand {
    const fn queue(&self) -> &QueueArgs {
        match self {
            Self::List(args) => &args.queue,
            Self::Show(args) => &args.queue,
            Self::Retry(args) => &args.queue,
            Self::Drop(args) => &args.queue,
        }
    }
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("queue", "Queue file of this run: local:PATH [default: queue.db in the folder of --out]"),
    ("out", "Folder for the result files, readable by their owner only [default: FILE-results, with --sandbox \
     FILE-results-sandbox]"),
])))]
pub(crate) struct RunArgs {
    /// CSV file, workbook (.xlsx, .xls, .ods) or one job a line (NDJSON); - reads standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub csv: CsvArgs,
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    #[command(flatten)]
    pub rate_limit: RateArgs,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Send N rows first, and the others only if the outcomes of these are good (limits: [halt] in the settings)
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = values::canary,
        help_heading = "Operations"
    )]
    pub canary: Option<u32>,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("rate", "Requests per second for the time in the plan; 0 is no limit [default: 20] [setting: rate_limit.rate]"),
])))]
pub(crate) struct CheckArgs {
    /// CSV file, workbook (.xlsx, .xls, .ods) or one job a line (NDJSON); - reads standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub csv: CsvArgs,
    #[command(flatten)]
    pub rate_limit: RateArgs,
    /// Show every row with a problem [default: 50 rows, some of each problem]
    #[arg(long, help_heading = "Output")]
    pub all: bool,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("out", "Folder for FILE-rejected.csv, the rows that were rejected [default: the working directory]"),
])))]
pub(crate) struct ImportArgs {
    /// CSV file, workbook (.xlsx, .xls, .ods) or one job a line (NDJSON); - reads standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub csv: CsvArgs,
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// Confirm a guessed encoding without being asked
    #[arg(long, help_heading = "Operations")]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("out", "Folder for the events of an embedded queue, readable by its owner only; on RabbitMQ, events are published \
     to an exchange [default: QUEUE-results]"),
])))]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    #[command(flatten)]
    pub rate_limit: RateArgs,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub service: ServiceArgs,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("queue", "Destination of the events: an exchange of RabbitMQ, or for local:PATH the file kyc.ndjson \
     [default: local:plu-onboard.db] [setting: queue.url]"),
    ("out", "Folder for kyc.ndjson of an embedded queue, readable by its owner only [default: QUEUE-results]"),
])))]
pub(crate) struct WebhooksArgs {
    /// Address for webhooks; a port alone is on 127.0.0.1. The partner reaches it through a proxy with TLS
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8788",
        value_parser = values::listen,
        help_heading = "Input"
    )]
    pub receive: SocketAddr,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// Address for metrics and health checks; a port alone is on 127.0.0.1 [default: none]
    #[arg(long, value_name = "ADDR", value_parser = values::listen, help_heading = "Operations")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct DeadListArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Maximum number of dead letters in the list; the counts include all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true,
        value_parser = values::lines,
        help_heading = "Output"
    )]
    pub limit: u64,
    /// Only dead letters with this reason
    #[arg(long, value_name = "CODE", help_heading = "Selection")]
    pub reason: Option<String>,
    /// Print one JSON object a line
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeadShowArgs {
    /// Id of the dead letter, from the list
    pub id: String,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Show personal data too
    #[arg(long, help_heading = "Output")]
    pub reveal: bool,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeadRetryArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeadDropArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Delete without asking
    #[arg(long, help_heading = "Operations")]
    pub yes: bool,
}

/// A selection of dead letters: ids, a reason, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SelectionArgs {
    /// Ids of the dead letters, from the list
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Dead letters with this reason
    #[arg(long, value_name = "CODE", help_heading = "Selection")]
    pub reason: Option<String>,
    /// All dead letters
    #[arg(long, help_heading = "Selection")]
    pub all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Address of the simulated API; port 0 takes a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787", help_heading = "Operations")]
    pub listen: SocketAddr,
    /// Allow a --listen address that other machines can reach
    #[arg(long, help_heading = "Operations")]
    pub allow_remote: bool,
    /// Seconds for which an idempotency key is remembered [default: 300] [setting: sandbox.key_ttl_s]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, help_heading = "Simulated API")]
    pub key_ttl: Option<String>,
    /// Milliseconds before each answer [default: 20] [setting: sandbox.latency_ms]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, help_heading = "Simulated API")]
    pub latency_ms: Option<String>,
    /// Requests per second above which the answer is 429; 0 is no limit [default: 0] [setting: sandbox.rate_limit]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Simulated API")]
    pub rate_limit: Option<String>,
    #[command(flatten)]
    pub faults: FaultArgs,
    /// Seed of ids and random numbers [default: 1] [setting: sandbox.seed]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Simulated API")]
    pub seed: Option<String>,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("queue", "Queue file of a worker: local:PATH [default: queue.db in the folder of --out]"),
    ("out", "Folder of the run whose personal data is removed"),
])))]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// Remove the data; without this flag, purge only prints what it would remove
    #[arg(long, help_heading = "Operations")]
    pub yes: bool,
    /// Remove the data even if dead letters, half-imported files or unwritten outcomes are lost
    #[arg(long, help_heading = "Operations")]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// URL to check: /healthz for liveness, /readyz for progress. The answer of /readyz is printed in both cases
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464/healthz", help_heading = "Operations")]
    pub url: Url,
}

#[derive(Debug, Args)]
#[command(mut_args(help::replaced(&[
    ("queue", "RabbitMQ URL; the definitions are for its virtual host, or for / without a URL [setting: queue.url]"),
])))]
pub(crate) struct TopologyArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
}

/// `config check` and `config show`: every flag that sets a setting of `worker` or `import`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    #[command(flatten)]
    pub rate_limit: RateArgs,
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
}
