//! Measures how many pages of the user list a lost answer costs, for a long list in each order. Runs a program against
//! the sandbox, and prints a table.
//!
//! ```sh
//! cargo build --release && cargo run --release --example list_requests
//! cargo run --release --example list_requests -- --program ../old/target/release/plu-onboard  # another version
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Parser;
use plu_onboard::sandbox::{FaultPlan, ListOrder, ModelConfig, Sandbox, SandboxConfig, SandboxControl};
use tokio::time::{Duration, Instant, sleep};

/// Measures the pages of the user list for each lost answer.
#[derive(Parser)]
struct Arguments {
    /// The program that is measured.
    #[arg(long, default_value = "target/release/plu-onboard")]
    program: PathBuf,
    /// Users who are in the list before.
    #[arg(long, default_value_t = 200_000)]
    users: u32,
    /// Rows of each run.
    #[arg(long, default_value_t = 400)]
    rows: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 20)]
    rate: u64,
    /// Share of the answers that are lost, in per cent.
    #[arg(long, default_value_t = 5)]
    lost_percent: u32,
    /// Most users on a page.
    #[arg(long, default_value_t = 100)]
    page: u32,
    /// Leaves out the unsorted orders.
    #[arg(long)]
    only_sorted: bool,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example prints its result")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Arguments { users, rows, rate, lost_percent, page, .. } = arguments;
    println!("{rows} rows at {rate}/s, {lost_percent} % of the answers lost, {users} users, {page} on a page\n");
    println!("| order | lost answers | pages | pages for each | seconds |\n| --- | --- | --- | --- | --- |");
    let orders = [ListOrder::NewestFirst, ListOrder::OldestFirst, ListOrder::Scattered, ListOrder::Shuffled];
    let count = if arguments.only_sorted { 2 } else { orders.len() };
    for order in orders.into_iter().take(count) {
        let Measured { lost, pages, seconds } = measure(&arguments, order).await?;
        println!("| {order:?} | {lost} | {pages} | {:.1} | {seconds:.0} |", pages as f64 / lost.max(1) as f64);
    }
    Ok(())
}

struct Measured {
    lost: u64,
    pages: u64,
    seconds: f64,
}

async fn measure(arguments: &Arguments, list_order: ListOrder) -> anyhow::Result<Measured> {
    let Arguments { program, users, rows, rate, lost_percent, page, .. } = arguments;
    let model = ModelConfig { list_order, users_min: *users, list_limit_max: *page, seed: 1, ..ModelConfig::default() };
    let config = SandboxConfig { model: model.clone(), latency: Duration::from_millis(20), ..SandboxConfig::default() };
    let sandbox = Sandbox::start(config).await?;
    let quirks = [
        format!("list-order={}", name(list_order)),
        format!("list-limit={page}"),
        format!("users={users}"),
        format!("create:lost={lost_percent}%"),
    ];
    let faults = FaultPlan::parse(&quirks).map_err(anyhow::Error::msg)?;
    sandbox.control(&SandboxControl { faults: Some(faults), ..SandboxControl::default() });
    let start = Instant::now();
    let lost = run(program, &sandbox, *rows, *rate).await?;
    let pages = sandbox.stats().model.requests.list;
    Ok(Measured { lost, pages, seconds: start.elapsed().as_secs_f64() })
}

const fn name(order: ListOrder) -> &'static str {
    match order {
        ListOrder::NewestFirst => "newest",
        ListOrder::OldestFirst => "oldest",
        ListOrder::Shuffled => "shuffled",
        ListOrder::Scattered => "scattered",
    }
}

/// Runs the program to its end. Returns the number of rows whose answer was lost.
async fn run(program: &Path, sandbox: &Sandbox, rows: u64, rate: u64) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("people.csv"), people(rows))?;
    let mut child = Command::new(program.canonicalize().with_context(|| program.display().to_string())?)
        .current_dir(folder.path())
        .args(["run", "people.csv", "--out", "out", "--yes", "--api-url", &sandbox.base_url()])
        .args(["--rate", &rate.to_string()])
        .env("PLU_API_KEY", "sk_staging_sandbox")
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("stderr"))?)
        .spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        sleep(Duration::from_millis(20)).await;
    };
    let stderr = fs::read_to_string(folder.path().join("stderr"))?;
    ensure!(status.code().is_some(), "the run ended with {status}: {stderr}");
    let events = fs::read_to_string(folder.path().join("out/results.ndjson"))?;
    ensure!(events.lines().count() as u64 == rows, "{} events for {rows} rows: {stderr}", events.lines().count());
    Ok(events.lines().filter(|event| !event.contains("\"verificationUrl\"")).count() as u64)
}

fn people(count: u64) -> String {
    let mut csv = "firstName,lastName,email,phoneNumber,accountPurpose,ipAddress,isTermsOfServiceAccepted,program,\
                   address,city,region,postalCode,countryCode\n"
        .to_owned();
    for n in 0..count {
        csv.push_str(&format!(
            "Ann,Lee,p{n}@example.com,+1415{},personal use,203.0.113.{},true,custodial,{n} Main Street,Springfield,IL,\
             62701,US\n",
            5_550_000 + n,
            n % 250 + 1
        ));
    }
    csv
}
