//! Measures how many links an outage costs that begins in the middle of good work, and what random losses cost in time.
//! Runs a program against the sandbox, and prints a table.
//!
//! ```sh
//! cargo build --release && cargo run --release --example outage                       # outages of 20 s
//! cargo run --release --example outage -- --outage-s 600                              # ten minutes
//! cargo run --release --example outage -- --before ../old/target/release/plu-onboard  # compared with another version
//! ```
//!
//! The compared versions run at the same time, each against a sandbox of its own that loses the same answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use plu_onboard::sandbox::{FaultPlan, Sandbox, SandboxConfig, SandboxControl};
use tokio::time::{Instant, sleep};

/// Time limit of a request in these runs. The default of 30 s would only make the hanging cases take longer.
const TIMEOUT_S: u64 = 5;

/// How long each answer takes while all is well.
const LATENCY: Duration = Duration::from_millis(200);

/// Requests that may be in flight: the default of `worker.concurrency`.
const CONCURRENCY: u64 = 64;

/// Measures links lost in outages, and the throughput with random losses.
#[derive(Parser)]
struct Arguments {
    /// The program that is measured.
    #[arg(long, default_value = "target/release/plu-onboard")]
    program: PathBuf,
    /// Length of the outages, in seconds.
    #[arg(long, default_value_t = 20)]
    outage_s: u64,
    /// Another version of the program, to compare with.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Leaves out the random losses.
    #[arg(long, conflicts_with = "only_losses")]
    only_outages: bool,
    /// Leaves out the outages.
    #[arg(long)]
    only_losses: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Requests take effect, and their connection is closed without an answer.
    Broken,
    /// Requests take effect, and their answer doesn't come.
    Hanging,
}

impl Outage {
    fn control(self) -> anyhow::Result<SandboxControl> {
        Ok(match self {
            Self::Broken => faults(&["lost=100%"])?,
            Self::Hanging => SandboxControl { latency_ms: Some(3_600_000), ..SandboxControl::default() },
        })
    }

    fn over() -> anyhow::Result<SandboxControl> {
        Ok(SandboxControl { latency_ms: Some(LATENCY.as_millis() as u64), ..faults(&[])? })
    }
}

fn faults(entries: &[&str]) -> anyhow::Result<SandboxControl> {
    let faults = FaultPlan::parse(entries).map_err(anyhow::Error::msg)?;
    Ok(SandboxControl { faults: Some(faults), ..SandboxControl::default() })
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example prints its result")]
async fn main() -> anyhow::Result<()> {
    let Arguments { program, outage_s, before, only_outages, only_losses } = Arguments::parse();
    let versions: Vec<(&str, &Path)> =
        before.as_deref().map(|path| ("before", path)).into_iter().chain([("now", &*program)]).collect();
    if !only_losses {
        println!(
            "| outage of {outage_s} s | requests/s | version | in flight at its begin | links lost | may be lost |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for (version, program) in &versions {
            measure_outages(version, program, Duration::from_secs(outage_s)).await?;
        }
    }
    if !only_outages {
        println!("\n| random losses | requests/s | version | rows/s | creations/s |");
        println!("| --- | --- | --- | --- | --- |");
        // 0: as many as fit into the requests in flight.
        for rate in [20, 200, 0] {
            for percent in [0, 5, 10] {
                let measured = versions.iter().map(|(_, program)| measure_losses(program, percent, rate));
                for ((version, _), [rows, creations]) in versions.iter().zip(try_join_all(measured).await?) {
                    println!("| {percent} % | {rate} | {version} | {rows:.1} | {creations:.1} |");
                }
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example prints its result")]
async fn measure_outages(version: &str, program: &Path, outage_for: Duration) -> anyhow::Result<()> {
    let cases = [(Outage::Broken, 20), (Outage::Broken, 200), (Outage::Hanging, 20), (Outage::Hanging, 200)];
    let measured = cases.map(|(outage, rate)| measure_outage(program, outage, rate, outage_for));
    for ((outage, rate), Measured { in_flight, lost }) in cases.into_iter().zip(try_join_all(measured).await?) {
        let lost_max = match outage {
            Outage::Broken => in_flight + 5,
            Outage::Hanging => CONCURRENCY,
        };
        let mark = if lost <= lost_max { "" } else { " **exceeded**" };
        println!("| {outage:?} | {rate} | {version} | {in_flight} | {lost} | {lost_max}{mark} |");
    }
    Ok(())
}

struct Measured {
    in_flight: u64,
    lost: u64,
}

async fn measure_outage(program: &Path, outage: Outage, rate: u64, outage_for: Duration) -> anyhow::Result<Measured> {
    let config = SandboxConfig { latency: LATENCY, ..SandboxConfig::default() };
    let sandbox = Sandbox::start(config).await?;
    // Six seconds of good work, and more after the outage.
    let mut run = Run::start(program, &sandbox, rate, rate * 20, 300)?;
    let good = rate * 6;
    while sandbox.stats().model.created < good {
        ensure!(run.child.try_wait()?.is_none(), "the run ended before the outage");
        sleep(Duration::from_millis(1)).await;
    }
    let before = sandbox.stats().model.created;
    sleep(LATENCY).await;
    let in_flight = sandbox.stats().model.created - before;
    sandbox.control(&outage.control()?);
    sleep(outage_for).await;
    sandbox.control(&Outage::over()?);
    let lost = run.finish(rate * 20).await?;
    Ok(Measured { in_flight, lost })
}

/// Returns rows and creations per second.
async fn measure_losses(program: &Path, percent: u32, rate: u64) -> anyhow::Result<[f64; 2]> {
    // Without a rate limit, the requests in flight are the limit, not this machine: 64 of 400 ms are 160 a second.
    let (latency_ms, rows) = if rate == 0 { (400, 5_000) } else { (50, rate * 40) };
    let mut config = SandboxConfig { latency: Duration::from_millis(latency_ms), ..SandboxConfig::default() };
    // A used key is answered with the first answer: how many pages the look-ups read depends on chance.
    config.model.key_ttl = Duration::ZERO;
    let sandbox = Sandbox::start(config).await?;
    sandbox.control(&faults(&[&format!("lost={percent}%")])?);
    let start = Instant::now();
    let mut run = Run::start(program, &sandbox, rate, rows, 0)?;
    run.finish(rows).await?;
    let seconds = start.elapsed().as_secs_f64();
    Ok([rows, sandbox.stats().model.requests.create].map(|count| count as f64 / seconds))
}

/// A run of the program.
struct Run {
    folder: tempfile::TempDir,
    child: std::process::Child,
}

impl Run {
    fn start(program: &Path, sandbox: &Sandbox, rate: u64, rows: u64, key_ttl_s: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("people.csv"), people(rows))?;
        let child = Command::new(program.canonicalize().with_context(|| program.display().to_string())?)
            .current_dir(folder.path())
            .args(["run", "people.csv", "--out", "out", "--yes", "--api-url", &sandbox.base_url()])
            .args(["--rate", &rate.to_string(), "--concurrency", &CONCURRENCY.to_string()])
            .env("PLU_API_KEY", "sk_staging_sandbox")
            .env("PLU_ONBOARD__API__TIMEOUT_S", TIMEOUT_S.to_string())
            .env("PLU_ONBOARD__API__KEY_TTL_S", key_ttl_s.to_string())
            .env("PLU_ONBOARD__HALT__ON_EXISTING_SHARE", "1.0")
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr"))?)
            .spawn()?;
        Ok(Self { folder, child })
    }

    /// Waits for the end. Returns the number of rows that were created without a link.
    async fn finish(&mut self, rows: u64) -> anyhow::Result<u64> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            sleep(Duration::from_millis(5)).await;
        };
        let stderr = fs::read_to_string(self.folder.path().join("stderr"))?;
        ensure!(status.success(), "the run ended with {status}: {stderr}");
        let events = fs::read_to_string(self.folder.path().join("out/results.ndjson"))?;
        ensure!(events.lines().count() as u64 == rows, "{} events for {rows} rows", events.lines().count());
        Ok(events.lines().filter(|event| !event.contains("\"verificationUrl\"")).count() as u64)
    }
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
