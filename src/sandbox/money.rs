//! Amounts of money in whole cents, written in JSON as a number of dollars.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in cents. In JSON it is a number with at most two decimals, such as `5000` or `1.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

/// The largest amount, in cents: a tenth of what a JSON number holds exactly.
const CENTS_MAX: u64 = 1 << 50;

impl Money {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// An amount in cents. Above about 11 trillion dollars it is that amount.
    pub const fn from_cents(cents: u64) -> Self {
        Self(if cents > CENTS_MAX { CENTS_MAX } else { cents })
    }

    /// The amount in cents.
    pub const fn cents(self) -> u64 {
        self.0
    }

    /// Reads an amount in dollars. `None` if it is negative, too large, or isn't in whole cents.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let cents = (dollars * 100.0).round();
        let is_whole = (dollars * 100.0 - cents).abs() < 1e-4;
        (is_whole && (0.0..=CENTS_MAX as f64).contains(&cents)).then_some(Self(cents as u64))
    }

    /// The amount this many times.
    pub(super) const fn times(self, count: u64) -> Self {
        Self::from_cents(self.0.saturating_mul(count))
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self::from_cents(self.0.saturating_add(other.0))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u64(self.0 / 100)
        } else {
            serializer.serialize_f64(self.0 as f64 / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        Self::from_dollars(dollars)
            .ok_or_else(|| serde::de::Error::custom("an amount is a number from 0 with at most two decimals"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_cents_and_survive_json() {
        for (cents, json) in
            [(0, "0"), (150, "1.5"), (110, "1.1"), (29, "0.29"), (500_000, "5000"), (99_999_999_901, "999999999.01")]
        {
            assert_eq!(serde_json::to_string(&Money::from_cents(cents)).unwrap(), json);
            assert_eq!(serde_json::from_str::<Money>(json).unwrap().cents(), cents);
        }
        for json in ["-1", "1.505", "1e300", "\"1.5\"", "null"] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
        assert_eq!(Money::from_cents(150).to_string(), "1.50");
    }
}
