//! Idempotency keys: which are valid, which requests use one up, and when it can be used again.

use std::time::Duration;

use serde_json::json;

use crate::sandbox::tests::fixture::{
    TestPartner, body, body_with, check, key, outcome, partner, partner_with, request,
};
use crate::sandbox::{AccountState, CreateRequest, ModelConfig};

#[test]
fn idempotency_key_must_be_a_uuid() {
    for (key, message) in [
        (None, "IDEMPOTENCY_KEY_REQUIRED"),
        (Some(""), "IDEMPOTENCY_KEY_REQUIRED"),
        (Some("550e8400"), "INVALID_IDEMPOTENCY_KEY"),
        (Some("550e8400e29b41d4a716446655440000"), "INVALID_IDEMPOTENCY_KEY"),
        (Some("{550e8400-e29b-41d4-a716-446655440000}"), "INVALID_IDEMPOTENCY_KEY"),
        (Some("550e8400-e29b-41d4-a716-44665544000g"), "INVALID_IDEMPOTENCY_KEY"),
        (Some("550e8400-e29b-41d4-a716-446655440000"), "User created successfully"),
        (Some("550E8400-E29B-41D4-A716-446655440000"), "User created successfully"),
    ] {
        let body = body("jane@example.com").to_string();
        let reply = partner().send(&CreateRequest { idempotency_key: key, body: body.as_bytes(), ..request("") });
        assert_eq!(outcome(&reply).1, message, "{key:?}");
    }
}

#[test]
fn used_key_is_refused_until_it_expires_with_any_body() {
    let mut partner = partner();
    check(&partner.create(1, &body("jane@example.com")), 201, "User created successfully");
    for (ms, email) in [(0, "jane@example.com"), (1, "john@example.com"), (299_999, "jane@example.com")] {
        check(&partner.at_ms(ms).create(1, &body(email)), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    }
    check(&partner.at_ms(300_000).create(1, &body("jane@example.com")), 400, "DUP_USER");
    check(&partner.create(1, &body("john@example.com")), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
}

#[test]
fn letter_case_does_not_make_another_key() {
    let (lower, upper) = (key(0xabc), key(0xabc).to_uppercase());
    let mut partner = partner();
    let body = body("jane@example.com").to_string();
    assert_eq!(partner.send(&CreateRequest { body: body.as_bytes(), ..request(&lower) }).status, 201);
    let reply = partner.send(&CreateRequest { body: body.as_bytes(), ..request(&upper) });
    check(&reply, 400, "IDEMPOTENCY_KEY_ALREADY_USED");
}

#[test]
fn key_used_code_and_ttl_are_configurable() {
    let config = ModelConfig {
        key_used_code: "DUPLICATE_REQUEST".to_owned(),
        key_ttl: Duration::from_secs(1),
        ..ModelConfig::default()
    };
    let mut partner = TestPartner::new(config);
    partner.create(1, &body("jane@example.com"));
    check(&partner.at_ms(999).create(1, &body("jane@example.com")), 400, "DUPLICATE_REQUEST");
    check(&partner.at_ms(1000).create(1, &body("jane@example.com")), 400, "DUP_USER");
}

/// Whether the key of the first request is refused in a later, valid request.
fn uses_key(partner: &mut TestPartner) -> bool {
    partner.model.set_account(AccountState::Ok);
    partner.model.set_rate_limit(None);
    let (_, message) = outcome(&partner.create(1, &body("new@example.com")));
    message == "IDEMPOTENCY_KEY_ALREADY_USED"
}

#[test]
fn refusals_by_business_rules_use_the_key_and_others_do_not() {
    for (body, message, used) in [
        (body("user0@example.com"), "DUP_USER", true),
        (body_with("program", "prepaid"), "INVALID_PROGRAM", true),
        (body_with("lastName", "DoeBlacklisted"), "USER_BLACKLISTED", true),
        (body_with("city", ""), "VALIDATION_ERROR", false),
        (json!([]), "VALIDATION_ERROR", false),
    ] {
        let mut partner = partner_with(1, ModelConfig::default());
        assert_eq!(outcome(&partner.create(1, &body)).1, message);
        assert_eq!(uses_key(&mut partner), used, "{message}");
    }
}

#[test]
fn refusals_for_headers_or_invalid_json_do_not_use_the_key() {
    let (key, body) = (key(1), body("jane@example.com").to_string());
    let valid = CreateRequest { body: body.as_bytes(), ..request(&key) };
    for (request, message) in [
        (CreateRequest { authorization: None, ..valid }, "UNAUTHORIZED"),
        (CreateRequest { content_type: None, ..valid }, "INVALID_CONTENT_TYPE"),
        (CreateRequest { body: b"{", ..valid }, "INVALID_JSON"),
    ] {
        let mut partner = partner();
        assert_eq!(outcome(&partner.send(&request)).1, message);
        assert!(!uses_key(&mut partner), "{message}");
    }
}

#[test]
fn refusals_for_the_account_or_the_rate_do_not_use_the_key() {
    for (account, rate_limit, message) in [
        (AccountState::KeyRevoked, None, "UNAUTHORIZED"),
        (AccountState::PaymentRequired, None, "INSUFFICIENT_WALLET_BALANCE"),
        (AccountState::Suspended, None, "ACCOUNT_SUSPENDED"),
        (AccountState::Ok, Some(0), "RATE_LIMIT_EXCEEDED"),
    ] {
        let mut partner = TestPartner::new(ModelConfig { account, rate_limit, ..ModelConfig::default() });
        assert_eq!(outcome(&partner.create(1, &body("jane@example.com"))).1, message);
        assert!(!uses_key(&mut partner), "{message}");
    }
}
