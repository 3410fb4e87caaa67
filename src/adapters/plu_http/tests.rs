//! Tests of the client on real sockets: what it sends, and how it distinguishes "not sent" from "may have arrived".

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::adapters::plu_http::*;
use crate::domain::Timestamp;
use crate::domain::answer::UnreachableReason;
use crate::domain::decide::FoundUser;

/// A server that reads one request of each connection and calls `answer` with it.
fn server(mut answer: impl FnMut(&mut TcpStream, &str) + Send + 'static) -> (Url, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/api", listener.local_addr().unwrap())).unwrap();
    let (seen, requests) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let request = read_request(&mut stream);
            answer(&mut stream, &request);
            let _ = seen.send(request);
        }
    });
    (url, requests)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|n| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    request.extend(body);
    String::from_utf8(request).unwrap()
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn client(base_url: Url) -> PluHttp {
    counting_client(base_url, Metrics::new().unwrap())
}

fn counting_client(base_url: Url, metrics: Metrics) -> PluHttp {
    // The first test of the process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = PluHttpConfig {
        base_url,
        api_key: SecretString::from("sk_staging_test"),
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_millis(1_000),
        body_bytes_max: 10_000,
        page_size: 7,
        clock_skew: Duration::from_secs(60),
        refusals: RefusalMarks { key_used_words: vec!["idempotency".to_owned()], ..RefusalMarks::default() },
    };
    PluHttp::new(config, Clock::System, metrics).unwrap()
}

async fn create(base_url: Url) -> Answer {
    let key = IdempotencyKey::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
    client(base_url).create(&key, &r#"{"firstName":"Jané"}"#.into()).await
}

const JSON: &str = "content-type: application/json\r\n";

const CREATED: &str =
    r#"{"status":"success","message":"ok","data":{"serviceId":"acme-user-1","verificationUrl":"https://v.example/1"}}"#;

#[tokio::test]
async fn a_creation_is_sent_as_documented() {
    let (url, requests) = server(|stream, _| stream.write_all(reply("201 Created", "", CREATED).as_bytes()).unwrap());
    assert!(matches!(create(url).await, Answer::Created { .. }));
    let request = requests.recv().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert_eq!(body, r#"{"firstName":"Jané"}"#);
    for expected in [
        "post /api/v2/partner/card/users http/1.1",
        "authorization: bearer sk_staging_test",
        "content-type: application/json",
        "idempotency-key: 550e8400-e29b-41d4-a716-446655440000",
        concat!("user-agent: plu-onboard/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(head.lines().any(|line| line == expected), "{expected} is not in {head}");
    }
}

#[tokio::test]
async fn a_request_without_a_connection_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    assert_eq!(create(url).await, Answer::NotSent(UnreachableReason::Refused));
    let nowhere = Url::parse("https://no-such-host.invalid/api").unwrap();
    assert_eq!(create(nowhere).await, Answer::NotSent(UnreachableReason::Dns));
}

#[tokio::test]
async fn a_request_to_a_server_without_tls_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(create(url).await, Answer::NotSent(UnreachableReason::Tls));
}

#[tokio::test]
async fn a_request_to_a_server_with_an_unknown_certificate_was_not_sent() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(config.into()).unwrap();
        let _ = connection.complete_io(&mut stream);
    });
    assert_eq!(create(url).await, Answer::NotSent(UnreachableReason::CertificateUnknown));
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_may_have_arrived() {
    // The end of the connection before, and in the middle of, the answer.
    let (url, _requests) = server(|_, _| {});
    assert_eq!(create(url).await, Answer::Unknown(UnknownReason::ConnectionLost));
    let (url, _requests) = server(|stream, _| {
        let whole = reply("201 Created", "", CREATED);
        stream.write_all(&whole.as_bytes()[..whole.len() - 20]).unwrap();
    });
    assert_eq!(create(url).await, Answer::Unknown(UnknownReason::ConnectionLost));
}

#[tokio::test]
async fn a_silent_or_slow_server_reaches_the_time_limit() {
    for sent_bytes in [0, 30] {
        let (hold, held) = channel::<()>();
        let (url, _requests) = server(move |stream, _| {
            stream.write_all(&reply("201 Created", "", CREATED).as_bytes()[..sent_bytes]).unwrap();
            // Keeps the connection open until the test ends.
            let _ = held.recv();
        });
        assert_eq!(create(url).await, Answer::Unknown(UnknownReason::Timeout), "after {sent_bytes} bytes");
        drop(hold);
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit_only() {
    let (url, _requests) = server(|stream, _| {
        let endless =
            format!("HTTP/1.1 201 Created\r\n{JSON}connection: close\r\n\r\n{{\"data\":\"{}", "x".repeat(50_000));
        let _ = stream.write_all(endless.as_bytes());
        // Continues until the client closes the connection.
        while stream.write_all(&[b'x'; 1_000]).is_ok() {}
    });
    assert_eq!(create(url).await, Answer::Unknown(UnknownReason::Unreadable));
}

#[tokio::test]
async fn the_content_type_distinguishes_a_proxys_page_from_a_truncated_answer() {
    for (content_type, expected) in [
        ("content-type: text/html\r\n", Answer::Account(AccountReason::NotTheApi)),
        (JSON, Answer::Unknown(UnknownReason::Unreadable)),
    ] {
        for status in ["200 OK", "400 Bad Request"] {
            let (url, _requests) = server(move |stream, _| {
                stream.write_all(reply(status, content_type, "{\"status\":\"err").as_bytes()).unwrap();
            });
            assert_eq!(create(url).await, expected, "{status} {content_type}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, elsewhere_requests) = server(|_, _| {});
    let location = format!("location: {elsewhere}\r\n");
    let (url, _requests) =
        server(move |stream, _| stream.write_all(reply("307 Moved", &location, "").as_bytes()).unwrap());
    assert_eq!(create(url).await, Answer::Account(AccountReason::NotFound(307)));
    assert!(elsewhere_requests.try_recv().is_err());
}

#[tokio::test]
async fn retry_after_reaches_the_answer() {
    let (url, _requests) = server(|stream, _| {
        stream.write_all(reply("429 Too Many Requests", "retry-after: 9\r\n", "").as_bytes()).unwrap();
    });
    assert_eq!(create(url).await, Answer::Throttled { retry_after: Some(Duration::from_secs(9)) });
}

#[tokio::test]
async fn a_page_is_requested_with_skip_and_limit_and_read_as_documented() {
    let body = r#"{"status":"success","message":"success","data":{"users":[{"serviceId":"acme-user-1","email":"Jane@example.com","firstName":"Jane","lastName":"Doe","status":"pending_kyc","program":"custodial","createdAt":"2026-02-19T20:49:29.927Z"}],"pagination":{"skip":0,"limit":50,"total":9}}}"#;
    let (url, requests) = server(move |stream, _| stream.write_all(reply("200 OK", "", body).as_bytes()).unwrap());
    let page = client(url).page(14).await.unwrap();
    assert_eq!(page.total, 9);
    assert_eq!(page.users[0].0, "Jane@example.com");
    assert_eq!(page.users[0].1.created_at, Timestamp::parse("2026-02-19T20:49:29.927Z"));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /api/v1/partner/card/users?skip=14&limit=7 HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn an_unreadable_entry_hides_no_other_and_numbers_may_be_strings() {
    let body = r#"{"data":{"users":[{"serviceId":"a-user-1","email":null},{"email":"x@example.com"},7,
        {"serviceId":2,"email":"Jane@example.com","firstName":null,"createdAt":5}],"pagination":{"total":" 4"}}}"#;
    let (url, _requests) = server(move |stream, _| stream.write_all(reply("200 OK", "", body).as_bytes()).unwrap());
    let page = client(url).page(0).await.unwrap();
    assert_eq!((page.unusable, page.total, page.users.len()), (3, 4, 1));
    let expected = FoundUser { service_id: "2".to_owned(), created_at: None, name: None };
    assert_eq!(page.users[0], ("Jane@example.com".to_owned(), expected));
}

#[tokio::test]
async fn an_answer_that_is_no_page_has_a_reason() {
    for (status, body, expected) in [
        ("401 Unauthorized", "{}", ListError::Account(AccountReason::Unauthorized)),
        ("402 Payment Required", "{}", ListError::Failed("refused")),
        ("403 Forbidden", "{}", ListError::Account(AccountReason::Forbidden)),
        ("404 Not Found", "{}", ListError::Account(AccountReason::NotFound(404))),
        ("429 Too Many Requests", "{}", ListError::Throttled(None)),
        ("503 Service Unavailable", "{}", ListError::Failed("server_error")),
        ("502 Bad Gateway", "<html>", ListError::Account(AccountReason::NotTheApi)),
        ("200 OK", "<html>", ListError::Account(AccountReason::NotTheApi)),
        ("200 OK", "{}", ListError::Failed("unreadable_answer")),
        ("418 I'm a teapot", "{}", ListError::Failed("refused")),
    ] {
        let (url, _requests) = server(move |stream, _| stream.write_all(reply(status, "", body).as_bytes()).unwrap());
        assert_eq!(client(url).page(0).await.unwrap_err(), expected, "{status}");
    }
}

#[test]
fn endpoints_join_base_urls_with_and_without_a_slash() {
    for base in ["https://services.getplu.com/api", "https://services.getplu.com/api/"] {
        let url = endpoint(&Url::parse(base).unwrap(), "v2/partner/card/users").unwrap();
        assert_eq!(url.as_str(), "https://services.getplu.com/api/v2/partner/card/users");
    }
}

#[tokio::test]
async fn every_request_is_counted_with_its_answer_and_status() {
    let (url, _requests) = server(|stream, request| {
        let answer =
            if request.starts_with("POST") { reply("503 Busy", JSON, "") } else { reply("429 Slow", "", "{}") };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let metrics = Metrics::new().unwrap();
    let client = counting_client(url, metrics.clone());
    let key = IdempotencyKey::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
    client.create(&key, &"{}".into()).await;
    client.page(0).await.unwrap_err();
    client.page(50).await.unwrap_err();
    let unused = Url::parse("http://127.0.0.1:1/api").unwrap();
    counting_client(unused, metrics.clone()).create(&key, &"{}".into()).await;
    let text = metrics.render();
    for (labels, count) in [
        (r#"answer="server_error",endpoint="create",status="503""#, 1),
        (r#"answer="throttled",endpoint="list",status="429""#, 2),
        (r#"answer="not_sent",endpoint="create",status="none""#, 1),
    ] {
        let line = format!("plu_onboard_api_requests_total{{{labels}}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    let seen: Vec<String> = metrics.health.errors().into_iter().map(|error| error.code).collect();
    assert_eq!(seen, ["UNREACHABLE_REFUSED", "THROTTLED", "SERVER_ERROR"]);
}

#[tokio::test]
async fn the_date_of_an_answer_gives_the_difference_of_the_clocks() {
    let (mut shown, of_a_proxy) = (Vec::new(), "502 Bad Gateway");
    for (status, seconds) in [("201 Created", 0_i64), ("201 Created", -500), ("201 Created", 500), (of_a_proxy, 500)] {
        let now = std::time::UNIX_EPOCH + Clock::System.now().since(Timestamp::from_unix_ms(0));
        let offset = Duration::from_secs(u64::try_from(seconds.abs()).unwrap());
        let date = httpdate::fmt_http_date(if seconds < 0 { now - offset } else { now + offset });
        let headers = format!("date: {date}\r\n");
        let (url, _requests) =
            server(move |stream, _| stream.write_all(reply(status, &headers, CREATED).as_bytes()).unwrap());
        let metrics = Metrics::new().unwrap();
        let key = IdempotencyKey::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        counting_client(url, metrics.clone()).create(&key, &"{}".into()).await;
        let text = metrics.render();
        let sample = text.lines().find_map(|line| line.strip_prefix("plu_onboard_partner_clock_difference_seconds "));
        shown.push(sample.map(|sample| sample.parse::<i64>().unwrap() / 10));
    }
    // Rounded to ten seconds, for slow machines.
    assert_eq!(shown, [Some(0), Some(-49), Some(49), None]);
}

#[tokio::test]
async fn the_date_of_a_page_corrects_its_times_unless_a_cache_answered() {
    let body = r#"{"data":{"users":[{"serviceId":"acme-user-1","email":"jane@example.com","createdAt":"2026-02-19T20:49:29Z"}],"pagination":{"total":1}}}"#;
    let written = Timestamp::parse("2026-02-19T20:49:29Z").unwrap();
    for (more, corrected_s) in [("", 500), ("age: 0\r\n", 500), ("age: 500\r\n", 0)] {
        let now = std::time::UNIX_EPOCH + Clock::System.now().since(Timestamp::from_unix_ms(0));
        let date = httpdate::fmt_http_date(now - Duration::from_secs(500));
        let headers = format!("date: {date}\r\n{more}");
        let (url, _requests) =
            server(move |stream, _| stream.write_all(reply("200 OK", &headers, body).as_bytes()).unwrap());
        // No creation has compared the clocks before.
        let page = client(url).page(0).await.unwrap();
        let seconds = page.users[0].1.created_at.unwrap().since(written).as_secs();
        // Rounded to ten seconds, for slow machines.
        assert_eq!((seconds + 5) / 10, corrected_s / 10, "{more}");
    }
}

#[tokio::test]
async fn a_creation_has_the_trace_context_of_its_job() {
    let (url, requests) = server(|stream, _| stream.write_all(reply("201 Created", "", CREATED).as_bytes()).unwrap());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let spans = Metrics::new().unwrap().spans;
    let parent = crate::domain::TraceContext::parse(trace);
    spans.begin(parent, || Clock::System.now()).work(create(url.clone())).await;
    assert!(requests.recv().unwrap().contains(&format!("\r\ntraceparent: {trace}\r\n")));
    spans.begin(None, || Clock::System.now()).work(create(url)).await;
    assert!(!requests.recv().unwrap().contains("traceparent"));
}
