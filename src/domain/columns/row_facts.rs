//! What a survey of columns needs to know of one row: hashes and numbers, no values.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use crate::domain::validate::is_added_decimal;
use crate::domain::{Field, RawUser, RawValue, User};

/// Columns that are searched for series that were filled down.
pub(super) const SERIES_FIELDS: [Field; 4] = [Field::PhoneNumber, Field::PostalCode, Field::IpAddress, Field::Address];

/// Example values that the partner's documentation has: a row with one was hardly filled in.
const VENDOR_PHONE: &str = "+14155555555";

/// Facts about a valid row.
#[derive(Debug, Clone, Copy)]
pub struct RowFacts {
    pub(super) country: [u8; 2],
    pub(super) phone_has_plus: bool,
    pub(super) ip: u64,
    pub(super) phone: u64,
    pub(super) address: u64,
    /// Name and phone number.
    pub(super) person: u64,
    /// The mailbox of an address at Gmail, which ignores dots and everything after a plus sign.
    pub(super) mailbox: Option<u64>,
    pub(super) series: [Option<SeriesPoint>; SERIES_FIELDS.len()],
    pub(super) has_vendor_example: bool,
    /// The `jobId` ends with `.0`: it is a number that another program converted.
    pub(super) job_id_has_decimal: bool,
    /// The phone number, the IP address or the domain of the email is reserved for documentation.
    pub(super) has_reserved_example: bool,
}

/// A number in a value, and a hash of the text around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeriesPoint {
    around: u64,
    number: u64,
}

impl SeriesPoint {
    pub(super) fn follows(self, earlier: Self) -> bool {
        self.around == earlier.around && Some(self.number) == earlier.number.checked_add(1)
    }
}

impl RowFacts {
    /// Collects the facts about a user, about the phone number as given, and about the job's reference.
    pub fn of(user: &User<'_>, raw: &RawUser<'_>, job_id: Option<&str>) -> Self {
        let ip: Option<IpAddr> = user.ip_address.parse().ok();
        let is_example_ip = ip.is_some_and(is_reserved_ip);
        let is_example_phone = is_reserved_phone(&user.phone_number);
        Self {
            country: user.country_code.as_bytes().try_into().unwrap_or_default(),
            phone_has_plus: has_plus(raw),
            ip: hash(&[&user.ip_address]),
            phone: hash(&[&user.phone_number]),
            address: hash(&[&user.address, &user.city]),
            person: hash(&[&user.first_name, &user.last_name, &user.phone_number]),
            mailbox: gmail_mailbox(&user.email).map(|mailbox| hash(&[&mailbox])),
            series: [
                number_of(&user.phone_number),
                number_of(&user.postal_code),
                match ip {
                    Some(IpAddr::V4(v4)) => Some(SeriesPoint { around: 0, number: u64::from(u32::from(v4)) }),
                    _ => None,
                },
                number_of(&user.address),
            ],
            has_vendor_example: user.phone_number == VENDOR_PHONE,
            job_id_has_decimal: job_id.is_some_and(is_added_decimal),
            has_reserved_example: is_example_ip || is_example_phone || is_reserved_domain(&user.email),
        }
    }
}

fn has_plus(raw: &RawUser<'_>) -> bool {
    match raw.get(Field::PhoneNumber) {
        RawValue::Text(text) => text.trim_start_matches(['\'', '=', '"', ' ']).starts_with(['+', '\u{FF0B}']),
        _ => false,
    }
}

/// Hashes texts without their case.
fn hash(texts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for text in texts {
        if text.is_ascii() {
            // In pieces, because single bytes take the hasher four times as long.
            let mut lower = [0; 64];
            for piece in text.as_bytes().chunks(lower.len()) {
                let lower = &mut lower[..piece.len()];
                lower.copy_from_slice(piece);
                lower.make_ascii_lowercase();
                hasher.write(lower);
            }
        } else {
            text.chars().flat_map(char::to_lowercase).for_each(|c| hasher.write_u32(u32::from(c)));
        }
        hasher.write_u8(0);
    }
    hasher.finish()
}

/// Returns the mailbox of an address at Gmail, if it has another spelling.
fn gmail_mailbox(email: &str) -> Option<Cow<'_, str>> {
    let (local, domain) = email.rsplit_once('@')?;
    if !matches!(domain, "gmail.com" | "googlemail.com") {
        return None;
    }
    let local = local.split('+').next().unwrap_or(local);
    Some(if local.contains('.') { Cow::Owned(local.replace('.', "")) } else { Cow::Borrowed(local) })
}

/// Returns the number at the end of a text, or at its beginning: spreadsheets count up either when a cell is dragged
/// down.
fn number_of(text: &str) -> Option<SeriesPoint> {
    /// Longer numbers don't fit.
    const DIGITS_MAX: usize = 18;
    let start = text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (number, around) = if start < text.len() {
        (&text[start..], [&text[..start], ""])
    } else {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (&text[..text.len() - rest.len()], ["", rest])
    };
    let number = number.parse().ok().filter(|_| number.len() <= DIGITS_MAX)?;
    Some(SeriesPoint { around: hash(&around), number })
}

/// Addresses for documentation: RFC 5737 and RFC 3849.
fn is_reserved_ip(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _]),
        IpAddr::V6(v6) => matches!(v6.segments(), [0x2001, 0x0DB8, ..]),
    }
}

/// Numbers for fiction in North America: 555-0100 to 555-0199.
fn is_reserved_phone(e164: &str) -> bool {
    e164 == VENDOR_PHONE || (e164.len() == 12 && e164.starts_with("+1") && &e164[5..10] == "55501")
}

/// Domains for documentation and tests: RFC 2606.
fn is_reserved_domain(email: &str) -> bool {
    let domain = email.rsplit('@').next().unwrap_or_default();
    let top = domain.rsplit('.').next().unwrap_or_default();
    let is_example = |name: &str| domain == name || domain.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    matches!(top, "test" | "example" | "invalid" | "localhost")
        || ["example.com", "example.org", "example.net"].into_iter().any(is_example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_series_is_at_the_end_or_at_the_beginning() {
        for (first, second, expected) in [
            ("1 Main Street", "2 Main Street", true),
            ("Main Street 9", "Main Street 10", true),
            ("+14155550199", "+14155550200", true),
            ("1 Main Street", "2 Mill Street", false),
            ("1 Main Street", "1 Main Street", false),
            ("1 Main Street", "3 Main Street", false),
            ("10115", "10116", true),
        ] {
            let (first, second) = (number_of(first).unwrap(), number_of(second).unwrap());
            assert_eq!(second.follows(first), expected);
        }
        assert_eq!(number_of("Main Street"), None);
        assert_eq!(number_of("99999999999999999999"), None);
    }

    #[test]
    fn spellings_of_a_gmail_address_are_one_mailbox() {
        for email in ["jane.doe@gmail.com", "janedoe@googlemail.com", "j.a.n.e.doe+cards@gmail.com"] {
            assert_eq!(gmail_mailbox(email).as_deref(), Some("janedoe"));
        }
        assert_eq!(gmail_mailbox("jane.doe@example.com"), None);
    }

    #[test]
    fn values_for_documentation_are_recognised() {
        assert!(is_reserved_phone("+14155550132") && is_reserved_phone(VENDOR_PHONE));
        assert!(!is_reserved_phone("+14155552671") && !is_reserved_phone("+447700900123"));
        assert!(is_reserved_domain("a@example.org") && is_reserved_domain("a@mail.example.com"));
        assert!(!is_reserved_domain("a@myexample.com") && !is_reserved_domain("a@gmail.com"));
    }
}
