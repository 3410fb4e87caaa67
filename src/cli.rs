//! The command line: what can be typed, and nothing of what it does.
//!
//! Flags that stand for a setting stay text here and become [`crate::config::Overrides`], so that a value is checked
//! in one place and an error reads the same whether it came from a file, a variable or a flag. Usage errors exit with
//! status 2.

mod overrides;
#[cfg(test)]
mod tests;
mod values;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use encoding_rs::Encoding;
use secrecy::SecretString;
use url::Url;

/// Onboards customers to the Plu card partner API: each exactly once, with a verification link for each.
#[derive(Debug, Parser)]
#[command(name = "plu-onboard", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Never accepted, and known only so that the value isn't repeated in an error.
    #[arg(long, global = true, hide = true, value_name = "KEY", value_parser = values::RefusedApiKey)]
    pub api_key: Option<Infallible>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Onboard everybody in a CSV file on this machine and write the results; started again, it resumes.
    Run(RunArgs),
    /// Read and validate a CSV file and print the plan, without sending or writing anything.
    Check(CheckArgs),
    /// Put the rows of a CSV file on the queue.
    Import(ImportArgs),
    /// Work on the jobs of the queue until stopped.
    Worker(WorkerArgs),
    /// Receive the partner's webhooks about people's verification and publish them as events.
    Webhooks(WebhooksArgs),
    /// Look after the jobs that were given up.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Serve a simulated Plu API for rehearsals.
    Sandbox(SandboxArgs),
    /// Take the personal data out of a finished run or a worked-off queue, and keep what recognises its rows.
    Purge(PurgeArgs),
    /// Ask a running worker how it is: status 0 if it answers well, else 1. For health checks of containers.
    Health(HealthArgs),
    /// Print the exchanges and queues on RabbitMQ as definitions that its operators can import.
    Topology(TopologyArgs),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the settings and the API key without starting anything.
    Check(ConfigArgs),
    /// Print the settings in force as TOML, each with its origin and without secrets.
    Show(ConfigArgs),
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List them, and how many there are by reason.
    List(DeadListArgs),
    /// Show everything about one, without personal data.
    Show(DeadShowArgs),
    /// Put jobs back on their lane with fresh attempts.
    Retry(DeadRetryArgs),
    /// Delete some for good.
    Drop(DeadDropArgs),
}

/// `dead list`.
#[derive(Debug, Args)]
pub struct DeadListArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where they lie.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Most that are listed; the counts are of all.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = values::lines)]
    pub limit: u64,
    /// Only those with this reason.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `dead show`.
#[derive(Debug, Args)]
pub struct DeadShowArgs {
    /// Its id in the list.
    pub id: String,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where it lies.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Show personal data too.
    #[arg(long)]
    pub reveal: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `dead retry`.
#[derive(Debug, Args)]
pub struct DeadRetryArgs {
    /// Which of them.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where they lie.
    #[command(flatten)]
    pub queue: QueueArgs,
}

/// `dead drop`.
#[derive(Debug, Args)]
pub struct DeadDropArgs {
    /// Which of them.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where they lie.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Don't ask: deleting is final.
    #[arg(long)]
    pub yes: bool,
}

/// Some dead letters: exactly one of the three ways to name them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SelectionArgs {
    /// Their ids in the list.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Those with this reason.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
}

impl DeadCommand {
    /// The flags that stand for settings.
    const fn setting_flags(&self) -> (&CommonArgs, &QueueArgs) {
        match self {
            Self::List(args) => (&args.common, &args.queue),
            Self::Show(args) => (&args.common, &args.queue),
            Self::Retry(args) => (&args.common, &args.queue),
            Self::Drop(args) => (&args.common, &args.queue),
        }
    }
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// CSV file whose first line names the columns.
    pub file: PathBuf,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where jobs wait.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Which partner API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// How fast.
    #[command(flatten)]
    pub rate_limit: RateArgs,
    /// How the worker is run.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// How urgent.
    #[command(flatten)]
    pub lane: LaneArgs,
    /// How the file is read.
    #[command(flatten)]
    pub csv: CsvArgs,
    /// Where results go.
    #[command(flatten)]
    pub out: OutArgs,
    /// Send this many rows first, look at their outcomes, and go on if they are well (see `halt` in the settings).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::canary)]
    pub canary: Option<u32>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// CSV file whose first line names the columns.
    pub file: PathBuf,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Show every row that needs a look, however many.
    #[arg(long)]
    pub all: bool,
    /// How fast, for the time in the plan.
    #[command(flatten)]
    pub rate_limit: RateArgs,
    /// How the file is read.
    #[command(flatten)]
    pub csv: CsvArgs,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV file whose first line names the columns.
    pub file: PathBuf,
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where jobs wait.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// How urgent.
    #[command(flatten)]
    pub lane: LaneArgs,
    /// How the file is read.
    #[command(flatten)]
    pub csv: CsvArgs,
    /// Where rows go that can't become jobs.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `worker`.
#[derive(Debug, Args)]
#[command(mut_arg("out", |out| out.help(
    "Folder for the events of an embedded queue, which only its owner can read; on RabbitMQ events go to an exchange"
)))]
pub struct WorkerArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where jobs wait.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Which partner API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// How fast.
    #[command(flatten)]
    pub rate_limit: RateArgs,
    /// How the worker is run.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Where results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `webhooks`.
#[derive(Debug, Args)]
#[command(mut_arg("queue", |queue| queue.help(
    "Where events go: to the exchange of a RabbitMQ, or beside an embedded queue into kyc.ndjson [setting: queue.url]"
)))]
#[command(mut_arg("out", |out| out.help(
    "Folder for kyc.ndjson, which only its owner can read; on RabbitMQ events go to an exchange"
)))]
pub struct WebhooksArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where events go.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Address and port to receive webhooks on; a port alone is on this machine only. What the partner reaches is a proxy with
    /// TLS before it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8788", value_parser = values::listen)]
    pub receive: SocketAddr,
    /// Address and port for metrics and health; a port alone is on this machine only. Without it nothing is served.
    #[arg(long, value_name = "ADDR", value_parser = values::listen)]
    pub listen: Option<SocketAddr>,
    /// Where the file of events goes.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Address and port to serve the simulated API on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Allow an address in --listen that other machines can reach.
    #[arg(long)]
    pub allow_remote: bool,
    /// Seconds for which an idempotency key is remembered [setting: sandbox.key_ttl_s].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub key_ttl: Option<String>,
    /// Milliseconds until an answer [setting: sandbox.latency_ms].
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub latency_ms: Option<String>,
    /// Requests per second over which the answer is 429; 0 means no limit [setting: sandbox.rate_limit].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate_limit: Option<String>,
    /// What goes wrong with the simulated API, such as lost=5%,401=10s..30s; can be repeated [setting: sandbox.faults].
    #[arg(long, value_name = "NAME=WHEN", value_delimiter = ',')]
    pub fault: Vec<String>,
    /// Seed of ids and chance: the same seed, the same behaviour [setting: sandbox.seed].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<String>,
}

/// `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Which queue; the one in the folder of --out unless given.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Which result files.
    #[command(flatten)]
    pub out: OutArgs,
    /// Do it; without this flag it is only said what would be done.
    #[arg(long)]
    pub yes: bool,
    /// Also where dead letters, half-imported files or outcomes that no events file has got would be lost.
    #[arg(long)]
    pub force: bool,
}

/// `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to ask: /healthz for whether it lives, /readyz for whether it gets on. The status is that of this answer; what
    /// /readyz says is printed in any case.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464/healthz")]
    pub url: Url,
}

/// `topology`.
#[derive(Debug, Args)]
pub struct TopologyArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Which virtual host: the one of the URL, or the default one.
    #[command(flatten)]
    pub queue: QueueArgs,
}

/// `config check` and `config show`: every flag that stands for a setting of the worker or an import.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Which settings.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where jobs wait.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Which partner API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// How fast.
    #[command(flatten)]
    pub rate_limit: RateArgs,
    /// How many at once.
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// How urgent.
    #[command(flatten)]
    pub lane: LaneArgs,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Settings file (TOML); environment variables PLU_ONBOARD__SECTION__KEY and flags win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log lines for people or one JSON object a line [setting: log.format].
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
}

/// Flags of commands that use the queue.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// Queue to use: local:PATH, amqp://... or amqps://... [setting: queue.url].
    #[arg(long, value_name = "URL")]
    pub queue: Option<SecretString>,
}

/// Flags of commands that talk to the partner API.
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Base URL of the partner API [setting: api.url].
    #[arg(long, value_name = "URL")]
    pub api_url: Option<SecretString>,
    /// File that holds the API key, instead of the environment variable PLU_API_KEY [setting: api.key_file].
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<SecretString>,
}

/// Flags of commands to which the pace matters.
#[derive(Debug, Args)]
pub struct RateArgs {
    /// Most requests per second; 0 means no limit [setting: rate_limit.rate].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate: Option<String>,
}

/// Flags of commands that send requests side by side.
#[derive(Debug, Args)]
pub struct ConcurrencyArgs {
    /// Most requests on their way at once [setting: worker.concurrency].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<String>,
}

/// Flags of commands that work on jobs.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// How many at once.
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// Address and port for the status page, metrics and health; a port alone is on this machine only. Without it
    /// nothing is served.
    #[arg(long, value_name = "ADDR", value_parser = values::listen)]
    pub listen: Option<SocketAddr>,
    /// Use a built-in simulated API instead of the partner's, which is not touched. A worker on RabbitMQ refuses this unless
    /// amqp.prefix ends with sandbox.
    #[arg(long, conflicts_with_all = ["api_url", "api_key_file"])]
    pub sandbox: bool,
    /// The outcomes are as planned, however many rows are rejected or exist: don't halt.
    #[arg(long)]
    pub yes: bool,
    /// What goes wrong with the simulated API, such as lost=5%,401=10s..30s; can be repeated [setting: sandbox.faults].
    #[arg(long, value_name = "NAME=WHEN", value_delimiter = ',', requires = "sandbox")]
    pub fault: Vec<String>,
}

/// Flags of commands that put jobs on the queue.
#[derive(Debug, Args)]
pub struct LaneArgs {
    /// Lane that the rows wait in: signup goes before bulk [setting: import.lane].
    #[arg(long, value_name = "LANE", value_parser = ["signup", "bulk"])]
    pub lane: Option<String>,
}

/// Flags of commands that read a CSV file.
#[derive(Debug, Args)]
pub struct CsvArgs {
    /// Character between the cells: , ; | or a word (comma, semicolon, pipe, tab); found out from the file unless
    /// given.
    #[arg(long, value_name = "CHAR", value_parser = values::delimiter)]
    pub delimiter: Option<u8>,
    /// Encoding of the file, such as windows-1252; found out from the file unless given.
    #[arg(long, value_name = "LABEL", value_parser = values::encoding)]
    pub encoding: Option<&'static Encoding>,
}

/// Flags of commands that write result files.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// Folder for the result files, which only their owner can read.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Command {
    /// The flags that every command has.
    pub const fn common(&self) -> &CommonArgs {
        match self {
            Self::Run(args) => &args.common,
            Self::Check(args) => &args.common,
            Self::Import(args) => &args.common,
            Self::Worker(args) => &args.common,
            Self::Webhooks(args) => &args.common,
            Self::Dead(command) => command.setting_flags().0,
            Self::Sandbox(args) => &args.common,
            Self::Purge(args) => &args.common,
            Self::Health(args) => &args.common,
            Self::Topology(args) => &args.common,
            Self::Config(ConfigCommand::Check(args) | ConfigCommand::Show(args)) => &args.common,
        }
    }
}
