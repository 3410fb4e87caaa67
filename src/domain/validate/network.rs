//! Addresses of machines: where the person registered from, and where they go after verification.

use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use crate::domain::validate::Refusal;
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

/// A warning for an address that no person on the internet can have: mostly the load balancer's own. The ranges
/// for documentation are let pass: samples and tests are full of them.
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
    unlikely.then_some(Warning {
        field: Field::IpAddress,
        code: "UNLIKELY_IP_ADDRESS",
        message: "is an address that nobody has on the internet (private, shared, loopback, multicast or reserved): was \
                  the person's own recorded, or a proxy's?",
    })
}

/// 100.64.0.0/10: between a provider's customers and its address translation (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [100, 64..=127, ..])
}

/// 240.0.0.0/4, which ends with the broadcast address (RFC 1112).
fn is_reserved(address: Ipv4Addr) -> bool {
    address.octets()[0] >= 240
}

/// An HTTPS URL in WHATWG serialisation.
pub(super) fn redirect_url(text: &str) -> Result<String, Refusal> {
    let refuse = |message: &str| Err(("INVALID_REDIRECT_URL", message.to_owned()));
    let Ok(url) = Url::parse(text) else {
        return refuse("is no URL: write it in full, such as https://app.example.com/done");
    };
    // Of the text, not of what was understood: the standard makes `https:x.example` and `https:/x.example` fit.
    if !text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
        return refuse("must begin with https://");
    }
    if !url.host_str().is_some_and(has_no_empty_label) {
        return refuse("has a host name with two dots in a row or a dot in front: correct it");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not contain a user name or a password");
    }
    if url.as_str().chars().count() > URL_CHARS_MAX {
        return refuse("is longer than 2048 characters");
    }
    Ok(url.into())
}

/// A dot at the end is the root of the name system and fine.
fn has_no_empty_label(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).split('.').all(|label| !label.is_empty())
}
