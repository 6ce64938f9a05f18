//! When to try again: later each time, and not at the same moment as everybody else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// A number between 0 and 1, anew each time.
#[derive(Clone)]
pub struct Jitter(Arc<Mutex<StdRng>>);

impl Jitter {
    pub fn random() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    pub fn next(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Between `from` and `to` of it.
    pub fn part(&self, of: Duration, from: f64, to: f64) -> Duration {
        of.mul_f64(from + (to - from) * self.next())
    }
}

/// Doubling waits between two bounds, each of them shortened by up to a half.
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    jitter: Jitter,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration, jitter: Jitter) -> Self {
        Self { first, most, next: first, jitter }
    }

    /// How long to wait this time.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        self.jitter.part(wait, 0.5, 1.0)
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8), Jitter::seeded(1));
        for bound in [1, 2, 4, 8, 8] {
            let wait = backoff.wait();
            let bound = Duration::from_secs(bound);
            assert!(bound / 2 <= wait && wait <= bound, "{wait:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }
}
