//! The HTTP client, and its replacement: after timeouts in a row a fresh client with an empty connection pool is used,
//! because a connection that has become silent would be used again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Proxy, redirect, retry};

use super::proxy;

/// Idle connections are closed after this time, before a load balancer closes them after its usual minute, perhaps
/// while a request is being sent.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// An HTTP/2 connection without traffic is pinged this often. All requests share it, so a silent one makes all of them
/// wait for their time limit, 30 s by default.
const PING_EVERY: Duration = Duration::from_secs(10);

/// An HTTP/2 connection is closed if a ping isn't answered within this time: several times the slowest round trip.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeouts in a row after which a fresh client is used. One may be a slow answer.
const TIMEOUTS_IN_A_ROW: u32 = 2;

/// What every client is built with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientSettings {
    /// The API is on this machine, by plain HTTP.
    pub(super) is_plain: bool,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// The client that is in use.
#[derive(Debug)]
pub(super) struct HttpClient {
    settings: ClientSettings,
    proxy: Option<Proxy>,
    current: Mutex<CurrentClient>,
}

#[derive(Debug)]
struct CurrentClient {
    client: Client,
    number: u64,
    timeouts_in_a_row: u32,
}

/// A client, and its number among those that were in use.
#[derive(Debug)]
pub(super) struct NumberedClient {
    pub(super) client: Client,
    number: u64,
}

impl HttpClient {
    /// Builds the first client.
    ///
    /// # Errors
    /// A message if there are no trusted certificates, or a proxy variable can't be used.
    pub(super) fn new(settings: ClientSettings) -> Result<Self, String> {
        // Plain HTTP is for this machine only: no proxy may see the requests.
        let proxy = if settings.is_plain { None } else { proxy::from_environment()? };
        let client = builder(settings, proxy.clone()).build().map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
            format!(
                "no HTTPS connection can be made: {error}{cause}; if this machine has no trusted certificates, install \
                 the package ca-certificates"
            )
        })?;
        Ok(Self { settings, proxy, current: Mutex::new(CurrentClient { client, number: 0, timeouts_in_a_row: 0 }) })
    }

    /// Returns the client for the next request.
    pub(super) fn get(&self) -> NumberedClient {
        let current = self.lock();
        NumberedClient { client: current.client.clone(), number: current.number }
    }

    /// A request with this client ended. Requests with an earlier client count no more: one silent connection makes
    /// many of them time out.
    pub(super) fn ended(&self, used: &NumberedClient, is_timeout: bool) {
        let mut current = self.lock();
        if used.number != current.number {
            return;
        }
        current.timeouts_in_a_row = if is_timeout { current.timeouts_in_a_row + 1 } else { 0 };
        if current.timeouts_in_a_row < TIMEOUTS_IN_A_ROW {
            return;
        }
        // Requests in flight keep their connections.
        match builder(self.settings, self.proxy.clone()).build() {
            Ok(client) => {
                *current = CurrentClient { client, number: current.number + 1, timeouts_in_a_row: 0 };
                tracing::debug!("{TIMEOUTS_IN_A_ROW} requests in a row timed out: new connections are used");
            }
            Err(error) => tracing::warn!(%error, "the connections to the API can't be replaced after timeouts"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CurrentClient> {
        // Every critical section leaves the state consistent, so a panic elsewhere doesn't spoil it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn builder(settings: ClientSettings, proxy: Option<Proxy>) -> ClientBuilder {
    let ClientSettings { is_plain, connect_timeout, timeout } = settings;
    // The client must not read the environment by itself.
    let builder = Client::builder().no_proxy();
    let builder = if is_plain { builder.tls_certs_only([]) } else { builder };
    let builder = if let Some(proxy) = proxy { builder.proxy(proxy) } else { builder };
    builder
        .user_agent(concat!("plu-onboard/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        // A connection that became silent while it was idle is found before a request is sent on it.
        .http2_keep_alive_while_idle(true)
        // A redirected POST would be sent twice, or to another host.
        .redirect(redirect::Policy::none())
        // The client would repeat refused requests by itself, past the rate limit.
        .retry(retry::never())
}

#[cfg(test)]
mod tests;
