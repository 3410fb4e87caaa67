//! Quirks: the properties of the partner that the vendor's documentation leaves open.

use std::str::FromStr as _;
use std::time::Duration;

use crate::sandbox::model_config::{KeyReuse, ListOrder, ListOverLimit, ModelConfig};
use crate::sandbox::money::Money;

/// One property of the partner, with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quirk {
    KeyReuse(KeyReuse),
    KeyUsedCode(String),
    DupUserCode(String),
    /// In seconds.
    ClockSkew(i64),
    /// Whether the list has `createdAt`.
    CreatedAt(bool),
    ListOrder(ListOrder),
    ListLimit(u32),
    ListGrows(u32),
    /// In seconds.
    ListLag(u64),
    ListOverLimit(ListOverLimit),
    /// The status of the refusal.
    ListRefused(u16),
    /// How many users exist at least.
    Users(u32),
    /// Whether the list has `status`.
    Status(bool),
    /// In seconds.
    KycAfter(u64),
    Fee(Money),
    /// The status of the refusal.
    UserNotFound(u16),
}

/// The names of the quirks in a fault list.
#[derive(Clone, Copy, Debug, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
enum QuirkName {
    KeyReuse,
    KeyUsedCode,
    DupUserCode,
    ClockSkew,
    CreatedAt,
    ListOrder,
    ListLimit,
    ListOverLimit,
    ListGrows,
    ListLag,
    ListRefused,
    Users,
    Status,
    KycAfter,
    Fee,
    UserNotFound,
}

const CODE_FORM: &str = "a code of 1 to 64 capital letters, digits and _";

const DELAY_FORM: &str = "seconds, at most a day's, such as 30s";

const DAY_S: i64 = 86_400;

/// Maximum of `users`. They take about 200 MB.
const USERS_MAX: u32 = 1_000_000;

impl Quirk {
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        <QuirkName as strum::VariantArray>::VARIANTS.iter().map(|name| (*name).into())
    }

    /// Reads a quirk. `None` if no quirk has this name.
    ///
    /// # Errors
    /// The values that the quirk may have, as the end of a sentence.
    pub(super) fn parse(name: &str, value: &str) -> Option<Result<Self, String>> {
        let known = QuirkName::from_str(name).ok()?;
        let (quirk, form) = Self::read(known, value);
        Some(quirk.ok_or_else(|| format!("but {name} is {form}")))
    }

    /// The quirk, or `None` if the value isn't of the returned form.
    fn read(name: QuirkName, value: &str) -> (Option<Self>, &'static str) {
        let number = |text: &str| text.parse::<u32>().ok();
        let seconds = |text: &str| text.strip_suffix('s').unwrap_or(text).parse::<i64>().ok();
        let delay = |text| seconds(text).filter(|seconds| *seconds <= DAY_S).and_then(|delay| delay.try_into().ok());
        let shown = match value {
            "missing" => Some(false),
            "shown" => Some(true),
            _ => None,
        };
        match name {
            QuirkName::KeyReuse => {
                let reuse = match value {
                    "400" => Some(KeyReuse::Refused400),
                    "409" => Some(KeyReuse::Refused409),
                    "replay" => Some(KeyReuse::Replayed),
                    _ => None,
                };
                (reuse.map(Self::KeyReuse), "400, 409 or replay")
            }
            QuirkName::KeyUsedCode => (code(value).map(Self::KeyUsedCode), CODE_FORM),
            QuirkName::DupUserCode => (code(value).map(Self::DupUserCode), CODE_FORM),
            QuirkName::ClockSkew => {
                let skew = seconds(value).filter(|seconds| (-DAY_S..=DAY_S).contains(seconds));
                (skew.map(Self::ClockSkew), "seconds, at most a day's, such as 90s or -90s")
            }
            QuirkName::CreatedAt => (shown.map(Self::CreatedAt), "missing or shown"),
            QuirkName::Status => (shown.map(Self::Status), "missing or shown"),
            QuirkName::ListOrder => {
                let order = match value {
                    "newest" => Some(ListOrder::NewestFirst),
                    "oldest" => Some(ListOrder::OldestFirst),
                    "shuffled" => Some(ListOrder::Shuffled),
                    "scattered" => Some(ListOrder::Scattered),
                    _ => None,
                };
                (order.map(Self::ListOrder), "newest, oldest, shuffled or scattered")
            }
            QuirkName::ListLimit => {
                (number(value).filter(|users| *users > 0).map(Self::ListLimit), "a number of users from 1 up")
            }
            QuirkName::ListGrows => {
                (number(value).filter(|users| *users <= 100).map(Self::ListGrows), "a number of users up to 100")
            }
            QuirkName::ListOverLimit => {
                let answer = match value {
                    "clip" => Some(ListOverLimit::Clipped),
                    "refuse" => Some(ListOverLimit::Refused),
                    _ => None,
                };
                (answer.map(Self::ListOverLimit), "clip or refuse")
            }
            QuirkName::ListLag => (delay(value).map(Self::ListLag), DELAY_FORM),
            QuirkName::KycAfter => (delay(value).map(Self::KycAfter), DELAY_FORM),
            QuirkName::Users => {
                (number(value).filter(|users| *users <= USERS_MAX).map(Self::Users), "a number of users up to 1000000")
            }
            QuirkName::Fee => {
                let fee = value.parse().ok().and_then(Money::from_dollars);
                (fee.map(Self::Fee), "an amount such as 1.50, in dollars with at most two decimals")
            }
            QuirkName::UserNotFound => {
                let status = number(value).and_then(|status| u16::try_from(status).ok());
                let status = status.filter(|status| [400, 404].contains(status));
                (status.map(Self::UserNotFound), "400 or 404")
            }
            QuirkName::ListRefused => {
                let status = number(value).and_then(|status| u16::try_from(status).ok());
                let status = status.filter(|status| [401, 403, 404].contains(status));
                (status.map(Self::ListRefused), "401, 403 or 404")
            }
        }
    }

    /// Sets the property in a configuration.
    pub(super) fn apply_to(&self, model: &mut ModelConfig) {
        match self.clone() {
            Self::KeyReuse(reuse) => model.key_reuse = reuse,
            Self::KeyUsedCode(code) => model.key_used_code = code,
            Self::DupUserCode(code) => model.dup_user_code = code,
            Self::ClockSkew(seconds) => model.clock_skew_s = seconds,
            Self::CreatedAt(shown) => model.shows_created_at = shown,
            Self::ListOrder(order) => model.list_order = order,
            Self::ListLimit(users) => model.list_limit_max = users,
            Self::ListGrows(users) => model.list_grows = users,
            Self::ListLag(seconds) => model.list_lag_s = seconds,
            Self::ListOverLimit(answer) => model.list_over_limit = answer,
            Self::ListRefused(status) => model.list_refused = Some(status),
            Self::Users(users) => model.users_min = users,
            Self::Status(shown) => model.shows_status = shown,
            Self::KycAfter(seconds) => model.kyc_after = Duration::from_secs(seconds),
            Self::Fee(fee) => model.fee = fee,
            Self::UserNotFound(status) => model.user_not_found_status = status,
        }
    }
}

fn code(text: &str) -> Option<String> {
    let is_valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    ((1..=64).contains(&text.len()) && text.bytes().all(is_valid)).then(|| text.to_owned())
}
