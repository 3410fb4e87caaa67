//! The field rules: a body with one changed field, and its answer.

use serde_json::{Value, json};

use crate::sandbox::tests::fixture::{TestPartner, body, body_with, outcome, parsed, request};
use crate::sandbox::{CreateRequest, ModelConfig};

const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

/// The answer to a body: status, message and error text, which is empty on success.
fn answer(body: &Value) -> (u16, String, String) {
    let reply = TestPartner::new(ModelConfig::default()).create(1, body);
    let (status, message) = outcome(&reply);
    (status, message, parsed(&reply)["data"]["error"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn accepts(body: &Value) {
    assert_eq!(answer(body).0, 201, "{body}");
}

/// Checks that a body is answered 422 and that the error text names exactly these fields, in this order.
#[track_caller]
fn refuses(body: &Value, fields: &[&str]) {
    let (status, message, error) = answer(body);
    assert_eq!((status, message.as_str()), (422, "VALIDATION_ERROR"), "{body}");
    let named: Vec<&str> = error.split("; ").filter_map(|problem| problem.split(' ').next()).collect();
    assert_eq!(named, fields, "{error}");
}

#[test]
fn text_fields_hold_one_character_to_their_limit_counted_in_characters() {
    let limits = [
        ("firstName", 100),
        ("lastName", 100),
        ("accountPurpose", 200),
        ("address", 500),
        ("city", 100),
        ("region", 100),
        ("postalCode", 20),
    ];
    for (field, limit) in limits {
        for character in ["a", "é", "漢", "😀"] {
            accepts(&body_with(field, character));
            accepts(&body_with(field, character.repeat(limit)));
            refuses(&body_with(field, character.repeat(limit + 1)), &[field]);
        }
        refuses(&body_with(field, ""), &[field]);
    }
}

#[test]
fn every_required_field_is_reported_if_it_is_missing() {
    let complete = body("jane@example.com");
    for field in complete.as_object().unwrap().keys() {
        let mut incomplete = complete.clone();
        incomplete.as_object_mut().unwrap().remove(field);
        refuses(&incomplete, &[field]);
    }
}

#[test]
fn values_of_another_json_type_are_refused() {
    let complete = body_with("walletAddress", WALLET);
    for field in complete.as_object().unwrap().keys().map(String::as_str).chain(["redirectUrl"]) {
        for value in [json!(null), json!(1), json!(["a"]), json!({})] {
            refuses(&body_with(field, value), &[field]);
        }
    }
}

#[test]
fn emails_need_a_local_part_and_a_dotted_host() {
    let longest = format!("{}@{}.example.com", "a".repeat(64), "b".repeat(254 - 64 - 1 - 12));
    for email in ["a@b.co", "first.last+tag@sub.example.com", "josé@exämple.com", &longest] {
        accepts(&body_with("email", email));
    }
    let too_long = format!("{}x", longest);
    let long_local = format!("{}@example.com", "a".repeat(65));
    for email in [
        "",
        "jane",
        "@example.com",
        "jane@",
        "jane@host",
        "jane@.com",
        "jane@example.",
        "jane@exa mple.com",
        "ja ne@a.co",
        "jane@a@b.co",
        "jane@-a.co",
        "jane@a-.co",
        "jane@a_b.co",
        "jane@a..co",
        "jane@a.co\n",
        &too_long,
        &long_local,
    ] {
        refuses(&body_with("email", email), &["email"]);
    }
}

#[test]
fn phone_numbers_are_a_plus_and_seven_to_fifteen_digits() {
    for phone in ["+1234567", "+14155555555", "+123456789012345"] {
        accepts(&body_with("phoneNumber", phone));
    }
    for phone in
        ["", "+", "14155555555", "+0123456789", "+123456", "+1234567890123456", "+1 4155555555", "+1415٥555555"]
    {
        refuses(&body_with("phoneNumber", phone), &["phoneNumber"]);
    }
}

#[test]
fn ip_addresses_are_of_either_version() {
    for ip in ["203.0.113.42", "2001:db8::1", "::ffff:203.0.113.42"] {
        accepts(&body_with("ipAddress", ip));
    }
    for ip in ["", "203.0.113", "203.0.113.256", "203.0.113.042", "example.com", "203.0.113.42:80", "[2001:db8::1]"] {
        refuses(&body_with("ipAddress", ip), &["ipAddress"]);
    }
}

#[test]
fn terms_of_service_are_accepted_by_true_only() {
    for value in [json!(false), json!("true"), json!(1), json!(null)] {
        refuses(&body_with("isTermsOfServiceAccepted", value), &["isTermsOfServiceAccepted"]);
    }
}

#[test]
fn programs_that_do_not_exist_break_a_business_rule() {
    for program in ["", "Custodial", "non-custodial", "prepaid"] {
        let (status, message, error) = answer(&body_with("program", program));
        assert_eq!((status, message.as_str()), (400, "INVALID_PROGRAM"), "{program}");
        assert!(error.contains("program"), "{error}");
    }
}

#[test]
fn wallet_address_is_required_for_a_non_custodial_user_only() {
    accepts(&body_with("walletAddress", WALLET));
    refuses(&body_with("program", "non_custodial"), &["walletAddress"]);
    let mut body = body_with("program", "non_custodial");
    body["walletAddress"] = WALLET.into();
    accepts(&body);
}

#[test]
fn wallet_addresses_are_forty_hexadecimal_digits_after_0x() {
    let [short, long, other] = [&WALLET[..41], &format!("{WALLET}0"), &WALLET.replace('E', "g")].map(str::to_owned);
    for wallet in ["", "0x", &WALLET[2..], &WALLET.replace("0x", "0X"), &short, &long, &other] {
        refuses(&body_with("walletAddress", wallet), &["walletAddress"]);
    }
}

#[test]
fn redirect_urls_are_https() {
    for url in ["https://example.com", "https://example.com/done?from=plu#top"] {
        accepts(&body_with("redirectUrl", url));
    }
    for url in ["", "http://example.com", "example.com", "https://", "ftp://example.com", "javascript:alert(1)"] {
        refuses(&body_with("redirectUrl", url), &["redirectUrl"]);
    }
}

#[test]
fn country_codes_are_assigned_upper_case_ones() {
    for country in ["US", "KE", "NG"] {
        accepts(&body_with("countryCode", country));
    }
    for country in ["", "U", "us", "USA", "U1", "É", "XX", "ZZ", "UK"] {
        refuses(&body_with("countryCode", country), &["countryCode"]);
    }
}

#[test]
fn unknown_fields_are_named() {
    refuses(&body_with("middleName", "Ann"), &["middleName"]);
    refuses(&body_with("firstname", "Jane"), &["firstname"]);
}

#[test]
fn all_problems_are_reported_together() {
    let mut body = body_with("firstName", "");
    body["phoneNumber"] = "none".into();
    body["nickName"] = "J".into();
    refuses(&body, &["firstName", "phoneNumber", "nickName"]);
}

#[test]
fn bodies_that_are_not_an_object_are_refused() {
    for (bytes, expected) in [
        (&b""[..], (400, "INVALID_JSON")),
        (b"{", (400, "INVALID_JSON")),
        (b"\xff", (400, "INVALID_JSON")),
        (b"{} {}", (400, "INVALID_JSON")),
        (b"[]", (422, "VALIDATION_ERROR")),
        (b"null", (422, "VALIDATION_ERROR")),
    ] {
        let key = crate::sandbox::tests::fixture::key(1);
        let reply = TestPartner::new(ModelConfig::default()).send(&CreateRequest { body: bytes, ..request(&key) });
        let (status, message) = outcome(&reply);
        assert_eq!((status, message.as_str()), expected, "{bytes:?}");
    }
}
