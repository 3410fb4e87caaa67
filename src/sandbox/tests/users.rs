//! Changes of users while the sandbox runs: KYC statuses and cards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Timestamp;
use crate::sandbox::tests::fixture::{AUTHORIZATION, body, key, request};
use crate::sandbox::{
    CreateRequest, DeleteRequest, FaultPlan, HostilePartner, SandboxConfig, SandboxControl, UserChange, Wire,
};

fn partner_with(users: u32, faults: &[&str]) -> HostilePartner {
    let faults = FaultPlan::parse(faults).unwrap();
    let config = SandboxConfig { faults, ..SandboxConfig::default() };
    let mut partner = HostilePartner::new(config, Timestamp::from_unix_ms(0));
    for nth in 0..users {
        let (key, body) = (key(nth.into()), body(&format!("user{nth}@example.com")).to_string());
        partner.create(Duration::ZERO, &CreateRequest { body: body.as_bytes(), ..request(&key) });
    }
    partner
}

fn change(partner: &mut HostilePartner, users: Vec<UserChange>) -> Vec<String> {
    partner.control(Duration::ZERO, &SandboxControl { users, ..SandboxControl::default() })
}

fn statuses(partner: &HostilePartner) -> BTreeMap<String, usize> {
    let mut statuses = BTreeMap::new();
    for user in partner.model().users(Duration::ZERO) {
        *statuses.entry(user.status.unwrap_or_default().to_owned()).or_default() += 1;
    }
    statuses
}

fn counts(statuses: &[(&str, usize)]) -> BTreeMap<String, usize> {
    statuses.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect()
}

#[test]
fn a_status_is_set_for_one_user_by_email_or_id_until_it_is_reset() {
    let mut partner = partner_with(3, &[]);
    let id = partner.model().user_by_email(Duration::ZERO, "user1@example.com").unwrap().service_id;
    let changes =
        vec![UserChange::status_of("USER0@example.com", "approved"), UserChange::status_of(&id, "manualReview")];
    assert!(change(&mut partner, changes).is_empty());
    assert_eq!(statuses(&partner), counts(&[("approved", 1), ("manualReview", 1), ("pending_kyc", 1)]));
    let reset = UserChange { status: Some(None), ..UserChange::status_of(&id, "") };
    assert!(change(&mut partner, vec![reset]).is_empty());
    assert_eq!(statuses(&partner), counts(&[("approved", 1), ("pending_kyc", 2)]));
}

#[test]
fn a_status_is_set_for_an_exact_share_of_the_users_that_the_seed_chooses() {
    let run = || {
        let mut partner = partner_with(40, &[]);
        change(&mut partner, vec![UserChange::status_of_share(0.25, "approved")]);
        assert_eq!(statuses(&partner), counts(&[("approved", 10), ("pending_kyc", 30)]));
        let users = partner.model().users(Duration::ZERO);
        users.filter(|user| user.status == Some("approved")).map(|user| user.email.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
    let mut partner = partner_with(40, &[]);
    change(&mut partner, vec![UserChange::status_of_share(1.0, "denied"), UserChange::status_of_share(0.0, "locked")]);
    assert_eq!(statuses(&partner), counts(&[("denied", 40)]));
}

#[test]
fn a_change_of_an_unknown_user_changes_nothing() {
    let mut partner = partner_with(1, &[]);
    let changes =
        vec![UserChange::status_of("user0@example.com", "approved"), UserChange::cards_of("nil@example.com", 1)];
    assert_eq!(change(&mut partner, changes), ["nil@example.com"]);
    assert_eq!(statuses(&partner), counts(&[("pending_kyc", 1)]));
}

#[test]
fn a_control_request_gives_a_user_cards() {
    let mut partner = partner_with(1, &[]);
    change(&mut partner, vec![UserChange::cards_of("user0@example.com", 1)]);
    let id = partner.model().user_by_email(Duration::ZERO, "user0@example.com").unwrap().service_id;
    let key = key(100);
    let request = DeleteRequest { authorization: Some(AUTHORIZATION), idempotency_key: Some(&key), service_id: &id };
    let Wire::Whole(reply) = partner.delete(Duration::ZERO, &request).wire else { panic!("it is whole") };
    assert_eq!(reply.status, 409);
}

#[test]
fn a_list_can_have_no_status_and_a_late_one() {
    assert_eq!(statuses(&partner_with(1, &["status=missing"])), counts(&[("", 1)]));
    let mut partner = partner_with(0, &["kyc-after=60s"]);
    let (key, mut body) = (key(0), body("jane@example.com"));
    body["lastName"] = "DoeApproved".into();
    let body = body.to_string();
    partner.create(Duration::ZERO, &CreateRequest { body: body.as_bytes(), ..request(&key) });
    for (second, expected) in [(59, "pending_kyc"), (60, "approved")] {
        let now = Duration::from_secs(second);
        assert_eq!(partner.model().user_by_email(now, "jane@example.com").unwrap().status, Some(expected));
    }
}
