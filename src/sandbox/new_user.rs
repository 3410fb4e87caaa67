//! The part of a valid create body that the partner keeps.

use serde::Serialize;

/// The card program of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxProgram {
    /// The partner holds the funds.
    Custodial,
    /// The user's own wallet holds the funds; its address is required.
    NonCustodial,
}

/// A user to create.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewUser<'a> {
    pub(super) email: &'a str,
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
    pub(super) program: SandboxProgram,
}
