//! The simulation over thousands of seeds: the whole pipeline on paused time, with every fault at once. After each
//! run the promises are checked. To see what happens in one:
//! `cargo run --features simulation --example simulate -- --seed N`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use plu_onboard::testing::simulation::{Coverage, SimulationRun, simulate};

const SEEDS: u64 = 5_000;

/// As many as CI's machines have cores.
const THREADS: usize = 2;

fn run(seed: u64) -> SimulationRun {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, false))
}

#[test]
fn every_decision_is_met_under_every_fault_and_no_promise_is_broken() {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut coverage, mut broken) = (Coverage::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return (coverage, broken);
            }
            let run = run(seed);
            coverage.add(&run.met);
            broken.extend(run.broken.into_iter().map(|what| format!("seed {seed}: {what}")));
        }
    };
    let (mut coverage, mut broken) = (Coverage::default(), Vec::new());
    thread::scope(|scope| {
        let parts: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for part in parts {
            let (part_coverage, part_broken) = part.join().unwrap();
            coverage.merge(part_coverage);
            broken.extend(part_broken);
        }
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(coverage.missing().is_empty(), "not met: {:?}\n{coverage}", coverage.missing());
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in [3, 11, 123, 154] {
        assert_eq!(run(seed).digest, run(seed).digest, "seed {seed}");
    }
    assert_ne!(run(1).digest, run(2).digest);
}
