//! Guards: keep one job, or many bad outcomes, from harming other jobs.
//!
//! | module | guards against |
//! | --- | --- |
//! | [`halt`] | a file or batch whose outcomes are mostly bad: stops before thousands of rows are used up |
//! | [`outliers`] | one job that is always answered like a problem of the whole account |
//! | [`per_person`] | two deliveries or jobs for one person at the same time |
//! | [`ownership`] | two jobs for one email that both claim the same user |

pub(crate) mod halt;
pub(crate) mod outliers;
pub(crate) mod ownership;
pub(crate) mod per_person;
