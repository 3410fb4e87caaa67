//! Benchmark of the worker: throughput, CPU time, latency and memory. Compares it with a minimal loop of lapin and
//! reqwest and with a bare HTTP client, in interleaved rounds, on a RabbitMQ and a mock API of its own. Prints tables,
//! asserts nothing.
//!
//! `cargo bench --bench worker` runs all parts; `cargo bench --bench worker -- broker memory` runs some of `broker`,
//! `latency`, `embedded`, `idle`, `memory`, `scale`. `ROUNDS=9` sets the number of rounds (default 5).
//!
//! The program starts itself for everything that must be a process of its own: the mock API, the minimal loop, the bare
//! client, and lapin and reqwest alone.

#![expect(clippy::print_stdout, reason = "the benchmark prints tables")]
#![expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]

#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/it/support/broker.rs"]
mod broker;
mod jobs;
mod minimal;
mod mock_api;
mod parts;
mod process;
mod table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = || tokio::runtime::Runtime::new().expect("threads");
    match words[..] {
        ["mock-api", latency_ms] => runtime().block_on(mock_api::serve(number(latency_ms))),
        ["minimal", amqp, api, window] => runtime().block_on(minimal::consume(amqp, api, number(window))),
        ["bare", api, in_flight, requests] => {
            runtime().block_on(minimal::post(api, number(in_flight), number(requests)));
        }
        ["lapin", amqp, window] => one_thread().block_on(minimal::relay(amqp, number(window))),
        ["reqwest", api, in_flight, requests] => {
            one_thread().block_on(minimal::post(api, number(in_flight), number(requests)));
            println!("{}", process::cpu_s(std::process::id()));
        }
        _ => parts::run(&words),
    }
}

/// A runtime with one thread: cheaper than threads that wake each other.
fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread")
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a number")
}
