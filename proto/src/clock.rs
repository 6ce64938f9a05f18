//! Wall-clock time as a parameter: certificates are judged by it, so simulations and tests hand in their own.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::sync::watch;

/// Wall clock and timers drift apart (a machine that was suspended, a clock that was set): nobody sleeps longer without
/// looking at the wall clock again.
const NAP: Duration = Duration::from_secs(60);

/// Tells seconds since the epoch.
pub trait Clock: Debug + Send + Sync + 'static {
    fn now(&self) -> i64;

    /// Returns when it is `at`, or later.
    fn sleep_until(&self, at: i64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let left = at - self.now();
                if left <= 0 {
                    return;
                }
                tokio::time::sleep(NAP.min(Duration::from_secs(left.unsigned_abs()))).await;
            }
        })
    }
}

/// This machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        // A clock before 1970 reads as 1970: every certificate is then not yet valid, and none is accepted.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<i64>>);

impl ManualClock {
    pub fn at(now: i64) -> Self {
        Self(Arc::new(watch::Sender::new(now)))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.send_modify(|now| *now += seconds);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: i64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // The sender lives in `self`.
            let _ = time.wait_for(|now| *now >= at).await;
        })
    }
}

/// The same clock as rustls asks for it.
#[derive(Debug)]
pub(crate) struct RustlsClock(pub(crate) Arc<dyn Clock>);

impl TimeProvider for RustlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

pub(crate) fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
