//! The time, so that a test can turn it.

use std::time::Duration;

/// Wall clock and sleep.
#[async_trait::async_trait]
pub trait Clock: Send + Sync {
    /// Seconds since the epoch.
    fn now(&self) -> i64;
    async fn sleep(&self, duration: Duration);
}
