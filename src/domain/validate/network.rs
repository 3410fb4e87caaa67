//! Addresses of machines: where the person registered from, and where they go after verification.

use std::net::IpAddr;

use url::Url;

use super::Refusal;
use crate::domain::{Field, Warning};

/// Longest `redirectUrl`, in characters. Assumed: the vendor states no limit; browsers agree on this one.
const URL_CHARS_MAX: usize = 2_048;

/// Canonical text of an IPv4 or IPv6 address; an IPv4-mapped one becomes IPv4.
pub(super) fn ip_address(text: &str) -> Result<String, Refusal> {
    text.parse::<IpAddr>().map(|address| address.to_canonical().to_string()).map_err(|_| {
        (
            "INVALID_IP_ADDRESS",
            "is no IP address: write one IPv4 or IPv6 address such as 203.0.113.42, without a port".to_owned(),
        )
    })
}

/// A warning for an address that no person on the internet can have: mostly the load balancer's own.
pub(super) fn unlikely_address(canonical: &str) -> Option<Warning> {
    let unlikely = match canonical.parse().ok()? {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_unspecified() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    unlikely.then_some(Warning {
        field: Field::IpAddress,
        code: "UNLIKELY_IP_ADDRESS",
        message: "is a private, loopback or unspecified address: was the person's own recorded, or a proxy's?",
    })
}

/// An HTTPS URL in WHATWG serialisation.
pub(super) fn redirect_url(text: &str) -> Result<String, Refusal> {
    let refuse = |message: &str| Err(("INVALID_REDIRECT_URL", message.to_owned()));
    let Ok(url) = Url::parse(text) else {
        return refuse("is no URL: write it in full, such as https://app.example.com/done");
    };
    if url.scheme() != "https" {
        return refuse("must begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not contain a user name or a password");
    }
    if url.as_str().chars().count() > URL_CHARS_MAX {
        return refuse("is longer than 2048 characters");
    }
    Ok(url.into())
}
