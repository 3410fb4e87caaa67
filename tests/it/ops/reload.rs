//! SIGHUP reads the API key and the rate limit again and resumes at once. With an invalid key or setting nothing
//! changes.

use std::time::Duration;

use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Partner, TestDir, customers};

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() })
}

#[test]
fn sighup_reads_the_key_again_and_a_paused_run_resumes_at_once() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..100)));
    dir.write("plu.key", "sk_staging_old_s3cret");
    let mut running = dir
        .program(&format!("run people.csv --out out --rate 300 --api-key-file plu.key --api-url {}", partner.url()))
        .without_key()
        // No other request is in flight when the first one is refused.
        .set("worker.concurrency", "1")
        // Nothing but SIGHUP can end the pause within the test's time.
        .set("worker.probe_initial_s", "3600")
        .set("worker.probe_max_s", "3600")
        .start();
    running.wait_for_output("paused: the API key is refused (401): put a valid key into the key file");
    // An invalid key changes nothing, and no probe is sent.
    let requests = partner.requests();
    dir.write("plu.key", "two words");
    running.signal("HUP");
    running.wait_for_output("settings not reloaded");
    running.wait_for_output("white space");
    assert_eq!(partner.requests(), requests);

    dir.write("plu.key", "sk_staging_sandbox");
    running.signal("HUP");
    let finished = running.expect_exit(0);
    finished.assert_output(&[
        "API key and rate limit apply from now on",
        "changed",
        "300/s",
        "resumed: the account works again",
    ]);
    finished.assert_no_output(&["s3cret", "sk_staging"]);
    assert_eq!(dir.results("out").tally(), [100, 0, 0, 0, 0]);
}

#[test]
fn sighup_applies_a_new_rate_of_the_settings_file() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..400)));
    let settings = |rate: u32| dir.write("worker.toml", format!("[rate_limit]\nrate = {rate}\n"));
    settings(2);
    let mut running =
        dir.program(&format!("run people.csv --out out --config worker.toml --api-url {}", partner.url())).start();
    running.wait_until("some users", || partner.stats().model.created >= 3);
    assert!(partner.stats().model.max_requests_in_any_second <= 2);
    settings(100);
    running.signal("HUP");
    running.wait_for_output("100/s");
    // At the old rate the run would take more than three minutes.
    running.expect_exit(0);
    let most = partner.stats().model.max_requests_in_any_second;
    assert!((50..=110).contains(&most), "{most} requests in a second, at a rate of 100");
}

#[test]
fn sighup_makes_a_paused_worker_probe_at_once() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..50)));
    partner.set_account(AccountState::Suspended);
    dir.program("import people.csv --queue local:jobs.db").expect_exit(0);
    let mut worker = dir
        .program(&format!("worker --queue local:jobs.db --rate 0 --api-url {}", partner.url()))
        // No other request is in flight when the worker pauses.
        .set("worker.concurrency", "1")
        .set("worker.probe_initial_s", "3600")
        .set("worker.probe_max_s", "3600")
        .start();
    worker.wait_for_output("the partner account is suspended or pending (403)");
    let refused = partner.requests();
    worker.signal("HUP");
    worker.wait_until("one probe", || partner.requests() == refused + 1);
    worker.wait_for_output("key=\"unchanged\"");
    worker.wait_for_output("a pause is probed at once");
    worker.wait_for_output(
        "still paused after an immediate probe: the partner account is suspended or pending (403): ask Plu",
    );
    partner.set_account(AccountState::Ok);
    worker.signal("HUP");
    worker.wait_until("all users are created", || partner.stats().model.created == 50);
    assert_eq!(partner.requests(), refused + 1 + 50);
    worker.signal("TERM");
    worker.expect_exit(0);
}

#[test]
fn sighup_resumes_a_halted_worker() {
    let mut config = SandboxConfig::default();
    // The answer is "key already used", however slow the machine is.
    config.model.key_ttl = Duration::from_secs(86_400);
    let (partner, dir) = (Partner::start(config), TestDir::with("people.csv", customers(0..300)));
    dir.program(&format!("run people.csv --rate 0 --api-url {}", partner.url())).expect_exit(0);
    dir.program("import people.csv --queue local:jobs.db").expect_exit(0);
    let mut worker = dir
        .program(&format!("worker --queue local:jobs.db --rate 0 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "86400")
        .set("halt.window", "40")
        .set("worker.concurrency", "4")
        .start();
    worker.wait_for_output("halted: too many rows were rejected, failed, existed before or have no link");
    worker.wait_for_output("40 existing");
    let requests = partner.stats().model.requests.create;
    assert!(requests < 300 + 100, "{requests}");
    worker.signal("HUP");
    worker.wait_until("it resumes, and sends until it halts again", || {
        partner.stats().model.requests.create >= requests + 40
    });
    worker.signal("TERM");
    worker.expect_exit(0);
}
