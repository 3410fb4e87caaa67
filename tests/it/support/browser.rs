//! A headless Chromium, driven by WebDriver, for tests of the status page and the report.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::http::request;

/// Longest wait. Far more than any step takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: tests/run installs chromium-driver");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, address: address.to_string(), session: String::new(), _profile: profile };
        let deadline = Instant::now() + DEADLINE;
        while std::net::TcpStream::connect(&browser.address).is_err() {
            assert!(Instant::now() < deadline, "chromedriver did not start");
            std::thread::yield_now();
        }
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &folder,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let session = browser.call("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = request(&self.address, method, path, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()["value"].clone()
    }

    fn in_session(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.in_session("/url", &json!({ "url": url }));
    }

    /// Runs the body of a JavaScript function in the page and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.in_session("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the text of the element with this id.
    pub(crate) fn text(&self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById('{id}').textContent"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the element's text contains `expected`, without reloading the page.
    pub(crate) fn wait_until(&self, id: &str, expected: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.text(id).contains(expected) {
            assert!(Instant::now() < deadline, "#{id} is {:?}, not {expected:?}", self.text(id));
        }
    }

    /// Emulates a colour scheme (`light`, `dark`) and a window size.
    pub(crate) fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let command = |cmd: &str, params: Value| {
            self.in_session("/goog/cdp/execute", &json!({"cmd": cmd, "params": params}));
        };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        command("Emulation.setEmulatedMedia", json!({"features": [feature]}));
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        command("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Writes a screenshot of the whole page, as wide as a document shows it.
    pub(crate) fn take_whole_page(&self, file: &Path) {
        const WIDTH: u32 = 860;
        self.emulate("light", WIDTH, 600);
        let height = self.run("return Math.ceil(document.documentElement.getBoundingClientRect().height)");
        self.emulate("light", WIDTH, height.as_u64().unwrap() as u32);
        self.take_screenshot(file);
    }

    /// Writes a screenshot as PNG.
    pub(crate) fn take_screenshot(&self, file: &Path) {
        let reply = request(&self.address, "GET", &format!("/session/{}/screenshot", self.session), "");
        let png = base64::engine::general_purpose::STANDARD.decode(reply.json()["value"].as_str().unwrap()).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "the screenshot is no PNG");
        std::fs::write(file, png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser belongs to the driver's process group.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.driver.wait();
    }
}
