//! A clock that stands until it is turned; sleeping turns it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::ports::Clock;

/// In milliseconds: many short sleeps are a long one.
pub struct FakeClock(AtomicI64);

impl Default for FakeClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_700_000_000_000))
    }
}

impl FakeClock {
    pub fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Clock for FakeClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst) / 1000
    }

    async fn sleep(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as i64, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}
