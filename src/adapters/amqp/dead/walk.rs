//! One walk over the dead letters: chooses an action for each, and has it carried out.

use std::collections::HashSet;

use lapin::message::Delivery;
use tokio::task::JoinSet;

use super::message::{DELIVERY_COUNT, dead_letter, integer};
use super::mover::DeadLetterMover;
use crate::adapters::amqp::publish::publisher::PublishConfig;
use crate::adapters::amqp::topology::Names;
use crate::clock::Clock;
use crate::domain::DeadLetter;
use crate::domain::dead_letter::{DeadLetterAction, WalkResult};
use crate::ports::QueueError;

/// Deliveries after which a dead letter is replaced by a copy.
const DELIVERIES_MAX: i64 = 5;

/// Most dead letters that are moved at once.
const MOVES_MAX: usize = 200;

pub(super) struct DeadLetterWalk<'w> {
    names: &'w Names,
    /// Number of dead letters at the start.
    ready: u32,
    publish_config: PublishConfig,
    choose: &'w mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
    pub(super) walked: WalkResult,
    /// Return the ids of dead letters that are done.
    moves: JoinSet<Result<String, QueueError>>,
    /// Ids of dead letters that are done, and whose acknowledgement the broker may not have read.
    pub(super) unconfirmed_acks: &'w mut HashSet<String>,
    /// Started with the first move.
    mover: Option<DeadLetterMover>,
    /// The walk was stopped: the other dead letters are kept.
    pub(super) is_over: bool,
}

impl<'w> DeadLetterWalk<'w> {
    pub(super) fn new(
        names: &'w Names,
        ready: u32,
        publish_config: PublishConfig,
        choose: &'w mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
        unconfirmed_acks: &'w mut HashSet<String>,
    ) -> Self {
        let (walked, moves) = (WalkResult::default(), JoinSet::new());
        Self { names, ready, publish_config, choose, walked, moves, unconfirmed_acks, mover: None, is_over: false }
    }

    /// Chooses the action for a dead letter, and starts to carry it out.
    pub(super) async fn visit(&mut self, delivery: Delivery) -> Result<(), QueueError> {
        let dead_letter = dead_letter(&delivery, self.names, Clock::System.now());
        // Only as many as there were at the start: a job that is retried and fails again comes back behind them.
        let is_included = !self.is_over && self.walked.seen < u64::from(self.ready);
        let action = if is_included { (self.choose)(&dead_letter) } else { DeadLetterAction::Keep };
        self.is_over |= action == DeadLetterAction::Stop;
        let is_done = matches!(action, DeadLetterAction::Retry | DeadLetterAction::Drop);
        self.walked.seen += u64::from(is_included);
        self.walked.done += u64::from(is_done);
        let deliveries = integer(delivery.properties.headers().as_ref(), DELIVERY_COUNT);
        if is_done || deliveries.is_some_and(|deliveries| deliveries >= DELIVERIES_MAX) {
            let start = || DeadLetterMover::start(self.publish_config.clone(), self.names);
            let mover = self.mover.get_or_insert_with(start).clone();
            self.moves.spawn(async move { mover.carry_out(dead_letter, delivery, action).await });
        }
        self.wait_for_moves(MOVES_MAX - 1).await
    }

    /// Waits until at most this many moves are in flight.
    pub(super) async fn wait_for_moves(&mut self, in_flight_max: usize) -> Result<(), QueueError> {
        let mut result = Ok(());
        while self.moves.len() > in_flight_max
            && let Some(joined) = self.moves.join_next().await
        {
            match joined {
                Ok(Ok(id)) => {
                    self.unconfirmed_acks.insert(id);
                }
                // The other moves that succeed meanwhile must be recorded.
                Ok(Err(error)) => result = result.and(Err(error)),
                Err(error) => {
                    result = result.and(Err(QueueError(format!("moving a dead letter ended abnormally: {error}"))));
                }
            }
        }
        result
    }
}
