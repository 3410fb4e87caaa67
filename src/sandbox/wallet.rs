//! The wallet that pays for creations.
//!
//! Re-creating a deleted user with the same email is free, unless the deleted user was approved. The fee itself isn't
//! published; the default of this sandbox is an example.

use crate::sandbox::money::Money;

/// The balance of a wallet that pays for any number of creations.
const PLENTY: Money = Money::from_cents(100_000_000_000);

pub(super) const CURRENCY: &str = "USD";

#[derive(Debug)]
pub(super) struct Wallet {
    balance: Money,
}

impl Wallet {
    /// A wallet that pays for this many creations at this fee; `None` is any number.
    pub(super) fn for_creations(creations: Option<u64>, fee: Money) -> Self {
        Self { balance: creations.map_or(PLENTY, |creations| fee.times(creations)) }
    }

    pub(super) fn with_balance(balance: Option<Money>) -> Self {
        Self { balance: balance.unwrap_or(PLENTY) }
    }

    pub(super) fn balance(&self) -> Money {
        self.balance
    }

    pub(super) fn can_pay(&self, fee: Money) -> bool {
        self.balance >= fee
    }

    pub(super) fn pay(&mut self, fee: Money) {
        self.balance = self.balance.minus(fee);
    }
}
