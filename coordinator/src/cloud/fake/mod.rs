//! A cloud in memory that behaves as badly as real ones: what was made shows late, answers get lost, calls are
//! throttled, zones are full, some fields cannot change. By seed, so that a failure can be run again.
//!
//! It counts what was ever made, so that a test can tell "once" from "twice and one removed".

mod cloud;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_ids::{DiskName, NodeName};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::CloudError;
pub use world::{FakeInstance, World};

/// How badly it behaves. The default: not at all.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// What was made or removed is seen only after so many readings more.
    pub lag: u64,
    /// Of 100 calls, how many are done and answered by an error.
    pub lost: u32,
    /// Of 100 calls, how many are refused for now.
    pub throttled: u32,
    /// Of 100 readings, how many are incomplete.
    pub partial: u32,
    /// Of 100 creations, how many find their zone full.
    pub full: u32,
    /// Zones that instances are spread over; none: one.
    pub zones: Vec<String>,
}

/// The crash of the process that calls: from call number `at` on nothing is done any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Counted from 0 over all calls that change something, a store's included ([`FakeCloud::tick`]).
    pub at: u64,
    /// Whether that call itself still takes effect, unheard.
    pub done: bool,
}

/// Cheap to clone; clones are one cloud.
#[derive(Debug, Clone)]
pub struct FakeCloud(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    world: World,
    faults: Faults,
    random: StdRng,
    now: i64,
    crash: Option<Crash>,
    calls: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// It takes effect, and the caller hears an error.
    Unheard,
    /// It has no effect.
    Refused,
}

impl FakeCloud {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            world: World::default(),
            faults,
            random: StdRng::seed_from_u64(seed),
            now: 1_000,
            crash: None,
            calls: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since the epoch, as its readings say.
    pub fn now(&self) -> i64 {
        self.lock().now
    }

    pub fn advance(&self, seconds: i64) {
        self.lock().now += seconds;
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The caller will crash; none: it is alive again, and calls are counted from 0.
    pub fn set_crash(&self, crash: Option<Crash>) {
        let mut inner = self.lock();
        inner.crash = crash;
        inner.calls = 0;
    }

    /// Whether the caller has crashed.
    pub fn crashed(&self) -> bool {
        let inner = self.lock();
        inner.crash.is_some_and(|crash| inner.calls > crash.at)
    }

    /// Counts a call that changes something, and says what becomes of it. Stores in tests call it too, so that a crash
    /// can fall between any two writes.
    pub fn tick(&self) -> Fate {
        let mut inner = self.lock();
        let call = inner.calls;
        inner.calls += 1;
        match inner.crash {
            Some(crash) if call == crash.at && crash.done => Fate::Unheard,
            Some(crash) if call >= crash.at => Fate::Refused,
            Some(_) | None => Fate::Done,
        }
    }

    /// What really exists and ever existed.
    pub fn world(&self) -> World {
        self.lock().world.clone()
    }

    /// A machine is stopped behind everybody's back.
    pub fn stop(&self, node: &NodeName) {
        self.lock().world.each(node, |instance| instance.running = false);
    }

    /// A machine is lost behind everybody's back.
    pub fn lose(&self, node: &NodeName) {
        let mut inner = self.lock();
        let now = inner.world.readings;
        inner.world.each(node, |instance| instance.gone = instance.gone.or(Some(now)));
    }

    pub fn lose_disk(&self, disk: &DiskName) {
        self.lock().world.disks.remove(disk);
    }

    /// The fate of a call to the provider: the crash first, then its own moods.
    fn fate(&self) -> (Fate, CloudError) {
        let crash = self.tick();
        let mut inner = self.lock();
        let draw = inner.random.random_range(0..100);
        let Faults { lost, throttled, .. } = inner.faults;
        if crash != Fate::Done {
            (crash, CloudError::Passing("the caller is gone".to_owned()))
        } else if draw < lost {
            (Fate::Unheard, CloudError::Passing("the answer was lost".to_owned()))
        } else if draw < lost + throttled {
            (Fate::Refused, CloudError::Passing("request limit exceeded".to_owned()))
        } else {
            (Fate::Done, CloudError::Passing(String::new()))
        }
    }
}
