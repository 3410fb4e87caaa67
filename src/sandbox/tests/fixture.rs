//! What the tests of the sandbox share: a valid body, and requests that differ from a valid one in one field.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::{CreateRequest, DeleteRequest, ListRequest, Model, ModelConfig, SandboxReply, WalletRequest};
pub(super) use crate::testing::message::user as body;

pub(super) const AUTHORIZATION: &str = "Bearer sk_staging_sandbox";

/// [`body`] with one field changed.
pub(super) fn body_with(field: &str, value: impl Into<Value>) -> Value {
    let mut body = body("jane@example.com");
    body[field] = value.into();
    body
}

/// The n-th of a series of UUIDs.
pub(super) fn key(nth: u128) -> String {
    Uuid::from_u128(nth).to_string()
}

/// A request with valid headers and an empty body.
pub(super) fn request(key: &str) -> CreateRequest<'_> {
    CreateRequest {
        authorization: Some(AUTHORIZATION),
        idempotency_key: Some(key),
        content_type: Some("application/json"),
        body: b"",
    }
}

/// A deletion with valid headers and no id.
pub(super) fn delete_request(key: &str) -> DeleteRequest<'_> {
    DeleteRequest { authorization: Some(AUTHORIZATION), idempotency_key: Some(key), service_id: "" }
}

pub(super) fn parsed(reply: &SandboxReply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

/// Status and message of a reply, such as `(400, "DUP_USER")`.
pub(super) fn outcome(reply: &SandboxReply) -> (u16, String) {
    (reply.status, parsed(reply)["message"].as_str().unwrap().to_owned())
}

/// A model under test. Its requests are valid unless a test changes them.
pub(super) struct TestPartner {
    pub(super) model: Model,
    pub(super) now: Duration,
}

impl TestPartner {
    pub(super) fn new(config: ModelConfig) -> Self {
        Self { model: Model::new(config, Timestamp::from_unix_ms(0)), now: Duration::ZERO }
    }

    pub(super) fn at_ms(&mut self, ms: u64) -> &mut Self {
        self.now = Duration::from_millis(ms);
        self
    }

    pub(super) fn create(&mut self, nth_key: u128, body: &Value) -> SandboxReply {
        self.send(&CreateRequest { body: body.to_string().as_bytes(), ..request(&key(nth_key)) })
    }

    pub(super) fn send(&mut self, request: &CreateRequest<'_>) -> SandboxReply {
        self.model.create(self.now, request)
    }

    pub(super) fn delete(&mut self, nth_key: u128, service_id: &str) -> SandboxReply {
        let key = key(nth_key);
        self.model.delete(self.now, &DeleteRequest { service_id, ..delete_request(&key) })
    }

    /// The `serviceId` of the user with this email.
    pub(super) fn id_of(&self, email: &str) -> String {
        self.model.user_by_email(self.now, email).unwrap().service_id
    }

    /// The balance that the API answers.
    pub(super) fn balance(&mut self) -> Value {
        let request = WalletRequest { authorization: Some(AUTHORIZATION) };
        parsed(&self.model.wallet(self.now, &request))["data"]["balance"].clone()
    }

    pub(super) fn list(&mut self, query: &str) -> SandboxReply {
        self.model.list(self.now, &ListRequest { authorization: Some(AUTHORIZATION), query })
    }
}

/// A partner with the default configuration.
pub(super) fn partner() -> TestPartner {
    TestPartner::new(ModelConfig::default())
}

/// A partner with this many users, `user0@example.com` onwards, created one millisecond apart.
pub(super) fn partner_with(users: u64, config: ModelConfig) -> TestPartner {
    let mut partner = TestPartner::new(config);
    for nth in 0..users {
        let reply = partner.at_ms(nth).create(nth.into(), &body(&format!("user{nth}@example.com")));
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    partner
}

#[track_caller]
pub(super) fn check(reply: &SandboxReply, status: u16, message: &str) {
    assert_eq!(outcome(reply), (status, message.to_owned()), "{}", reply.body);
}
