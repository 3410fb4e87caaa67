//! Runs the simulation over many seeds, and prints the speed, the broken promises and the coverage.
//!
//! ```sh
//! cargo run --release --features simulation --example simulate -- --seeds 100000
//! cargo run --features simulation --example simulate -- --seed 4711     # one seed, with everything that happens in it
//! ```

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::bail;
use clap::Parser;
use plu_onboard::testing::simulation::{Coverage, SimulationRun, simulate};
use tokio::time::Instant;

/// With this many seeds, every feasible pair of fault and decision is met. Fewer may miss some by chance.
const SEEDS_FOR_FULL_COVERAGE: u64 = 5_000;

/// Runs the simulation over many seeds, or shows one seed in detail.
#[derive(Parser)]
struct Arguments {
    /// Shows one seed, with everything that happens in it.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Number of seeds.
    #[arg(long, default_value = "10000")]
    seeds: NonZeroU64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// What some seeds have shown.
#[derive(Default)]
struct Findings {
    coverage: Coverage,
    broken: Vec<String>,
    lives: u64,
}

impl Findings {
    fn add(&mut self, seed: u64, run: SimulationRun) {
        self.coverage.add(&run.met);
        self.lives += u64::from(run.lives);
        self.broken.extend(run.broken.into_iter().map(|what| format!("seed {seed}: {what}")));
    }

    fn merge(&mut self, other: Self) {
        self.coverage.merge(other.coverage);
        self.broken.extend(other.broken);
        self.lives += other.lives;
    }
}

fn main() -> anyhow::Result<()> {
    let Arguments { seed, seeds, from } = Arguments::parse();
    match seed {
        Some(seed) => show_seed(seed),
        None => run_seeds(from, seeds.get()),
    }
}

fn run(seed: u64, is_verbose: bool) -> SimulationRun {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be built").block_on(simulate(seed, is_verbose))
}

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn show_seed(seed: u64) -> anyhow::Result<()> {
    let run = run(seed, true);
    println!("{:#?}", run.plan);
    println!("{}", run.lines.join("\n"));
    println!("{} lives, {:?} simulated, digest {:016x}", run.lives, run.simulated, run.digest);
    if !run.broken.is_empty() {
        bail!("seed {seed} breaks promises:\n  {}", run.broken.join("\n  "));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn run_seeds(from: u64, seeds: u64) -> anyhow::Result<()> {
    let (start, next, threads) = (Instant::now(), AtomicU64::new(from), thread::available_parallelism()?);
    let mut findings = Findings::default();
    thread::scope(|scope| {
        let work = || {
            let mut findings = Findings::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return findings;
                }
                findings.add(seed, run(seed, false));
            }
        };
        let parts: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        for part in parts {
            findings.merge(part.join().expect("no seed panics"));
        }
    });
    let Findings { coverage, broken, lives } = findings;
    let (seconds, missing) = (start.elapsed().as_secs_f64(), coverage.missing());
    println!("{coverage}");
    println!("{seeds} seeds, {lives} lives in {seconds:.1} s: {:.0} seeds/s", seeds as f64 / seconds);
    println!("{} feasible pairs of fault and decision were not met: {missing:?}", missing.len());
    if !broken.is_empty() {
        bail!("{} promises broken; --seed N shows one of them:\n{}", broken.len(), broken.join("\n"));
    }
    if seeds >= SEEDS_FOR_FULL_COVERAGE && !missing.is_empty() {
        bail!("feasible pairs of fault and decision were not met");
    }
    Ok(())
}
