//! Read probe: while the circuit breaker is open, reads a page of the user list whenever one is due. An answer lets the
//! gate try one creation. A page that is lost costs nothing; a creation that is lost costs its link.

use crate::domain::{AccountReason, Lane};
use crate::pipeline::Context;
use crate::pipeline::gate::{ProbeDelays, Request};
use crate::pipeline::user_lookup::DOCUMENTED_LIMIT;
use crate::ports::{ListError, PartnerApi, UserList};
use crate::telemetry::ApiThrottled;

/// Reads the pages. Never returns; drop the future to stop.
pub(crate) async fn probe_by_reading<A: PartnerApi + UserList>(context: &Context<A>) {
    loop {
        let mut permit = context.gate.wait_for_permit(Request::ReadProbe, ProbeDelays::default()).await;
        // As a signup: all jobs wait for it.
        context.rate_limiter.acquire(Lane::Signup).await;
        if !permit.is_valid() {
            continue;
        }
        permit.sent();
        let changed = match context.api.page(0, DOCUMENTED_LIMIT).await {
            Ok(_) => permit.page_read(),
            Err(ListError::Throttled(advice)) => {
                let delay = context.gate.throttle(advice, |n| context.delay_before_attempt(n));
                if advice.is_none() {
                    context.rate_limiter.throttled();
                }
                ApiThrottled { delay, advised: advice.is_some() }.emit(&context.metrics);
                permit.throttled()
            }
            Err(ListError::Account(reason @ AccountReason::Unreachable(_))) => permit.refused(reason),
            Err(ListError::Account(AccountReason::NotTheApi) | ListError::Refused | ListError::Failed(_)) => {
                permit.unanswered()
            }
            // The API answers, though it may refuse the list to this key. The creation shows what it refuses.
            Err(ListError::Account(_)) => permit.page_read(),
        };
        if let Some(changed) = changed {
            changed.emit(&context.metrics);
        }
    }
}
