//! Ethereum addresses and their EIP-55 checksum.

use sha3::{Digest, Keccak256};

use crate::domain::validate::FieldRefusal;

/// `0x` and 40 hex digits, in EIP-55 form.
///
/// An address in all lower or all upper case has no checksum and is accepted. Mixed case must have a valid checksum: a
/// wrong letter means a mistyped address, and money sent to it is lost.
pub(super) fn ethereum_address(text: &str) -> Result<String, FieldRefusal> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(digits) = digits else {
        return Err(("INVALID_WALLET_ADDRESS", "is not an Ethereum address: write 0x and 40 hex digits".to_owned()));
    };
    let checksummed = eip55(&digits.to_ascii_lowercase());
    let is_mixed =
        digits.contains(|c: char| c.is_ascii_lowercase()) && digits.contains(|c: char| c.is_ascii_uppercase());
    if is_mixed && checksummed[2..] != *digits {
        return Err((
            "WALLET_CHECKSUM",
            "fails its EIP-55 checksum, so at least one character is mistyped: copy the address from the wallet again"
                .to_owned(),
        ));
    }
    Ok(checksummed)
}

/// EIP-55: a hex letter is upper case where the matching nibble of Keccak-256(lower-case digits) is 8 or more.
fn eip55(lower: &str) -> String {
    let hash = Keccak256::digest(lower.as_bytes());
    let mut address = String::with_capacity(42);
    address.push_str("0x");
    for (index, digit) in lower.chars().enumerate() {
        let byte = hash[index / 2];
        let nibble = if index % 2 == 0 { byte >> 4 } else { byte & 0x0f };
        address.push(if nibble >= 8 { digit.to_ascii_uppercase() } else { digit });
    }
    address
}
