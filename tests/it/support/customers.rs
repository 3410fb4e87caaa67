//! Made-up customers, as many as a test needs.

use std::fmt::Write;
use std::ops::Range;

const HEADER: &str = "firstName,lastName,email,phoneNumber,accountPurpose,ipAddress,isTermsOfServiceAccepted,program,\
                      walletAddress,redirectUrl,address,city,region,postalCode,countryCode";

/// A file of valid rows that differ from each other; row `n` has the email `p{n}@example.com`.
pub(crate) fn customers(numbers: Range<u32>) -> String {
    CustomerFile::default().with(numbers).text
}

/// A file that is put together row by row.
pub(crate) struct CustomerFile {
    pub(crate) text: String,
}

impl Default for CustomerFile {
    fn default() -> Self {
        Self { text: format!("{HEADER}\n") }
    }
}

impl CustomerFile {
    /// Valid rows.
    pub(crate) fn with(mut self, numbers: Range<u32>) -> Self {
        for n in numbers {
            writeln!(
                self.text,
                "Ann,Lee,p{n}@example.com,+1415{},personal use,203.0.113.{},true,custodial,,,{n} Main Street,\
                 Springfield,IL,62701,US",
                5_550_000 + n,
                n % 250 + 1
            )
            .unwrap();
        }
        self
    }

    /// A row whose email isn't one.
    pub(crate) fn with_invalid(self, n: u32) -> Self {
        let mut file = self.with(n..n + 1);
        file.text = file.text.replace(&format!("p{n}@example.com"), &format!("p{n} at example.com"));
        file
    }
}
