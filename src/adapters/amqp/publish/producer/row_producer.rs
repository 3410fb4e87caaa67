//! The rows that are published and not confirmed yet, over all connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::confirm_watchdog::ConfirmWatchdog;
use super::row::{RowAttempt, RowConfirm, UnconfirmedRow, publish_row};
use super::{IN_FLIGHT_MAX, ImportOffset, OutgoingRow, ProduceConfig, ProduceEnd, ProduceResult, UNSAVED_MAX};
use crate::adapters::amqp::connection::connect::AmqpConnection;
use crate::clock::Clock;
use crate::ports::QueueError;

/// Most bytes in the messages of unconfirmed rows: bounds the memory.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Time between two checks for an alarm of the broker and for missing confirms.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// Longest wait for confirms after a stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Publishes rows on one connection after another.
pub(super) struct RowProducer {
    pub(super) config: Arc<ProduceConfig>,
    rows: mpsc::Receiver<OutgoingRow>,
    saved: watch::Receiver<ImportOffset>,
    /// By number, in the order of the file.
    unconfirmed: BTreeMap<u64, Arc<UnconfirmedRow>>,
    unconfirmed_bytes: usize,
    /// Position of the last row that was taken from `rows`.
    taken: ImportOffset,
    repeated: u64,
    is_input_over: bool,
    /// A row was returned since the last confirm.
    was_returned: bool,
}

impl RowProducer {
    pub(super) fn new(
        config: ProduceConfig,
        rows: mpsc::Receiver<OutgoingRow>,
        saved: watch::Receiver<ImportOffset>,
    ) -> Self {
        let taken = *saved.borrow();
        Self {
            config: Arc::new(config),
            rows,
            saved,
            unconfirmed: BTreeMap::new(),
            unconfirmed_bytes: 0,
            taken,
            repeated: 0,
            is_input_over: false,
            was_returned: false,
        }
    }

    pub(super) fn result(&self, is_complete: bool) -> ProduceResult {
        let (offset, unconfirmed) = (self.offset(), self.unconfirmed.len());
        ProduceResult { offset, unconfirmed, repeated: self.repeated, is_complete }
    }

    /// Returns the position before the first unconfirmed row.
    fn offset(&self) -> ImportOffset {
        match self.unconfirmed.first_key_value() {
            None => self.taken,
            Some((number, first)) => ImportOffset { rows: number - 1, record: first.row.record - 1 },
        }
    }

    fn has_room(&self) -> bool {
        let is_saved = self.taken.rows - self.saved.borrow().rows < UNSAVED_MAX;
        is_saved && self.unconfirmed.len() < IN_FLIGHT_MAX && self.unconfirmed_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Publishes on one connection until it has to be rebuilt, every row is confirmed, or `stop` is cancelled.
    pub(super) async fn produce_on(
        &mut self,
        connection: &AmqpConnection,
        confirmed: &watch::Sender<ImportOffset>,
        stop: &CancellationToken,
    ) -> Result<ProduceEnd, QueueError> {
        let watchdog = ConfirmWatchdog::new(self.config.confirm_timeout);
        let mut session = ProduceSession { producer: self, connection, confirmed, publishes: JoinSet::new(), watchdog };
        session.publish_unconfirmed_again();
        session.run(stop).await
    }

    /// Returns the row's number.
    fn add(&mut self, row: OutgoingRow) -> u64 {
        self.taken = ImportOffset { rows: self.taken.rows + 1, record: row.record };
        self.unconfirmed_bytes += row.body.len();
        let row = UnconfirmedRow { row, first_published_at: Clock::System.now() };
        self.unconfirmed.insert(self.taken.rows, Arc::new(row));
        self.taken.rows
    }

    fn remove(&mut self, number: u64) {
        if let Some(row) = self.unconfirmed.remove(&number) {
            self.unconfirmed_bytes -= row.row.body.len();
        }
    }

    fn unroutable(&self) -> QueueError {
        let ProduceConfig { names, lane, .. } = &*self.config;
        let (exchange, queue) = (names.jobs_exchange(), names.jobs_queue(*lane));
        QueueError(format!(
            "the broker has no queue for lane {lane}: bind {queue:?} to the exchange {exchange:?} with the routing key \
             {lane:?} and start the import again; no row is lost",
            lane = lane.name()
        ))
    }
}

/// Publishing on one connection.
struct ProduceSession<'p> {
    producer: &'p mut RowProducer,
    connection: &'p AmqpConnection,
    confirmed: &'p watch::Sender<ImportOffset>,
    publishes: JoinSet<(u64, RowConfirm)>,
    watchdog: ConfirmWatchdog,
}

impl ProduceSession<'_> {
    fn publish_unconfirmed_again(&mut self) {
        self.producer.repeated += self.producer.unconfirmed.len() as u64;
        let numbers: Vec<u64> = self.producer.unconfirmed.keys().copied().collect();
        for number in numbers {
            self.publish(number, RowAttempt::AfterReconnect);
        }
    }

    async fn run(&mut self, stop: &CancellationToken) -> Result<ProduceEnd, QueueError> {
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut grace_ends_at = None;
        loop {
            let is_input_over = self.producer.is_input_over;
            if self.producer.unconfirmed.is_empty() && (is_input_over || grace_ends_at.is_some()) {
                return Ok(if is_input_over { ProduceEnd::Done } else { ProduceEnd::Stopped });
            }
            let takes_rows = !is_input_over && grace_ends_at.is_none() && self.producer.has_room();
            tokio::select! {
                biased;
                () = stop.cancelled(), if grace_ends_at.is_none() => grace_ends_at = Some(Instant::now() + STOP_GRACE),
                Some(published) = self.publishes.join_next() => {
                    let (number, confirm) = published.map_err(task_failed)?;
                    if let Some(end) = self.answered(number, confirm)? {
                        return Ok(end);
                    }
                }
                row = self.producer.rows.recv(), if takes_rows => match row {
                    None => self.producer.is_input_over = true,
                    Some(row) => {
                        if self.producer.unconfirmed.is_empty() {
                            self.watchdog.published_first();
                        }
                        let number = self.producer.add(row);
                        self.publish(number, RowAttempt::First);
                    }
                },
                changed = self.producer.saved.changed() => {
                    changed.map_err(|_| QueueError("the progress of the import can't be saved".to_owned()))?;
                }
                _ = ticks.tick() => {
                    if grace_ends_at.is_some_and(|at| Instant::now() >= at) {
                        return Ok(ProduceEnd::Stopped);
                    }
                    let is_blocked = self.connection.connection.status().blocked();
                    if let Some(end) = self.watchdog.check(is_blocked, !self.producer.unconfirmed.is_empty()) {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Handles the broker's answer to a row. Returns the reason if the connection has to be rebuilt.
    fn answered(&mut self, number: u64, confirm: RowConfirm) -> Result<Option<ProduceEnd>, QueueError> {
        match confirm {
            RowConfirm::Acked => {
                self.watchdog.acked();
                self.producer.was_returned = false;
                self.producer.remove(number);
                self.confirmed.send_replace(self.producer.offset());
                Ok(None)
            }
            RowConfirm::Nacked => {
                self.watchdog.nacked();
                self.publish(number, RowAttempt::AfterRefusal);
                Ok(None)
            }
            // The next connection may declare a deleted queue again, so the first return isn't final.
            RowConfirm::Returned if std::mem::replace(&mut self.producer.was_returned, true) => {
                Err(self.producer.unroutable())
            }
            RowConfirm::Returned => Ok(Some(ProduceEnd::Broken("no queue takes the rows".to_owned()))),
            RowConfirm::Failed(reason) => Ok(Some(ProduceEnd::Broken(reason))),
        }
    }

    fn publish(&mut self, number: u64, attempt: RowAttempt) {
        if let Some(row) = self.producer.unconfirmed.get(&number) {
            let (config, channel) = (Arc::clone(&self.producer.config), self.connection.channel.clone());
            self.publishes.spawn(publish_row(config, channel, number, Arc::clone(row), attempt));
        }
    }
}

fn task_failed(error: JoinError) -> QueueError {
    QueueError(format!("publishing a row ended abnormally: {error}"))
}
