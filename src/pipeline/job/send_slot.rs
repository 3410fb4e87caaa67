//! Send slot: what a creation needs beside an open gate before it is sent.
//!
//! In this order: the front of the lane queue, room in flight, and the rate permit. Only the request at the front waits
//! for room and the rate permit. So a signup is next: a bulk request at the front lets it go first.

use crate::domain::Lane;
use crate::pipeline::context::Context;
use crate::pipeline::gate::SendPermit;
use crate::pipeline::rate::rate_limiter::{BulkHold, FrontRequest};

/// Result of waiting for a send slot.
pub(super) enum SendSlot {
    /// The request is to be sent now. It is in flight until its result is reported.
    Granted,
    /// The gate has closed meanwhile.
    GateClosed,
    /// Bulk jobs may not be sent now.
    BulkHeld(BulkHold),
}

/// Waits for a send slot. A granted slot counts as sent for the gate and the daily quota. Cancel-safe.
pub(super) async fn wait_for_send_slot<A>(context: &Context<A>, lane: Lane, permit: &mut SendPermit<'_>) -> SendSlot {
    let mut front = context.rate_limiter.reach_front(lane).await;
    loop {
        if let Some(slot) = front.unless_preempted(wait_at_front(context, lane, permit, &front)).await {
            return slot;
        }
        front = front.yield_to_signup().await;
    }
}

/// Waits at the front of the lane queue. Cancel-safe: nothing is reserved before the last wait is over.
async fn wait_at_front<A>(
    context: &Context<A>,
    lane: Lane,
    permit: &mut SendPermit<'_>,
    front: &FrontRequest<'_>,
) -> SendSlot {
    permit.wait_for_room().await;
    // Checked before the rate permit too, which would be lost for the requests behind.
    if !permit.is_valid() {
        return SendSlot::GateClosed;
    }
    if lane == Lane::Bulk
        && let Some(hold) = context.rate_limiter.bulk_hold(context.clock.now())
    {
        return SendSlot::BulkHeld(hold);
    }
    front.acquire().await;
    if !permit.is_valid_with_room() {
        return SendSlot::GateClosed;
    }
    match context.rate_limiter.begin_creation(lane, context.clock.now()) {
        Ok(()) => {
            permit.sent();
            SendSlot::Granted
        }
        Err(hold) => SendSlot::BulkHeld(hold),
    }
}
