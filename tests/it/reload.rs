//! A key that was revoked is replaced while the work goes on: SIGHUP reads it again and goes on at once, and a mistake
//! in it changes nothing.

use std::time::Duration;

use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Partner, Place, customers};

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() })
}

#[test]
fn sighup_reads_the_key_again_and_a_run_goes_on_at_once() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..100)));
    place.write("plu.key", "sk_staging_old_s3cret");
    let mut running = place
        .program(&format!("run people.csv --out out --rate 300 --api-key-file plu.key --api-url {}", partner.url()))
        .without_key()
        // No others are on their way when the first one is refused.
        .set("worker.concurrency", "1")
        // Nothing but SIGHUP can end the pause within the test's time.
        .set("worker.probe_initial_s", "3600")
        .set("worker.probe_max_s", "3600")
        .start();
    running.says("paused, every job is kept: the API key is refused (401): put a valid key into the key file");
    // Refused: nothing changes, and no probe leaves.
    let requests = partner.requests();
    place.write("plu.key", "two words");
    running.signal("HUP");
    running.says("the settings can't be used and stay as they were");
    running.says("white space");
    assert_eq!(partner.requests(), requests);

    place.write("plu.key", "sk_staging_sandbox");
    running.signal("HUP");
    let finished = running.ends_with(0);
    finished.said(&["key and pace hold from now on", "another one", "300/s", "the account answers again: going on"]);
    finished.did_not_say(&["s3cret", "sk_staging"]);
    assert_eq!(place.results("out").tally(), [100, 0, 0, 0, 0]);
}

#[test]
fn sighup_takes_over_a_rate_from_the_settings_file() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..400)));
    let settings = |rate: u32| place.write("worker.toml", format!("[rate_limit]\nrate = {rate}\n"));
    settings(2);
    let mut running =
        place.program(&format!("run people.csv --out out --config worker.toml --api-url {}", partner.url())).start();
    running.until("it works", || partner.stats().model.created >= 3);
    assert!(partner.stats().model.max_requests_in_any_second <= 2);
    settings(100);
    running.signal("HUP");
    running.says("100/s");
    // At the old rate it would take more than three minutes.
    running.ends_with(0);
    let most = partner.stats().model.max_requests_in_any_second;
    assert!((50..=110).contains(&most), "{most} in a second, at a rate of 100");
}

#[test]
fn sighup_probes_at_once_for_a_worker_and_does_not_end_it() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..50)));
    partner.set_account(AccountState::Suspended);
    place.program("import people.csv --queue local:jobs.db").ends_with(0);
    let mut worker = place
        .program(&format!("worker --queue local:jobs.db --rate 0 --api-url {}", partner.url()))
        // So that nothing is on its way any more when it pauses.
        .set("worker.concurrency", "1")
        .set("worker.probe_initial_s", "3600")
        .set("worker.probe_max_s", "3600")
        .start();
    worker.says("the partner account is suspended or pending (403)");
    let refused = partner.requests();
    worker.signal("HUP");
    worker.until("one probe", || partner.requests() == refused + 1);
    worker.says("as before");
    worker.says("and what is paused is tried at once");
    worker.says("still paused, it was tried at once: the partner account is suspended or pending (403): ask Plu");
    partner.set_account(AccountState::Ok);
    worker.signal("HUP");
    worker.until("everybody is created", || partner.stats().model.created == 50);
    assert_eq!(partner.requests(), refused + 1 + 50);
    worker.signal("TERM");
    worker.ends_with(0);
}

#[test]
fn a_worker_that_halted_goes_on_when_it_is_told() {
    let mut config = SandboxConfig::default();
    // However slow the machine is, the worker is told "key already used".
    config.model.key_ttl = Duration::from_secs(86_400);
    let (partner, place) = (Partner::start(config), Place::with("people.csv", customers(0..300)));
    place.program(&format!("run people.csv --rate 0 --api-url {}", partner.url())).ends_with(0);
    place.program("import people.csv --queue local:jobs.db").ends_with(0);
    let mut worker = place
        .program(&format!("worker --queue local:jobs.db --rate 0 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "86400")
        .set("halt.window", "40")
        .set("worker.concurrency", "4")
        .start();
    worker.says("halted: the outcomes are not what was planned");
    worker.says("40 existing");
    let requests = partner.stats().model.requests.create;
    assert!(requests < 300 + 100, "{requests}");
    worker.signal("HUP");
    worker.until("it goes on and halts again", || partner.stats().model.requests.create >= requests + 40);
    worker.signal("TERM");
    worker.ends_with(0);
}
