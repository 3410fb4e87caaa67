//! Network addresses: the IP address at registration, and the URL after the verification.

use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use crate::domain::validate::FieldRefusal;
use crate::domain::{Field, Warning};

/// Longest `redirectUrl` in characters. Assumed: the vendor states no limit, and every browser supports this length.
const URL_CHARS_MAX: usize = 2_048;

/// The canonical text of an IPv4 or IPv6 address; an IPv4-mapped one becomes IPv4.
pub(super) fn ip_address(text: &str) -> Result<String, FieldRefusal> {
    text.parse::<IpAddr>().map(|address| address.to_canonical().to_string()).map_err(|_| {
        (
            "INVALID_IP_ADDRESS",
            "is not an IP address: write one IPv4 or IPv6 address, for example 203.0.113.42, without a port".to_owned(),
        )
    })
}

/// Warns of an address that no person on the internet can have: it is mostly that of a load balancer. The ranges for
/// documentation are allowed, because samples and tests use them.
pub(super) fn unlikely_address(canonical: &str) -> Option<Warning> {
    let unlikely = match canonical.parse().ok()? {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_multicast()
                || is_shared(v4)
                || is_reserved(v4)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    };
    unlikely.then_some(Warning::doubtful(
        Field::IpAddress,
        "UNLIKELY_IP_ADDRESS",
        "is not an address on the internet (private, shared, loopback, multicast or reserved), perhaps that \
                  of a proxy: check that the person's own address was recorded",
    ))
}

/// 100.64.0.0/10: shared address space of carrier-grade NAT (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [100, 64..=127, ..])
}

/// 240.0.0.0/4, including the broadcast address (RFC 1112).
fn is_reserved(address: Ipv4Addr) -> bool {
    address.octets()[0] >= 240
}

/// An HTTPS URL in WHATWG serialisation.
pub(super) fn redirect_url(text: &str) -> Result<String, FieldRefusal> {
    let refuse = |message: &str| Err(("INVALID_REDIRECT_URL", message.to_owned()));
    let Ok(url) = Url::parse(text) else {
        return refuse("is not a URL: write it in full, for example https://app.example.com/done");
    };
    // Checks the text, not the parsed URL: the standard corrects `https:x.example` and `https:/x.example`.
    if !text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
        return refuse("must begin with https://");
    }
    if !url.host_str().is_some_and(has_no_empty_label) {
        return refuse("has a host name with two dots in a row or a leading dot: correct it");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not contain a user name or a password");
    }
    if url.as_str().chars().count() > URL_CHARS_MAX {
        return refuse("is longer than 2048 characters");
    }
    Ok(url.into())
}

/// Returns whether no label is empty. A trailing dot is allowed: it is the root of the name system.
fn has_no_empty_label(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).split('.').all(|label| !label.is_empty())
}
