//! The status page in a real browser: live updates, the text of each state, accessibility.

use std::fs;
use std::path::{Path, PathBuf};

use plu_onboard::clock::Clock;
use plu_onboard::domain::Timestamp;
use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Broker, Browser, Partner, RunningProgram, TestDir, customers, get, jobs, nth};

/// The folder for screenshots of the last run, for a developer to look at.
fn screenshots() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_page_is_updated_without_a_reload() {
    let partner = Partner::start(SandboxConfig { error_every: nth(9), ..SandboxConfig::default() });
    let dir = TestDir::with("people.csv", customers(0..400));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    partner.set_account(AccountState::PaymentRequired);
    let arguments = format!("worker --queue local:q.db --rate 40 --listen 0 --api-url {}", partner.url());
    let mut worker =
        dir.program(&arguments).set("worker.probe_initial_s", "1").set("worker.backoff_initial_ms", "10").start();
    let address = worker.status_page_address();
    worker.wait_for_output("paused");

    let browser = Browser::start();
    let folder = screenshots();
    browser.emulate("light", 1200, 1100);
    browser.open(&format!("http://{address}/"));
    browser.wait_until("message", "Paused: the partner wallet is empty (402)");
    browser.wait_until("doing", "every job is kept");
    browser.wait_until("advice", "top it up");
    browser.wait_until("state", "paused (payment_required)");
    browser.wait_until("queue", "400");
    browser.take_screenshot(&folder.join("paused-light.png"));

    // Set on the document, so that a reload would be noticed.
    browser.run("window.sameDocument = true");
    partner.set_account(AccountState::Ok);
    browser.wait_until("message", "Working");
    assert_eq!(browser.text("advice"), "");
    browser.wait_until("live", "live at");
    browser.wait_until("doing", "jobs a second");
    browser.wait_until("errors", "SERVER_ERROR");
    for (scheme, width, height) in [("light", 1200, 1300), ("dark", 1200, 1300), ("light", 390, 1900)] {
        browser.emulate(scheme, width, height);
        browser.take_screenshot(&folder.join(format!("working-{scheme}-{width}.png")));
    }
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "the page scrolls sideways on a phone");

    browser.wait_until("created", "400");
    browser.wait_until("message", "Waiting: the queue is empty");
    assert_eq!(browser.run("return window.sameDocument"), true);
    let bars = browser.run("return document.querySelectorAll('#chart rect.ok').length");
    assert!(bars.as_u64().unwrap() >= 1, "{bars}");
    browser.wait_until("chart-title", "In the last hour 400 jobs finished");
    let rows = browser.run("return document.querySelectorAll('#minutes tr').length");
    assert_eq!(rows, 12);

    // A page that is opened now shows the last hour too, without waiting for an event.
    browser.open(&format!("http://{address}/"));
    assert!(browser.text("chart-title").contains("400 jobs finished"), "{}", browser.text("chart-title"));

    check_selection_survives_an_update(&browser, &mut worker);

    drop(worker);
    browser.wait_until("live", "no answer since");
    browser.wait_until("message", "The worker doesn’t answer");
    browser.wait_until("state", "no answer");
    browser.take_screenshot(&folder.join("gone.png"));
}

fn check_selection_survives_an_update(browser: &Browser, worker: &mut RunningProgram) {
    browser.run("getSelection().selectAllChildren(document.querySelector('#queue div'))");
    browser.run("window.before = document.getElementById('at').textContent");
    worker.wait_until("an update of the page", || {
        browser.run("return document.getElementById('at').textContent !== window.before") == true
    });
    assert_eq!(browser.run("return getSelection().toString().includes('signup')"), true);
}

/// Checks the page of a worker in a state: its texts, the status of `/readyz`, and that no time left is shown.
fn assert_state(browser: &Browser, worker: &mut RunningProgram, name: &str, status: u16, texts: [&str; 3]) {
    let address = worker.status_page_address();
    let [state, message, advice] = texts;
    worker.wait_until(message, || get(&address, "/status.json").body.contains(message));
    browser.emulate("light", 1200, 1100);
    browser.open(&format!("http://{address}/"));
    browser.wait_until("message", message);
    browser.wait_until("state", state);
    browser.wait_until("advice", advice);
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 390)] {
        browser.emulate(scheme, width, 1300);
        browser.take_screenshot(&screenshots().join(format!("{name}-{scheme}-{width}.png")));
    }
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "{name}: the page scrolls sideways on a phone");
    assert!(!browser.text("doing").contains("left"), "{name}: {}", browser.text("doing"));
    worker.wait_until(&format!("{name}: /readyz answers {status}"), || get(&address, "/readyz").status == status);
}

#[test]
fn each_state_that_delays_jobs_says_what_to_do() {
    let browser = Browser::start();
    let dir = TestDir::with("people.csv", customers(0..60));
    let worker = |queue: &str, more: &str| {
        dir.program(&format!("import people.csv --queue local:{queue}.db")).expect_exit(0);
        dir.program(&format!("worker --queue local:{queue}.db --listen 0 {more}"))
    };

    let mut failing = worker("failing", "--sandbox --fault error-before=100%").start();
    let texts = ["circuit_open (api_down_or_slow)", "the API is down or slow", "nothing: it resumes by itself"];
    assert_state(&browser, &mut failing, "circuit-open", 503, texts);
    drop(failing);

    let mut full = worker("full", "--sandbox").set("rate_limit.per_day", "7").start();
    let texts = ["held (per_day)", "Bulk is held: the daily quota", "signups continue"];
    assert_state(&browser, &mut full, "per-day", 200, texts);
    drop(full);

    let hour = |later: i64| (Clock::System.now().unix_ms() / 3_600_000 + later).rem_euclid(24);
    let hours = format!("{:02}:00-{:02}:00", hour(5), hour(6));
    let mut night = worker("night", "--sandbox").set("rate_limit.active_hours", &hours).start();
    let opens = Timestamp::from_unix_ms((Clock::System.now().unix_ms() / 3_600_000 + 5) * 3_600_000).to_string();
    let message = format!("Bulk is held until {} UTC: outside of the active hours", opens[..16].replace('T', " "));
    assert_state(&browser, &mut night, "hours", 200, ["held (active_hours)", &message, "set rate_limit.active_hours"]);
    browser.wait_until("since", ", until ");
    browser.wait_until("live", "UTC");
    let metrics = get(&night.status_page_address(), "/metrics").body;
    assert!(metrics.contains("plu_onboard_bulk_held{reason=\"active_hours\"} 1\n"), "{metrics}");
    assert!(metrics.contains("plu_onboard_bulk_held{reason=\"per_day\"} 0\n"), "{metrics}");
    drop(night);

    let mut config = SandboxConfig::default();
    config.model.key_ttl = std::time::Duration::from_secs(86_400);
    let partner = Partner::start(config);
    let to_partner = format!("--rate 0 --api-url {}", partner.url());
    dir.program(&format!("run people.csv {to_partner}")).expect_exit(0);
    let again = worker("again", &to_partner).set("halt.window", "20").set("api.key_ttl_s", "86400");
    let texts =
        ["halted", "Halted: too many rows were rejected, failed, existed before", "20 existing (20 x sent minutes"];
    assert_state(&browser, &mut again.start(), "halted", 503, texts);
    assert!(!browser.text("state").contains("(halted)"), "{}", browser.text("state"));
}

#[test]
fn an_alarm_of_the_broker_and_a_lost_connection_are_different_states() {
    let (browser, dir) = (Browser::start(), TestDir::new());
    let mut broker = Broker::start();
    let worker = dir.program(&format!("worker --sandbox --queue {} --listen 0 --rate 20", broker.url()));
    let mut worker = worker.set("amqp.prefix", "plu.sandbox").start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.sandbox", "bulk", &jobs(0..2_000));
    worker.wait_until("outcomes are published", || broker.ready("plu.sandbox.events.unrouted") > 3);
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    let texts = ["blocked (broker_alarm)", "The broker has an alarm", "free memory or disk on the broker"];
    assert_state(&browser, &mut worker, "blocked", 503, texts);
    broker.kill();
    let texts = ["disconnected (broker_", "No connection to the broker", "it reconnects by itself"];
    assert_state(&browser, &mut worker, "disconnected", 503, texts);
}

#[test]
fn the_page_is_accessible_to_keyboard_and_screen_reader() {
    let dir = TestDir::new();
    let mut worker = dir.program("worker --sandbox --queue local:q.db --listen 0").start();
    let address = worker.status_page_address();
    let browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.wait_until("message", "W");
    for (what, script) in [
        ("a language", "return document.documentElement.lang === 'en'"),
        ("one heading of the first level", "return document.querySelectorAll('main h1').length === 1"),
        ("landmarks", "return ['header', 'main', 'footer', 'nav'].every((name) => document.querySelector(name))"),
        (
            "named sections",
            "return [...document.querySelectorAll('main section')].every((part) => document.getElementById(part.getAttribute('aria-labelledby')))",
        ),
        ("a polite region", "return document.querySelector('[aria-live=polite] #message') !== null"),
        (
            "a named chart",
            "return document.getElementById(document.getElementById('chart').getAttribute('aria-labelledby')).textContent.length > 10",
        ),
        (
            "unique ids",
            "const ids = [...document.querySelectorAll('[id]')].map((part) => part.id); return new Set(ids).size === ids.length",
        ),
        ("column headings", "return [...document.querySelectorAll('thead th')].every((cell) => cell.scope === 'col')"),
    ] {
        assert_eq!(browser.run(script), true, "{what}");
    }
    // Relative luminance as WCAG 2.2 defines it; 4.5 is its level AA for text.
    const CONTRAST: &str = "
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
            const hex = style.getPropertyValue(name).trim();
            const part = (at) => {
                const value = parseInt(hex.slice(at, at + 2), 16) / 255;
                return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
            };
            return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
        };
        const paper = light('--paper');
        return ['--ink', '--soft', '--accent', '--alarm'].every((name) => {
            const [low, high] = [paper, light(name)].sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05) >= 4.5;
        });";
    for scheme in ["light", "dark"] {
        browser.emulate(scheme, 1200, 900);
        assert_eq!(browser.run(CONTRAST), true, "{scheme}");
    }
}
