//! Parsers of flag values that aren't settings.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use encoding_rs::Encoding;

use crate::domain::PhoneReading;

/// Refuses the value of `--api-key`. Other users of the machine can see arguments, and shells and logs store them. The
/// error doesn't repeat the value.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedApiKey;

impl TypedValueParser for RefusedApiKey {
    type Value = Infallible;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, _: &OsStr) -> Result<Infallible, Error> {
        let message = "the API key can't be an argument, because other users of the machine can read arguments: set \
                       the environment variable PLU_API_KEY, or name a file that holds it with --api-key-file\n";
        Err(Error::raw(ErrorKind::UnknownArgument, message).with_cmd(command))
    }
}

/// The delimiter of a CSV file, as a character or a word. Some of the characters are hard to type in a shell.
pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "," | "comma" => Ok(b','),
        ";" | "semicolon" => Ok(b';'),
        "|" | "pipe" => Ok(b'|'),
        "\t" | "\\t" | "tab" => Ok(b'\t'),
        _ => Err("write one of , ; | or one of the words comma, semicolon, pipe, tab".to_owned()),
    }
}

/// An encoding by any of its names in the WHATWG Encoding Standard.
pub(super) fn encoding(label: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(label.as_bytes())
        .ok_or_else(|| "write a name such as utf-8, utf-16le, windows-1252 or iso-8859-15".to_owned())
}

/// How phone numbers without a `+` are read.
pub(super) fn phone_reading(text: &str) -> Result<PhoneReading, String> {
    text.parse().map_err(|_| "write national or international".to_owned())
}

/// An address to listen on: `127.0.0.1:9464`, or a port alone (`9464`, `:9464`), which means 127.0.0.1.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| "write a port such as 9464, or an address and a port such as 0.0.0.0:9464".to_owned())
}

/// The number of canary jobs.
pub(super) fn canary(text: &str) -> Result<u32, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=100_000).contains(jobs));
    jobs.ok_or_else(|| "write a whole number from 1 to 100000".to_owned())
}

/// A number of lines.
pub(super) fn lines(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

/// The line of a header.
pub(super) fn header_row(text: &str) -> Result<u64, String> {
    /// Every row above the header is read and skipped each time.
    const LINE_MAX: u64 = 10_000;
    let line = text.parse().ok().filter(|line| (1..=LINE_MAX).contains(line));
    line.ok_or_else(|| format!("write a whole number from 1 to {LINE_MAX}"))
}
