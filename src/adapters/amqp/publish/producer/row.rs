//! One row, published once.

use std::sync::Arc;
use std::time::Duration;

use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::sleep;

use super::{OutgoingRow, ProduceConfig, UNSAVED_MAX};
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::message::OutgoingMessage;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::decide::History;
use crate::domain::private::debug_redacted;

/// Delay before a refused row is published again. Asking more often doesn't empty a full queue.
pub(super) const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// A row without a confirm.
pub(super) struct UnconfirmedRow {
    pub(super) row: OutgoingRow,
    pub(super) first_published_at: Timestamp,
}

debug_redacted!(UnconfirmedRow);

/// Why a row is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RowAttempt {
    First,
    /// The broker refused the row, so it isn't on the queue.
    AfterRefusal,
    /// The connection broke, so the row may be on the queue.
    AfterReconnect,
}

/// The broker's answer to a row.
pub(super) enum RowConfirm {
    Acked,
    /// No queue takes the row.
    Returned,
    Nacked,
    /// The connection broke. Holds the reason.
    Failed(String),
}

/// `number`: counts the rows that this process publishes.
pub(super) async fn publish_row(
    config: Arc<ProduceConfig>,
    channel: Channel,
    number: u64,
    row: Arc<UnconfirmedRow>,
    attempt: RowAttempt,
) -> (u64, RowConfirm) {
    if attempt == RowAttempt::AfterRefusal {
        sleep(REFUSED_DELAY).await;
    }
    let earlier = config.may_repeat_since.filter(|_| number <= UNSAVED_MAX);
    let earlier = earlier.or((attempt == RowAttempt::AfterReconnect).then_some(row.first_published_at));
    let exchange = config.names.jobs_exchange();
    let message = OutgoingMessage {
        exchange: &exchange,
        routing_key: config.lane.name(),
        body: row.row.body.as_bytes(),
        properties: &|| properties(&row, earlier),
    };
    let confirm = match message.publish_once(&channel).await {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => RowConfirm::Acked,
        Ok(Confirmation::Ack(Some(_))) => RowConfirm::Returned,
        Ok(Confirmation::Nack(_)) => RowConfirm::Nacked,
        Err(error) => RowConfirm::Failed(explain(&error)),
    };
    (number, confirm)
}

/// `earlier`: when a copy of the row may have been published. A worker may have sent that copy, so a user that a later
/// look-up finds may have been created by this job.
fn properties(row: &UnconfirmedRow, earlier: Option<Timestamp>) -> BasicProperties {
    let first_sent_at = earlier;
    let last_sent_at = earlier.map(|_| Clock::System.now());
    let history = History { first_sent_at, last_sent_at, ..History::new(earlier.unwrap_or(row.first_published_at)) };
    headers::of_job(row.row.key, &history)
}
