//! The fields of `POST /v2/partner/card/users`, by their API names.

/// A field of the API's request body.
///
/// The variants stand in the order of the canonical form (sorted by code point), which is also the order in
/// which problems are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `accountPurpose`: 1-200 characters.
    AccountPurpose,
    /// `address`: the street address, 1-500 characters.
    Address,
    /// `city`: 1-100 characters.
    City,
    /// `countryCode`: ISO 3166-1 alpha-2.
    CountryCode,
    /// `email`: unique across the partner account.
    Email,
    /// `firstName`: 1-100 characters.
    FirstName,
    /// `ipAddress`: the person's address at registration.
    IpAddress,
    /// `isTermsOfServiceAccepted`: must be `true`.
    IsTermsOfServiceAccepted,
    /// `lastName`: 1-100 characters.
    LastName,
    /// `phoneNumber`: E.164.
    PhoneNumber,
    /// `postalCode`: 1-20 characters.
    PostalCode,
    /// `program`: `custodial` or `non_custodial`.
    Program,
    /// `redirectUrl`: optional, HTTPS.
    RedirectUrl,
    /// `region`: state or region, 1-100 characters.
    Region,
    /// `walletAddress`: Ethereum address, required when `program` is `non_custodial`.
    WalletAddress,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = 15;

    /// Every field, in canonical order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::AccountPurpose,
        Self::Address,
        Self::City,
        Self::CountryCode,
        Self::Email,
        Self::FirstName,
        Self::IpAddress,
        Self::IsTermsOfServiceAccepted,
        Self::LastName,
        Self::PhoneNumber,
        Self::PostalCode,
        Self::Program,
        Self::RedirectUrl,
        Self::Region,
        Self::WalletAddress,
    ];

    /// The name that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccountPurpose => "accountPurpose",
            Self::Address => "address",
            Self::City => "city",
            Self::CountryCode => "countryCode",
            Self::Email => "email",
            Self::FirstName => "firstName",
            Self::IpAddress => "ipAddress",
            Self::IsTermsOfServiceAccepted => "isTermsOfServiceAccepted",
            Self::LastName => "lastName",
            Self::PhoneNumber => "phoneNumber",
            Self::PostalCode => "postalCode",
            Self::Program => "program",
            Self::RedirectUrl => "redirectUrl",
            Self::Region => "region",
            Self::WalletAddress => "walletAddress",
        }
    }

    /// Whether every user needs it. `walletAddress` is needed only for `non_custodial`, `redirectUrl` never.
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::RedirectUrl | Self::WalletAddress)
    }

    /// The field with exactly this API name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_canonical_order_and_index_themselves() {
        for (index, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, index);
        }
        assert!(Field::ALL.is_sorted_by_key(|field| field.name()));
    }
}
