//! A valid job message, for tests.

use serde_json::{Value, json};

/// Returns a job message about Jane Doe with this email. Tests change the members they are about.
pub(crate) fn message(job_id: &str, email: &str) -> Value {
    json!({"jobId": job_id, "user": {
        "firstName": "Jane", "lastName": "Doe", "email": email, "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": "123 Main Street", "city": "San Francisco", "region": "CA",
        "postalCode": "94105", "countryCode": "US",
    }})
}
