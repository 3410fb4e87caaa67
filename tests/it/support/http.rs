//! A minimal HTTP client on a plain socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest time without a byte from the server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpReply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn get(address: &str, path: &str) -> HttpReply {
    request(address, "GET", path, "")
}

/// Sends one request and reads its reply, whose end is given by `Content-Length`.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &str) -> HttpReply {
    request_with(address, method, path, "", body)
}

/// Sends one request with more headers, each of which ends with `\r\n`.
pub(crate) fn request_with(address: &str, method: &str, path: &str, headers: &str, body: &str) -> HttpReply {
    let (mut reader, head) = open_with(address, method, path, headers, body);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    HttpReply { status, head, body: String::from_utf8(body).unwrap() }
}

/// Sends one request and reads only the headers of its reply.
pub(crate) fn open(address: &str, method: &str, path: &str, body: &str) -> (BufReader<TcpStream>, String) {
    open_with(address, method, path, "", body)
}

fn open_with(address: &str, method: &str, path: &str, headers: &str, body: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection was closed within the headers: {head}");
    }
    (reader, head.to_lowercase())
}
