//! Checks that no job is lost and no user is created twice when broker and worker are killed with SIGKILL. Sends many
//! jobs through a RabbitMQ of its own, prints the promised and the actual numbers, and exits with 1 if they differ.
//!
//! ```sh
//! cargo run --release --example broker_kills -- --jobs 20000 --broker-kills 3 --worker-kills 5
//! ```
//!
//! The worker is this program, started with the arguments of `plu-onboard`. Its log is printed if a promise is broken.

#![expect(clippy::print_stdout, reason = "a command line program")]

#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/it/support/broker.rs"]
mod broker;
mod jobs;
mod reader;
mod report;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use plu_onboard::app;
use plu_onboard::cli;
use plu_onboard::sandbox::{Sandbox, SandboxConfig};
use tokio::runtime::Runtime;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use broker::Broker;
use reader::Reader;

pub(crate) const PREFIX: &str = "plu.onboarding";

/// Wait before the first kill: a broker may not recover quorum queues that were just declared.
const SETTLED: Duration = Duration::from_secs(6);

/// Time limit of each step: twice the lifetime of an idempotency key.
const STEP_MAX: Duration = Duration::from_secs(600);

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Set by SIGINT and SIGTERM. The program then exits in good order, so that its broker is stopped.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The arguments.
struct KillPlan {
    jobs: u32,
    broker_kills: u32,
    worker_kills: u32,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "worker") {
        return Ok(app::main(cli::Cli::parse()));
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Runtime::new().context("no threads can be started")?;
    let plan = plan(&arguments)?;
    runtime.spawn(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminated.recv() => {}
            interrupted = ctrl_c() => interrupted?,
        }
        STOPPED.store(true, Ordering::Relaxed);
        std::io::Result::Ok(())
    });
    prove(&plan, &runtime)
}

fn plan(arguments: &[String]) -> anyhow::Result<KillPlan> {
    let mut plan = KillPlan { jobs: 20_000, broker_kills: 3, worker_kills: 5 };
    for pair in arguments.chunks(2) {
        let [name, number] = pair else { bail!("{} needs a number", pair[0]) };
        let field = match name.as_str() {
            "--jobs" => &mut plan.jobs,
            "--broker-kills" => &mut plan.broker_kills,
            "--worker-kills" => &mut plan.worker_kills,
            _ => bail!("unknown argument {name}: use --jobs N, --broker-kills N and --worker-kills N"),
        };
        *field = number.parse().with_context(|| format!("{name} {number}"))?;
    }
    ensure!(plan.jobs >= 100, "use at least 100 jobs: with fewer, none is in flight at a kill");
    Ok(plan)
}

fn prove(plan: &KillPlan, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let config = SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() };
    let partner = runtime.block_on(Sandbox::start(config)).context("the simulated API could not be started")?;
    let mut broker = Broker::start();
    broker.declare(PREFIX);
    let reader = Reader::start(&broker, runtime);
    let jobs = jobs::Jobs::make(plan.jobs);
    for (lane, bodies) in jobs.by_lane() {
        broker.publish(PREFIX, lane, &bodies);
    }
    pause(runtime, SETTLED);

    let log = tempfile::NamedTempFile::new().context("no temporary file")?.into_temp_path();
    let is_kept = work(plan, runtime, &jobs, &partner, &mut broker, &reader, &log);
    if !is_kept.as_ref().is_ok_and(|is_kept| *is_kept) {
        println!("the worker's log:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
    Ok(if is_kept? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the jobs with all kills. Returns whether every promise was kept.
fn work(
    plan: &KillPlan,
    runtime: &Runtime,
    jobs: &jobs::Jobs,
    partner: &Sandbox,
    broker: &mut Broker,
    reader: &Reader,
    log: &Path,
) -> anyhow::Result<bool> {
    let began = Instant::now();
    let mut worker = Worker::start(broker, &partner.base_url(), log)?;
    let kills = kills(plan);
    let mut returns = Vec::new();
    for (number, kill) in (1..).zip(&kills) {
        // The kills are spread evenly over the jobs, the last one well before the end.
        let at = jobs.distinct() * number / (kills.len() as u64 + 1);
        until(runtime, || Ok(worker.is_running()? && partner.stats().model.created >= at))?;
        println!("{:>7.1} s  {at} users: {} killed", began.elapsed().as_secs_f64(), kill.name());
        match kill {
            KillTarget::Worker => {
                worker.kill();
                worker = Worker::start(broker, &partner.base_url(), log)?;
            }
            KillTarget::Broker => {
                broker.kill();
                broker.restart();
                let returned = Instant::now();
                reader.watch_for_next();
                until(runtime, || Ok(worker.is_running()? && reader.next_outcome_at().is_some()))?;
                returns.extend(reader.next_outcome_at().map(|at| at.saturating_duration_since(returned)));
            }
        }
    }
    until(runtime, || Ok(worker.is_running()? && reader.jobs_with_an_outcome() >= plan.jobs as usize))?;
    let took = began.elapsed();
    worker.stop()?;

    let findings = report::Findings {
        outcomes: reader.outcomes(),
        repeats: reader.repeats(),
        stats: partner.stats(),
        left: [".jobs.signup", ".jobs.bulk", ".dead", ".events.unrouted"]
            .map(|queue| (queue, broker.ready(&format!("{PREFIX}{queue}")))),
    };
    Ok(report::print(plan, jobs, &findings, &returns, took))
}

enum KillTarget {
    Broker,
    Worker,
}

impl KillTarget {
    const fn name(&self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Worker => "worker",
        }
    }
}

/// The kills in their order: worker and broker alternate as long as both are left.
fn kills(plan: &KillPlan) -> Vec<KillTarget> {
    let each = 0..plan.broker_kills.max(plan.worker_kills);
    let turn = |turn| {
        let worker = (turn < plan.worker_kills).then_some(KillTarget::Worker);
        worker.into_iter().chain((turn < plan.broker_kills).then_some(KillTarget::Broker))
    };
    each.flat_map(turn).collect()
}

fn until(runtime: &Runtime, mut is_done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + STEP_MAX;
    while !is_done()? {
        ensure!(Instant::now() < deadline, "no progress within 10 minutes");
        ensure!(!STOPPED.load(Ordering::Relaxed), "stopped");
        pause(runtime, LOOK_EVERY);
    }
    Ok(())
}

fn pause(runtime: &Runtime, pause: Duration) {
    // `sleep` must be created inside of the runtime.
    runtime.block_on(async { sleep(pause).await });
}

/// A worker process; killed when it is dropped.
struct Worker(Child);

impl Worker {
    fn start(broker: &Broker, api_url: &str, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log).context("the worker's log")?;
        let child = Command::new(std::env::current_exe().context("the path of this program")?)
            .args(["worker", "--queue", &broker.url(), "--api-url", api_url, "--rate", "0"])
            // Settings in the variables of this shell must not change the result.
            .env_clear()
            .env("PLU_API_KEY", "sk_staging_sandbox")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the worker could not be started")?;
        Ok(Self(child))
    }

    fn is_running(&mut self) -> anyhow::Result<bool> {
        let ended = self.0.try_wait().context("the state of the worker can't be read")?;
        ended.map_or(Ok(true), |status| bail!("the worker exited by itself: {status}"))
    }

    /// Sends SIGKILL.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status().context("SIGTERM could not be sent")?;
        let status = self.0.wait().context("the worker can't be waited for")?;
        ensure!(status.success(), "the worker exited with {status} on SIGTERM");
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
