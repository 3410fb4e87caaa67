//! Valid customers, as rows of a CSV file and as JSON. The tests define a customer here and nowhere else.

use std::ops::Range;

use serde_json::{Map, Value};

/// Columns of a file in their order. An empty cell is a field that the customer doesn't have.
const FIELDS: [&str; 15] = [
    "firstName",
    "lastName",
    "email",
    "phoneNumber",
    "accountPurpose",
    "ipAddress",
    "isTermsOfServiceAccepted",
    "program",
    "walletAddress",
    "redirectUrl",
    "address",
    "city",
    "region",
    "postalCode",
    "countryCode",
];

/// Returns the cells of customer `n`, in the order of [`FIELDS`]. Customers differ in email, phone, IP and address, and
/// neither phone nor IP count up by one, which a run would ask about.
fn cells(n: u32) -> [String; 15] {
    let (email, phone) = (format!("p{n}@example.com"), format!("+1415{}", 5_550_000 + n * 3));
    let (ip, address) = (format!("203.0.113.{}", n * 3 % 250 + 1), format!("{n} Main Street"));
    [
        "Ann",
        "Lee",
        &email,
        &phone,
        "personal use",
        &ip,
        "true",
        "custodial",
        "",
        "",
        &address,
        "Springfield",
        "IL",
        "62701",
        "US",
    ]
    .map(str::to_owned)
}

/// Returns customer `n` as the `user` of a job.
pub(crate) fn user(n: u32) -> Value {
    let fields = FIELDS.into_iter().zip(cells(n)).filter(|(_, cell)| !cell.is_empty());
    let members = fields.map(|(name, cell)| {
        let value = if name == "isTermsOfServiceAccepted" { Value::Bool(cell == "true") } else { Value::String(cell) };
        (name.to_owned(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// Returns a CSV file of valid rows. Row `n` has the email `p{n}@example.com`.
pub(crate) fn customers(numbers: Range<u32>) -> String {
    CustomerFile::default().with(numbers).text
}

/// Builds a CSV file row by row.
pub(crate) struct CustomerFile {
    pub(crate) text: String,
}

impl Default for CustomerFile {
    fn default() -> Self {
        Self { text: format!("{}\n", FIELDS.join(",")) }
    }
}

impl CustomerFile {
    /// Appends valid rows.
    pub(crate) fn with(mut self, numbers: Range<u32>) -> Self {
        for n in numbers {
            self.text += &format!("{}\n", cells(n).join(","));
        }
        self
    }

    /// Appends a row with an invalid email.
    pub(crate) fn with_invalid(self, n: u32) -> Self {
        let mut file = self.with(n..n + 1);
        file.text = file.text.replace(&format!("p{n}@example.com"), &format!("p{n} at example.com"));
        file
    }
}
