//! Wall-clock time: the simulation's, and jumps ahead that stand for hours in which nothing happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// When every simulation begins. Seconds since the epoch.
pub const BEGINNING: i64 = 1_900_000_000;

/// Cheap to clone; clones are one clock.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    jumped: Arc<AtomicI64>,
    /// Milliseconds of simulated time at the last step's end: for threads and code outside of any host.
    outside: Arc<AtomicI64>,
}

impl SimClock {
    /// Simulated time since the beginning, without jumps.
    pub fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed()
            .unwrap_or_else(|| Duration::from_millis(self.outside.load(Ordering::SeqCst).unsigned_abs()))
    }

    pub fn stepped(&self, elapsed: Duration) {
        self.outside.store(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    pub fn jump(&self, seconds: i64) {
        self.jumped.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn seconds(&self) -> i64 {
        BEGINNING + i64::try_from(self.elapsed().as_secs()).unwrap_or(0) + self.jumped.load(Ordering::SeqCst)
    }
}

impl muster_proto::Clock for SimClock {
    fn now(&self) -> i64 {
        self.seconds()
    }
}

#[async_trait::async_trait]
impl muster_agent::ports::Clock for SimClock {
    fn now(&self) -> i64 {
        self.seconds()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
