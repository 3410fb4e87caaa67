//! Creation and the checks before it: authorization, uniqueness, account state, rate limit; and the counters.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::sandbox::tests::fixture::{
    AUTHORIZATION, TestPartner, body, body_with, check, key, parsed, partner, partner_with, request,
};
use crate::sandbox::{AccountState, CreateRequest, ListRequest, ModelConfig, ModelStats, Money, RequestCounts};

#[test]
fn creation_is_answered_in_the_documented_shape() {
    let reply = TestPartner::new(ModelConfig { slug: "acme".to_owned(), ..ModelConfig::default() })
        .create(1, &body("jane@example.com"));
    assert_eq!((reply.status, reply.retry_after.as_deref()), (201, None));
    let answer = parsed(&reply);
    let service_id = answer["data"]["serviceId"].as_str().unwrap();
    let url = answer["data"]["verificationUrl"].as_str().unwrap();
    assert_eq!(
        answer,
        json!({"status": "success", "message": "User created successfully",
            "data": {"serviceId": service_id, "verificationUrl": url}})
    );
    assert_eq!(service_id.strip_prefix("acme-user-").map(str::len), Some(15), "{service_id}");
    assert!(url.starts_with("https://withpersona.com/verify?inquiry-id=inq_"), "{url}");
}

#[test]
fn refusals_have_the_documented_shape() {
    let mut partner = partner();
    partner.create(1, &body("jane@example.com"));
    let reply = partner.create(2, &body("jane@example.com"));
    assert_eq!(
        parsed(&reply),
        json!({"status": "error", "message": "DUP_USER", "data": {"error": "A user with this email already exists"}})
    );
}

#[test]
fn same_seed_and_requests_give_the_same_replies() {
    let run = |seed: u64| {
        let mut partner = partner_with(20, ModelConfig { seed, ..ModelConfig::default() });
        partner.list("").body
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn service_ids_and_verification_urls_are_unique() {
    let partner = partner_with(500, ModelConfig::default());
    let ids: HashSet<String> =
        partner.model.users(partner.now).flat_map(|user| [user.service_id, user.verification_url]).collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn only_the_right_bearer_token_is_authorized() {
    for (authorization, status) in [
        (Some(AUTHORIZATION), 201),
        (Some("bearer sk_staging_sandbox"), 201),
        (None, 401),
        (Some(""), 401),
        (Some("Bearer"), 401),
        (Some("Bearer "), 401),
        (Some("Bearer sk_staging_other"), 401),
        (Some("Basic sk_staging_sandbox"), 401),
        (Some("sk_staging_sandbox"), 401),
    ] {
        let (mut partner, key, body) = (partner(), key(1), body("jane@example.com").to_string());
        let reply = partner.send(&CreateRequest { authorization, body: body.as_bytes(), ..request(&key) });
        assert_eq!(reply.status, status, "{authorization:?}");
        let reply = partner.model.list(Duration::ZERO, &ListRequest { authorization, query: "" });
        assert_eq!(reply.status == 401, status == 401, "{authorization:?}");
    }
}

#[test]
fn content_type_must_be_json() {
    for (content_type, status) in [
        (Some("application/json"), 201),
        (Some("Application/JSON; charset=utf-8"), 201),
        (Some("text/plain"), 400),
        (Some("application/jsonlines"), 400),
        (None, 400),
    ] {
        let (key, body) = (key(1), body("jane@example.com").to_string());
        let reply = partner().send(&CreateRequest { content_type, body: body.as_bytes(), ..request(&key) });
        assert_eq!(reply.status, status, "{content_type:?}");
    }
}

#[test]
fn email_stays_taken_in_any_case() {
    let mut partner = partner();
    partner.create(1, &body("Jane@Example.com"));
    for (nth, email) in [(2, "Jane@Example.com"), (3, "jane@example.com"), (4, "JANE@EXAMPLE.COM")] {
        check(&partner.create(nth, &body(email)), 400, "DUP_USER");
    }
    check(&partner.at_ms(1_000_000_000).create(1, &body("jane@example.com")), 400, "DUP_USER");
    let user = partner.model.user_by_email(partner.now, "jane@EXAMPLE.com").unwrap();
    assert_eq!(user.email, "Jane@Example.com", "listed as it was sent");
}

#[test]
fn blacklisted_user_is_not_created() {
    let mut partner = partner();
    check(&partner.create(1, &body_with("lastName", "DoeBlacklisted")), 400, "USER_BLACKLISTED");
    check(&partner.create(2, &body_with("lastName", "Doe")), 201, "User created successfully");
}

#[test]
fn account_states_refuse_their_requests_until_they_end() {
    for (account, create, list) in [
        (AccountState::KeyRevoked, 401, 401),
        (AccountState::PaymentRequired, 402, 200),
        (AccountState::Suspended, 403, 403),
        (AccountState::Ok, 201, 200),
    ] {
        let mut partner = TestPartner::new(ModelConfig { account, ..ModelConfig::default() });
        assert_eq!(partner.create(1, &body("jane@example.com")).status, create, "{account:?}");
        assert_eq!(partner.list("").status, list, "{account:?}");
        partner.model.set_account(AccountState::Ok);
        assert_eq!(partner.create(2, &body("john@example.com")).status, 201, "{account:?}");
    }
}

#[test]
fn wallet_pays_for_creations_only_and_can_be_topped_up() {
    let mut partner = TestPartner::new(ModelConfig { wallet: Some(1), ..ModelConfig::default() });
    assert_eq!(partner.create(1, &body_with("lastName", "DoeBlacklisted")).status, 400);
    assert_eq!(partner.create(2, &body("jane@example.com")).status, 201);
    check(&partner.create(3, &body("john@example.com")), 402, "INSUFFICIENT_WALLET_BALANCE");
    partner.model.set_wallet(Some(1));
    assert_eq!(partner.create(3, &body("john@example.com")).status, 201);
    partner.model.set_wallet(None);
    assert_eq!(partner.create(4, &body("joan@example.com")).status, 201);
}

#[test]
fn requests_above_the_rate_limit_are_refused_for_a_rolling_second() {
    let mut partner = TestPartner::new(ModelConfig { rate_limit: Some(2), ..ModelConfig::default() });
    let statuses: Vec<u16> =
        [0, 600, 700, 999, 1000, 1001, 1600].into_iter().map(|ms| partner.at_ms(ms).list("").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 200, 429, 200], "throttled requests don't count");
    let reply = partner.at_ms(1600).create(1, &body("jane@example.com"));
    check(&reply, 429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(reply.retry_after.as_deref(), Some("1"));
}

#[test]
fn an_earlier_time_counts_as_the_latest_one() {
    let mut partner = partner();
    partner.at_ms(400_000).create(1, &body("jane@example.com"));
    check(&partner.at_ms(0).create(1, &body("jane@example.com")), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    partner.create(2, &body("john@example.com"));
    let user = partner.model.user_by_email(Duration::ZERO, "john@example.com").unwrap();
    assert_eq!(user.created_at.as_deref(), Some("1970-01-01T00:06:40.000Z"));
}

#[test]
fn every_request_increments_one_counter_of_its_answer() {
    let mut partner = partner();
    partner.create(1, &body("jane@example.com"));
    partner.create(1, &body("jane@example.com"));
    partner.create(2, &body("jane@example.com"));
    partner.create(3, &body_with("city", ""));
    let id = partner.id_of("jane@example.com");
    partner.delete(4, &id);
    partner.delete(4, &id);
    partner.delete(5, &id);
    partner.create(6, &body("jane@example.com"));
    let id = partner.id_of("jane@example.com");
    let position = partner.model.find(&id).unwrap();
    partner.model.set_active_cards(position, 2);
    partner.delete(7, &id);
    partner.balance();
    partner.list("");
    partner.list("limit=0");
    partner.model.list(partner.now, &ListRequest::default());
    partner.model.set_account(AccountState::Suspended);
    partner.list("");
    partner.model.set_rate_limit(Some(0));
    partner.list("");
    partner.at_ms(1000).list("");
    let stats = partner.model.stats();
    let expected = ModelStats {
        requests: RequestCounts { create: 5, list: 6, delete: 4, wallet: 1 },
        created: 2,
        listed: 1,
        deleted: 1,
        approved_deleted: 0,
        wallet_read: 1,
        fees_charged: 1,
        fees_waived: 1,
        fees_total: Money::from_cents(150),
        duplicates_refused: 1,
        keys_refused: 2,
        deletions_refused: 2,
        rejected: 2,
        throttled: 2,
        unauthorized: 1,
        account_refused: 1,
        max_requests_in_any_second: 15,
        users: 1,
    };
    assert_eq!(stats, expected);
    let json = serde_json::to_value(stats).unwrap();
    assert_eq!(json["maxRequestsInAnySecond"], 15);
    assert_eq!(json["requests"], json!({"create": 5, "list": 6, "delete": 4, "wallet": 1}));
}
