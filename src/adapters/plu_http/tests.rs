//! Tests of the client on real sockets: what it sends, and how it distinguishes "not sent" from "may have arrived".

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::adapters::plu_http::*;
use crate::domain::answer::UnreachableReason;
use crate::domain::decide::FoundUser;
use crate::domain::{LinkLoss, ServiceId, Timestamp, VerificationUrl};

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
        "accept-encoding: identity",
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
    for (status, body, left_out) in [("201 Created", CREATED, 60), ("400 Bad Request", BLACKLISTED, 60)] {
        let (url, _requests) = server(move |stream, _| stream.write_all(&cut(status, body, left_out)).unwrap());
        assert_eq!(create(url).await, Answer::Unknown(UnknownReason::ConnectionLost), "{status}");
    }
}

const BLACKLISTED: &str =
    r#"{"status":"error","message":"USER_BLACKLISTED","data":{"error":"The user is blacklisted"}}"#;

/// A reply without the last bytes of its body.
fn cut(status: &str, body: &str, left_out: usize) -> Vec<u8> {
    let mut whole = reply(status, JSON, body).into_bytes();
    whole.truncate(whole.len() - left_out);
    whole
}

#[tokio::test]
async fn what_arrived_of_an_answer_is_used_if_its_end_is_lost() {
    let id = ServiceId::parse("acme-user-1");
    let link = VerificationUrl::parse("https://v.example/1").unwrap();
    let blacklisted = Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() };
    for (status, body, left_out, expected) in [
        ("201 Created", CREATED, 2, Answer::Created { service_id: id.clone(), link: Ok(link) }),
        ("201 Created", CREATED, 20, Answer::Created { service_id: id, link: Err(LinkLoss::LostAnswer) }),
        ("400 Bad Request", BLACKLISTED, 20, blacklisted),
        ("401 Unauthorized", BLACKLISTED, 60, Answer::Account(AccountReason::Unauthorized)),
        ("429 Too Many Requests", "{}", 2, Answer::Throttled { retry_after: None }),
    ] {
        // The connection ends, or nothing more comes until the time limit.
        for is_silent in [false, true] {
            let (hold, held) = channel::<()>();
            let (url, _requests) = server(move |stream, _| {
                stream.write_all(&cut(status, body, left_out)).unwrap();
                if is_silent {
                    let _ = held.recv();
                }
            });
            assert_eq!(create(url).await, expected, "{status} without {left_out} bytes, silent: {is_silent}");
            drop(hold);
        }
    }
}

#[tokio::test]
async fn a_page_whose_end_is_lost_is_not_used() {
    let page = r#"{"data":{"users":[],"pagination":{"total":0}}}"#;
    let (url, _requests) = server(move |stream, _| {
        let longer = reply("200 OK", JSON, page).replace("content-length: ", "content-length: 1");
        stream.write_all(longer.as_bytes()).unwrap();
    });
    assert_eq!(client(url).page(0, 50).await.unwrap_err(), ListError::Failed("connection_lost"));
}

#[tokio::test]
async fn a_compressed_answer_is_decoded_within_the_limit() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let bomb = format!("{{\"data\":\"{}\"}}", "x".repeat(1_000_000));
    for (text, is_created) in [(CREATED, true), (&bomb, false)] {
        let body = gzip(text);
        let (url, _requests) = server(move |stream, _| {
            let head = format!("{JSON}content-encoding: gzip\r\nconnection: close\r\n");
            write!(stream, "HTTP/1.1 201 Created\r\n{head}content-length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(&body).unwrap();
        });
        let answer = create(url).await;
        assert_eq!(matches!(answer, Answer::Created { link: Ok(_), .. }), is_created, "{answer:?}");
        assert!(answer.may_have_created());
    }
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
    const HTML: &str = "content-type: text/html\r\n";
    let (page, cut) = (Answer::Account(AccountReason::NotTheApi), Answer::Unknown(UnknownReason::Unreadable));
    for (content_type, body, expected) in [
        (HTML, "<html>Welcome to the guest network", &page),
        (HTML, "", &page),
        // A gateway may put a wrong content type on the API's answer.
        (HTML, "{\"status\":\"err", &cut),
        (JSON, "{\"status\":\"err", &cut),
        (JSON, "<html>", &cut),
    ] {
        for status in ["200 OK", "400 Bad Request"] {
            let (url, _requests) = server(move |stream, _| {
                stream.write_all(reply(status, content_type, body).as_bytes()).unwrap();
            });
            assert_eq!(create(url).await, *expected, "{status} {content_type} {body}");
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
    let page = client(url).page(14, 7).await.unwrap();
    assert_eq!(page.total, 9);
    assert_eq!(page.users[0].0, "Jane@example.com");
    assert_eq!(page.users[0].1.created_at, Timestamp::parse("2026-02-19T20:49:29.927Z"));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /api/v1/partner/card/users?skip=14&limit=7 HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn an_unreadable_entry_hides_no_other_and_numbers_may_be_strings() {
    let body = "\u{feff}".to_owned()
        + r#"{"data":{"users":[{"serviceId":"a-user-1","email":null},{"email":"x@example.com"},7,
        {"serviceId":2,"email":"Jane@example.com","firstName":null,"createdAt":5}],"pagination":{"total":" 4"}}}"#;
    let (url, _requests) = server(move |stream, _| stream.write_all(reply("200 OK", "", &body).as_bytes()).unwrap());
    let page = client(url).page(0, 50).await.unwrap();
    assert_eq!((page.unusable, page.total, page.users.len()), (3, 4, 1));
    let expected = FoundUser { service_id: ServiceId::parse("2").unwrap(), created_at: None, name: None };
    assert_eq!(page.users[0], ("Jane@example.com".to_owned(), expected));
}

#[tokio::test]
async fn an_answer_that_is_no_page_has_a_reason() {
    for (status, body, expected) in [
        ("401 Unauthorized", "{}", ListError::Account(AccountReason::Unauthorized)),
        ("402 Payment Required", "{}", ListError::Refused),
        ("403 Forbidden", "{}", ListError::Account(AccountReason::Forbidden)),
        ("404 Not Found", "{}", ListError::Account(AccountReason::NotFound(404))),
        ("429 Too Many Requests", "{}", ListError::Throttled(None)),
        ("503 Service Unavailable", "{}", ListError::Failed("server_error")),
        ("503 Busy\r\nretry-after: 9", "{}", ListError::Throttled(Some(Duration::from_secs(9)))),
        ("502 Bad Gateway", "<html>", ListError::Account(AccountReason::NotTheApi)),
        ("200 OK", "<html>", ListError::Account(AccountReason::NotTheApi)),
        ("200 OK", "{}", ListError::Failed("unreadable_answer")),
        ("418 I'm a teapot", "{}", ListError::Refused),
    ] {
        let (url, _requests) = server(move |stream, _| stream.write_all(reply(status, "", body).as_bytes()).unwrap());
        assert_eq!(client(url).page(0, 50).await.unwrap_err(), expected, "{status}");
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
    client.page(0, 50).await.unwrap_err();
    client.page(50, 50).await.unwrap_err();
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
        let page = client(url).page(0, 50).await.unwrap();
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
