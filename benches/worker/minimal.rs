//! The minimal loop that the worker is compared with: consume, POST, publish with a confirm, acknowledge, many jobs at
//! once. It uses the same libraries without validation, keys, retries and metrics. Also each half of it alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};
use tokio::sync::{Semaphore, mpsc};

use crate::jobs::message;
use crate::mock_api::answer;

/// Consumer and publisher, each on a connection of its own.
struct LoopEnds {
    channel: Channel,
    deliveries: Consumer,
    results: Channel,
    _connections: [Connection; 2],
}

async fn connect(amqp: &str, window: u16) -> LoopEnds {
    let consuming = Connection::connect(amqp, ConnectionProperties::default()).await.expect("a broker");
    let publishing = Connection::connect(amqp, ConnectionProperties::default()).await.expect("a broker");
    let channel = consuming.create_channel().await.expect("a channel");
    let results = publishing.create_channel().await.expect("a channel");
    results.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    channel.basic_qos(window, BasicQosOptions::default()).await.expect("a prefetch");
    let deliveries = channel
        .basic_consume(
            "plu.onboarding.jobs.bulk".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    LoopEnds { channel, deliveries, results, _connections: [consuming, publishing] }
}

pub(crate) async fn consume(amqp: &str, api: &str, window: u16) {
    let LoopEnds { channel: _channel, mut deliveries, results, _connections } = connect(amqp, window).await;
    let client = reqwest::Client::new();
    let url: Arc<str> = format!("{api}/v2/partner/card/users").into();
    while let Some(Ok(delivery)) = deliveries.next().await {
        let (client, results, url) = (client.clone(), results.clone(), Arc::clone(&url));
        tokio::spawn(async move {
            let request = client.post(&*url).header("content-type", "application/json").body(delivery.data);
            let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
            results
                .basic_publish(
                    "plu.onboarding.events".into(),
                    "user.created".into(),
                    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                    &answer,
                    BasicProperties::default().with_delivery_mode(2),
                )
                .await
                .expect("a channel")
                .await
                .expect("a confirm");
            delivery.acker.ack(BasicAckOptions::default()).await.expect("an acknowledgement");
        });
    }
}

/// Most deliveries that one frame acknowledges.
const ACK_BATCH_MAX: usize = 64;

/// lapin alone: publishes an event for each delivery at once, awaits the confirms in their order, and acknowledges many
/// deliveries with one frame.
pub(crate) async fn relay(amqp: &str, window: u16) {
    let LoopEnds { channel, mut deliveries, results, _connections } = connect(amqp, window).await;
    let (published, mut confirmed) = mpsc::channel(window.into());
    tokio::spawn(async move {
        let mut settled = 0;
        while let Some((tag, confirm)) = confirmed.recv().await {
            let confirm: PublisherConfirm = confirm;
            confirm.await.expect("a confirm");
            settled += 1;
            if settled == ACK_BATCH_MAX || confirmed.is_empty() {
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.expect("an acknowledgement");
                settled = 0;
            }
        }
    });
    let answer = answer(0);
    while let Some(Ok(delivery)) = deliveries.next().await {
        let confirm = results
            .basic_publish(
                "plu.onboarding.events".into(),
                "user.created".into(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                answer.as_bytes(),
                BasicProperties::default().with_delivery_mode(2),
            )
            .await
            .expect("a channel");
        published.send((delivery.delivery_tag, confirm)).await.expect("a receiver");
    }
}

/// Posts `requests` jobs, `in_flight` at once.
pub(crate) async fn post(api: &str, in_flight: usize, requests: usize) {
    let client = reqwest::Client::new();
    let url: Arc<str> = format!("{api}/v2/partner/card/users").into();
    let slots = Arc::new(Semaphore::new(in_flight));
    let done = Arc::new(AtomicUsize::new(0));
    for n in 0..requests {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("a slot");
        let (client, url, done) = (client.clone(), Arc::clone(&url), Arc::clone(&done));
        tokio::spawn(async move {
            let request = client.post(&*url).header("content-type", "application/json").body(message(n));
            let _ = request.send().await.expect("an answer").bytes().await.expect("a body");
            done.fetch_add(1, Ordering::Relaxed);
            drop(slot);
        });
    }
    let _ = slots.acquire_many(u32::try_from(in_flight).expect("few")).await;
    assert_eq!(done.load(Ordering::Relaxed), requests);
}
