//! Puts the rows of a file on a lane, with many on their way at once.
//!
//! Unlike the worker's [`crate::adapters::amqp::publish::publisher`], which serves whoever asks, this one knows the order of what it sends, so that
//! it can say up to which row everything is confirmed. What was unconfirmed when a connection broke is sent again; a
//! copy may be on the queue twice then, and says that its job may have been sent before.
//!
//! **Invariants**
//! - At most [`IN_FLIGHT_MAX`] rows are unconfirmed, and at most [`UNSAVED_MAX`] are ahead of what the caller has saved: so
//!   many may come twice when the process is killed, and no more.
//! - No row is counted as confirmed that the broker did not confirm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::link::{self, LinkConfig, Pauses};
use crate::adapters::amqp::connection::refusal::explain;
use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::publisher::{Message, try_publish};
use crate::adapters::amqp::topology::Names;
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{IdempotencyKey, Lane, Timestamp};
use crate::ports::QueueError;
use crate::telemetry::{BrokerConnection, ImportPaused};

/// Most rows that are sent and not confirmed.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// The same in bytes of their messages: bounds the memory.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most rows that are sent and not yet in a saved [`Mark`].
pub const UNSAVED_MAX: u64 = 2_000;

/// How often an alarm of the broker and a missing confirm are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a row waits that the broker refused: a queue that is full isn't emptied any faster by asking.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// The connection is made anew after so long with nothing but refusals.
const RENEW_AFTER: Duration = Duration::from_secs(30);

/// Longest wait for confirms once told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest wait for the broker to end the connection in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How rows are put on a lane.
#[derive(Debug, Clone)]
pub struct ProduceConfig {
    /// The broker.
    pub link: LinkConfig,
    /// Its queues.
    pub names: Names,
    /// Shown in the broker's list of connections.
    pub name: String,
    /// The lane.
    pub lane: Lane,
    /// Longest time without any confirm, while some are due, before the connection is given up.
    pub confirm_timeout: Duration,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// An earlier process may have put the first [`UNSAVED_MAX`] rows on already, at this time at the earliest.
    pub may_repeat_since: Option<Timestamp>,
}

/// A row that is to become a message.
pub struct OutgoingRow {
    /// Its number in the file.
    pub record: u64,
    /// Becomes the `message_id`.
    pub key: IdempotencyKey,
    /// The job message.
    pub body: String,
}

/// How far it has got: everything up to here is confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Rows that this process has put on.
    pub rows: u64,
    /// The last record.
    pub record: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub struct Produced {
    /// Everything up to here is confirmed.
    pub mark: Mark,
    /// Rows that were sent and not confirmed; only where it was told to stop.
    pub unconfirmed: usize,
    /// Rows that were sent again, because a connection broke before their confirm.
    pub repeated: u64,
    /// Whether every row that came was put on; else it was told to stop.
    pub is_whole: bool,
}

struct Row {
    row: OutgoingRow,
    first_seen: Timestamp,
}

debug_redacted!(OutgoingRow, Row);

/// Where a row's journey ended.
enum Sent {
    Confirmed,
    /// No queue takes it.
    Returned,
    Refused,
    Failed(String),
}

enum End {
    Done,
    Stopped,
    Broken(String),
    /// It works, and nothing is taken: what was deleted and made again may be seen only by a new one.
    Renew,
}

/// Sends what comes out of `rows` until that ends or `stop` is cancelled. `confirmed` is told how far it has got, and `saved`
/// tells how much of that is safe. Waits for a broker that is away.
///
/// # Errors
/// [`QueueError`] where a person must help: no queue is bound for the lane, or the caller can't save any more.
pub async fn produce(
    config: ProduceConfig,
    rows: mpsc::Receiver<OutgoingRow>,
    confirmed: &watch::Sender<Mark>,
    saved: watch::Receiver<Mark>,
    stop: &CancellationToken,
) -> Result<Produced, QueueError> {
    let mut jitter = fastrand::Rng::with_seed(config.seed);
    let metrics = config.link.metrics.clone();
    let mut connection_log = ConnectionLog::new(config.name.clone(), BrokerConnection::Publisher, metrics);
    let mut pauses = Pauses::default();
    let mut sending = Sending::new(config, rows, saved);
    loop {
        let link = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(sending.produced(false)),
            connected = link::connect(&sending.config.link, &mut connection_log, &mut jitter) => connected,
        };
        let began = Instant::now();
        let confirms = link.channel.confirm_select(ConfirmSelectOptions::default());
        let end = match timeout(sending.config.confirm_timeout, confirms).await {
            Ok(Ok(())) => {
                connection_log.works();
                sending.session(&link.connection, &link.channel, confirmed, stop).await?
            }
            Ok(Err(error)) => End::Broken(explain(&error)),
            Err(_) => End::Broken("it doesn't answer".to_owned()),
        };
        match end {
            End::Broken(_) | End::Renew => {
                if let End::Broken(reason) = end {
                    connection_log.broke(began.elapsed(), &reason);
                }
                drop(link);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(sending.produced(false)),
                    () = pauses.after(began.elapsed()) => {}
                }
            }
            End::Done | End::Stopped => {
                // Everything is confirmed, or waiting was in vain: a broker that is frozen must not hold up the end.
                let _ = timeout(CLOSE_TIMEOUT, link.connection.close(200, "done".into())).await;
                return Ok(sending.produced(matches!(end, End::Done)));
            }
        }
    }
}

struct Sending {
    config: Arc<ProduceConfig>,
    rows: mpsc::Receiver<OutgoingRow>,
    saved: watch::Receiver<Mark>,
    /// In the order of the file, by number.
    unconfirmed: BTreeMap<u64, Arc<Row>>,
    unconfirmed_bytes: usize,
    /// The last row that was taken.
    taken: Mark,
    repeated: u64,
    is_input_over: bool,
    /// A row came back since the last confirm.
    was_returned: bool,
}

impl Sending {
    fn new(config: ProduceConfig, rows: mpsc::Receiver<OutgoingRow>, saved: watch::Receiver<Mark>) -> Self {
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

    fn produced(&self, is_whole: bool) -> Produced {
        let (mark, unconfirmed) = (self.mark(), self.unconfirmed.len());
        Produced { mark, unconfirmed, repeated: self.repeated, is_whole }
    }

    /// Everything before the first row without a confirm.
    fn mark(&self) -> Mark {
        match self.unconfirmed.first_key_value() {
            None => self.taken,
            Some((number, first)) => Mark { rows: number - 1, record: first.row.record - 1 },
        }
    }

    fn has_room(&self) -> bool {
        let is_saved = self.taken.rows - self.saved.borrow().rows < UNSAVED_MAX;
        is_saved && self.unconfirmed.len() < IN_FLIGHT_MAX && self.unconfirmed_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Sends on one connection until it breaks.
    async fn session(
        &mut self,
        connection: &Connection,
        channel: &Channel,
        confirmed: &watch::Sender<Mark>,
        stop: &CancellationToken,
    ) -> Result<End, QueueError> {
        let mut sends = JoinSet::new();
        self.repeated += self.unconfirmed.len() as u64;
        for (number, row) in &self.unconfirmed {
            sends.spawn(self.send(channel, *number, row, Attempt::Again));
        }
        let mut watcher = Watcher::new(self.config.confirm_timeout);
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends_at = None;
        loop {
            if self.unconfirmed.is_empty() && (self.is_input_over || ends_at.is_some()) {
                return Ok(if self.is_input_over { End::Done } else { End::Stopped });
            }
            let takes = !self.is_input_over && ends_at.is_none();
            tokio::select! {
                biased;
                () = stop.cancelled(), if ends_at.is_none() => ends_at = Some(Instant::now() + STOP_GRACE),
                Some(sent) = sends.join_next() => {
                    let (number, sent) = sent.map_err(abnormal)?;
                    match sent {
                        Sent::Confirmed => {
                            watcher.saw_confirm();
                            self.was_returned = false;
                            self.confirm(number);
                            confirmed.send_replace(self.mark());
                        }
                        Sent::Refused => {
                            watcher.saw_refusal();
                            if let Some(row) = self.unconfirmed.get(&number) {
                                sends.spawn(self.send(channel, number, row, Attempt::AfterRefusal));
                            }
                        }
                        // A deleted queue comes back with the next connection, where it may be declared.
                        Sent::Returned if std::mem::replace(&mut self.was_returned, true) => {
                            return Err(self.unroutable());
                        }
                        Sent::Returned => return Ok(End::Broken("no queue takes the rows".to_owned())),
                        Sent::Failed(reason) => return Ok(End::Broken(reason)),
                    }
                }
                row = self.rows.recv(), if takes && self.has_room() => match row {
                    None => self.is_input_over = true,
                    Some(row) => {
                        if self.unconfirmed.is_empty() {
                            watcher.begins();
                        }
                        let (number, row) = self.take(row);
                        sends.spawn(self.send(channel, number, &row, Attempt::First));
                    }
                },
                changed = self.saved.changed() => {
                    changed.map_err(|_| QueueError("the progress can't be saved any more".to_owned()))?;
                }
                _ = ticks.tick() => {
                    if ends_at.is_some_and(|at| Instant::now() >= at) {
                        return Ok(End::Stopped);
                    }
                    if let Some(end) = watcher.look(connection.status().blocked(), !self.unconfirmed.is_empty()) {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn take(&mut self, row: OutgoingRow) -> (u64, Arc<Row>) {
        self.taken = Mark { rows: self.taken.rows + 1, record: row.record };
        self.unconfirmed_bytes += row.body.len();
        let row = Arc::new(Row { row, first_seen: Clock::System.now() });
        self.unconfirmed.insert(self.taken.rows, Arc::clone(&row));
        (self.taken.rows, row)
    }

    fn confirm(&mut self, number: u64) {
        if let Some(row) = self.unconfirmed.remove(&number) {
            self.unconfirmed_bytes -= row.row.body.len();
        }
    }

    fn send(
        &self,
        channel: &Channel,
        number: u64,
        row: &Arc<Row>,
        attempt: Attempt,
    ) -> impl Future<Output = (u64, Sent)> + Send + use<> {
        send(Arc::clone(&self.config), channel.clone(), number, Arc::clone(row), attempt)
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

fn abnormal(error: JoinError) -> QueueError {
    QueueError(format!("sending ended abnormally: {error}"))
}

/// Notices that nothing is confirmed any more, and why.
struct Watcher {
    confirm_timeout: Duration,
    last_confirm: Instant,
    is_blocked: bool,
    /// The last refusal, until it is over: a queue that is full takes one row and refuses the next.
    refused_at: Option<Instant>,
    /// Nothing was taken since.
    only_refused_since: Option<Instant>,
}

impl Watcher {
    fn new(confirm_timeout: Duration) -> Self {
        Self {
            confirm_timeout,
            last_confirm: Instant::now(),
            is_blocked: false,
            refused_at: None,
            only_refused_since: None,
        }
    }

    fn begins(&mut self) {
        self.last_confirm = Instant::now();
    }

    fn saw_confirm(&mut self) {
        self.last_confirm = Instant::now();
        self.only_refused_since = None;
    }

    fn saw_refusal(&mut self) {
        self.last_confirm = Instant::now();
        self.only_refused_since.get_or_insert(self.last_confirm);
        if self.refused_at.replace(self.last_confirm).is_none() {
            ImportPaused::Refused.emit();
        }
    }

    /// `Some`: the connection is no good any more.
    fn look(&mut self, is_blocked: bool, is_waiting: bool) -> Option<End> {
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            self.last_confirm = Instant::now();
            if is_blocked { ImportPaused::Blocked.emit() } else { ImportPaused::Over.emit() }
        }
        if self.refused_at.is_some_and(|at| at.elapsed() > REFUSED_PAUSE * 3) {
            self.refused_at = None;
            ImportPaused::Over.emit();
        }
        if self.only_refused_since.is_some_and(|since| since.elapsed() >= RENEW_AFTER) {
            return Some(End::Renew);
        }
        let is_late = is_waiting && !is_blocked && self.last_confirm.elapsed() >= self.confirm_timeout;
        is_late.then(|| End::Broken(format!("no confirm within {} s", self.confirm_timeout.as_secs())))
    }
}

/// Whether a row was sent before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    /// The broker refused it, so it isn't on the queue.
    AfterRefusal,
    /// On a connection that broke.
    Again,
}

async fn send(
    config: Arc<ProduceConfig>,
    channel: Channel,
    number: u64,
    row: Arc<Row>,
    attempt: Attempt,
) -> (u64, Sent) {
    if attempt == Attempt::AfterRefusal {
        sleep(REFUSED_PAUSE).await;
    }
    let earlier = config.may_repeat_since.filter(|_| number <= UNSAVED_MAX);
    let earlier = earlier.or((attempt == Attempt::Again).then_some(row.first_seen));
    let exchange = config.names.jobs_exchange();
    let message = Message {
        exchange: &exchange,
        routing_key: config.lane.name(),
        body: row.row.body.as_bytes(),
        properties: &|| properties(&row, earlier),
    };
    let sent = match try_publish(&channel, &message).await {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Sent::Confirmed,
        Ok(Confirmation::Ack(Some(_))) => Sent::Returned,
        Ok(Confirmation::Nack(_)) => Sent::Refused,
        Err(error) => Sent::Failed(explain(&error)),
    };
    (number, sent)
}

/// `earlier`: when a copy of the row may have been put on the queue. A worker may have sent that one already, so that a
/// user who is found then is this job's and not somebody who was there before.
fn properties(row: &Row, earlier: Option<Timestamp>) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let first_sent_at = earlier;
    let last_sent_at = earlier.map(|_| Clock::System.now());
    let history = History { first_sent_at, last_sent_at, ..History::new(earlier.unwrap_or(row.first_seen)) };
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(row.row.key.to_string().into())
        .with_app_id("plu-onboard".into())
        .with_timestamp(u64::try_from(history.enqueued_at.unix_ms() / 1_000).unwrap_or(0))
        .with_headers(headers::write(None, &history))
}
