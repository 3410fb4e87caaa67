//! The id and the verification link of a created user, as far as they can be used, and why a link is missing.
//!
//! **Invariant:** a value that can't be used is never passed on. It counts as missing.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::VariantArray;
use url::Url;

/// Longest link, in characters. Every browser supports this length.
pub const URL_CHARS_MAX: usize = 2_048;

/// Longest `serviceId`, in characters.
pub const SERVICE_ID_CHARS_MAX: usize = 255;

/// Where a person verifies their identity: an absolute `https:` URL that a person can open. Private, so that `Debug`
/// doesn't print it.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationUrl(String);

impl VerificationUrl {
    /// Parses a link. Spaces around it are removed. `None` unless it is an absolute `https:` URL of at most
    /// [`URL_CHARS_MAX`] characters with a host, without user name and password, white space, control characters and
    /// invisible ones.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(' ');
        // Checks the text, not the parsed URL: the standard corrects `https:x.example` and removes line breaks.
        let (scheme, rest) = text.split_at_checked(8)?;
        let is_absolute = scheme.eq_ignore_ascii_case("https://") && !rest.starts_with('/');
        let is_odd = text.contains(|c: char| c.is_control() || c.is_whitespace() || is_invisible(c) || c == '\\');
        if !is_absolute || is_odd || text.chars().count() > URL_CHARS_MAX {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let is_usable = url.has_host() && url.username().is_empty() && url.password().is_none();
        is_usable.then(|| Self(text.to_owned()))
    }

    /// Returns the link as the API sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the link as the API sent it.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for VerificationUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationUrl([redacted])")
    }
}

/// The partner's id of a user, `{slug}-user-{uid}`: 1 to [`SERVICE_ID_CHARS_MAX`] characters without control
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceId(String);

impl ServiceId {
    /// Checks an id. `None` where it can't be used.
    pub fn parse(text: &str) -> Option<Self> {
        // Counts no further than needed.
        let length = text.chars().take(SERVICE_ID_CHARS_MAX + 1).count();
        let is_usable = (1..=SERVICE_ID_CHARS_MAX).contains(&length) && !text.contains(char::is_control);
        is_usable.then(|| Self(text.to_owned()))
    }

    /// Returns the id as the API sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id as the API sent it.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a created user has no usable link.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LinkLoss {
    /// The answer, or the end of it with the link, was lost.
    LostAnswer,
    /// The API's answer has no link.
    NotSent,
    /// The API's answer has something else in place of the link, or two different ones.
    Unusable,
}

impl LinkLoss {
    /// Every reason, in the order of reports.
    pub const ALL: [Self; 3] = *Self::VARIANTS.as_array().unwrap();

    /// Its name in events, logs and labels.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// The reason in words, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::LostAnswer => "the answer was lost",
            Self::NotSent => "the API sent none",
            Self::Unusable => "the API sent something else in its place",
        }
    }
}

/// How many created users have no usable link, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkLossCounts {
    /// Those of [`LinkLoss::LostAnswer`].
    pub lost_answer: u64,
    /// Those of [`LinkLoss::NotSent`].
    pub not_sent: u64,
    /// Those of [`LinkLoss::Unusable`].
    pub unusable: u64,
}

impl LinkLossCounts {
    /// Counts by reason.
    pub fn of(count: impl Fn(LinkLoss) -> u64) -> Self {
        let [lost_answer, not_sent, unusable] = LinkLoss::ALL.map(count);
        Self { lost_answer, not_sent, unusable }
    }

    /// Counts one user.
    pub fn add(&mut self, reason: LinkLoss) {
        *match reason {
            LinkLoss::LostAnswer => &mut self.lost_answer,
            LinkLoss::NotSent => &mut self.not_sent,
            LinkLoss::Unusable => &mut self.unusable,
        } += 1;
    }

    /// Returns the count for a reason.
    pub const fn get(&self, reason: LinkLoss) -> u64 {
        match reason {
            LinkLoss::LostAnswer => self.lost_answer,
            LinkLoss::NotSent => self.not_sent,
            LinkLoss::Unusable => self.unusable,
        }
    }

    /// Returns the count for all reasons.
    pub const fn total(&self) -> u64 {
        self.lost_answer + self.not_sent + self.unusable
    }
}

/// Characters that have no width or change the direction of the text (Unicode general category Cf, the common ones).
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_link_is_an_absolute_https_url_and_is_kept_as_it_is() {
        let longest = format!("https://v.example/{}", "é".repeat(URL_CHARS_MAX - 18));
        for link in [
            "https://withpersona.com/verify?inquiry-id=inq_1",
            "HTTPS://V.example",
            "https://[2001:db8::1]:8443/a?b=c#d",
            "https://v.example/a%20b?next=https://x.example/@y",
            "https://bücher.example/",
            &longest,
        ] {
            assert_eq!(VerificationUrl::parse(link).unwrap().as_str(), link);
            assert_eq!(VerificationUrl::parse(&format!("  {link} ")).unwrap().as_str(), link);
        }
    }

    #[test]
    fn what_no_person_can_open_safely_is_no_link() {
        let too_long = format!("https://v.example/{}", "x".repeat(URL_CHARS_MAX - 17));
        for text in [
            "",
            " ",
            "https://",
            "https:///",
            "https:///v.example",
            "https:v.example",
            "https:/v.example",
            "https:\\\\v.example",
            "https://v.example\\@w.example/",
            "//v.example/1",
            "v.example/1",
            "http://v.example/1",
            "http://169.254.169.254/latest/meta-data/",
            "javascript:alert(1)",
            "data:text/html,https://v.example",
            "=HYPERLINK(\"https://v.example\")",
            "https://jane@v.example/",
            "https://jane:secret@v.example/",
            "https://v.example/\0",
            "https://v.example/\n",
            "\nhttps://v.example/",
            "https://v.example/a\tb",
            "https://v.example/\u{85}",
            "https://v.example/a b",
            "https://v.example:99999/",
            "https://v exa.mple/",
            "https://v.example/\u{202e}1",
            "https://v.example/\u{200b}1",
            "https://v.example/\u{feff}",
            "https://v.example/\u{ad}1",
            &too_long,
        ] {
            assert_eq!(VerificationUrl::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_usable_id_has_1_to_255_characters_and_no_control_characters() {
        for id in ["a", "acme-user-abc123def456ghi", "7", &"é".repeat(SERVICE_ID_CHARS_MAX)] {
            assert_eq!(ServiceId::parse(id).unwrap().as_str(), id);
        }
        for id in ["", "a\0", "a\nb", "\u{7f}", &"x".repeat(SERVICE_ID_CHARS_MAX + 1), &"x".repeat(300_000)] {
            assert_eq!(ServiceId::parse(id), None);
        }
    }

    #[test]
    fn debug_output_has_no_link() {
        let link = VerificationUrl::parse("https://v.example/1");
        assert_eq!(format!("{link:?}"), "Some(VerificationUrl([redacted]))");
    }

    #[test]
    fn counts_are_kept_by_reason() {
        let mut counts = LinkLossCounts::default();
        for (n, reason) in (1..).zip(LinkLoss::ALL) {
            (0..n).for_each(|_| counts.add(reason));
        }
        assert_eq!(LinkLoss::ALL.map(|reason| counts.get(reason)), [1, 2, 3]);
        assert_eq!((counts.total(), LinkLossCounts::of(|reason| counts.get(reason))), (6, counts));
    }

    #[test]
    fn reasons_are_named_as_in_events() {
        for reason in LinkLoss::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
        assert_eq!(LinkLoss::ALL.map(LinkLoss::code), ["lost_answer", "not_sent", "unusable"]);
    }
}
