//! The proxy of the environment: an unusable variable is an error at the start, and a refusal of the proxy names it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::{TestDir, customers};

/// Answers every CONNECT with this status. Returns the port.
fn proxy(status: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"CONNECT api.example:443 HTTP/1.1\r\n"));
            let _ = write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        }
    });
    port
}

#[test]
fn a_refusal_of_the_proxy_names_the_proxy_and_not_the_api() {
    for (status, says) in [
        ("407 Proxy Authentication Required", "asks for a user name and a password (407)"),
        ("403 Forbidden", "refuses to connect"),
        ("502 Bad Gateway", "refuses to connect"),
    ] {
        let dir = TestDir::with("people.csv", customers(0..3));
        let mut running = dir
            .program("run people.csv --out out --yes --api-url https://api.example/api")
            .env("HTTPS_PROXY", &format!("http://me:s3cret@127.0.0.1:{}", proxy(status)))
            .start();
        running.wait_for_output(&format!("the proxy in HTTPS_PROXY or ALL_PROXY {says}"));
        running.signal("INT");
        let output = running.expect_exit(1);
        output.assert_no_output(&["s3cret"]);
    }
}

#[test]
fn an_unusable_proxy_variable_is_an_error_at_the_start() {
    let dir = TestDir::with("people.csv", customers(0..3));
    let output = dir
        .program("run people.csv --out out --yes --api-url https://api.example/api")
        .env("HTTPS_PROXY", "http://me:s3cret@proxy.example:port")
        .expect_exit(2);
    assert!(output.stderr.contains("HTTPS_PROXY isn't a URL: set it to http://HOST:PORT"), "{output}");
    output.assert_no_output(&["s3cret"]);
}
