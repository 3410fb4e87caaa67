//! Tests of the client against HTTP/2 servers that are written frame by frame: which requests count as not sent, and
//! how a silent connection ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use reqwest::{Method, Request, Url};

use super::*;
use crate::adapters::plu_http::fetch::fetch;
use crate::adapters::plu_http::request_failure::RequestFailure;
use crate::domain::answer::UnreachableReason;

const SETTINGS: ClientSettings =
    ClientSettings { is_plain: true, connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(60) };

/// Types and flags of frames (RFC 9113, 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS_FRAME: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `:status: 200`, the eighth entry of the static table (RFC 7541, appendix A).
const STATUS_200: [u8; 1] = [0x88];

/// The server's side of a connection.
struct Connection(TcpStream);

impl Connection {
    fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).unwrap();
        let mut connection = Self(stream);
        connection.send(SETTINGS_FRAME, 0, 0, &[]);
        connection
    }

    /// Returns the number of the next stream; `None`: the client has closed the connection.
    fn request(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).ok()?;
            match kind {
                HEADERS => return Some(u32::from_be_bytes(stream)),
                SETTINGS_FRAME if flags & ACK == 0 => self.send(SETTINGS_FRAME, ACK, 0, &[]),
                _ => {}
            }
        }
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).unwrap();
    }

    fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_STREAM_AND_HEADERS, stream, &STATUS_200);
    }

    /// Announces that only streams up to this one are processed.
    fn go_away(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }
}

fn serve<T: Send + 'static>(script: impl FnOnce(&TcpListener) -> T + Send + 'static) -> (Url, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    (url, thread::spawn(move || script(&listener)))
}

/// As the real client, but without TLS, which would negotiate HTTP/2.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder(SETTINGS, None).http2_prior_knowledge().build().unwrap()
}

async fn get(client: &Client, url: &Url) -> Result<u16, RequestFailure> {
    fetch(client, Request::new(Method::GET, url.clone()), 1_000).await.map(|answer| answer.status)
}

fn is_not_processed(result: &Result<u16, RequestFailure>) -> bool {
    matches!(result, Err(RequestFailure::NotSent(UnreachableReason::NotProcessed)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_stream_was_not_sent_and_is_not_sent_again() {
    const REFUSED_STREAM: u32 = 7;
    let (url, server) = serve(|listener| {
        let (mut connection, mut requests) = (Connection::accept(listener), 0);
        while let Some(stream) = connection.request() {
            connection.send(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes());
            requests += 1;
        }
        requests
    });
    let client = client();
    let result = get(&client, &url).await;
    assert!(is_not_processed(&result), "{result:?}");
    drop(client);
    assert_eq!(server.join().unwrap(), 1);
}

#[tokio::test]
async fn a_stream_that_another_error_resets_may_have_been_processed() {
    for (error, name) in [(0_u32, "no error"), (2, "internal error"), (8, "cancel"), (11, "enhance your calm")] {
        let (url, _server) = serve(move |listener| {
            let mut connection = Connection::accept(listener);
            let stream = connection.request().unwrap();
            connection.send(RST_STREAM, 0, stream, &error.to_be_bytes());
            connection.request()
        });
        let result = get(&client(), &url).await;
        assert!(matches!(result, Err(RequestFailure::ConnectionLost)), "{name}: {result:?}");
    }
}

#[tokio::test]
async fn after_go_away_only_later_streams_were_not_sent() {
    let (url, _server) = serve(|listener| {
        let mut connection = Connection::accept(listener);
        let (first, _second) = (connection.request().unwrap(), connection.request().unwrap());
        connection.go_away(first);
        connection.answer(first);
        connection.request()
    });
    let client = client();
    let results: [_; 2] = tokio::join!(get(&client, &url), get(&client, &url)).into();
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(200))).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|result| is_not_processed(result)).count(), 1, "{results:?}");
}

#[tokio::test]
async fn a_stream_before_the_last_one_of_go_away_may_have_been_processed() {
    let (url, _server) = serve(|listener| {
        let mut connection = Connection::accept(listener);
        let (_first, second) = (connection.request().unwrap(), connection.request().unwrap());
        connection.go_away(second);
    });
    let client = client();
    let results: [_; 2] = tokio::join!(get(&client, &url), get(&client, &url)).into();
    assert!(results.iter().all(|result| matches!(result, Err(RequestFailure::ConnectionLost))), "{results:?}");
}

#[tokio::test]
async fn a_silent_connection_is_closed_before_its_requests_time_out() {
    let (url, _server) = serve(|listener| {
        let mut silent = Connection::accept(listener);
        let stream = silent.request().unwrap();
        silent.answer(stream);
        let mut next = Connection::accept(listener);
        let stream = next.request().unwrap();
        next.answer(stream);
        (silent, next.request())
    });
    let client = client();
    assert!(matches!(get(&client, &url).await, Ok(200)));
    // From here on the client's timers expire at once, in their order.
    tokio::time::pause();
    let started_at = tokio::time::Instant::now();
    let result = get(&client, &url).await;
    // A ping without an answer is a timeout, too.
    assert!(matches!(result, Err(RequestFailure::Timeout)), "{result:?}");
    let waited = started_at.elapsed();
    assert!(waited < SETTINGS.timeout / 2, "{waited:?}");
    tokio::time::resume();
    assert!(matches!(get(&client, &url).await, Ok(200)), "a new connection is used");
}

#[test]
fn two_timeouts_in_a_row_replace_the_client_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = HttpClient::new(SETTINGS).unwrap();
    let first = http.get();
    for is_timeout in [true, false, true] {
        http.ended(&first, is_timeout);
        assert_eq!(http.get().number, 0, "not in a row");
    }
    for _ in 0..64 {
        http.ended(&first, true);
    }
    assert_eq!(http.get().number, 1, "requests with the old client say nothing about the new one");
}
