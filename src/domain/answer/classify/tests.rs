use super::*;

fn marks() -> RefusalMarks {
    RefusalMarks {
        key_used_codes: vec!["DUP_REQUEST".to_owned()],
        key_used_words: vec!["idempotency".to_owned(), "already used".to_owned()],
        user_exists_codes: vec!["DUP_USER".to_owned(), "EMAIL_TAKEN".to_owned()],
    }
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
        assert_eq!(
            of(status, body),
            Answer::Created {
                service_id: "acme-user-1".to_owned(),
                verification_url: Some("https://v.example/1".to_owned())
            }
        );
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
    }
}

#[test]
fn an_answer_without_json_and_json_type_is_not_the_apis_whatever_its_status() {
    let page = Answer::Account(AccountReason::NotTheApi);
    for status in [200, 201, 204, 400, 408, 409, 418, 422, 500, 502, 503, 504] {
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
fn a_refusal_in_another_json_shape_gets_a_code_from_its_status() {
    for body in [r#"{"message":["email must be an email"]}"#, "{}", r#"{"error":"x"}"#, r#""email must be an email""#] {
        let answer = of(422, body);
        assert!(matches!(&answer, Answer::Rejected { code, .. } if code == "HTTP_422"), "{answer:?}");
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
    assert!(matches!(of(422, &long), Answer::Rejected { text, .. } if text.len() == TEXT_BYTES_MAX));
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
fn retry_after_is_seconds_or_a_date_of_at_most_an_hour() {
    let now = Timestamp::parse("2026-02-19T20:49:30Z").unwrap();
    for (text, expected) in [
        ("7", Some(7)),
        (" 0 ", None),
        ("Thu, 19 Feb 2026 20:50:00 GMT", Some(30)),
        ("Thu, 19 Feb 2026 20:00:00 GMT", None),
        ("99999999", Some(3_600)),
        ("soon", None),
        ("-5", None),
    ] {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    }
    let reply = ApiReply { status: 429, retry_after: Some("2"), content_type: None, date: None, body: b"" };
    assert_eq!(classify(&reply, &marks(), now), Answer::Throttled { retry_after: Some(Duration::from_secs(2)) });
    // The partner's clock is two minutes behind, as its `Date` shows.
    let date = Timestamp::parse("2026-02-19T20:47:30Z");
    let reply = ApiReply { retry_after: Some("Thu, 19 Feb 2026 20:47:37 GMT"), date, ..reply };
    assert_eq!(reply.retry_after(now), Some(Duration::from_secs(7)));
}
