//! Faults of single answers, for each kind of request: what the client receives, and what changed at the partner.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::Timestamp;
use crate::sandbox::tests::fixture::{AUTHORIZATION, body, key, parsed, request};
use crate::sandbox::{
    BodyEncoding, CreateRequest, DeleteRequest, FaultKind, FaultPlan, HostilePartner, ListRequest, RequestKind,
    SandboxAnswer, SandboxConfig, SandboxReply, WalletRequest, Wire,
};

/// A partner with the user `user0@example.com` and this fault at every request that follows.
fn partner(fault: &str) -> HostilePartner {
    let faults = FaultPlan::parse(&[format!("{fault}=2..99")]).unwrap();
    let config = SandboxConfig { faults, ..SandboxConfig::default() };
    let mut partner = HostilePartner::new(config, Timestamp::from_unix_ms(0));
    send(&mut partner, RequestKind::Create, 0);
    assert_eq!(partner.stats().faults_injected, 0);
    partner
}

/// Sends a valid request; the n-th creation is `userN@example.com`, and `user0@example.com` is deleted.
fn send(partner: &mut HostilePartner, kind: RequestKind, nth: u128) -> SandboxAnswer {
    let (key, now) = (key(nth + 1), Duration::ZERO);
    let (authorization, idempotency_key) = (Some(AUTHORIZATION), Some(key.as_str()));
    match kind {
        RequestKind::Create => {
            let body = body(&format!("user{nth}@example.com")).to_string();
            partner.create(now, &CreateRequest { body: body.as_bytes(), ..request(&key) })
        }
        RequestKind::List => partner.list(now, &ListRequest { authorization, query: "" }),
        RequestKind::Delete => {
            let user = partner.model().user_by_email(now, "user0@example.com").unwrap();
            let service_id = user.service_id.clone();
            partner.delete(now, &DeleteRequest { authorization, idempotency_key, service_id: &service_id })
        }
        RequestKind::Wallet => partner.wallet(now, &WalletRequest { authorization }),
    }
}

fn reply(answer: SandboxAnswer) -> SandboxReply {
    match answer.wire {
        Wire::Whole(reply) => reply,
        wire => panic!("not whole: {wire:?}"),
    }
}

/// The answer to a creation with this fault, and the `serviceId` and link that the new user has.
fn damaged(fault: FaultKind) -> (SandboxReply, String, String) {
    let mut partner = partner(fault.name());
    let answer = send(&mut partner, RequestKind::Create, 1);
    assert_eq!(answer.fault, Some(fault));
    let user = partner.model().user_by_email(Duration::ZERO, "user1@example.com").unwrap();
    (reply(answer), user.service_id.clone(), user.verification_url)
}

/// Whether the partner received the request of each kind, for every fault.
#[test]
fn every_fault_happens_to_the_documented_requests_and_effects_are_as_documented() {
    for fault in FaultKind::ALL {
        let is_refused = fault.gateway_status().is_some()
            || matches!(
                fault,
                FaultKind::Drop
                    | FaultKind::ErrorBefore
                    | FaultKind::Throttled
                    | FaultKind::ThrottledDate
                    | FaultKind::ThrottledBare
                    | FaultKind::ThrottledLong
                    | FaultKind::Unavailable
                    | FaultKind::Unauthorized
                    | FaultKind::PaymentRequired
                    | FaultKind::Forbidden
                    | FaultKind::NotFound
                    | FaultKind::Html200
                    | FaultKind::Odd400
            );
        for kind in RequestKind::ALL {
            let mut partner = partner(fault.name());
            let answer = send(&mut partner, *kind, 1);
            assert_eq!(answer.fault.is_some(), fault.applies_to(*kind), "{fault:?} {kind:?}");
            let stats = partner.stats().model;
            let has_effect = match kind {
                RequestKind::Create => stats.created == 2,
                RequestKind::List => stats.listed == 1,
                RequestKind::Delete => stats.deleted == 1,
                RequestKind::Wallet => stats.wallet_read == 1,
            };
            assert_eq!(has_effect, answer.fault.is_none() || !is_refused, "{fault:?} {kind:?}");
        }
    }
}

#[test]
fn a_gateway_refuses_with_json_that_names_neither_code_nor_field() {
    let gateways: Vec<u16> = FaultKind::ALL.iter().filter_map(|fault| fault.gateway_status()).collect();
    assert!(gateways.len() >= 16);
    for status in gateways {
        let mut partner = partner(&format!("gateway-{status}"));
        let reply = reply(send(&mut partner, RequestKind::Create, 1));
        assert_eq!((reply.status, reply.content_type), (status, Some("application/json")));
        let members: Vec<String> = parsed(&reply).as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["message", "request_id"]);
    }
    let mut partner = partner("gateway-421");
    assert_eq!(parsed(&reply(send(&mut partner, RequestKind::Delete, 1)))["message"], "Misdirected Request");
}

#[test]
fn unavailable_answers_carry_retry_after() {
    for fault in ["503", "503-after"] {
        let mut partner = partner(fault);
        let reply = reply(send(&mut partner, RequestKind::Create, 1));
        assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("2")), "{fault}");
        assert_eq!(partner.stats().model.created, if fault == "503" { 1 } else { 2 });
    }
    let mut partner = partner("429-long");
    let value = reply(send(&mut partner, RequestKind::Create, 1)).retry_after.unwrap();
    assert!(value.parse::<u128>().is_err() && value.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
}

#[test]
fn encodings_and_types_leave_the_body_as_it_is() {
    let text = |(id, link): (String, String)| {
        let head = r#"{"status":"success","message":"User created successfully""#;
        format!(r#"{head},"data":{{"serviceId":"{id}","verificationUrl":"{link}"}}}}"#)
    };
    for (fault, encoding, content_type) in [
        (FaultKind::Gzip, Some(BodyEncoding::Gzip), Some("application/json")),
        (FaultKind::Deflate, Some(BodyEncoding::Deflate), Some("application/json")),
        (FaultKind::DeflateRaw, Some(BodyEncoding::RawDeflate), Some("application/json")),
        (FaultKind::TypeText, None, Some("text/plain")),
        (FaultKind::TypeNone, None, None),
    ] {
        let (reply, id, link) = damaged(fault);
        assert_eq!((reply.content_encoding, reply.content_type), (encoding, content_type), "{fault:?}");
        assert_eq!(reply.body, text((id, link)), "{fault:?}");
    }
    let (reply, id, link) = damaged(FaultKind::Bom);
    assert_eq!(reply.body.strip_prefix('\u{feff}'), Some(text((id, link)).as_str()));
}

#[test]
fn members_of_a_creation_are_missing_renamed_or_replaced() {
    for fault in FaultKind::ALL.iter().filter(|fault| {
        fault.applies_to(RequestKind::Create)
            && !fault.applies_to(RequestKind::Delete)
            && **fault != FaultKind::OpenLink
    }) {
        let (reply, id, link) = damaged(*fault);
        let data = parsed(&reply)["data"].clone();
        let expected = match fault {
            FaultKind::IdNumber => json!({"serviceId": id.parse::<u64>().unwrap(), "verificationUrl": link}),
            FaultKind::IdNone => json!({"verificationUrl": link}),
            FaultKind::IdLong => json!({"serviceId": "a".repeat(300_000), "verificationUrl": link}),
            FaultKind::IdNul => json!({"serviceId": format!("{id}\0"), "verificationUrl": link}),
            FaultKind::LinkNone => json!({"serviceId": id}),
            FaultKind::LinkNull => json!({"serviceId": id, "verificationUrl": null}),
            FaultKind::LinkRenamed => json!({"serviceId": id, "verificationLink": link}),
            FaultKind::LinkObject => json!({"serviceId": id, "verificationUrl": {"url": link}}),
            FaultKind::LinkScript => json!({"serviceId": id, "verificationUrl": "javascript:alert(document.domain)"}),
            FaultKind::LinkHttp => {
                json!({"serviceId": id, "verificationUrl": "http://169.254.169.254/latest/meta-data/"})
            }
            FaultKind::LinkFormula => {
                json!({"serviceId": id, "verificationUrl": "=HYPERLINK(\"https://example.com\",\"Verify\")"})
            }
            FaultKind::LinkNul => json!({"serviceId": id, "verificationUrl": format!("{link}\0")}),
            FaultKind::LinkLong => json!({"serviceId": id, "verificationUrl": format!("{link}{}", "a".repeat(4_096))}),
            other => panic!("{other:?} is not tested"),
        };
        assert_eq!((reply.status, data), (201, expected), "{fault:?}");
    }
}

#[test]
fn members_are_repeated_moved_or_not_closed() {
    let head = r#"{"status":"success","message":"User created successfully""#;
    for fault in [FaultKind::Twice, FaultKind::TwiceDiffers, FaultKind::Flat, FaultKind::Nested, FaultKind::OpenEnd] {
        let (reply, id, link) = damaged(fault);
        let members = |end: &str| format!(r#""serviceId":"{id}{end}","verificationUrl":"{link}{end}""#);
        let expected = match fault {
            FaultKind::Twice => format!(r#"{head},"data":{{{},{}}}}}"#, members(""), members("")),
            FaultKind::TwiceDiffers => format!(r#"{head},"data":{{{},{}}}}}"#, members(""), members("x")),
            FaultKind::Flat => format!("{head},{}}}", members("")),
            FaultKind::Nested => format!(r#"{head},"data":{{"user":{{{}}}}}}}"#, members("")),
            _ => format!(r#"{head},"data":{{{}"#, members("")),
        };
        assert_eq!(reply.body, expected, "{fault:?}");
        assert_eq!(serde_json::from_str::<Value>(&reply.body).is_err(), fault == FaultKind::OpenEnd, "{fault:?}");
    }
    let (reply, id, link) = damaged(FaultKind::OpenLink);
    let end = reply.body.strip_prefix(&format!(r#"{head},"data":{{"serviceId":"{id}","verificationUrl":""#)).unwrap();
    assert!(link.starts_with(end) && end.len() < link.len() && !end.is_empty(), "{end}");
}

#[test]
fn the_answer_to_a_deletion_is_damaged_in_the_same_ways() {
    let head = r#"{"status":"success","message":"User deleted successfully""#;
    for (fault, expected) in [
        ("twice", r#","data":{"deleted":true,"deleted":true}}"#),
        ("twice-differs", r#","data":{"deleted":true,"deleted":false}}"#),
        ("flat", r#","deleted":true}"#),
        ("nested", r#","data":{"user":{"deleted":true}}}"#),
        ("open-end", r#","data":{"deleted":true"#),
    ] {
        let reply = reply(send(&mut partner(fault), RequestKind::Delete, 1));
        assert_eq!(reply.body, format!("{head}{expected}"), "{fault}");
    }
}

#[test]
fn a_user_with_a_number_is_listed_and_deleted_by_its_digits() {
    let mut partner = partner("create:id-number");
    let answer = reply(send(&mut partner, RequestKind::Create, 2));
    let id = parsed(&answer)["data"]["serviceId"].as_u64().unwrap().to_string();
    let list = parsed(&reply(send(&mut partner, RequestKind::List, 3)));
    assert_eq!(list["data"]["users"][0]["serviceId"], id);
    let key = key(9);
    let request = DeleteRequest { authorization: Some(AUTHORIZATION), idempotency_key: Some(&key), service_id: &id };
    assert_eq!(reply(partner.delete(Duration::ZERO, &request)).status, 200);
    assert!(partner.model().user_by_email(Duration::ZERO, "user2@example.com").is_none());
}

#[test]
fn error_answers_keep_their_members() {
    for fault in FaultKind::ALL.iter().filter(|fault| !FaultKind::BASIC.contains(fault)) {
        let mut partner = partner(fault.name());
        let taken = send(&mut partner, RequestKind::Create, 0);
        let reply = reply(taken);
        if reply.status == 400 {
            let text = reply.body.trim_start_matches('\u{feff}');
            let message = serde_json::from_str::<Value>(text).unwrap()["message"].clone();
            assert_eq!(message, "IDEMPOTENCY_KEY_ALREADY_USED", "{fault:?}");
        }
    }
}

#[test]
fn a_fault_of_one_kind_of_requests_counts_only_these() {
    let config = SandboxConfig { faults: FaultPlan::parse(&["list:lost=2..3"]).unwrap(), ..SandboxConfig::default() };
    let mut partner = HostilePartner::new(config, Timestamp::from_unix_ms(0));
    let kinds = [RequestKind::List, RequestKind::Create, RequestKind::Wallet, RequestKind::List, RequestKind::List];
    let faults: Vec<bool> = kinds
        .into_iter()
        .enumerate()
        .map(|(nth, kind)| send(&mut partner, kind, nth as u128).fault.is_some())
        .collect();
    assert_eq!(faults, [false, false, false, true, false]);
}
