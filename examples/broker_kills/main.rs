//! The proof that nobody is lost or created twice when broker and worker are killed: many jobs through a RabbitMQ of its
//! own, which is killed with -9 while a worker, killed with -9 as well, works on them. Prints what was promised and
//! what came; ends with 1 if a promise is broken.
//!
//! ```sh
//! cargo run --release --example broker_kills -- --jobs 20000 --broker-kills 3 --worker-kills 5
//! ```
//!
//! The worker is this program again, with the arguments of `plu-onboard`. Its log is shown where a promise is broken.

#![expect(clippy::print_stdout, reason = "a program for people")]

#[expect(dead_code, clippy::unwrap_used, reason = "it is written for the tests, which use all of it")]
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

/// What a broker that is killed sooner may not recover: quorum queues that were just declared.
const SETTLED: Duration = Duration::from_secs(6);

/// What takes longer than this isn't going on any more. A key lives for half of it.
const PATIENCE: Duration = Duration::from_secs(600);

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Whether somebody has had enough of it. Then it ends in good order, so that no broker stays behind.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// What is asked for.
struct Plan {
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
        let mut told = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = told.recv() => {}
            interrupted = ctrl_c() => interrupted?,
        }
        STOPPED.store(true, Ordering::Relaxed);
        std::io::Result::Ok(())
    });
    prove(&plan, &runtime)
}

fn plan(arguments: &[String]) -> anyhow::Result<Plan> {
    let mut plan = Plan { jobs: 20_000, broker_kills: 3, worker_kills: 5 };
    for pair in arguments.chunks(2) {
        let [name, number] = pair else { bail!("{} needs a number", pair[0]) };
        let field = match name.as_str() {
            "--jobs" => &mut plan.jobs,
            "--broker-kills" => &mut plan.broker_kills,
            "--worker-kills" => &mut plan.worker_kills,
            _ => bail!("there are --jobs N, --broker-kills N and --worker-kills N, not {name}"),
        };
        *field = number.parse().with_context(|| format!("{name} {number}"))?;
    }
    ensure!(plan.jobs >= 100, "with fewer than 100 jobs nothing is on its way when something is killed");
    Ok(plan)
}

fn prove(plan: &Plan, runtime: &Runtime) -> anyhow::Result<ExitCode> {
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

/// Lets a worker work and the kills come. Says whether every promise was kept.
fn work(
    plan: &Plan,
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
        // Spread evenly over the jobs, the last one well before the end.
        let at = jobs.distinct() * number / (kills.len() as u64 + 1);
        until(runtime, || Ok(worker.is_running()? && partner.stats().model.created >= at))?;
        println!("{:>7.1} s  {at} users: {} killed", began.elapsed().as_secs_f64(), kill.name());
        match kill {
            Kill::Worker => {
                worker.kill();
                worker = Worker::start(broker, &partner.base_url(), log)?;
            }
            Kill::Broker => {
                broker.kill();
                broker.restart();
                let returned = Instant::now();
                reader.watch_for_the_next();
                until(runtime, || Ok(worker.is_running()? && reader.next_came().is_some()))?;
                returns.extend(reader.next_came().map(|came| came.saturating_duration_since(returned)));
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

enum Kill {
    Broker,
    Worker,
}

impl Kill {
    const fn name(&self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Worker => "worker",
        }
    }
}

/// Both kinds by turns, for as long as there are both.
fn kills(plan: &Plan) -> Vec<Kill> {
    let each = 0..plan.broker_kills.max(plan.worker_kills);
    let turn = |turn| {
        let worker = (turn < plan.worker_kills).then_some(Kill::Worker);
        worker.into_iter().chain((turn < plan.broker_kills).then_some(Kill::Broker))
    };
    each.flat_map(turn).collect()
}

fn until(runtime: &Runtime, mut has_come: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !has_come()? {
        ensure!(Instant::now() < deadline, "it doesn't go on");
        ensure!(!STOPPED.load(Ordering::Relaxed), "stopped");
        pause(runtime, LOOK_EVERY);
    }
    Ok(())
}

fn pause(runtime: &Runtime, pause: Duration) {
    // A timer needs its runtime before it is waited for.
    runtime.block_on(async { sleep(pause).await });
}

/// A worker; killed when it is dropped.
struct Worker(Child);

impl Worker {
    fn start(broker: &Broker, api_url: &str, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log).context("the worker's log")?;
        let child = Command::new(std::env::current_exe().context("the path of this program")?)
            .args(["worker", "--queue", &broker.url(), "--api-url", api_url, "--rate", "0"])
            // Settings of this shell must not make it another experiment.
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
        let ended = self.0.try_wait().context("the worker can't be asked")?;
        ended.map_or(Ok(true), |status| bail!("the worker ended by itself: {status}"))
    }

    /// -9.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status().context("SIGTERM could not be sent")?;
        let status = self.0.wait().context("the worker can't be waited for")?;
        ensure!(status.success(), "the worker ended with {status} on SIGTERM");
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
