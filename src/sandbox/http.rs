//! The HTTP server around the model: [`serve`] for a command that does nothing else, [`Sandbox`]
//! for a program that has one inside.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::sandbox::config::SandboxConfig;
use crate::sandbox::control::Control;
use crate::sandbox::routes::router;
use crate::sandbox::severable::{Connection, SeverableListener};
use crate::sandbox::shared::Shared;
use crate::sandbox::stats::SandboxStats;

/// How long connections may go on after the shutdown began. Held-back answers are sent at once, so
/// only a client that doesn't finish its request takes this long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A sandbox that runs in the background of this program. Dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    /// The address it listens on.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: DropGuard,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Starts a sandbox on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port could be bound.
    pub async fn start(config: SandboxConfig) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let shared = Arc::new(Shared::new(config, shutdown.clone()));
        let server = tokio::spawn(run(listener, Arc::clone(&shared), shutdown.clone()));
        Ok(Self { addr, shared, stop: shutdown.drop_guard(), server })
    }

    /// The base URL to give to a client of the partner API, such as `http://127.0.0.1:49152/api`.
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.addr)
    }

    /// What was counted so far.
    pub fn stats(&self) -> SandboxStats {
        self.shared.stats()
    }

    /// Changes the sandbox while it runs.
    pub fn control(&self, control: &Control) {
        self.shared.control(control);
    }

    /// Stops accepting, finishes what is in flight, and waits until that is done, two seconds at
    /// most.
    ///
    /// # Errors
    /// If the server had failed.
    pub async fn stop(self) -> io::Result<()> {
        drop(self.stop);
        self.server.await?
    }
}

/// Serves the simulated partner on `listener` until `shutdown` is cancelled.
///
/// # Errors
/// If the server fails, which a bound listener gives no reason for.
pub async fn serve(listener: TcpListener, config: SandboxConfig, shutdown: CancellationToken) -> io::Result<()> {
    let shared = Arc::new(Shared::new(config, shutdown.clone()));
    run(listener, shared, shutdown).await
}

async fn run(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) -> io::Result<()> {
    let service = router(shared).into_make_service_with_connect_info::<Connection>();
    let server = axum::serve(SeverableListener(listener), service)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let out_of_patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = out_of_patience => Ok(()),
    }
}
