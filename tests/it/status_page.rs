//! The status page as people see it, in a real browser.

use std::fs;
use std::path::{Path, PathBuf};

use plu_onboard::clock::Clock;
use plu_onboard::domain::Timestamp;
use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Broker, Browser, Partner, Place, Running, customers, get, jobs, nth};

/// Pictures of the last test, for people to look at.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_page_follows_the_work_live_in_every_guise() {
    let partner = Partner::start(SandboxConfig { error_every: nth(9), ..SandboxConfig::default() });
    let place = Place::with("people.csv", customers(0..400));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    partner.set_account(AccountState::WalletEmpty);
    let arguments = format!("worker --queue local:q.db --rate 40 --listen 0 --api-url {}", partner.url());
    let mut worker =
        place.program(&arguments).set("worker.probe_initial_s", "1").set("worker.backoff_initial_ms", "10").start();
    let address = worker.serves();
    worker.says("paused");

    let browser = Browser::start();
    let folder = pictures();
    browser.looks_as("light", 1200, 1100);
    browser.open(&format!("http://{address}/"));
    browser.until("message", "Paused: the partner wallet is empty (402)");
    browser.until("doing", "every job is kept");
    browser.until("advice", "top it up");
    browser.until("state", "paused (payment_required)");
    browser.until("queue", "400");
    browser.picture(&folder.join("paused-light.png"));

    // From here on the page is not loaded again.
    browser.run("window.sameDocument = true");
    partner.set_account(AccountState::Ok);
    browser.until("message", "Working");
    assert_eq!(browser.text("advice"), "");
    browser.until("live", "live at");
    browser.until("doing", "jobs a second");
    browser.until("errors", "SERVER_ERROR");
    browser.looks_as("light", 1200, 1300);
    browser.picture(&folder.join("working-light.png"));
    browser.looks_as("dark", 1200, 1300);
    browser.picture(&folder.join("working-dark.png"));
    browser.looks_as("light", 390, 1900);
    browser.picture(&folder.join("working-phone.png"));
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "the page scrolls sideways on a phone");

    browser.until("created", "400");
    browser.until("message", "Waiting: the queue is empty");
    assert_eq!(browser.run("return window.sameDocument"), true);
    let bars = browser.run("return document.querySelectorAll('#chart rect.ok').length");
    assert!(bars.as_u64().unwrap() >= 1, "{bars}");
    browser.until("chart-title", "In the last hour 400 ended");
    let rows = browser.run("return document.querySelectorAll('#minutes tr').length");
    assert_eq!(rows, 12);

    // A page that is opened now shows the hour as well, without waiting for an event.
    browser.open(&format!("http://{address}/"));
    assert!(browser.text("chart-title").contains("400 ended"), "{}", browser.text("chart-title"));

    // What a person has marked stays marked while the numbers go on.
    browser.run("getSelection().selectAllChildren(document.querySelector('#queue div'))");
    browser.run("window.before = document.getElementById('at').textContent");
    worker.until("the page was told something new", || {
        browser.run("return document.getElementById('at').textContent !== window.before") == true
    });
    assert_eq!(browser.run("return getSelection().toString().includes('signup')"), true);

    drop(worker);
    browser.until("live", "no answer since");
    browser.until("message", "The worker doesn’t answer");
    browser.until("state", "no answer");
    browser.picture(&folder.join("gone.png"));
}

/// The page of a worker in this state has these words, `/readyz` this status, and nothing is promised about the time left
/// while it stands.
fn looks(browser: &Browser, worker: &mut Running, name: &str, status: u16, words: [&str; 3]) {
    let address = worker.serves();
    let [state, message, advice] = words;
    worker.until(message, || get(&address, "/status.json").body.contains(message));
    browser.looks_as("light", 1200, 1100);
    browser.open(&format!("http://{address}/"));
    browser.until("message", message);
    browser.until("state", state);
    browser.until("advice", advice);
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 390)] {
        browser.looks_as(scheme, width, 1300);
        browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png")));
    }
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "{name}: the page scrolls sideways on a phone");
    assert!(!browser.text("doing").contains("left"), "{name}: {}", browser.text("doing"));
    worker.until(&format!("{name}: /readyz answers {status}"), || get(&address, "/readyz").status == status);
}

#[test]
fn whatever_keeps_jobs_waiting_is_said_in_words_with_what_to_do() {
    let browser = Browser::start();
    let place = Place::with("people.csv", customers(0..60));
    let worker = |queue: &str, more: &str| {
        place.program(&format!("import people.csv --queue local:{queue}.db")).ends_with(0);
        place.program(&format!("worker --queue local:{queue}.db --listen 0 {more}"))
    };

    let mut broken = worker("broken", "--sandbox --fault error-before=100%").start();
    let words = ["broken (api_down_or_slow)", "The API is down or slow", "nothing: it goes on by itself"];
    looks(&browser, &mut broken, "broken", 503, words);
    drop(broken);

    let mut full = worker("full", "--sandbox").set("rate_limit.per_day", "7").start();
    let words = ["held (per_day)", "Bulk waits: the users of 24 hours", "signups go on"];
    looks(&browser, &mut full, "per-day", 200, words);
    drop(full);

    let hour = |later: i64| (Clock::System.now().unix_ms() / 3_600_000 + later).rem_euclid(24);
    let hours = format!("{:02}:00-{:02}:00", hour(5), hour(6));
    let mut night = worker("night", "--sandbox").set("rate_limit.active_hours", &hours).start();
    let opens = Timestamp::from_unix_ms((Clock::System.now().unix_ms() / 3_600_000 + 5) * 3_600_000).to_string();
    let message = format!("Bulk waits until {} UTC: outside of the active hours", opens[..16].replace('T', " "));
    looks(&browser, &mut night, "hours", 200, ["held (active_hours)", &message, "set rate_limit.active_hours"]);
    browser.until("since", ", until ");
    browser.until("live", "UTC");
    let metrics = get(&night.serves(), "/metrics").body;
    assert!(metrics.contains("plu_onboard_bulk_held{reason=\"active_hours\"} 1\n"), "{metrics}");
    assert!(metrics.contains("plu_onboard_bulk_held{reason=\"per_day\"} 0\n"), "{metrics}");
    drop(night);

    let mut config = SandboxConfig::default();
    config.model.key_ttl = std::time::Duration::from_secs(86_400);
    let partner = Partner::start(config);
    let to_partner = format!("--rate 0 --api-url {}", partner.url());
    place.program(&format!("run people.csv {to_partner}")).ends_with(0);
    let again = worker("again", &to_partner).set("halt.window", "20").set("api.key_ttl_s", "86400");
    let words = ["halted", "Halted: the outcomes are not what was planned", "20 existing (20 x sent minutes"];
    looks(&browser, &mut again.start(), "halted", 503, words);
    assert!(!browser.text("state").contains("(halted)"), "{}", browser.text("state"));
}

#[test]
fn a_broker_that_takes_nothing_is_told_from_one_that_is_away() {
    let (browser, place) = (Browser::start(), Place::new());
    let mut broker = Broker::start();
    let worker = place.program(&format!("worker --sandbox --queue {} --listen 0 --rate 20", broker.url()));
    let mut worker = worker.set("amqp.prefix", "plu.sandbox").start();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.sandbox", "bulk", &jobs(0..2_000));
    worker.until("outcomes are published", || broker.ready("plu.sandbox.events.unrouted") > 3);
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    let words = ["blocked (broker_alarm)", "The broker has an alarm", "free memory or disk on the broker"];
    looks(&browser, &mut worker, "blocked", 503, words);
    broker.kill();
    let words = ["disconnected (broker_", "No connection to the broker", "tried again by itself"];
    looks(&browser, &mut worker, "disconnected", 503, words);
}

#[test]
fn the_page_can_be_used_by_keyboard_and_screen_reader() {
    let place = Place::new();
    let mut worker = place.program("worker --sandbox --queue local:q.db --listen 0").start();
    let address = worker.serves();
    let browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.until("message", "W");
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
        browser.looks_as(scheme, 1200, 900);
        assert_eq!(browser.run(CONTRAST), true, "{scheme}");
    }
}
