//! Delay before the next connection.

use std::time::Duration;

use tokio::time::sleep;

/// Shortest and longest delay between two attempts to connect.
pub(crate) const RECONNECT_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A connection that lived for less time broke for a reason that the next one may meet too.
pub(crate) const SHORT_LIFETIME: Duration = Duration::from_secs(5);

/// Delays between connections: none after a long-lived one, growing ones after short-lived ones.
///
/// Connections are short-lived while a message makes the broker close the channel, or a permission is missing.
#[derive(Debug)]
pub(crate) struct ReconnectBackoff(Duration);

impl Default for ReconnectBackoff {
    fn default() -> Self {
        Self(RECONNECT_DELAY.0)
    }
}

impl ReconnectBackoff {
    /// Waits after a connection of this lifetime.
    pub(crate) async fn wait_after(&mut self, lifetime: Duration) {
        if lifetime >= SHORT_LIFETIME {
            *self = Self::default();
            return;
        }
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(RECONNECT_DELAY.1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_delay_doubles_after_each_short_lived_connection_and_resets_after_a_long_one() {
        let mut backoff = ReconnectBackoff::default();
        let mut waited = Vec::new();
        for lifetime_ms in [60_000, 10, 10, 10, 10, 10, 10, 10, 60_000, 10] {
            let start = Instant::now();
            backoff.wait_after(Duration::from_millis(lifetime_ms)).await;
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited, [0, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 0, 200]);
    }
}
