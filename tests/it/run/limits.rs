//! Limits of this machine: too few open files are an error at the start, and named as what they are later.

use std::time::Duration;

use plu_onboard::sandbox::{FaultPlan, SandboxConfig, SandboxControl};

use crate::support::{Partner, TestDir, customers};

#[test]
fn more_requests_in_flight_than_open_files_are_refused_at_the_start() {
    let dir = TestDir::with("people.csv", customers(0..3));
    let output = dir
        .program("run people.csv --out out --yes --concurrency 200 --api-url http://127.0.0.1:1")
        .with_open_files(250)
        .expect_exit(2);
    let says = "worker.concurrency is 200, which needs 300 open files and connections, but this process may have 250";
    assert!(output.stderr.contains(says), "{output}");
    assert!(output.stderr.contains("lower worker.concurrency to 150"), "{output}");
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_open_files_pause_the_run_and_are_not_called_an_unreachable_api() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    let mut config = SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..200));
    let mut running = dir
        .program(&format!("run people.csv --out out --rate 100 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("worker.probe_initial_s", "1")
        .start();
    running.wait_until("some users", || partner.stats().model.created >= 20);
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap());
    // All open files stay open.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(1), maximum }).unwrap();
    // The connections end, so that new ones are needed.
    let faults = |entries: &[&str]| SandboxControl {
        faults: Some(FaultPlan::parse(entries).unwrap()),
        ..SandboxControl::default()
    };
    partner.control(&faults(&["lost=100%"]));
    running.wait_for_output("this machine allows no more open files and connections: raise the limit");
    partner.control(&faults(&[]));
    prlimit(pid, Resource::Nofile, before).unwrap();
    let output = running.expect_exit(0);
    output.assert_no_output(&["can't be reached"]);
    assert_eq!(dir.results("out").tally(), [200, 0, 0, 0, 0]);
}
