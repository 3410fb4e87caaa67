//! The user list: its shape, its pages, and its KYC status.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::tests::fixture::{TestPartner, body_with, check, parsed, partner, partner_with};
use crate::sandbox::{ListOrder, ModelConfig};

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
        ("DoeneedsVerification", "needs_verification"),
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
