//! Runs the simulation over as many seeds as one wants, and says how fast, what broke and what was met.
//!
//! ```sh
//! cargo run --release --example simulate -- --seeds 100000
//! cargo run --example simulate -- --seed 4711        # one seed again, with everything that happens in it
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, bail};
use plu_onboard::testing::simulation::{Coverage, Run, simulate};
use tokio::time::Instant;

/// With so many seeds every combination is met.
const SEEDS_FOR_ALL: u64 = 5_000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) =
        arguments.iter().step_by(2).find(|name| !["--seed", "--seeds", "--from"].contains(&name.as_str()))
    {
        bail!("there are --seed N, --seeds N and --from N, not {unknown}");
    }
    let value = |name: &str| -> anyhow::Result<Option<u64>> {
        let position = arguments.iter().position(|argument| argument == name);
        let text =
            position.map(|position| arguments.get(position + 1).with_context(|| format!("{name} needs a number")));
        text.transpose()?.map(|text| text.parse().with_context(|| format!("{name} {text}"))).transpose()
    };
    match (value("--seed")?, value("--seeds")?) {
        (Some(seed), None) => one(seed),
        (None, seeds) => many(value("--from")?.unwrap_or(0), seeds.unwrap_or(10_000)),
        (Some(_), Some(_)) => bail!("give --seed N for one or --seeds N for many"),
    }
}

fn run(seed: u64, is_verbose: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing").block_on(simulate(seed, is_verbose))
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn one(seed: u64) -> anyhow::Result<()> {
    let run = run(seed, true);
    println!("{:#?}", run.plan);
    println!("{}", run.lines.join("\n"));
    println!("{} lives, {:?} simulated, digest {:016x}", run.lives, run.simulated, run.digest);
    if !run.broken.is_empty() {
        bail!("seed {seed} breaks promises:\n  {}", run.broken.join("\n  "));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn many(from: u64, seeds: u64) -> anyhow::Result<()> {
    let (start, next, threads) = (Instant::now(), AtomicU64::new(from), thread::available_parallelism()?);
    let (mut coverage, mut broken, mut lives) = (Coverage::default(), Vec::new(), 0);
    thread::scope(|scope| {
        let work = || {
            let (mut coverage, mut broken, mut lives) = (Coverage::default(), Vec::new(), 0);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return (coverage, broken, lives);
                }
                let run = run(seed, false);
                coverage.add(&run.met);
                lives += u64::from(run.lives);
                broken.extend(run.broken.into_iter().map(|what| format!("seed {seed}: {what}")));
            }
        };
        let parts: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        for part in parts {
            let (part_coverage, part_broken, part_lives) = part.join().expect("it doesn't panic");
            coverage.merge(part_coverage);
            broken.extend(part_broken);
            lives += part_lives;
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("{coverage}");
    println!("{seeds} seeds, {lives} lives in {seconds:.1} s: {:.0} seeds/s", seeds as f64 / seconds);
    println!("{} combinations were possible and not met: {:?}", coverage.missing().len(), coverage.missing());
    if !broken.is_empty() {
        bail!("{} promises broken; run again with --seed N:\n{}", broken.len(), broken.join("\n"));
    }
    // Fewer seeds may miss some by chance.
    if seeds >= SEEDS_FOR_ALL && !coverage.missing().is_empty() {
        bail!("combinations that are possible were not met");
    }
    Ok(())
}
