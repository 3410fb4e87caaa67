//! Jobs of all kinds: in every hundred, 94 people, three repeats of a job under another id, one other job with somebody's
//! email, and two that can't be valid.

use std::collections::BTreeMap;

use serde_json::json;

/// What a job is, and so what may come of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The only one of its email: created.
    Alone,
    /// One of those with this person's email and name: at least one of them is created, whichever comes first.
    Shared(u32),
    /// One of two people with this person's email: the one who comes first is created, the other exists.
    Rival(u32),
    /// Rejected.
    Invalid,
}

/// The jobs by their ids.
pub(crate) struct Jobs(BTreeMap<String, (Kind, String)>);

impl Jobs {
    pub(crate) fn make(count: u32) -> Self {
        let job = |n: u32| {
            // The jobs 0 to 3 of a hundred have a second one.
            let (kind, person, name) = match n % 100 {
                0..=2 => (Kind::Shared(n), n, "Ann"),
                3 => (Kind::Rival(n), n, "Ann"),
                94..=96 => (Kind::Shared(n - 94), n - 94, "Ann"),
                97 => (Kind::Rival(n - 94), n - 94, "Eve"),
                98 | 99 => (Kind::Invalid, n, "Ann"),
                _ => (Kind::Alone, n, "Ann"),
            };
            let email =
                if kind == Kind::Invalid { format!("p{n} at example.com") } else { format!("p{person}@example.com") };
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

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.0.iter().map(|(id, (kind, _))| (id.as_str(), *kind))
    }

    /// People among the valid jobs.
    pub(crate) fn distinct(&self) -> u64 {
        let mut people: Vec<u32> = Vec::new();
        let mut alone = 0;
        for (_, kind) in self.kinds() {
            match kind {
                Kind::Alone => alone += 1,
                Kind::Shared(person) | Kind::Rival(person) => people.push(person),
                Kind::Invalid => {}
            }
        }
        people.sort_unstable();
        people.dedup();
        alone + people.len() as u64
    }

    pub(crate) fn invalid(&self) -> u64 {
        self.kinds().filter(|(_, kind)| *kind == Kind::Invalid).count() as u64
    }
}
