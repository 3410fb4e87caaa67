//! Deletion and re-creation: what is refused, what it costs, and what the list shows.

use serde_json::json;

use crate::sandbox::tests::fixture::{
    AUTHORIZATION, TestPartner, body, body_with, check, delete_request, outcome, parsed, partner, partner_with,
};
use crate::sandbox::{AccountState, DeleteRequest, KeyReuse, ModelConfig, Money, WalletRequest};

const CREATED: &str = "User created successfully";
const DELETED: &str = "User deleted successfully";

#[test]
fn a_deletion_is_answered_in_the_documented_shape() {
    let mut partner = partner_with(1, ModelConfig::default());
    let id = partner.id_of("user0@example.com");
    let reply = partner.delete(100, &id);
    assert_eq!(reply.status, 200);
    assert_eq!(parsed(&reply), json!({"status": "success", "message": DELETED, "data": {"deleted": true}}));
}

#[test]
fn a_deleted_user_leaves_the_list_and_frees_its_email() {
    let mut partner = partner_with(3, ModelConfig::default());
    let id = partner.id_of("user1@example.com");
    partner.delete(100, &id);
    let list = parsed(&partner.list(""));
    let emails: Vec<_> = list["data"]["users"].as_array().unwrap().iter().map(|user| user["email"].clone()).collect();
    assert_eq!(emails, ["user2@example.com", "user0@example.com"]);
    assert_eq!(list["data"]["pagination"]["total"], 2);
    assert!(partner.model.user_by_email(partner.now, "user1@example.com").is_none());

    check(&partner.create(101, &body("USER1@example.com")), 201, CREATED);
    assert_ne!(partner.id_of("user1@example.com"), id);
    check(&partner.create(102, &body("user1@example.com")), 400, "DUP_USER");
    check(&partner.delete(103, &id), 404, "USER_NOT_FOUND");
    assert_eq!(partner.model.stats().users, 3);
}

#[test]
fn a_deletion_needs_an_unused_key_as_a_creation_does() {
    let mut partner = partner_with(2, ModelConfig::default());
    let id = partner.id_of("user0@example.com");
    for (header, message) in [
        (None, "IDEMPOTENCY_KEY_REQUIRED"),
        (Some(""), "IDEMPOTENCY_KEY_REQUIRED"),
        (Some("1"), "INVALID_IDEMPOTENCY_KEY"),
    ] {
        let request = DeleteRequest { idempotency_key: header, service_id: &id, ..delete_request("") };
        check(&partner.model.delete(partner.now, &request), 400, message);
    }
    // The key of a creation.
    check(&partner.delete(0, &id), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    check(&partner.delete(100, "sandbox-user-000000000000000"), 404, "USER_NOT_FOUND");
    check(&partner.delete(100, &id), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    check(&partner.delete(101, &id), 200, DELETED);
    check(&partner.delete(101, &id), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    check(&partner.create(101, &body("user0@example.com")), 400, "IDEMPOTENCY_KEY_ALREADY_USED");
    let expired = partner.now.as_millis() as u64 + 300_000;
    check(&partner.at_ms(expired).delete(101, &id), 404, "USER_NOT_FOUND");
}

#[test]
fn a_replaying_partner_repeats_the_answer_to_a_deletion() {
    let config = ModelConfig { key_reuse: KeyReuse::Replayed, ..ModelConfig::default() };
    let mut partner = partner_with(1, config);
    let id = partner.id_of("user0@example.com");
    let first = partner.delete(100, &id);
    assert_eq!(partner.delete(100, &id), first);
    assert_eq!(partner.model.stats().deleted, 1);
}

#[test]
fn an_unknown_user_is_not_found_with_404_or_400() {
    for user_not_found_status in [404, 400] {
        let mut partner = partner_with(1, ModelConfig { user_not_found_status, ..ModelConfig::default() });
        for (nth, id) in ["", "123456789012345", "other-user-0000"].into_iter().enumerate() {
            check(&partner.delete(100 + nth as u128, id), user_not_found_status, "USER_NOT_FOUND");
        }
    }
}

#[test]
fn a_user_with_active_cards_is_not_deleted() {
    let mut partner = partner_with(1, ModelConfig::default());
    let id = partner.id_of("user0@example.com");
    let position = partner.model.find(&id).unwrap();
    partner.model.set_active_cards(position, 2);
    let reply = partner.delete(100, &id);
    check(&reply, 409, "ACTIVE_CARDS_EXIST");
    assert_eq!(parsed(&reply)["data"], json!({"error": "The user has active cards", "activeCards": 2}));
    partner.model.set_active_cards(position, 0);
    check(&partner.delete(101, &id), 200, DELETED);
}

#[test]
fn deletions_and_the_wallet_check_the_account_and_the_rate() {
    for (account, rate_limit, delete, wallet) in [
        (AccountState::KeyRevoked, None, "UNAUTHORIZED", "UNAUTHORIZED"),
        (AccountState::Suspended, None, "ACCOUNT_SUSPENDED", "ACCOUNT_SUSPENDED"),
        (AccountState::PaymentRequired, None, DELETED, "success"),
        (AccountState::Ok, Some(0), "RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
    ] {
        let mut partner = partner_with(1, ModelConfig::default());
        let id = partner.id_of("user0@example.com");
        partner.model.set_account(account);
        partner.model.set_rate_limit(rate_limit);
        assert_eq!(outcome(&partner.delete(100, &id)).1, delete, "{account:?}");
        let request = WalletRequest { authorization: Some(AUTHORIZATION) };
        assert_eq!(outcome(&partner.model.wallet(partner.now, &request)).1, wallet, "{account:?}");
    }
    let mut partner = partner();
    check(&partner.model.wallet(partner.now, &WalletRequest::default()), 401, "UNAUTHORIZED");
    let request = DeleteRequest { authorization: None, ..delete_request("") };
    check(&partner.model.delete(partner.now, &request), 401, "UNAUTHORIZED");
}

#[test]
fn the_wallet_is_answered_in_the_documented_shape() {
    let mut partner =
        TestPartner::new(ModelConfig { slug: "acme".to_owned(), wallet: Some(3), ..ModelConfig::default() });
    let request = WalletRequest { authorization: Some(AUTHORIZATION) };
    let data = json!({"partnerId": "acme", "balance": 4.5, "currency": "USD", "active": true});
    assert_eq!(
        parsed(&partner.model.wallet(partner.now, &request)),
        json!({"status": "success", "message": "success", "data": data})
    );
    partner.model.set_account(AccountState::PaymentRequired);
    assert_eq!(partner.balance(), 0);
}

#[test]
fn each_creation_costs_the_fee_until_the_balance_is_too_low() {
    let config = ModelConfig { fee: Money::from_cents(250), wallet: Some(2), ..ModelConfig::default() };
    let mut partner = TestPartner::new(config);
    assert_eq!(partner.balance(), 5);
    check(&partner.create(1, &body("jane@example.com")), 201, CREATED);
    assert_eq!(partner.balance(), 2.5);
    check(&partner.create(2, &body("jane@example.com")), 400, "DUP_USER");
    partner.model.set_balance(Money::from_dollars(2.49));
    check(&partner.create(3, &body("john@example.com")), 402, "INSUFFICIENT_WALLET_BALANCE");
    partner.model.set_fee(Money::from_cents(249));
    check(&partner.create(3, &body("john@example.com")), 201, CREATED);
    assert_eq!(partner.balance(), 0);
    assert_eq!(partner.model.stats().fees_total, Money::from_cents(499));
}

#[test]
fn a_re_creation_is_free_unless_the_deleted_user_was_approved() {
    for (last_name, waived) in [("Doe", 1), ("DoeDenied", 1), ("DoeneedsVerification", 1), ("DoeApproved", 0)] {
        let mut partner = TestPartner::new(ModelConfig { wallet: Some(2), ..ModelConfig::default() });
        partner.create(1, &body_with("lastName", last_name));
        let id = partner.id_of("jane@example.com");
        check(&partner.delete(2, &id), 200, DELETED);
        check(&partner.create(3, &body("JANE@example.com")), 201, CREATED);
        let stats = partner.model.stats();
        assert_eq!((stats.fees_waived, stats.fees_charged), (waived, 2 - waived), "{last_name}");
        assert_eq!(stats.approved_deleted, 1 - waived, "{last_name}");
        assert_eq!(partner.balance(), if waived == 1 { json!(1.5) } else { json!(0) }, "{last_name}");
    }
}

#[test]
fn the_latest_deletion_decides_the_fee_and_a_waived_one_needs_no_balance() {
    let mut partner = TestPartner::new(ModelConfig { wallet: Some(2), ..ModelConfig::default() });
    partner.create(1, &body_with("lastName", "DoeApproved"));
    let id = partner.id_of("jane@example.com");
    partner.delete(2, &id);
    partner.create(3, &body("jane@example.com"));
    assert_eq!(partner.balance(), 0);
    let id = partner.id_of("jane@example.com");
    partner.delete(4, &id);
    check(&partner.create(5, &body("john@example.com")), 402, "INSUFFICIENT_WALLET_BALANCE");
    check(&partner.create(6, &body("jane@example.com")), 201, CREATED);
    assert_eq!(partner.model.stats().fees_waived, 1);
}
