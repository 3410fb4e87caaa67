//! A valid user and a valid job message, for tests. Tests change the members they are about.

use serde_json::{Value, json};

/// Returns the body of a creation: Jane Doe with this email.
pub(crate) fn user(email: &str) -> Value {
    json!({
        "firstName": "Jane", "lastName": "Doe", "email": email, "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": "123 Main Street", "city": "San Francisco", "region": "CA",
        "postalCode": "94105", "countryCode": "US",
    })
}

/// Returns a job message about [`user`].
pub(crate) fn message(job_id: &str, email: &str) -> Value {
    json!({"jobId": job_id, "user": user(email)})
}
