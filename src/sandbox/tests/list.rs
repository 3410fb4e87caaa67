//! The user list: its shape, its pages, and its KYC status.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::Timestamp;
use crate::sandbox::tests::fixture::{TestPartner, body, body_with, check, parsed, partner, partner_with};
use crate::sandbox::{ListOrder, ListOverLimit, Model, ModelConfig};

fn emails(list: &Value) -> Vec<&str> {
    list["data"]["users"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap()).collect()
}

#[test]
fn list_is_answered_in_the_documented_shape() {
    let mut partner = partner();
    let created = parsed(&partner.at_ms(1500).create(1, &body_with("email", "Jane@example.com")));
    assert_eq!(
        parsed(&partner.list("skip=0&limit=10")),
        json!({"status": "success", "message": "success", "data": {
            "users": [{"serviceId": created["data"]["serviceId"], "email": "Jane@example.com", "firstName": "Jane",
                "lastName": "Doe", "status": "pending_kyc", "program": "custodial",
                "createdAt": "1970-01-01T00:00:01.500Z"}],
            "pagination": {"skip": 0, "limit": 10, "total": 1}}})
    );
}

#[test]
fn pages_follow_the_order_and_cover_every_user_once() {
    let oldest: Vec<String> = (0..7).map(|nth| format!("user{nth}@example.com")).collect();
    let newest: Vec<String> = oldest.iter().rev().cloned().collect();
    for (list_order, expected) in [(ListOrder::OldestFirst, oldest), (ListOrder::NewestFirst, newest)] {
        let mut partner = partner_with(7, ModelConfig { list_order, ..ModelConfig::default() });
        let pages: Vec<Value> =
            (0..3).map(|page| parsed(&partner.list(&format!("skip={}&limit=3", page * 3)))).collect();
        assert_eq!(pages.iter().flat_map(emails).collect::<Vec<_>>(), expected, "{list_order:?}");
    }
}

#[test]
fn page_length_has_a_default_and_a_cap() {
    let mut partner = partner_with(120, ModelConfig::default());
    for (query, users, skip, limit) in [
        ("", 50, 0, 50),
        ("limit=7", 7, 0, 7),
        ("limit=100", 100, 0, 100),
        ("limit=4294967295", 100, 0, 100),
        ("skip=110", 10, 110, 50),
        ("skip=120", 0, 120, 50),
        ("skip=18446744073709551615&limit=5", 0, u64::MAX, 5),
        ("search=jane", 50, 0, 50),
    ] {
        let list = parsed(&partner.list(query));
        assert_eq!(emails(&list).len(), users, "{query}");
        assert_eq!(list["data"]["pagination"], json!({"skip": skip, "limit": limit, "total": 120}), "{query}");
    }
}

#[test]
fn a_limit_above_the_largest_page_is_clipped_or_refused() {
    for (list_over_limit, status) in [(ListOverLimit::Clipped, 200), (ListOverLimit::Refused, 422)] {
        let config = ModelConfig { list_limit_max: 7, list_over_limit, ..ModelConfig::default() };
        let mut partner = partner_with(10, config);
        assert_eq!(partner.list("limit=8").status, status);
        assert_eq!(emails(&parsed(&partner.list("limit=7"))).len(), 7);
        assert_eq!(emails(&parsed(&partner.list(""))).len(), 7, "the default is never refused");
    }
}

#[test]
fn users_of_other_clients_exist_from_the_start_a_minute_apart() {
    let config = ModelConfig { users_min: 3, list_order: ListOrder::OldestFirst, ..ModelConfig::default() };
    let mut partner = TestPartner { model: Model::new(config, Timestamp::from_unix_ms(180_000)), now: Duration::ZERO };
    let list = parsed(&partner.list(""));
    let users: Vec<(&str, &str)> = list["data"]["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["email"].as_str().unwrap(), user["createdAt"].as_str().unwrap()))
        .collect();
    assert_eq!(
        users,
        [
            ("user0@elsewhere.example", "1970-01-01T00:00:00.000Z"),
            ("user1@elsewhere.example", "1970-01-01T00:01:00.000Z"),
            ("user2@elsewhere.example", "1970-01-01T00:02:00.000Z"),
        ]
    );
}

#[test]
fn a_list_of_200_000_users_has_its_ends_where_the_order_puts_them() {
    let mut partner = TestPartner::new(ModelConfig { users_min: 200_000, ..ModelConfig::default() });
    let deleted = partner.id_of("user7@elsewhere.example");
    assert_eq!(partner.delete(1, &deleted).status, 200);
    assert_eq!(partner.at_ms(60_000).create(2, &body("jane@example.com")).status, 201);
    let other = |nth: u32| format!("user{nth}@elsewhere.example");
    for (list_order, first, last) in [
        (ListOrder::NewestFirst, "jane@example.com", &*other(0)),
        (ListOrder::OldestFirst, &*other(0), "jane@example.com"),
    ] {
        let config = ModelConfig { list_order, users_min: 200_000, ..ModelConfig::default() };
        partner.model.set_quirks(partner.now, config);
        for (query, expected) in [("limit=1", first), ("skip=199999&limit=100", last)] {
            let list = parsed(&partner.list(query));
            assert_eq!(emails(&list), [expected], "{list_order:?} {query}");
            assert_eq!(list["data"]["pagination"]["total"], 200_000);
        }
    }
    let lagging = ModelConfig { list_lag_s: 30, users_min: 200_000, ..ModelConfig::default() };
    partner.model.set_quirks(partner.now, lagging);
    assert_eq!(emails(&parsed(&partner.list("limit=1"))), [other(199_999)], "jane is too new");
}

#[test]
fn page_parameters_that_are_not_numbers_are_refused() {
    for query in ["skip=-1", "skip=", "skip=one", "limit=0", "limit=-1", "limit=ten", "limit="] {
        let reply = partner().list(query);
        check(&reply, 422, "VALIDATION_ERROR");
    }
}

#[test]
fn staging_keywords_decide_the_status_after_the_delay() {
    for (last_name, decided) in [
        ("DoeApproved", "approved"),
        ("DoeDenied", "denied"),
        ("DoeneedsVerification", "needsVerification"),
        ("Doeapproved", "pending_kyc"),
        ("ApprovedDoe", "pending_kyc"),
        ("Doe", "pending_kyc"),
    ] {
        let config = ModelConfig { kyc_after: Duration::from_secs(10), ..ModelConfig::default() };
        let mut partner = TestPartner::new(config);
        partner.at_ms(5_000).create(1, &body_with("lastName", last_name));
        for (ms, expected) in [(5_000, "pending_kyc"), (14_999, "pending_kyc"), (15_000, decided)] {
            let list = parsed(&partner.at_ms(ms).list(""));
            assert_eq!(list["data"]["users"][0]["status"], expected, "{last_name} at {ms} ms");
        }
    }
    let mut partner = partner();
    partner.create(1, &body_with("lastName", "DoeApproved"));
    assert_eq!(parsed(&partner.list(""))["data"]["users"][0]["status"], "approved", "no delay by default");
}
