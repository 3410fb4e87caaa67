//! What the sandbox's tests share: a body that follows every rule, and calls that differ from it in
//! one respect.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::{CreateRequest, ListRequest, Model, ModelConfig, Reply};

pub(super) const AUTHORIZATION: &str = "Bearer sk_staging_sandbox";

/// A body that follows every rule.
pub(super) fn body(email: &str) -> Value {
    json!({
        "firstName": "Jane",
        "lastName": "Doe",
        "email": email,
        "phoneNumber": "+14155555555",
        "accountPurpose": "personal use",
        "ipAddress": "203.0.113.42",
        "isTermsOfServiceAccepted": true,
        "program": "custodial",
        "address": "123 Main Street",
        "city": "San Francisco",
        "region": "CA",
        "postalCode": "94105",
        "countryCode": "US",
    })
}

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

/// A request whose headers are in order, and which has no body yet.
pub(super) fn request(key: &str) -> CreateRequest<'_> {
    CreateRequest {
        authorization: Some(AUTHORIZATION),
        idempotency_key: Some(key),
        content_type: Some("application/json"),
        body: b"",
    }
}

/// The body of a reply.
pub(super) fn parsed(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

/// Status and message of a reply, such as `(400, "DUP_USER")`.
pub(super) fn outcome(reply: &Reply) -> (u16, String) {
    (reply.status, parsed(reply)["message"].as_str().unwrap().to_owned())
}

/// A model under test, whose calls are all in order unless a test says otherwise.
pub(super) struct Partner {
    pub(super) model: Model,
    pub(super) now: Duration,
}

impl Partner {
    pub(super) fn new(config: ModelConfig) -> Self {
        Self { model: Model::new(config, Timestamp::from_unix_ms(0)), now: Duration::ZERO }
    }

    pub(super) fn at_ms(&mut self, ms: u64) -> &mut Self {
        self.now = Duration::from_millis(ms);
        self
    }

    pub(super) fn create(&mut self, nth_key: u128, body: &Value) -> Reply {
        self.send(&CreateRequest { body: body.to_string().as_bytes(), ..request(&key(nth_key)) })
    }

    pub(super) fn send(&mut self, request: &CreateRequest<'_>) -> Reply {
        self.model.create(self.now, request)
    }

    pub(super) fn list(&mut self, query: &str) -> Reply {
        self.model.list(self.now, &ListRequest { authorization: Some(AUTHORIZATION), query })
    }
}

/// A partner with the default settings.
pub(super) fn partner() -> Partner {
    Partner::new(ModelConfig::default())
}

/// A partner with this many users, `user0@example.com` onwards, created one millisecond apart.
pub(super) fn partner_with(users: u64, config: ModelConfig) -> Partner {
    let mut partner = Partner::new(config);
    for nth in 0..users {
        let reply = partner.at_ms(nth).create(nth.into(), &body(&format!("user{nth}@example.com")));
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    partner
}

/// Checks the status and the message of a reply.
#[track_caller]
pub(super) fn check(reply: &Reply, status: u16, message: &str) {
    assert_eq!(outcome(reply), (status, message.to_owned()), "{}", reply.body);
}
