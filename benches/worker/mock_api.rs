//! A mock of the partner API that costs little: each request creates a user, after a fixed latency. Prints its port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// Answer to request `n`.
pub(crate) fn answer(n: u64) -> String {
    format!(
        r#"{{"status":"success","message":"User created successfully","data":{{"serviceId":"acme-user-{n:015}","verificationUrl":"https://withpersona.com/verify?inquiry-id=inq_{n:024}"}}}}"#
    )
}

pub(crate) async fn serve(latency_ms: u64) {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let create = move |_body: Bytes| {
        let n = requests.fetch_add(1, Ordering::Relaxed);
        async move {
            if latency_ms > 0 {
                sleep(Duration::from_millis(latency_ms)).await;
            }
            (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], answer(n))
        }
    };
    let router = Router::new()
        .route("/api/v2/partner/card/users", post(create))
        .route("/requests", get(move || async move { counted.load(Ordering::Relaxed).to_string() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    axum::serve(listener, router).await.expect("serving");
}
