//! What operators and faults do to a broker.

use std::collections::BTreeMap;
use std::process::Command;

use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

use super::{Broker, script};

impl Broker {
    /// Runs `rabbitmqctl`, which must succeed. Returns its output.
    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let output = script("rabbitmqctl", self.folder.path(), self.epmd_port, &self.node)
            .args(["--quiet", "--node", &self.node])
            .args(arguments)
            .output()
            .unwrap();
        let said = |pipe: &[u8]| String::from_utf8_lossy(pipe).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }

    /// Returns the names of the consumer and publisher connections of every worker, which hold their ports.
    pub(crate) fn worker_connections(&self) -> Vec<String> {
        let said = self.rabbitmqctl(&["list_connections", "--no-table-headers", "name", "client_properties"]);
        let ours = |line: &&str| line.contains("plu-onboard.worker") && !line.contains(".monitor");
        let mut names: Vec<_> = said.lines().filter(ours).filter_map(|line| line.split('\t').next()).collect();
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops the node with SIGSTOP: it keeps its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Continues the node with SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.server.id());
        let status = Command::new("kill").args([&format!("-{name}"), "--", &group]).status().unwrap();
        assert!(status.success(), "SIG{name}");
    }

    /// Returns whether a queue exists.
    pub(crate) fn has_queue(&self, queue: &str) -> bool {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.with_channel(async |channel| {
            Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await.is_ok())
        })
    }

    /// Returns whether an exchange exists.
    pub(crate) fn has_exchange(&self, exchange: &str) -> bool {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Direct;
        self.with_channel(async |channel| {
            Ok(channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await.is_ok())
        })
    }

    /// Declares a durable queue.
    pub(crate) fn declare_queue(&self, queue: &str, arguments: &[(&str, AMQPValue)]) {
        self.with_channel(async |channel| {
            let mut table = FieldTable::default();
            for (name, value) in arguments {
                table.insert((*name).into(), value.clone());
            }
            channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), table).await
        });
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let options = QueueBindOptions::default();
        self.with_channel(async |channel| {
            channel.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, FieldTable::default()).await
        });
    }

    pub(crate) fn delete(&self, queue: &str) {
        self.with_channel(async |channel| channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await);
    }

    pub(crate) fn delete_exchange(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        self.with_channel(async |channel| channel.exchange_delete(exchange.into(), options).await);
    }

    /// Publishes one message, unchanged.
    pub(crate) fn publish_to(&self, exchange: &str, routing_key: &str, body: &[u8], properties: &BasicProperties) {
        self.with_channel(async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions::default();
            let properties = properties.clone();
            channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties).await?.await
        });
    }

    /// Returns the integer headers of the first message on a queue. The message stays there.
    pub(crate) fn peek(&self, queue: &str) -> BTreeMap<String, i64> {
        self.with_channel(async |channel| {
            let message =
                channel.basic_get(queue.into(), BasicGetOptions::default()).await?.expect("the queue is empty");
            let headers = message.properties.headers().clone().unwrap_or_default();
            message.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
            let number = |value: &AMQPValue| match value {
                AMQPValue::LongLongInt(number) => Some(*number),
                _ => None,
            };
            let numbers = headers.inner().iter().filter_map(|(name, value)| Some((name.to_string(), number(value)?)));
            Ok(numbers.collect())
        })
    }

    /// Takes and requeues the first message on a queue, at most `times_max` times. Returns how often it was delivered.
    pub(crate) fn requeue_first(&self, queue: &str, times_max: u32) -> u32 {
        self.with_channel(async |channel| {
            for times in 0..times_max {
                let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? else {
                    return Ok(times);
                };
                message.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
            }
            Ok(times_max)
        })
    }
}
