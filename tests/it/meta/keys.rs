//! The golden vectors of the idempotency key.
//!
//! Other languages compute the same keys from the documentation. If a vector changed, a person would get another key
//! after an update and could be created twice.

use plu_onboard::domain::Job;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::sample;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    input: Value,
    canonical: String,
    key: String,
}

fn vectors() -> Vec<Vector> {
    let text = std::fs::read(sample("key-vectors.json")).unwrap();
    serde_json::from_slice::<Vectors>(&text).unwrap().vectors
}

#[test]
fn every_golden_vector_gives_its_canonical_form_and_key() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 50);
    for Vector { name, input, canonical, key } in vectors {
        let message = json!({ "user": input }).to_string();
        let (job, _) =
            Job::parse(message.as_bytes()).unwrap_or_else(|invalid| panic!("{name}: {:?}", invalid.problems));
        assert_eq!(job.body, canonical, "{name}");
        assert_eq!(job.key.to_string(), key, "{name}");
    }
}

#[test]
fn the_upstreams_own_key_is_used_and_the_body_does_not_change() {
    let Vector { input, canonical, .. } = vectors().swap_remove(0);
    let own = "550e8400-e29b-41d4-a716-446655440000";
    let message = json!({ "idempotencyKey": own, "user": input }).to_string();
    let (job, _) = Job::parse(message.as_bytes()).unwrap();
    assert_eq!((job.key.to_string().as_str(), &*job.body), (own, canonical.as_bytes()));
}
