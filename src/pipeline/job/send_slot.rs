//! Send slot: what a creation needs beside an open gate before it is sent.
//!
//! In this order: the front of the lane queue, one of the in-flight slots, and the rate permit. Only the request at the
//! front waits for a slot and the rate permit. So slots are used by requests in flight only, and a signup is next: a
//! bulk request at the front lets it go first.

use tokio::sync::SemaphorePermit;

use crate::domain::Lane;
use crate::pipeline::context::Context;
use crate::pipeline::gate::SendPermit;
use crate::pipeline::rate::rate_limiter::{BulkHold, FrontRequest};
use crate::ports::QueueError;

/// Result of waiting for a send slot.
pub(super) enum SendSlot<'c> {
    /// The request is to be sent now. It occupies the in-flight slot until it is answered.
    Granted(SemaphorePermit<'c>),
    /// The gate has closed meanwhile.
    GateClosed,
    /// Bulk jobs may not be sent now.
    BulkHeld(BulkHold),
}

/// Waits for a send slot. A granted slot counts as sent for the gate and the daily quota. Cancel-safe.
///
/// # Errors
/// The worker is shutting down.
pub(super) async fn wait_for_send_slot<'c, A>(
    context: &'c Context<A>,
    lane: Lane,
    permit: &SendPermit<'_>,
) -> Result<SendSlot<'c>, QueueError> {
    let mut front = context.rate_limiter.reach_front(lane).await;
    loop {
        if let Some(slot) = front.unless_preempted(wait_at_front(context, lane, permit, &front)).await {
            return slot;
        }
        front = front.yield_to_signup().await;
    }
}

/// Waits at the front of the lane queue. Cancel-safe: nothing is reserved before the last wait is over.
async fn wait_at_front<'c, A>(
    context: &'c Context<A>,
    lane: Lane,
    permit: &SendPermit<'_>,
    front: &FrontRequest<'_>,
) -> Result<SendSlot<'c>, QueueError> {
    // Checked before the rate permit too, which would be lost for the requests behind.
    if !permit.is_valid() {
        return Ok(SendSlot::GateClosed);
    }
    let slot = context.in_flight.acquire().await.map_err(|_| QueueError("the worker is shutting down".to_owned()))?;
    if lane == Lane::Bulk
        && let Some(hold) = context.rate_limiter.bulk_hold(context.clock.now())
    {
        return Ok(SendSlot::BulkHeld(hold));
    }
    front.acquire().await;
    if !permit.is_valid() {
        return Ok(SendSlot::GateClosed);
    }
    Ok(match context.rate_limiter.begin_creation(lane, context.clock.now()) {
        Ok(()) => {
            permit.sent();
            SendSlot::Granted(slot)
        }
        Err(hold) => SendSlot::BulkHeld(hold),
    })
}
