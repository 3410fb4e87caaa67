//! Keeps a publisher connected, one connection after another.

use std::sync::Arc;

use lapin::options::ConfirmSelectOptions;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::state::{ConfirmChannel, PublisherInner};
use crate::adapters::amqp::connection::backoff::ReconnectBackoff;
use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::connection::connect::{AmqpConnection, connect};
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::events::{ConnectionEvent, ConnectionEvents};
use crate::telemetry::{BrokerConnection, BrokerConnectionChanged};

/// Opens connections until `closing` is cancelled. Its task is aborted with the last clone of the publisher.
pub(super) async fn keep_connected(
    config: AmqpConnectionConfig,
    seed: u64,
    inner: Arc<PublisherInner>,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(seed);
    let mut backoff = ReconnectBackoff::default();
    let mut ended = inner.ended.subscribe();
    let mut connection_log =
        ConnectionLog::new(inner.name.clone(), BrokerConnection::Publisher, config.metrics.clone());
    for generation in 1.. {
        let connection = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            connection = connect(&config, &mut connection_log, &mut jitter) => connection,
        };
        let connected_at = Instant::now();
        let confirming = connection.channel.confirm_select(ConfirmSelectOptions::default());
        let reason = if matches!(timeout(config.connect_timeout, confirming).await, Ok(Ok(()))) {
            let channel = Arc::new(ConfirmChannel { channel: connection.channel.clone(), generation });
            inner.state.send_modify(|state| state.channel = Some(channel));
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    let _ = connection.connection.close(200, "done".into()).await;
                    inner.state.send_modify(|state| state.channel = None);
                    return;
                }
                reason = watch_connection(&connection, generation, &mut ended, &inner, &mut connection_log) => reason,
            }
        } else {
            Some("the broker doesn't enable publisher confirms".to_owned())
        };
        if let Some(reason) = reason {
            connection_log.lost(connected_at.elapsed(), &reason);
        }
        inner.state.send_modify(|state| {
            state.channel = None;
            // Callers that wait for the end of the alarm continue, and find their channel closed.
            state.is_blocked = false;
            state.is_silent = false;
        });
        drop(connection);
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = backoff.wait_after(connected_at.elapsed()) => {}
        }
    }
}

/// Reports what happens on a connection until it has to be rebuilt. Returns the fault, if it is one.
async fn watch_connection(
    connection: &AmqpConnection,
    generation: u64,
    ended: &mut watch::Receiver<(u64, Option<String>)>,
    inner: &PublisherInner,
    connection_log: &mut ConnectionLog,
) -> Option<String> {
    let mut events = ConnectionEvents::of(&connection.connection);
    let mut state = inner.state.subscribe();
    let mut is_logged = false;
    loop {
        tokio::select! {
            biased;
            ended = ended.wait_for(|(ended, _)| *ended >= generation) => {
                return ended.ok().and_then(|ended| ended.1.clone());
            }
            _ = state.wait_for(|state| !state.is_unproven), if !is_logged => {
                connection_log.connected();
                is_logged = true;
            }
            () = inner.no_refusal_for_a_while() => inner.report_accepting(),
            () = inner.silent() => inner.report_silent(),
            event = events.next() => {
                let name = &inner.name;
                let change = match &event {
                    ConnectionEvent::Blocked(reason) => BrokerConnectionChanged::Blocked { name, reason },
                    ConnectionEvent::Unblocked => BrokerConnectionChanged::Unblocked { name },
                    ConnectionEvent::Closed(reason) => return Some(reason.clone()),
                };
                if inner.set_blocked(matches!(event, ConnectionEvent::Blocked(_))) {
                    change.emit(BrokerConnection::Publisher, &inner.metrics);
                }
            }
        }
    }
}
