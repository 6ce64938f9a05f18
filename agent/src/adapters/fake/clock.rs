//! A clock that stands until it is turned; sleeping turns it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::ports::Clock;

pub struct FakeClock(AtomicI64);

impl Default for FakeClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_700_000_000))
    }
}

impl FakeClock {
    pub fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Clock for FakeClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, duration: Duration) {
        self.forward(duration.as_secs() as i64);
        tokio::task::yield_now().await;
    }
}
