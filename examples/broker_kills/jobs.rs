//! The jobs. Of each hundred, 94 are for different people, three repeat a job under another id, one is for another
//! person with the same email, and two are invalid.

use std::collections::BTreeMap;

use serde_json::json;

/// How a job relates to the others, which decides its outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// The only job with its email: created.
    Unique,
    /// One of several jobs with this person's email and name: at least one of them is created.
    Repeated(u32),
    /// One of two jobs for different people with this person's email: one is created, the other exists.
    SameEmail(u32),
    /// Rejected.
    Invalid,
}

/// The kind and body of each job, by its id.
pub(crate) struct Jobs(BTreeMap<String, (JobKind, String)>);

impl Jobs {
    pub(crate) fn make(count: u32) -> Self {
        let job = |n: u32| {
            // Jobs 94 to 97 of each hundred have the emails of jobs 0 to 3.
            let (kind, person, name) = match n % 100 {
                0..=2 => (JobKind::Repeated(n), n, "Ann"),
                3 => (JobKind::SameEmail(n), n, "Ann"),
                94..=96 => (JobKind::Repeated(n - 94), n - 94, "Ann"),
                97 => (JobKind::SameEmail(n - 94), n - 94, "Eve"),
                98 | 99 => (JobKind::Invalid, n, "Ann"),
                _ => (JobKind::Unique, n, "Ann"),
            };
            let email = if kind == JobKind::Invalid {
                format!("p{n} at example.com")
            } else {
                format!("p{person}@example.com")
            };
            let body = json!({"jobId": format!("crm-{n}"), "user": {
                "firstName": name, "lastName": "Lee", "email": email, "phoneNumber": "+14155550132",
                "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
                "program": "custodial", "address": format!("{person} Main Street"), "city": "Springfield", "region": "IL",
                "postalCode": "62701", "countryCode": "US",
            }});
            (format!("crm-{n}"), (kind, body.to_string()))
        };
        Self((0..count).map(job).collect())
    }

    /// Half of them on each lane.
    pub(crate) fn by_lane(&self) -> [(&'static str, Vec<String>); 2] {
        let half = |of: usize| self.0.values().enumerate().filter(move |(n, _)| n % 2 == of).map(|(_, (_, body))| body);
        [("signup", half(0).cloned().collect()), ("bulk", half(1).cloned().collect())]
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, JobKind)> {
        self.0.iter().map(|(id, (kind, _))| (id.as_str(), *kind))
    }

    /// Number of users that the valid jobs create.
    pub(crate) fn distinct(&self) -> u64 {
        let mut people: Vec<u32> = Vec::new();
        let mut alone = 0;
        for (_, kind) in self.kinds() {
            match kind {
                JobKind::Unique => alone += 1,
                JobKind::Repeated(person) | JobKind::SameEmail(person) => people.push(person),
                JobKind::Invalid => {}
            }
        }
        people.sort_unstable();
        people.dedup();
        alone + people.len() as u64
    }

    pub(crate) fn invalid(&self) -> u64 {
        self.kinds().filter(|(_, kind)| *kind == JobKind::Invalid).count() as u64
    }
}
