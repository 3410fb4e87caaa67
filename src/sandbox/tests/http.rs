//! The sandbox over a real loopback socket, seen by a client of the partner API.

use std::num::NonZeroU32;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::sandbox::tests::fixture::{AUTHORIZATION, body, body_with, key};
use crate::sandbox::{AccountState, ModelConfig, Sandbox, SandboxConfig, SandboxControl, SandboxStats, serve};

/// A running sandbox and an HTTP client.
struct HttpRig {
    sandbox: Sandbox,
    client: reqwest::Client,
}

impl HttpRig {
    async fn start(config: SandboxConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { sandbox: Sandbox::start(config).await.unwrap(), client: reqwest::Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sandbox.addr)
    }

    fn create(&self, nth_key: u128, body: &Value) -> reqwest::RequestBuilder {
        self.client
            .post(self.url("/api/v2/partner/card/users"))
            .header("authorization", AUTHORIZATION)
            .header("content-type", "application/json")
            .header("idempotency-key", key(nth_key))
            .body(body.to_string())
    }

    fn list(&self, query: &str) -> reqwest::RequestBuilder {
        self.client.get(self.url(&format!("/api/v1/partner/card/users{query}"))).header("authorization", AUTHORIZATION)
    }

    async fn control(&self, control: Value) -> u16 {
        let request = self.client.post(self.url("/control")).body(control.to_string());
        request.send().await.unwrap().status().as_u16()
    }
}

/// The status and the JSON of an answer.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn outcome(request: reqwest::RequestBuilder) -> (u16, String) {
    let (status, answer) = answer(request).await;
    (status, answer["message"].as_str().unwrap().to_owned())
}

fn every(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

#[tokio::test]
async fn user_is_created_once_and_listed() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    let (status, created) = answer(rig.create(1, &body("jane@example.com"))).await;
    assert_eq!(status, 201);
    let again = outcome(rig.create(1, &body("jane@example.com"))).await;
    assert_eq!(again, (400, "IDEMPOTENCY_KEY_ALREADY_USED".to_owned()));
    assert_eq!(outcome(rig.create(2, &body("jane@example.com"))).await, (400, "DUP_USER".to_owned()));
    let (status, list) = answer(rig.list("")).await;
    assert_eq!(status, 200);
    assert_eq!(list["data"]["users"][0]["serviceId"], created["data"]["serviceId"]);
    assert_eq!(list["data"]["pagination"], json!({"skip": 0, "limit": 50, "total": 1}));
}

#[tokio::test]
async fn query_parameters_select_the_page() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    for nth in 0..5 {
        assert_eq!(answer(rig.create(nth, &body(&format!("user{nth}@example.com")))).await.0, 201);
    }
    let (_, list) = answer(rig.list("?skip=1&limit=2")).await;
    let emails: Vec<&Value> = list["data"]["users"].as_array().unwrap().iter().map(|user| &user["email"]).collect();
    assert_eq!(emails, ["user3@example.com", "user2@example.com"]);
    assert_eq!(list["data"]["pagination"], json!({"skip": 1, "limit": 2, "total": 5}));
}

#[tokio::test]
async fn api_paths_work_with_and_without_prefix_and_others_are_errors() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    for (method, path, status) in [
        ("GET", "/v1/partner/card/users", 200),
        ("GET", "/api/v1/partner/card/users?limit=1", 200),
        ("POST", "/v2/partner/card/users", 400),
        ("POST", "/api/v2/partner/card/users", 400),
        ("GET", "/healthz", 200),
        ("GET", "/stats", 200),
        ("GET", "/api/v2/partner/card/users", 405),
        ("GET", "/", 404),
        ("POST", "/v1/partner/card/user", 404),
        ("GET", "/api/stats", 404),
    ] {
        let request = rig.client.request(method.parse().unwrap(), rig.url(path)).header("authorization", AUTHORIZATION);
        let (got, answer) = answer(request).await;
        assert_eq!(got, status, "{method} {path}");
        if status >= 400 {
            assert_eq!(answer["status"], "error", "{method} {path}");
            assert!(answer["data"]["error"].is_string(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn wrong_key_is_unauthorized() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    let request = rig.client.get(rig.url("/v1/partner/card/users")).header("authorization", "Bearer other");
    assert_eq!(outcome(request).await, (401, "UNAUTHORIZED".to_owned()));
}

#[tokio::test]
async fn throttled_answer_carries_retry_after() {
    let model = ModelConfig { rate_limit: Some(0), ..ModelConfig::default() };
    let rig = HttpRig::start(SandboxConfig { model, ..SandboxConfig::default() }).await;
    let response = rig.list("").send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn body_past_64_kib_is_too_large() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    let request = rig.create(1, &body_with("address", "a".repeat(64 * 1024)));
    assert_eq!(outcome(request).await, (413, "PAYLOAD_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn lost_answer_closes_the_connection_and_leaves_the_user() {
    let rig = HttpRig::start(SandboxConfig { lose_every: every(2), ..SandboxConfig::default() }).await;
    assert_eq!(rig.create(1, &body("one@example.com")).send().await.unwrap().status(), 201);
    let error = rig.create(2, &body("two@example.com")).send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
    let again = outcome(rig.create(2, &body("two@example.com"))).await;
    assert_eq!(again, (400, "IDEMPOTENCY_KEY_ALREADY_USED".to_owned()));
    let stats = rig.sandbox.stats();
    assert_eq!((stats.model.created, stats.answers_lost, stats.model.keys_refused), (2, 1, 1));
}

#[tokio::test]
async fn lost_answer_sends_no_byte() {
    let rig = HttpRig::start(SandboxConfig { lose_every: every(1), ..SandboxConfig::default() }).await;
    let mut socket = TcpStream::connect(rig.sandbox.addr).await.unwrap();
    socket.write_all(raw_create().as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // The connection ends with a reset or an end of file; both are valid.
    let _ = socket.read_to_end(&mut received).await;
    assert_eq!(received, b"");
    assert_eq!(rig.sandbox.stats().model.users, 1);
}

#[tokio::test]
async fn failed_answer_leaves_the_user() {
    let rig = HttpRig::start(SandboxConfig { error_every: every(1), ..SandboxConfig::default() }).await;
    let first = outcome(rig.create(1, &body("jane@example.com"))).await;
    assert_eq!(first, (500, "INTERNAL_SERVER_ERROR".to_owned()));
    assert_eq!(outcome(rig.create(2, &body("jane@example.com"))).await, (400, "DUP_USER".to_owned()));
    let stats = rig.sandbox.stats();
    assert_eq!((stats.model.users, stats.answers_failed), (1, 1), "refusals are never turned into a 500");
}

#[tokio::test]
async fn user_is_created_even_if_the_client_disconnects() {
    let latency = std::time::Duration::from_secs(3600);
    let rig = HttpRig::start(SandboxConfig { latency, ..SandboxConfig::default() }).await;
    let mut socket = TcpStream::connect(rig.sandbox.addr).await.unwrap();
    socket.write_all(raw_create().as_bytes()).await.unwrap();
    while rig.sandbox.stats().model.users == 0 {
        tokio::task::yield_now().await;
    }
    drop(socket);
    assert_eq!(rig.control(json!({"latencyMs": 0})).await, 204);
    assert_eq!(answer(rig.list("")).await.1["data"]["pagination"]["total"], 1);
}

#[tokio::test]
async fn shutdown_sends_delayed_answers_at_once() {
    let latency = std::time::Duration::from_secs(3600);
    let rig = HttpRig::start(SandboxConfig { latency, ..SandboxConfig::default() }).await;
    let waiting = tokio::spawn(rig.create(1, &body("jane@example.com")).send());
    while rig.sandbox.stats().model.users == 0 {
        tokio::task::yield_now().await;
    }
    rig.sandbox.stop().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 201);
}

#[tokio::test]
async fn served_listener_is_closed_when_shutdown_is_cancelled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, SandboxConfig::default(), shutdown.clone()));
    TcpStream::connect(addr).await.unwrap();
    shutdown.cancel();
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn control_changes_a_running_sandbox() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    let create = |nth: u128| rig.create(nth, &body(&format!("user{nth}@example.com")));
    for (nth, control, status) in [
        (0, json!({"account": "suspended"}), 403),
        (1, json!({"account": "ok", "wallet": 0}), 402),
        (2, json!({"wallet": null, "errorEvery": 1}), 500),
        (3, json!({"errorEvery": null, "rateLimit": 0}), 429),
        (4, json!({"rateLimit": null}), 201),
    ] {
        assert_eq!(rig.control(control.clone()).await, 204, "{control}");
        assert_eq!(create(nth).send().await.unwrap().status(), status, "{control}");
    }
    rig.sandbox.control(&SandboxControl { account: Some(AccountState::KeyRevoked), ..SandboxControl::default() });
    assert_eq!(create(5).send().await.unwrap().status(), 401);
    assert_eq!(rig.control(json!({"acount": "ok"})).await, 422);
}

#[tokio::test]
async fn faults_over_http_look_like_those_of_a_bad_network() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    for (nth, fault) in ["drop", "cut", "drip", "html-502", "429-date", "truncated"].into_iter().enumerate() {
        assert_eq!(rig.control(json!({"faults": [format!("{fault}=1/1")]})).await, 204);
        let limit = std::time::Duration::from_millis(if fault == "drip" { 300 } else { 30_000 });
        let response = rig.create(nth as u128, &body(&format!("user{nth}@example.com"))).timeout(limit).send().await;
        match fault {
            "drop" => assert!(response.unwrap_err().is_request()),
            "cut" => assert!(!response.unwrap().bytes().await.unwrap_err().is_timeout()),
            "drip" => assert!(response.unwrap().bytes().await.unwrap_err().is_timeout()),
            "html-502" => assert_eq!(response.unwrap().headers()["content-type"], "text/html"),
            "429-date" => {
                let response = response.unwrap();
                assert!(response.headers()["retry-after"].to_str().unwrap().ends_with(" GMT"));
            }
            _ => assert!(serde_json::from_str::<Value>(&response.unwrap().text().await.unwrap()).is_err()),
        }
    }
    assert_eq!(rig.control(json!({"faults": []})).await, 204);
    assert_eq!(answer(rig.create(99, &body("last@example.com"))).await.0, 201);
    let stats = rig.sandbox.stats();
    // All requests but the dropped and the throttled one took effect.
    assert_eq!((stats.model.users, stats.faults_injected), (5, 6));
}

#[tokio::test]
async fn stats_over_http_equal_the_stats_in_process() {
    let rig = HttpRig::start(SandboxConfig::default()).await;
    answer(rig.create(1, &body("jane@example.com"))).await;
    answer(rig.list("")).await;
    let (_, stats) = answer(rig.client.get(rig.url("/stats"))).await;
    assert_eq!(stats["answersLost"], 0);
    assert_eq!(serde_json::from_value::<SandboxStats>(stats).unwrap(), rig.sandbox.stats());
}

/// A whole request to create a user, as bytes on the wire.
fn raw_create() -> String {
    let body = body("jane@example.com").to_string();
    format!(
        "POST /v2/partner/card/users HTTP/1.1\r\nhost: localhost\r\nauthorization: {AUTHORIZATION}\r\n\
         content-type: application/json\r\nidempotency-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
        key(1),
        body.len()
    )
}
