//! Settings of the consumer.

use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::consume::worker_count::OnWorkerCount;
use crate::adapters::amqp::topology::Names;

/// How to consume the lanes.
#[derive(Debug, Clone)]
pub struct ConsumeConfig {
    /// The broker.
    pub connection: AmqpConnectionConfig,
    /// Names of its queues.
    pub names: Names,
    /// Name in the broker's lists of connections and consumers.
    pub name: String,
    /// Unacknowledged deliveries for each lane.
    pub prefetch: u16,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// Called with the number of workers that consume.
    pub on_count: OnWorkerCount,
}
