//! The HTTP server of the sandbox: [`serve`] for the command `sandbox`, [`Sandbox`] for a sandbox inside another
//! program.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::sandbox::config::SandboxConfig;
use crate::sandbox::control::SandboxControl;
use crate::sandbox::routes::router;
use crate::sandbox::severable::{ClientConnection, SeverableListener};
use crate::sandbox::shared::SandboxShared;
use crate::sandbox::stats::SandboxStats;

/// How long connections may stay open after the shutdown began. Delayed answers are sent at once, so only a client that
/// doesn't finish its request takes this long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A sandbox that runs in the background of this program. Dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    /// The address it listens on.
    pub addr: SocketAddr,
    shared: Arc<SandboxShared>,
    stop: DropGuard,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Starts a sandbox on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(config: SandboxConfig) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let shared = Arc::new(SandboxShared::new(config, shutdown.clone()));
        let server = tokio::spawn(run(listener, Arc::clone(&shared), shutdown.clone()));
        Ok(Self { addr, shared, stop: shutdown.drop_guard(), server })
    }

    /// The base URL to give to a client of the partner API, such as `http://127.0.0.1:49152/api`.
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.addr)
    }

    /// The counters.
    pub fn stats(&self) -> SandboxStats {
        self.shared.stats()
    }

    /// Applies changes to the running sandbox.
    ///
    /// # Panics
    /// If a change names a user who doesn't exist.
    pub fn control(&self, control: &SandboxControl) {
        let unknown = self.shared.control(control);
        assert!(unknown.is_empty(), "{} users of this change don't exist", unknown.len());
    }

    /// Stops accepting connections and waits at most two seconds for the requests in flight.
    ///
    /// # Errors
    /// If the server failed.
    pub async fn stop(self) -> io::Result<()> {
        drop(self.stop);
        self.server.await?
    }
}

/// Serves the simulated partner on `listener` until `shutdown` is cancelled.
///
/// # Errors
/// If the server fails; with a bound listener it doesn't.
pub async fn serve(listener: TcpListener, config: SandboxConfig, shutdown: CancellationToken) -> io::Result<()> {
    let shared = Arc::new(SandboxShared::new(config, shutdown.clone()));
    run(listener, shared, shutdown).await
}

async fn run(listener: TcpListener, shared: Arc<SandboxShared>, shutdown: CancellationToken) -> io::Result<()> {
    let service = router(shared).into_make_service_with_connect_info::<ClientConnection>();
    let server = axum::serve(SeverableListener(listener), service)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let grace_over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = grace_over => Ok(()),
    }
}
