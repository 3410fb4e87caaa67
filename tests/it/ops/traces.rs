//! The trace of an upstream continues through the worker to the reader of the event.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::support::{Broker, Program, TestDir, job};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const UNROUTED: &str = "plu.sandbox.events.unrouted";

/// Onboards one job with a trace and returns the `traceparent` of its event.
fn traced(broker: &Broker, program: Program) -> String {
    let mut worker = program.start();
    worker.wait_for_output("connected to the broker");
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(format!("00-{TRACE}-{SPAN}-01").into()));
    let properties = BasicProperties::default().with_headers(headers);
    broker.publish_with("plu.sandbox", "signup", &[job(1)], &properties);
    worker.wait_until("the event is published", || broker.ready(UNROUTED) == 1);
    worker.signal("TERM");
    worker.expect_exit(0);
    let event = broker.drain(UNROUTED).remove(0);
    match event.properties.headers().as_ref().unwrap().inner().get("traceparent") {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

fn worker(dir: &TestDir, broker: &Broker) -> Program {
    dir.program(&format!("worker --sandbox --queue {}", broker.url())).set("amqp.prefix", "plu.sandbox")
}

#[test]
fn an_event_has_the_trace_of_its_job() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    assert_eq!(traced(&broker, worker(&dir, &broker)), format!("00-{TRACE}-{SPAN}-01"));
}

#[cfg(feature = "otlp")]
#[test]
fn a_collector_gets_the_spans_of_the_job_and_its_request() {
    use std::io::{BufRead, BufReader, Read, Write};

    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    let received = std::thread::spawn(move || {
        let mut spans = Vec::new();
        while spans.len() < 2 {
            let (stream, _) = collector.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            reader.get_mut().write_all(answer).unwrap();
            let traces: serde_json::Value = serde_json::from_slice(&body).unwrap();
            spans.extend(traces["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone());
        }
        spans
    });
    let (broker, dir) = (Broker::start(), TestDir::new());
    let program = worker(&dir, &broker).env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"));
    let parent = traced(&broker, program);
    let spans = received.join().unwrap();
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let (job, request) = (named("onboard"), named("create user"));
    assert_eq!((&job["traceId"], &job["parentSpanId"]), (&TRACE.into(), &SPAN.into()));
    assert_eq!((&request["traceId"], &request["parentSpanId"]), (&TRACE.into(), &job["spanId"]));
    assert_eq!(parent, format!("00-{TRACE}-{}-01", job["spanId"].as_str().unwrap()));
    assert!(job["startTimeUnixNano"].as_str().unwrap().len() == 19, "{job}");
    let status = serde_json::json!({"key": "http.response.status_code", "value": {"stringValue": "201"}});
    assert!(request["attributes"].as_array().unwrap().contains(&status), "{request}");
}
