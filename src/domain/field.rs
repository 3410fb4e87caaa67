//! The fields of `POST /v2/partner/card/users`, by their API names.

use strum::{EnumCount, VariantArray};

/// A field of the API's request body.
///
/// The variants are in the order of the canonical form (sorted by code point), which is also the order in which
/// problems are reported.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
    strum::EnumCount,
)]
#[strum(serialize_all = "camelCase")]
pub enum Field {
    /// 1-200 characters.
    AccountPurpose,
    /// The street address, 1-500 characters.
    Address,
    /// 1-100 characters.
    City,
    /// ISO 3166-1 alpha-2.
    CountryCode,
    /// Unique across the partner account.
    Email,
    /// 1-100 characters.
    FirstName,
    /// The person's address at registration.
    IpAddress,
    /// Must be `true`.
    IsTermsOfServiceAccepted,
    /// 1-100 characters.
    LastName,
    /// E.164.
    PhoneNumber,
    /// 1-20 characters.
    PostalCode,
    /// `custodial` or `non_custodial`.
    Program,
    /// Optional, HTTPS.
    RedirectUrl,
    /// State or region, 1-100 characters.
    Region,
    /// Ethereum address, required when `program` is `non_custodial`.
    WalletAddress,
}

impl Field {
    /// Number of fields.
    pub const COUNT: usize = <Self as EnumCount>::COUNT;

    /// Every field, in canonical order.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().unwrap();

    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether every user needs it. `walletAddress` is needed only for `non_custodial`, `redirectUrl` never.
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::RedirectUrl | Self::WalletAddress)
    }

    /// Returns the field with exactly this API name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_canonical_order_and_are_their_own_index() {
        for (index, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, index);
            assert_eq!(Field::from_name(field.name()), Some(field));
        }
        assert!(Field::ALL.is_sorted_by_key(|field| field.name()));
        assert_eq!(Field::IsTermsOfServiceAccepted.name(), "isTermsOfServiceAccepted");
    }
}
