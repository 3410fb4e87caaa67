//! A RabbitMQ for one test: with a node name, ports and data of its own, so that the test can kill and restart it.

#[path = "broker/control.rs"]
mod control;

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use plu_onboard::adapters::amqp::topology::{Names, Topology};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Longest time for a start or a restart. Seven seconds are usual.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Broker {
    folder: TempDir,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    node: String,
    epmd: Child,
    server: Child,
    runtime: Runtime,
}

/// A message as a reader sees it.
pub(crate) struct Received {
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: serde_json::Value,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts with additional lines in `rabbitmq.conf`.
    pub(crate) fn start_with(more_settings: &str) -> Self {
        // Another process may take a port between the choice of it and the node's start.
        let tried = || Self::try_start(more_settings);
        tried().or_else(|_| tried()).unwrap_or_else(|log| panic!("the broker failed to start, twice:\n{log}"))
    }

    fn try_start(more_settings: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        // All three ports are open at once, so they differ.
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, dist_port, epmd_port] = listeners.each_ref().map(|free| free.local_addr().unwrap().port());
        drop(listeners);
        fs::write(folder.path().join("enabled_plugins"), "[].").unwrap();
        fs::write(folder.path().join("rabbitmq.conf"), format!("listeners.tcp.1 = 127.0.0.1:{port}\n{more_settings}"))
            .unwrap();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd is missing: tests/run installs rabbitmq-server");
        let node = format!("plu-test-{port}@localhost");
        let server = spawn(folder.path(), port, dist_port, epmd_port, &node);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut broker = Self { folder, port, dist_port, epmd_port, node, epmd, server, runtime };
        broker.wait_until_up()?;
        Ok(broker)
    }

    /// Returns the URL for `--queue`.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Kills the node with SIGKILL.
    pub(crate) fn kill(&mut self) {
        kill_group(&self.server);
        let _ = self.server.wait();
    }

    /// Starts the killed node again, with its data.
    pub(crate) fn restart(&mut self) {
        let Self { folder, port, dist_port, epmd_port, node, .. } = self;
        self.server = spawn(folder.path(), *port, *dist_port, *epmd_port, node);
        assert!(self.wait_until_up().is_ok(), "the broker did not start again:\n{}", self.log());
    }

    /// Waits until the node accepts connections. Returns its log if it ends instead.
    fn wait_until_up(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        while self.runtime.block_on(self.try_channel()).is_none() {
            assert!(Instant::now() < deadline, "the broker did not start:\n{}", self.log());
            if self.server.try_wait().unwrap().is_some() {
                return Err(self.log());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("out.log")).unwrap_or_default()
    }

    async fn try_channel(&self) -> Option<(Connection, Channel)> {
        let properties = ConnectionProperties::default().with_connection_name("test".into());
        let url = self.url();
        let connecting = Connection::connect(&url, properties);
        let connection = tokio::time::timeout(Duration::from_secs(5), connecting).await.ok()?.ok()?;
        let channel = connection.create_channel().await.ok()?;
        Some((connection, channel))
    }

    fn with_channel<T>(&self, work: impl AsyncFnOnce(Channel) -> lapin::Result<T>) -> T {
        self.runtime.block_on(async {
            let (connection, channel) = self.try_channel().await.expect("the broker is not up");
            let result = work(channel).await.unwrap();
            drop(connection);
            result
        })
    }

    /// Declares what a worker with this prefix declares.
    pub(crate) fn declare(&self, prefix: &str) {
        self.with_channel(async |channel| Topology::new(&Names::new(prefix)).declare(&channel).await);
    }

    /// Publishes jobs to a lane and waits for the broker's confirms.
    pub(crate) fn publish(&self, prefix: &str, lane: &str, bodies: &[String]) {
        self.publish_with(prefix, lane, bodies, &BasicProperties::default());
    }

    /// Publishes jobs with headers and other properties.
    pub(crate) fn publish_with(&self, prefix: &str, lane: &str, bodies: &[String], properties: &BasicProperties) {
        self.with_channel(async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let properties = properties.clone().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let mut confirms = Vec::new();
            for body in bodies {
                let exchange = format!("{prefix}.jobs");
                let publish = channel.basic_publish(
                    exchange.as_str().into(),
                    lane.into(),
                    options,
                    body.as_bytes(),
                    properties.clone(),
                );
                confirms.push(publish.await?);
            }
            for confirm in confirms {
                assert!(confirm.await?.take_message().is_none(), "a job was returned");
            }
            Ok(())
        });
    }

    /// Returns the number of ready messages on a queue.
    pub(crate) fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.with_channel(async |channel| {
            Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
        })
    }

    /// Returns the headers of every ready message on a queue. The messages stay there.
    pub(crate) fn headers(&self, queue: &str) -> Vec<FieldTable> {
        self.with_channel(async |channel| {
            let mut headers = Vec::new();
            while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
                headers.push(message.properties.headers().clone().unwrap_or_default());
            }
            Ok(headers)
        })
    }

    /// Takes and requeues messages until the broker has dead-lettered each of them.
    pub(crate) fn requeue_until_dead_lettered(&self, queue: &str) {
        self.with_channel(async |channel| {
            while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
                let again = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                message.acker.nack(again).await?;
            }
            Ok(())
        });
    }

    /// Takes every ready message from a queue.
    pub(crate) fn drain(&self, queue: &str) -> Vec<Received> {
        self.with_channel(async |channel| {
            let mut received = Vec::new();
            while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
                message.acker.ack(BasicAckOptions::default()).await?;
                received.push(Received {
                    routing_key: message.routing_key.to_string(),
                    properties: message.properties.clone(),
                    body: serde_json::from_slice(&message.data).unwrap_or_default(),
                });
            }
            Ok(received)
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

fn spawn(folder: &Path, port: u16, dist_port: u16, epmd_port: u16, node: &str) -> Child {
    let file = |name: &str| folder.join(name);
    let log = fs::OpenOptions::new().create(true).append(true).open(file("out.log")).unwrap();
    script("rabbitmq-server", folder, epmd_port, node)
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", dist_port.to_string())
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
        .env("RABBITMQ_MNESIA_DIR", file("mnesia/node"))
        .env("RABBITMQ_LOG_BASE", file("log"))
        .env("RABBITMQ_SCHEMA_DIR", file("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", file("config"))
        .env("RABBITMQ_PID_FILE", file("pid"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// One of RabbitMQ's own scripts, with the environment of the test's node.
fn script(name: &str, folder: &Path, epmd_port: u16, node: &str) -> Command {
    let mut command = Command::new(installed(name));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", node)
        .env("ERL_EPMD_PORT", epmd_port.to_string());
    command
}

/// Returns the path of a script. Debian's wrapper in /usr/sbin changes the user, who can't write to the test's folder.
fn installed(name: &str) -> PathBuf {
    let installed = fs::read_dir("/usr/lib/rabbitmq/lib").expect("rabbitmq-server is missing: tests/run installs it");
    let server = installed.filter_map(Result::ok).map(|entry| entry.path().join("sbin").join(name));
    server.into_iter().find(|script| script.exists()).expect("rabbitmq-server is missing: tests/run installs it")
}

fn kill_group(child: &Child) {
    let _ = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
}
