//! The jobs: about 500 bytes each, as messages and as a CSV file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

pub(crate) fn message(n: usize) -> String {
    json!({"jobId": format!("crm-{n:07}"), "metadata": {"campaign": "spring", "row": n}, "user": {
        "firstName": "Margarethe", "lastName": "Lindqvist", "email": format!("customer{n:07}@example.com"),
        "phoneNumber": "+14155550132", "accountPurpose": "personal use", "ipAddress": "203.0.113.42",
        "isTermsOfServiceAccepted": true, "program": "custodial", "address": format!("{n} Main Street, Apartment 4"),
        "city": "Springfield", "region": "IL", "postalCode": "62701", "countryCode": "US",
        "redirectUrl": "https://example.com/welcome",
    }})
    .to_string()
}

/// Writes customers 0 to `rows` as a CSV file.
pub(crate) fn write_csv(path: &Path, rows: usize) {
    let mut text = String::from(
        "firstName,lastName,email,phoneNumber,accountPurpose,ipAddress,isTermsOfServiceAccepted,program,address,city,region,postalCode,countryCode\n",
    );
    for n in 0..rows {
        // Phone and IP don't count up by one, which a run would ask about.
        let phone = 2_000_000 + n * 3;
        let _ = writeln!(
            text,
            "Margarethe,Lindqvist,customer{n:07}@example.com,+1415{phone},personal use,203.0.{}.{},true,custodial,{n} Main Street,Springfield,IL,62701,US",
            n / 83 % 251,
            n * 3 % 251,
        );
    }
    std::fs::write(path, text).expect("a file in the temporary folder");
}
