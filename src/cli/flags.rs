//! Groups of flags that several commands share. Help texts name the default and the setting of a flag; a test compares
//! both with `default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use encoding_rs::Encoding;
use secrecy::SecretString;

use crate::cli::values;
use crate::domain::PhoneReading;

/// Flags of every command, allowed before and after it.
#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
pub(crate) struct GeneralArgs {
    /// Settings file (TOML). Environment variables (PLU_ONBOARD__SECTION__KEY) and flags win over it [default: none]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log lines as text, or as JSON with one object a line [default: text] [setting: log.format]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Flags of commands that use the queue.
#[derive(Debug, Args)]
#[command(next_help_heading = "Queue")]
pub(crate) struct QueueArgs {
    /// Queue: local:PATH for a file on this machine, amqp://... or amqps://... for RabbitMQ [default:
    /// local:plu-onboard.db] [setting: queue.url]
    #[arg(long, value_name = "URL")]
    pub queue: Option<SecretString>,
}

/// Flags of commands that send requests to the partner API.
#[derive(Debug, Args)]
#[command(next_help_heading = "Partner API")]
pub(crate) struct ApiArgs {
    /// Base URL of the partner API [default: https://services-staging.getplu.com/api] [setting: api.url]
    #[arg(long, value_name = "URL")]
    pub api_url: Option<SecretString>,
    /// File with the API key; without it, the key comes from the variable PLU_API_KEY [setting: api.key_file]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<SecretString>,
}

/// Flags of commands that use the rate limit.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rate")]
pub(crate) struct RateArgs {
    /// Maximum number of requests per second; 0 is no limit [default: 20] [setting: rate_limit.rate]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate: Option<String>,
}

/// Flags of commands that send requests concurrently.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rate")]
pub(crate) struct ConcurrencyArgs {
    /// Maximum number of requests in flight [default: 64] [setting: worker.concurrency]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<String>,
}

/// Flags of commands that process jobs.
#[derive(Debug, Args)]
#[command(mut_args(|flag| if flag.get_id() == "fault" { flag.requires("sandbox") } else { flag }))]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    pub concurrency: ConcurrencyArgs,
    /// Use a built-in simulated API instead of the partner's; nothing leaves this machine. On RabbitMQ, amqp.prefix
    /// must end with "sandbox"
    #[arg(long, conflicts_with_all = ["api_url", "api_key_file"], help_heading = "Simulated API")]
    pub sandbox: bool,
    #[command(flatten)]
    pub faults: FaultArgs,
    /// Address for the status page, metrics and health checks; a port alone is on 127.0.0.1 [default: none]
    #[arg(long, value_name = "ADDR", value_parser = values::listen, help_heading = "Operations")]
    pub listen: Option<SocketAddr>,
    /// Don't halt on a high share of rejected or existing rows, or of lost links
    #[arg(long, help_heading = "Operations")]
    pub yes: bool,
}

/// Flags of the command `sandbox` and of commands with a built-in sandbox.
#[derive(Debug, Args)]
#[command(next_help_heading = "Simulated API")]
pub(crate) struct FaultArgs {
    /// Fault of the simulated API, such as lost=5% or 401=10s..30s; can be repeated [default: none] [setting:
    /// sandbox.faults]
    #[arg(long, value_name = "NAME=WHEN", value_delimiter = ',')]
    pub fault: Vec<String>,
}

/// Flags of commands that put jobs on the queue.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct LaneArgs {
    /// Lane of the rows; signup is sent before bulk [default: bulk] [setting: import.lane]
    #[arg(long, value_name = "LANE", value_parser = ["signup", "bulk"])]
    pub lane: Option<String>,
}

/// Flags of commands that read a file of customers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct CsvArgs {
    /// Character between cells: , ; | or a word: comma, semicolon, pipe, tab [default: detected]
    #[arg(long, value_name = "CHAR", value_parser = values::delimiter)]
    pub delimiter: Option<u8>,
    /// Encoding of a text file, such as utf-8 or windows-1252 [default: detected]
    #[arg(long, value_name = "LABEL", value_parser = values::encoding)]
    pub encoding: Option<&'static Encoding>,
    /// Read phone numbers of bare digits as national ones, or as international ones that lost their + [default: reject
    /// those that can be both]
    #[arg(long, value_name = "READING", value_parser = values::phone_reading)]
    pub phone_without_plus: Option<PhoneReading>,
    /// Mend text that was encoded twice as UTF-8, like MÃ¼ller for Müller [default: reject it]
    #[arg(long)]
    pub mend_double_encoding: bool,
    /// Sheet of a workbook [default: the first visible one]
    #[arg(long, value_name = "NAME")]
    pub sheet: Option<String>,
    /// Line with the column names, counted from 1 [default: found among the first 20 rows]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::header_row)]
    pub header_row: Option<u64>,
}

/// Flags of commands that write result files. Each command states its own default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutArgs {
    /// Folder for the result files
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
