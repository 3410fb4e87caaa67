//! Publishes the rows of a file to a lane, in order and with many unconfirmed rows at once.
//!
//! Unlike [`crate::adapters::amqp::publish::publisher`], which serves many callers, the producer knows the order of
//! what it publishes. So it can report up to which row everything is confirmed. Rows without a confirm when a
//! connection breaks are published again. A row may then be on the queue twice, and its copy says that the job may have
//! been sent before.
//!
//! `row_producer` holds the unconfirmed rows over all connections, `row` publishes one row, `confirm_watchdog`
//! notices that confirms stop.
//!
//! **Invariants**
//! - At most [`IN_FLIGHT_MAX`] rows are unconfirmed, and at most [`UNSAVED_MAX`] rows are ahead of the offset that the
//!   caller has saved. So at most that many rows come twice if the process is killed.
//! - No row counts as confirmed that the broker did not confirm.

mod confirm_watchdog;
mod row;
mod row_producer;

use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::row_producer::RowProducer;
use crate::adapters::amqp::connection::backoff::ReconnectBackoff;
use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::connection::connect::connect;
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::topology::Names;
use crate::domain::private::debug_redacted;
use crate::domain::{IdempotencyKey, Lane, Timestamp};
use crate::ports::QueueError;
use crate::telemetry::BrokerConnection;

/// Most unconfirmed rows.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// Most published rows ahead of the saved [`ImportOffset`].
pub const UNSAVED_MAX: u64 = 2_000;

/// Longest wait for the broker to close the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings of the producer.
#[derive(Debug, Clone)]
pub struct ProduceConfig {
    /// The broker.
    pub connection: AmqpConnectionConfig,
    /// Names of its queues.
    pub names: Names,
    /// Name in the broker's list of connections.
    pub name: String,
    pub lane: Lane,
    /// Longest time without a confirm, while rows are unconfirmed, before the connection is rebuilt.
    pub confirm_timeout: Duration,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// An earlier process may have published the first [`UNSAVED_MAX`] rows already, at this time at the earliest.
    pub may_repeat_since: Option<Timestamp>,
}

/// A row to publish.
pub struct OutgoingRow {
    /// Number of the record in the file.
    pub record: u64,
    /// Becomes the `message_id`.
    pub key: IdempotencyKey,
    /// The job message.
    pub body: String,
}

debug_redacted!(OutgoingRow);

/// Position in the file: every row up to here is confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportOffset {
    /// Rows that this process has published.
    pub rows: u64,
    /// Number of the last record in the file.
    pub record: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct ProduceResult {
    /// Every row up to here is confirmed.
    pub offset: ImportOffset,
    /// Rows that were published and not confirmed. Zero unless stopped.
    pub unconfirmed: usize,
    /// Rows that were published again, because a connection broke before their confirm.
    pub repeated: u64,
    /// Every row was published. Otherwise the producer was stopped.
    pub is_complete: bool,
}

/// Why producing on a connection ended.
enum ProduceEnd {
    /// Every row is confirmed.
    Done,
    Stopped,
    /// Holds the reason.
    Broken(String),
    /// The connection works and nothing is accepted: a queue that was declared again may be seen only on a new one.
    Reconnect,
}

/// Publishes what comes out of `rows` until that ends or `stop` is cancelled. Sends each new offset to `confirmed`;
/// `saved` holds the offset that the caller has saved. Waits while the broker is down.
///
/// # Errors
/// [`QueueError`] if an operator has to act: no queue is bound for the lane, or the caller can't save its offset.
pub async fn produce(
    config: ProduceConfig,
    rows: mpsc::Receiver<OutgoingRow>,
    confirmed: &watch::Sender<ImportOffset>,
    saved: watch::Receiver<ImportOffset>,
    stop: &CancellationToken,
) -> Result<ProduceResult, QueueError> {
    let mut jitter = fastrand::Rng::with_seed(config.seed);
    let metrics = config.connection.metrics.clone();
    let mut connection_log = ConnectionLog::new(config.name.clone(), BrokerConnection::Publisher, metrics);
    let mut backoff = ReconnectBackoff::default();
    let mut producer = RowProducer::new(config, rows, saved);
    loop {
        let connection = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(producer.result(false)),
            connection = connect(&producer.config.connection, &mut connection_log, &mut jitter) => connection,
        };
        let connected_at = Instant::now();
        let confirming = connection.channel.confirm_select(ConfirmSelectOptions::default());
        let end = match timeout(producer.config.confirm_timeout, confirming).await {
            Ok(Ok(())) => {
                connection_log.connected();
                producer.produce_on(&connection, confirmed, stop).await?
            }
            Ok(Err(error)) => ProduceEnd::Broken(explain(&error)),
            Err(_) => ProduceEnd::Broken("the broker doesn't answer".to_owned()),
        };
        match end {
            ProduceEnd::Broken(_) | ProduceEnd::Reconnect => {
                if let ProduceEnd::Broken(reason) = end {
                    connection_log.lost(connected_at.elapsed(), &reason);
                }
                drop(connection);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(producer.result(false)),
                    () = backoff.wait_after(connected_at.elapsed()) => {}
                }
            }
            ProduceEnd::Done | ProduceEnd::Stopped => {
                // Bounded, because a frozen broker must not delay the end.
                let _ = timeout(CLOSE_TIMEOUT, connection.connection.close(200, "done".into())).await;
                return Ok(producer.result(matches!(end, ProduceEnd::Done)));
            }
        }
    }
}
