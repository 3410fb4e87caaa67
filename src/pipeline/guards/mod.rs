//! Guards: keep one job, or many bad outcomes, from harming other jobs.
//!
//! | module | guards against |
//! | --- | --- |
//! | [`halt`] | a file or batch whose outcomes are mostly bad: stops before thousands of rows are used up |
//! | [`outliers`] | one job that is always answered like a problem of the whole account |
//! | [`per_person`] | two deliveries or jobs for one person at the same time |
//! | [`finished_keys`] | identical jobs, which would each cost a request and a look-up, and end without the link |
//! | [`known_keys`] | an `idempotencyKey` that is used again for other data |
//! | [`ownership`] | two persons, or two jobs for one email, that both get the same user |

mod bounded_map;
pub(crate) mod finished_keys;
pub(crate) mod halt;
pub(crate) mod known_keys;
pub(crate) mod outliers;
pub(crate) mod ownership;
pub(crate) mod per_person;
