//! Guards between jobs: what one job, or many bad outcomes, must not do to the others.

pub(crate) mod halt;
pub(crate) mod outliers;
pub(crate) mod ownership;
pub(crate) mod per_person;
