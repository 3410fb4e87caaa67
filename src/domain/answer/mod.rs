//! What the partner's answer, or the lack of one, means for a job.
//!
//! Only [`classify`] and [`account_problem`] turn HTTP into meaning. The rules and their sources:
//!
//! | HTTP answer | [`Answer`] |
//! | --- | --- |
//! | 2xx with a usable `data.serviceId` or link, wherever `salvage` finds them | `Created` |
//! | 401, 402, 403, 404, 405, any redirect | `Account` |
//! | 421, 425 | `NotSent`: the request was not processed |
//! | 407, 411, 413, 414, 415, 417, 426, 428, 431 | `Account` (`unexpected_refusal`) |
//! | 429 | `Throttled` |
//! | 503 with `Retry-After` | `Unknown`, and no request is sent for this time |
//! | any other answer without JSON and without a JSON content type | `Account` (`not_the_api`); the user may have been created |
//! | 400, 409 about a used idempotency key | `KeyAlreadyUsed` |
//! | 400, 409, 422: `DUP_USER`, or another code that is set for it | `UserExists` |
//! | any other 400, 409, 422 whose JSON names a code or a field | `Rejected`; without a code as `HTTP_` and the status |
//! | 400, 409, 422 whose JSON ends too early | `Unknown`; the user may have been created |
//! | any other 4xx | `Account` (`unexpected_refusal`) |
//! | any other 2xx, 408, 5xx | `Unknown`; the user may have been created |

mod account;
mod classify;
mod delete;
mod local_limit;
mod refusal;
mod retry_after;
pub(crate) mod salvage;

use std::time::Duration;

pub(crate) use account::UnreachableReason;
pub use account::{AccountReason, KeySource};
pub(crate) use classify::{ApiReply, account_problem, classify};
pub(crate) use delete::{DeleteAnswer, classify_delete};
pub(crate) use local_limit::LocalLimit;
pub(crate) use refusal::{RefusalMarks, looks_like_a_code};

use crate::domain::{LinkLoss, ServiceId, VerificationUrl};

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Answer {
    /// This request created the user, or a gateway replays an earlier answer that says so. At least one of both is
    /// usable.
    Created {
        /// `None`: the user must be looked up.
        service_id: Option<ServiceId>,
        /// Where the person verifies their identity, or why that isn't known.
        link: Result<VerificationUrl, LinkLoss>,
    },
    /// A user with this email exists.
    UserExists,
    /// An earlier request with this key arrived.
    KeyAlreadyUsed,
    /// The API refuses this job as it is.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The API's machine-readable code.
        code: String,
        /// The API's text for people; may quote personal data.
        text: String,
    },
    /// Every job would get this answer, so it isn't about the job.
    #[strum(transparent)]
    Account(AccountReason),
    /// The partner's rate limit is exceeded.
    Throttled {
        /// From `Retry-After`; `None` without one.
        retry_after: Option<Duration>,
    },
    /// No readable answer, so the user may have been created.
    #[strum(transparent)]
    Unknown(UnknownReason),
    /// The request did not reach the partner.
    NotSent(UnreachableReason),
}

/// Documented refusals which say that neither this request nor an earlier one like it created a user. Source: the
/// vendor's page on errors. Any other code may mean a used key or an existing email at another partner.
const CONCLUSIVE_CODES: [&str; 2] = ["USER_BLACKLISTED", "INVALID_PROGRAM"];

/// Begins the code of a refusal for which the API gave no code.
const STATUS_CODE_PREFIX: &str = "HTTP_";

impl Answer {
    /// Its name in logs and labels; that of the reason where it has one.
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// Returns `false` for a refusal without a code of the API.
    pub fn is_recognised(&self) -> bool {
        !matches!(self, Self::Rejected { code, .. } if code.starts_with(STATUS_CODE_PREFIX))
    }

    /// Returns whether it proves that earlier requests of the job created no user either.
    pub fn is_conclusive(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if CONCLUSIVE_CODES.contains(&code.as_str()))
    }

    /// Returns whether it would be another one if the end of the body had not been lost.
    pub const fn needs_its_end(&self) -> bool {
        matches!(
            self,
            Self::Unknown(UnknownReason::Unreadable | UnknownReason::ServerError(_))
                | Self::Account(AccountReason::NotTheApi)
        )
    }

    /// Returns whether the user is created and the end of the answer, with the link, was lost.
    pub const fn has_lost_its_link(&self) -> bool {
        matches!(self, Self::Created { link: Err(LinkLoss::LostAnswer), .. })
    }

    /// Returns whether the request may have created the user.
    pub const fn may_have_created(&self) -> bool {
        match self {
            Self::Created { .. } | Self::Unknown(_) => true,
            Self::Account(reason) => reason.may_have_created(),
            _ => false,
        }
    }
}

/// How an answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UnknownReason {
    /// No answer within the time limit.
    Timeout,
    /// The connection ended before the answer was complete.
    ConnectionLost,
    /// 5xx or 408.
    ServerError(u16),
    /// 503 with `Retry-After`: every other request would get it too.
    #[strum(serialize = "server_error")]
    Unavailable {
        /// How long the partner asks to wait.
        retry_after: Duration,
    },
    /// A 2xx that isn't what the API documents, or a 4xx whose JSON is cut off.
    #[strum(serialize = "unreadable_answer")]
    Unreadable,
}

impl UnknownReason {
    /// Its name in logs and labels.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_account_problems_only_those_of_a_proxy_may_hide_a_creation() {
        for reason in AccountReason::ALL {
            assert_eq!(Answer::Account(reason).may_have_created(), reason == AccountReason::NotTheApi, "{reason:?}");
        }
        for (status, may_have_created) in
            [(400, false), (413, false), (431, false), (451, false), (444, true), (460, true), (499, true)]
        {
            let answer = Answer::Account(AccountReason::UnexpectedRefusal(status));
            assert_eq!(answer.may_have_created(), may_have_created, "{status}");
        }
        assert!(Answer::Unknown(UnknownReason::Timeout).may_have_created());
        let not_sent = Answer::NotSent(UnreachableReason::Other);
        assert!(!Answer::UserExists.may_have_created() && !not_sent.may_have_created());
    }

    #[test]
    fn an_answer_is_named_after_its_reason_where_it_has_one() {
        assert_eq!(Answer::UserExists.code(), "user_exists");
        assert_eq!(Answer::Account(AccountReason::NotFound(405)).code(), "not_found");
        assert_eq!(Answer::Unknown(UnknownReason::ServerError(503)).code(), "server_error");
        assert_eq!(Answer::NotSent(UnreachableReason::Dns).code(), "not_sent");
    }
}
