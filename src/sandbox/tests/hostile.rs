//! The faults: what the client receives, and what the request changed at the partner.

use std::time::Duration;

use crate::domain::Timestamp;
use crate::sandbox::tests::fixture::{AUTHORIZATION, body, key, parsed, request};
use crate::sandbox::{
    CreateRequest, FaultKind, FaultPlan, HostilePartner, ListRequest, SandboxAnswer, SandboxConfig, SandboxControl,
    Wire,
};

struct HostileRig {
    partner: HostilePartner,
    now: Duration,
}

fn rig(faults: &[&str]) -> HostileRig {
    let faults = FaultPlan::parse(faults).unwrap();
    let config = SandboxConfig { faults, ..SandboxConfig::default() };
    HostileRig { partner: HostilePartner::new(config, Timestamp::from_unix_ms(0)), now: Duration::from_secs(1_000) }
}

impl HostileRig {
    fn create(&mut self, nth_key: u128, email: &str) -> SandboxAnswer {
        let (key, body) = (key(nth_key), body(email).to_string());
        self.partner.create(self.now, &CreateRequest { body: body.as_bytes(), ..request(&key) })
    }

    fn list(&mut self, query: &str) -> SandboxAnswer {
        self.partner.list(self.now, &ListRequest { authorization: Some(AUTHORIZATION), query })
    }

    fn users(&self) -> u64 {
        self.partner.model().stats().users
    }
}

fn status(answer: &SandboxAnswer) -> u16 {
    match &answer.wire {
        Wire::Whole(reply) | Wire::Half(reply) | Wire::Drip(reply) => reply.status,
        Wire::Nothing => 0,
    }
}

#[test]
fn each_fault_has_its_answer_and_its_effect_at_the_partner() {
    for (kind, expected, users) in [
        (FaultKind::Drop, 0, 0),
        (FaultKind::Lost, 0, 1),
        (FaultKind::Cut, 201, 1),
        (FaultKind::ErrorBefore, 500, 0),
        (FaultKind::ErrorAfter, 500, 1),
        (FaultKind::Truncated, 201, 1),
        (FaultKind::WrongJson, 201, 1),
        (FaultKind::Drip, 201, 1),
        (FaultKind::Throttled, 429, 0),
        (FaultKind::ThrottledDate, 429, 0),
        (FaultKind::ThrottledBare, 429, 0),
        (FaultKind::Unauthorized, 401, 0),
        (FaultKind::PaymentRequired, 402, 0),
        (FaultKind::Forbidden, 403, 0),
        (FaultKind::NotFound, 404, 0),
        (FaultKind::Html200, 200, 0),
        (FaultKind::Odd400, 400, 0),
        (FaultKind::Html502, 502, 1),
    ] {
        let mut rig = rig(&[&format!("{}=1/1", kind.name())]);
        let answer = rig.create(1, "jane@example.com");
        assert_eq!((answer.fault, status(&answer), rig.users()), (Some(kind), expected, users), "{kind:?}");
        let listed = rig.list("");
        // 402 is the answer to creations only.
        assert_eq!(listed.fault.is_some(), kind != FaultKind::PaymentRequired, "{kind:?}");
    }
}

#[test]
fn a_damaged_answer_has_no_service_id() {
    for (fault, readable) in [("truncated", false), ("wrong-json", true), ("html-200", false), ("html-502", false)] {
        let Wire::Whole(reply) = rig(&[&format!("{fault}=1/1")]).create(1, "jane@example.com").wire else {
            panic!("{fault} is whole");
        };
        let json: Result<serde_json::Value, _> = serde_json::from_str(&reply.body);
        assert_eq!(json.is_ok(), readable, "{fault}");
        assert!(!json.is_ok_and(|json| json["data"]["serviceId"].is_string()), "{fault} has no id");
    }
}

#[test]
fn retry_after_is_seconds_a_date_or_absent() {
    for (fault, expected) in
        [("429", Some("2")), ("429-date", Some("Thu, 01 Jan 1970 00:16:42 GMT")), ("429-bare", None)]
    {
        let Wire::Whole(reply) = rig(&[&format!("{fault}=1/1")]).create(1, "jane@example.com").wire else {
            panic!("{fault} is whole");
        };
        assert_eq!(reply.retry_after.as_deref(), expected, "{fault}");
    }
}

#[test]
fn faults_apply_by_number_time_and_share_and_the_first_one_wins() {
    let mut by_number = rig(&["401=2..4", "lost=1/1"]);
    let kinds: Vec<_> = (0..4).map(|n| by_number.create(n, &format!("u{n}@example.com")).fault.unwrap()).collect();
    assert_eq!(kinds, [FaultKind::Lost, FaultKind::Unauthorized, FaultKind::Unauthorized, FaultKind::Lost]);

    let mut by_time = rig(&[]);
    let faults = FaultPlan::parse(&["403=10s..20s"]).unwrap();
    by_time.partner.control(by_time.now, &SandboxControl { faults: Some(faults), ..SandboxControl::default() });
    for (second, expected) in [(1_009, 201), (1_010, 403), (1_019, 403), (1_020, 201)] {
        by_time.now = Duration::from_secs(second);
        assert_eq!(status(&by_time.create(second.into(), &format!("u{second}@example.com"))), expected, "{second}");
    }

    let lost = || {
        let mut rig = rig(&["lost=10%"]);
        let lost = (0..1_000).filter(|n| rig.create(*n, &format!("u{n}@example.com")).fault.is_some());
        lost.collect::<Vec<_>>()
    };
    assert!((60..140).contains(&lost().len()), "{}", lost().len());
    assert_eq!(lost(), lost(), "the seed decides");
}

#[test]
fn a_used_key_is_refused_with_400_or_409_or_replayed() {
    for (faults, expected) in [
        (&["key-reuse=400"][..], (400, "IDEMPOTENCY_KEY_ALREADY_USED")),
        (&["key-reuse=409", "key-used-code=KEY_REUSED"], (409, "KEY_REUSED")),
        (&["key-reuse=replay"], (201, "User created successfully")),
        (&["dup-user-code=EMAIL_TAKEN"], (400, "IDEMPOTENCY_KEY_ALREADY_USED")),
    ] {
        let mut rig = rig(faults);
        let first = rig.create(1, "jane@example.com");
        let again = rig.create(1, "jane@example.com");
        let (Wire::Whole(first), Wire::Whole(again)) = (first.wire, again.wire) else { panic!("both are whole") };
        assert_eq!((again.status, parsed(&again)["message"].as_str().unwrap()), expected);
        assert_eq!(first == again, faults == ["key-reuse=replay"]);
        assert_eq!(rig.users(), 1);
    }
    let Wire::Whole(taken) = ({
        let mut rig = rig(&["dup-user-code=EMAIL_TAKEN"]);
        rig.create(1, "jane@example.com");
        rig.create(2, "JANE@example.com").wire
    }) else {
        panic!("it is whole")
    };
    assert_eq!(parsed(&taken)["message"], "EMAIL_TAKEN");
}

#[test]
fn the_list_has_the_configured_times_order_and_length() {
    let first_page = |faults: &[&str]| {
        let mut rig = rig(faults);
        for n in 0..30 {
            rig.create(n, &format!("u{n}@example.com"));
        }
        let Wire::Whole(reply) = rig.list("limit=20").wire else { panic!("it is whole") };
        let page = parsed(&reply)["data"].clone();
        let emails: Vec<String> =
            page["users"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect();
        (page, emails)
    };
    let (page, newest) = first_page(&[]);
    assert_eq!(newest[0], "u29@example.com");
    assert_eq!(page["users"][0]["createdAt"], "1970-01-01T00:16:40.000Z");
    assert_eq!(first_page(&["clock-skew=-90s"]).0["users"][0]["createdAt"], "1970-01-01T00:15:10.000Z");
    assert!(first_page(&["created-at=missing"]).0["users"][0].get("createdAt").is_none());
    assert_eq!(first_page(&["list-order=oldest"]).1[0], "u0@example.com");
    assert_eq!(first_page(&["list-limit=7"]).1.len(), 7);
    assert_eq!(first_page(&["list-grows=3"]).0["pagination"]["total"], 33);
    assert_eq!(first_page(&["list-lag=60s"]).0["pagination"]["total"], 0);
    let mut behind = rig(&["list-lag=60s"]);
    behind.create(1, "jane@example.com");
    behind.now += Duration::from_secs(59);
    let total = |rig: &mut HostileRig| {
        let Wire::Whole(reply) = rig.list("").wire else { panic!("it is whole") };
        parsed(&reply)["data"]["pagination"]["total"].clone()
    };
    assert_eq!(total(&mut behind), 0);
    behind.now += Duration::from_secs(1);
    assert_eq!(total(&mut behind), 1);
    let shuffled = first_page(&["list-order=shuffled"]).1;
    assert!(shuffled != newest && shuffled.len() == 20);
    let mut rig = rig(&["list-order=shuffled"]);
    for n in 0..30 {
        rig.create(n, &format!("u{n}@example.com"));
    }
    assert_ne!(rig.list("").wire, rig.list("").wire, "another order at every request");
}
