use super::*;
use crate::domain::LinkLoss;

fn marks() -> RefusalMarks {
    RefusalMarks {
        key_used_codes: vec!["DUP_REQUEST".to_owned()],
        key_used_words: vec!["idempotency".to_owned(), "already used".to_owned()],
        user_exists_codes: vec!["DUP_USER".to_owned(), "EMAIL_TAKEN".to_owned()],
    }
}

fn link() -> Result<VerificationUrl, LinkLoss> {
    Ok(VerificationUrl::parse("https://v.example/1").unwrap())
}

fn created(service_id: Option<&str>, link: Result<VerificationUrl, LinkLoss>) -> Answer {
    Answer::Created { service_id: service_id.and_then(ServiceId::parse), link }
}

fn typed(status: u16, content_type: Option<&str>, body: &str) -> Answer {
    let reply = ApiReply { status, retry_after: None, content_type, date: None, body: body.as_bytes() };
    classify(&reply, &marks(), Timestamp::from_unix_ms(0))
}

fn of(status: u16, body: &str) -> Answer {
    typed(status, Some("application/json; charset=utf-8"), body)
}

#[test]
fn any_2xx_with_a_service_id_is_a_creation() {
    let body = r#"{"status":"success","message":"User created successfully","data":{"serviceId":"acme-user-1","verificationUrl":"https://v.example/1"}}"#;
    for status in [200, 201, 202] {
        for content_type in [Some("application/json"), Some("text/plain"), Some("text/html"), None] {
            assert_eq!(typed(status, content_type, body), created(Some("acme-user-1"), link()), "{content_type:?}");
        }
    }
}

#[test]
fn a_creation_has_what_can_be_used_of_id_and_link() {
    let data = |members: &str| format!(r#"{{"status":"success","message":"ok","data":{{{members}}}}}"#);
    let id = r#""serviceId":"acme-user-1""#;
    for (members, expected) in [
        (id.to_owned(), created(Some("acme-user-1"), Err(LinkLoss::NotSent))),
        (format!(r#"{id},"verificationUrl":null"#), created(Some("acme-user-1"), Err(LinkLoss::NotSent))),
        (format!(r#"{id},"verificationUrl":"javascript:x""#), created(Some("acme-user-1"), Err(LinkLoss::Unusable))),
        (format!(r#"{id},"verificationLink":"https://v.example/1""#), created(Some("acme-user-1"), link())),
        (r#""serviceId":7,"verificationUrl":"https://v.example/1""#.to_owned(), created(Some("7"), link())),
        (r#""serviceId":"a\u0000","verificationUrl":"https://v.example/1""#.to_owned(), created(None, link())),
        (r#""verificationUrl":"https://v.example/1""#.to_owned(), created(None, link())),
        (format!(r#"{id},{id},"verificationUrl":"https://v.example/1""#), created(Some("acme-user-1"), link())),
    ] {
        for prefix in ["", "\u{feff}"] {
            assert_eq!(of(201, &format!("{prefix}{}", data(&members))), expected, "{members}");
        }
    }
    let cut = data(&format!(r#"{id},"verificationUrl":"https://v.exam"#));
    assert_eq!(of(201, &cut[..cut.len() - 2]), created(Some("acme-user-1"), Err(LinkLoss::LostAnswer)));
}

#[test]
fn a_2xx_that_says_it_is_an_error_may_hide_a_creation() {
    for status in ["error", "Error", "failed"] {
        let body = format!(
            r#"{{"status":"{status}","message":"DUP_USER","data":{{"serviceId":"a","verificationUrl":"https://v.example/1"}}}}"#
        );
        assert_eq!(of(200, &body), Answer::Unknown(UnknownReason::Unreadable), "{body}");
    }
}

#[test]
fn an_unreadable_answer_may_hide_a_creation() {
    for body in ["", "<html>", "{}", r#"{"data":{}}"#, r#"{"data":{"serviceId":""}}"#, r#"{"data":{"serviceId":"a"#] {
        assert_eq!(of(201, body), Answer::Unknown(UnknownReason::Unreadable), "{body}");
    }
    for status in [408, 500, 502, 503, 504, 599] {
        assert_eq!(of(status, "not json"), Answer::Unknown(UnknownReason::ServerError(status)));
    }
    // A truncated refusal may have been "key already used".
    for status in [400, 409, 422] {
        assert_eq!(of(status, r#"{"status":"error","mess"#), Answer::Unknown(UnknownReason::Unreadable));
        assert_eq!(of(status, ""), Answer::Unknown(UnknownReason::Unreadable));
        let unknown_code = r#"{"status":"error","message":"BAD_REQUEST","data":{"error":"Idempo"#;
        assert_eq!(of(status, unknown_code), Answer::Unknown(UnknownReason::Unreadable));
        assert_eq!(of(status, r#"{"message":"DUP_USER","data":{"err"#), Answer::UserExists);
        let refused = of(status, r#"{"message":"USER_BLACKLISTED","data":{"err"#);
        assert!(matches!(refused, Answer::Rejected { code, .. } if code == "USER_BLACKLISTED"));
        assert_eq!(of(status, "\u{feff}{\"message\":\"DUP_USER\"}"), Answer::UserExists);
    }
}

#[test]
fn an_answer_without_json_and_json_type_is_not_the_apis_whatever_its_status() {
    let page = Answer::Account(AccountReason::NotTheApi);
    for status in [200, 201, 204, 400, 406, 408, 409, 410, 418, 422, 451, 499, 500, 502, 503, 504] {
        for content_type in [Some("text/html; charset=utf-8"), Some("text/plain"), Some("text/json-ish"), None] {
            for body in ["<html>Bad Gateway</html>", "upstream connect error", "", "[]", "7"] {
                if (status, content_type, body) == (status.max(500), None, "") {
                    assert_eq!(typed(status, None, ""), Answer::Unknown(UnknownReason::ServerError(status)));
                    continue;
                }
                assert_eq!(typed(status, content_type, body), page, "{status} {content_type:?} {body}");
            }
        }
        for content_type in ["application/json", "Application/JSON;charset=utf-8", "application/problem+json"] {
            assert_ne!(typed(status, Some(content_type), "<html>"), page, "{status} {content_type}");
        }
        // A gateway may put a wrong content type on the API's answer.
        assert_ne!(typed(status, Some("text/plain"), r#"{"status":"error"}"#), page, "{status}");
    }
    let created = r#"{"data":{"serviceId":"acme-user-1"}}"#;
    assert!(matches!(typed(201, None, created), Answer::Created { .. }));
}

#[test]
fn account_statuses_are_account_problems_whatever_the_body() {
    let shaped = r#"{"status":"error","message":"X","data":{"error":"y"}}"#;
    for (status, body, reason) in [
        (401, shaped, AccountReason::Unauthorized),
        (402, shaped, AccountReason::PaymentRequired),
        (403, "<html>blocked by the proxy</html>", AccountReason::Forbidden),
        (404, "not found", AccountReason::NotFound(404)),
        (302, "", AccountReason::NotFound(302)),
        (405, shaped, AccountReason::NotFound(405)),
    ] {
        for content_type in [Some("application/json"), Some("text/html"), None] {
            assert_eq!(typed(status, content_type, body), Answer::Account(reason), "{status} {body}");
        }
    }
}

#[test]
fn a_used_key_is_recognised_by_code_or_words_on_400_and_409() {
    for (code, text) in [
        ("DUP_REQUEST", ""),
        ("dup_request", "x"),
        ("BAD_REQUEST", "Idempotency key has been used"),
        ("IDEMPOTENCY_KEY_ALREADY_USED", ""),
        ("BAD_REQUEST", "this key was Already Used"),
    ] {
        let body = format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
        for status in [400, 409] {
            assert_eq!(of(status, &body), Answer::KeyAlreadyUsed, "{body}");
        }
        assert!(matches!(of(422, &body), Answer::Rejected { .. }), "{body}");
    }
}

#[test]
fn a_taken_email_or_phone_number_is_not_a_used_key() {
    let body =
        |code: &str, text: &str| format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
    assert_eq!(of(400, &body("DUP_USER", "email already used, idempotency")), Answer::UserExists);
    let phone = of(400, &body("DUP_PHONE", "phone number already in use"));
    assert!(matches!(phone, Answer::Rejected { .. }), "{phone:?}");
}

#[test]
fn a_refusal_that_names_a_field_gets_a_code_from_its_status() {
    for body in [
        r#"{"message":["email must be an email"]}"#,
        r#"{"message":"email must be an email"}"#,
        r#"{"message":"Bad Request","error":["phoneNumber: not valid"]}"#,
        r#"{"message":"Email u@example.com is invalid","data":{"error":"really"}}"#,
        r#"{"message":"\"firstName\" is required"}"#,
        r#"{"message":"the value of 'postalCode' is too long"}"#,
        r#"{"message":"user.email must be an email"}"#,
        r#"{"errors":[{"field":"countryCode","message":"no"}]}"#,
        r#"{"errors":{"Email":["The Email field is not valid."]}}"#,
        r#"{"data":{"errors":{"city":"required"}}}"#,
        r#"{"data":{"error":"region must not be empty"}}"#,
        r#"{"error":{"issues":1,"details":[{"path":["user","lastName"]}]}}"#,
        r#"{"errors":[{"instancePath":"/walletAddress"}]}"#,
        r#"{"detail":[{"path":"body.ipAddress","message":"no"}]}"#,
        r#""email must be an email""#,
        r#"["email must be an email"]"#,
    ] {
        for status in [400, 409, 422] {
            let answer = of(status, body);
            let expected = format!("HTTP_{status}");
            assert!(matches!(&answer, Answer::Rejected { code, .. } if *code == expected), "{body}: {answer:?}");
            assert!(!answer.is_recognised());
        }
    }
    assert_eq!(
        of(400, r#"{"message":"Email u@example.com is invalid","data":{"error":"really"}}"#),
        Answer::Rejected {
            status: 400,
            code: "HTTP_400".to_owned(),
            text: "Email u@example.com is invalid: really".to_owned()
        }
    );
}

#[test]
fn a_refusal_that_names_neither_a_code_nor_a_field_is_not_about_a_job() {
    for body in [
        "{}",
        "[]",
        "7",
        r#""Bad Request""#,
        r#"{"error":"x"}"#,
        r#"{"detail":"Bad Request"}"#,
        r#"{"message":"Conflict","request_id":"8f2a6c1d4e0b4f7a9d3c5b6a7e8f9012"}"#,
        r#"{"message":"no Route matched with those values"}"#,
        r#"{"message":"Invalid request body"}"#,
        r#"{"message":"your IP address is blocked"}"#,
        r#"{"timestamp":1,"status":400,"error":"Bad Request","path":"/api/v2/partner/card/users"}"#,
        r#"{"error":{"code":400,"message":"Invalid JSON payload received.","status":"INVALID_ARGUMENT"}}"#,
        r#"{"fault":{"faultstring":"Bad Request","detail":{"errorcode":"steps.jsonthreatprotection.ExecutionFailed"}}}"#,
        r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}"#,
        r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request was blocked."}"#,
        r#"{"message":"Forbidden by policy","data":{"email":"jane@example.com","firstName":"Jane"}}"#,
        r#"{"message":"Forbidden by policy","request":{"errors":0,"email":"jane@example.com"}}"#,
    ] {
        for status in [400, 409, 422] {
            let expected = Answer::Account(AccountReason::UnexpectedRefusal(status));
            assert_eq!(of(status, body), expected, "{body}");
            assert!(!expected.may_have_created());
        }
    }
}

#[test]
fn a_gateways_code_or_sentence_is_not_about_a_job() {
    for body in [
        r#"{"message":"FORBIDDEN"}"#,
        r#"{"message":"BAD_REQUEST"}"#,
        r#"{"message":"BLOCKED","status":400}"#,
        r#"{"message":"BLOCKED","status":"ok"}"#,
        r#"{"message":"BLOCKED","data":null}"#,
        r#"{"message":"Region is not available"}"#,
        r#"{"message":"City blocked by policy"}"#,
        r#"{"error":"Program is suspended"}"#,
        r#"{"detail":"Address 198.51.100.7 is blocked"}"#,
    ] {
        for status in [400, 409, 422] {
            assert_eq!(of(status, body), Answer::Account(AccountReason::UnexpectedRefusal(status)), "{body}");
        }
    }
    for (body, expected) in [
        (r#"{"message":"USER_BLACKLISTED"}"#, "USER_BLACKLISTED"),
        (r#"{"message":"NEW_CODE","status":"error"}"#, "NEW_CODE"),
        (r#"{"message":"NEW_CODE","data":{"error":"x"}}"#, "NEW_CODE"),
        (r#"{"message":"PostalCode is too long"}"#, "HTTP_422"),
        (r#"{"message":"\"City\" is required"}"#, "HTTP_422"),
    ] {
        let answer = of(422, body);
        assert!(matches!(&answer, Answer::Rejected { code, .. } if code == expected), "{body}: {answer:?}");
    }
    assert_eq!(of(409, r#"{"message":"DUP_USER"}"#), Answer::UserExists);
}

#[test]
fn a_4xx_that_the_api_documents_for_no_job_is_an_unexpected_refusal() {
    let shaped = r#"{"status":"error","message":"VALIDATION_ERROR","data":{"error":"email is wrong"}}"#;
    for status in [406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 418, 420, 423, 424, 426, 428, 431, 440, 451, 499] {
        for body in [shaped, "{}", r#"{"message":"x"}"#, r#"{"mess"#] {
            let answer = of(status, body);
            assert_eq!(answer, Answer::Account(AccountReason::UnexpectedRefusal(status)), "{body}");
            assert_eq!(answer.may_have_created(), [440, 499].contains(&status), "{status}");
        }
    }
    // These say what is wrong whatever page comes with them.
    for status in [407, 411, 413, 414, 415, 417, 426, 428, 431] {
        for body in ["<html>", ""] {
            let expected = Answer::Account(AccountReason::UnexpectedRefusal(status));
            assert_eq!(typed(status, Some("text/html"), body), expected);
        }
    }
}

#[test]
fn a_misdirected_or_too_early_request_was_not_processed() {
    for status in [421, 425] {
        for (content_type, body) in [(Some("text/html"), "<html>"), (Some("application/json"), "{}"), (None, "")] {
            let answer = typed(status, content_type, body);
            assert_eq!(answer, Answer::NotSent(UnreachableReason::NotProcessed));
            assert!(!answer.may_have_created());
        }
    }
}

#[test]
fn a_503_with_retry_after_delays_and_may_have_created_the_user() {
    let now = Timestamp::from_unix_ms(0);
    let answer = |retry_after, content_type, body: &str| {
        let reply = ApiReply { status: 503, retry_after, content_type, date: None, body: body.as_bytes() };
        classify(&reply, &marks(), now)
    };
    for (header, seconds) in [("7", 7), ("99999999999999999999999", 3_600)] {
        for (content_type, body) in [(Some("application/json"), "{}"), (Some("text/html"), "<html>"), (None, "")] {
            let retry_after = Duration::from_secs(seconds);
            let expected = Answer::Unknown(UnknownReason::Unavailable { retry_after });
            assert_eq!(answer(Some(header), content_type, body), expected);
            assert!(expected.may_have_created());
            assert_eq!(expected.code(), "server_error");
        }
    }
    for header in [None, Some("0"), Some("soon")] {
        assert_eq!(answer(header, None, ""), Answer::Unknown(UnknownReason::ServerError(503)));
    }
}

#[test]
fn a_text_of_another_shape_does_not_hide_the_code() {
    for data in [r#"{"error":null}"#, r#"{"error":["taken"]}"#, r#""taken""#, "null", "[]", r#"{"error":{"a":1}}"#] {
        for code in ["DUP_USER", "email_taken"] {
            let body = format!(r#"{{"status":"error","message":"{code}","data":{data}}}"#);
            assert_eq!(of(400, &body), Answer::UserExists, "{body}");
        }
        let body = format!(r#"{{"status":"error","message":"VALIDATION_ERROR","data":{data}}}"#);
        assert!(matches!(of(422, &body), Answer::Rejected { code, .. } if code == "VALIDATION_ERROR"), "{body}");
    }
    let long = format!(r#"{{"message":"X_1","data":{{"error":"{}"}}}}"#, "é".repeat(5_000));
    assert!(matches!(of(422, &long), Answer::Rejected { text, .. } if text.len() == 1_000));
}

#[test]
fn a_missing_or_malformed_key_is_not_a_used_key() {
    for (code, text) in [
        ("IDEMPOTENCY_KEY_REQUIRED", "The idempotency-key header is required"),
        ("INVALID_IDEMPOTENCY_KEY", "The idempotency-key must be a UUID"),
        ("BAD_REQUEST", "missing idempotency key"),
    ] {
        let body = format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
        assert!(matches!(of(400, &body), Answer::Rejected { .. }), "{body}");
    }
}

#[test]
fn a_refusal_has_the_code_of_the_api() {
    assert_eq!(of(400, r#"{"status":"error","message":"DUP_USER","data":{"error":"exists"}}"#), Answer::UserExists);
    assert_eq!(
        of(422, r#"{"status":"error","message":"VALIDATION","data":{"error":"bad"}}"#),
        Answer::Rejected { status: 422, code: "VALIDATION".to_owned(), text: "bad".to_owned() }
    );
    assert_eq!(
        of(400, r#"{"status":"error","message":"USER_BLACKLISTED"}"#),
        Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() }
    );
}

#[test]
fn retry_after_is_read_by_the_partners_clock() {
    let now = Timestamp::parse("2026-02-19T20:49:30Z").unwrap();
    let reply = ApiReply { status: 429, retry_after: Some("2"), content_type: None, date: None, body: b"" };
    assert_eq!(classify(&reply, &marks(), now), Answer::Throttled { retry_after: Some(Duration::from_secs(2)) });
    // The partner's clock is two minutes behind, as its `Date` shows.
    let date = Timestamp::parse("2026-02-19T20:47:30Z");
    let reply = ApiReply { retry_after: Some("Thu, 19 Feb 2026 20:47:37 GMT"), date, ..reply };
    assert_eq!(reply.retry_after(now), Some(Duration::from_secs(7)));
}
