//! Deletions, the wallet, changes of users and damaged answers over a real loopback socket.

use serde_json::{Value, json};

use crate::sandbox::tests::fixture::{AUTHORIZATION, body, key};
use crate::sandbox::{FaultPlan, Sandbox, SandboxConfig, SandboxControl};

struct AnswerRig {
    sandbox: Sandbox,
    client: reqwest::Client,
}

impl AnswerRig {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { sandbox: Sandbox::start(SandboxConfig::default()).await.unwrap(), client: reqwest::Client::new() }
    }

    /// Sends a request with the headers that the API needs.
    async fn send(&self, method: &str, path: &str, nth_key: u128, body: String) -> reqwest::Response {
        let url = format!("http://{}{path}", self.sandbox.addr);
        let request = self.client.request(method.parse().unwrap(), url).body(body);
        let request = request.header("authorization", AUTHORIZATION).header("content-type", "application/json");
        request.header("idempotency-key", key(nth_key)).send().await.unwrap()
    }

    async fn create(&self, nth: u128) -> reqwest::Response {
        let body = body(&format!("user{nth}@example.com")).to_string();
        self.send("POST", "/api/v2/partner/card/users", nth, body).await
    }

    fn set_fault(&self, fault: &str) {
        let faults = FaultPlan::parse(&[format!("{fault}=1/1")]).unwrap();
        self.sandbox.control(&SandboxControl { faults: Some(faults), ..SandboxControl::default() });
    }
}

async fn json_of(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_user_is_deleted_and_created_again_without_a_fee() {
    let rig = AnswerRig::start().await;
    let (_, created) = json_of(rig.create(1).await).await;
    let id = created["data"]["serviceId"].as_str().unwrap();
    let before = json_of(rig.send("GET", "/api/v1/partner/wallet", 0, String::new()).await).await;
    let path = format!("/api/v1/partner/card/users/{id}");
    let (status, deleted) = json_of(rig.send("DELETE", &path, 2, String::new()).await).await;
    assert_eq!((status, &deleted["data"]), (200, &json!({"deleted": true})));
    let (status, again) = json_of(rig.send("DELETE", &path, 3, String::new()).await).await;
    assert_eq!((status, &again["message"]), (404, &json!("USER_NOT_FOUND")));
    let body = body("user1@example.com").to_string();
    let recreated = rig.send("POST", "/v2/partner/card/users", 4, body).await;
    let (status, recreated) = json_of(recreated).await;
    assert_eq!(status, 201);
    assert_ne!(recreated["data"]["serviceId"], id);
    assert_eq!(json_of(rig.send("GET", "/v1/partner/wallet", 0, String::new()).await).await, before);
    let stats = rig.sandbox.stats().model;
    assert_eq!((stats.fees_charged, stats.fees_waived, stats.users), (1, 1, 1));
}

#[tokio::test]
async fn a_deletion_without_an_id_or_a_known_path_is_not_a_missing_user() {
    let rig = AnswerRig::start().await;
    for (path, status, message) in [
        ("/v1/partner/card/users/none", 404, "USER_NOT_FOUND"),
        ("/v1/partner/card/users/", 404, "NOT_FOUND"),
        ("/v1/partner/card/users", 405, "METHOD_NOT_ALLOWED"),
        ("/v3/partner/card/users/none", 404, "NOT_FOUND"),
    ] {
        let (got, answer) = json_of(rig.send("DELETE", path, 1, String::new()).await).await;
        assert_eq!((got, answer["message"].as_str()), (status, Some(message)), "{path}");
    }
}

#[tokio::test]
async fn control_changes_users_and_names_unknown_ones() {
    let rig = AnswerRig::start().await;
    rig.create(1).await;
    rig.create(2).await;
    let control = |users: Value| rig.send("POST", "/control", 0, json!({ "users": users }).to_string());
    let answer = control(json!([{"user": "user1@example.com", "status": "approved", "activeCards": 1}])).await;
    assert_eq!(answer.status(), 204);
    let list = json_of(rig.send("GET", "/v1/partner/card/users", 0, String::new()).await).await.1;
    let user = &list["data"]["users"][1];
    assert_eq!(user["status"], "approved");
    let path = format!("/v1/partner/card/users/{}", user["serviceId"].as_str().unwrap());
    let (status, refused) = json_of(rig.send("DELETE", &path, 3, String::new()).await).await;
    assert_eq!((status, &refused["data"]["activeCards"]), (409, &json!(1)));
    let (status, unknown) =
        json_of(control(json!([{"share": 1, "status": "denied"}, {"user": "nil", "status": "denied"}])).await).await;
    assert_eq!((status, &unknown["message"]), (404, &json!("USER_NOT_FOUND")));
    assert_eq!(control(json!([{"user": "user1@example.com"}])).await.status(), 422);
    let list = json_of(rig.send("GET", "/v1/partner/card/users", 0, String::new()).await).await.1;
    assert_eq!(list["data"]["users"][0]["status"], "pending_kyc", "nothing was changed");
}

#[tokio::test]
async fn encoded_answers_and_their_types_arrive_as_they_are_named() {
    let rig = AnswerRig::start().await;
    for (nth, (fault, encoding, content_type, start)) in [
        ("gzip", Some("gzip"), Some("application/json"), &[0x1f, 0x8b][..]),
        ("deflate", Some("deflate"), Some("application/json"), &[0x78]),
        ("deflate-raw", Some("deflate"), Some("application/json"), &[0x01]),
        ("bom", None, Some("application/json"), &[0xef, 0xbb, 0xbf]),
        ("type-text", None, Some("text/plain"), b"{"),
        ("type-none", None, None, b"{"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.set_fault(fault);
        let response = rig.create(nth as u128).await;
        assert_eq!(response.status(), 201, "{fault}");
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("content-encoding").as_deref(), encoding, "{fault}");
        assert_eq!(header("content-type").as_deref(), content_type, "{fault}");
        let body = response.bytes().await.unwrap();
        assert!(body.starts_with(start), "{fault}: {body:?}");
    }
}

#[tokio::test]
async fn the_answer_to_a_deletion_can_be_lost_or_cut() {
    let rig = AnswerRig::start().await;
    for (nth, fault) in ["delete:lost", "delete:cut"].into_iter().enumerate() {
        let (_, created) = json_of(rig.create(nth as u128).await).await;
        let id = created["data"]["serviceId"].as_str().unwrap();
        rig.set_fault(fault);
        let url = format!("http://{}/v1/partner/card/users/{id}", rig.sandbox.addr);
        let request = rig.client.delete(url).header("authorization", AUTHORIZATION);
        let answer = request.header("idempotency-key", key(100 + nth as u128)).send().await;
        let is_lost = match answer {
            Err(error) => error.is_request(),
            Ok(response) => response.bytes().await.is_err(),
        };
        assert!(is_lost, "{fault}");
    }
    let stats = rig.sandbox.stats();
    assert_eq!((stats.model.deleted, stats.model.users, stats.answers_lost), (2, 0, 1));
}
