//! Checks the topology while a connection is open.

use std::time::Duration;

use lapin::Connection;
use tokio::time::{sleep, timeout};

use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::topology::establish::establish;
use crate::telemetry::TopologyMismatch;

/// Time between two checks.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Declares again what was deleted, or logs once that it is missing, for as long as it is polled.
///
/// The broker doesn't notify a connection when an exchange or a binding that only upstreams use is deleted.
pub(crate) async fn watch_topology(connection: &Connection, config: &AmqpConnectionConfig) -> ! {
    let mut logged = None;
    loop {
        sleep(CHECK_EVERY).await;
        let checking = establish(connection, &config.topology, config.declares);
        match timeout(config.connect_timeout, checking).await {
            Ok(Ok(channel)) => {
                if logged.take().is_some() {
                    TopologyMismatch { reason: None }.emit(&config.metrics);
                }
                let _ = channel.close(200, "done".into()).await;
            }
            Ok(Err(reason)) if connection.status().connected() && logged.as_ref() != Some(&reason) => {
                TopologyMismatch { reason: Some(&reason) }.emit(&config.metrics);
                logged = Some(reason);
            }
            // The owner of the connection logs when it breaks.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
