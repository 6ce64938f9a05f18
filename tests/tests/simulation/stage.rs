//! What all of one simulation share: time, provider, cluster, trace, and the first invariant that broke.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use muster_coordinator::context::Context;
use muster_ids::{ClusterName, Digest, EnvName};
use muster_proto::Realm;

use crate::{clock::SimClock, cloud::SimCloud, cluster::Cluster, operator::Orders, plants::Plant};

/// What a disk that was tampered with, and a site with a fault, bring about.
const CAUSED: [&str; 2] = ["the cached catalog is not believed", "the new catalog failed here and goes no further"];

/// The stage; shared by reference among hosts, which run one after the other in one thread.
pub struct Stage {
    pub seed: u64,
    pub plant: Plant,
    pub clock: SimClock,
    pub cloud: SimCloud,
    pub cluster: Mutex<Cluster>,
    /// The coordinator that runs, to be looked into.
    pub coordinator: Mutex<Option<Arc<Context>>>,
    /// What the operator is to do, in this order.
    pub orders: Mutex<Orders>,
    /// Nodes that the operator let in once more.
    /// Instances that were lost by accident.
    pub lost: Mutex<BTreeSet<String>>,
    /// How often the coordinator was restored from a backup.
    pub restored: Mutex<u32>,
    /// All that is on disks.
    pub folder: PathBuf,
    trace: Mutex<Vec<String>>,
    broken: Mutex<Option<String>>,
}

impl Stage {
    pub fn new(seed: u64, plant: Plant, folder: PathBuf) -> Arc<Self> {
        let clock = SimClock::default();
        Arc::new(Self {
            seed,
            plant,
            cloud: SimCloud::new(seed, clock.clone()),
            clock,
            cluster: Mutex::default(),
            coordinator: Mutex::default(),
            orders: Mutex::default(),
            lost: Mutex::default(),
            restored: Mutex::default(),
            folder,
            trace: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    pub fn realm() -> Realm {
        let cluster: ClusterName = "easypay".parse().unwrap();
        let environment: EnvName = "local".parse().unwrap();
        Realm { cluster, environment }
    }

    /// The coordinator's state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("coordinator")
    }

    /// The coordinator that runs now.
    pub fn coordinator(&self) -> Option<Arc<Context>> {
        self.coordinator.lock().unwrap().clone()
    }

    /// A line of what happened. Two runs of one seed write the same lines.
    pub fn tell(&self, line: impl AsRef<str>) {
        let elapsed = self.clock.elapsed();
        self.trace.lock().unwrap().push(format!("{:>9.3} {}", elapsed.as_secs_f64(), line.as_ref()));
    }

    /// An invariant broke: the first one counts.
    pub fn breaks(&self, invariant: &str, how: impl AsRef<str>) {
        let text = format!("{invariant}: {}", how.as_ref());
        self.tell(format!("BROKEN {text}"));
        self.broken.lock().unwrap().get_or_insert(text);
    }

    /// The product logged an error: a human must act, and the history gave cause for it.
    pub fn errs(&self, line: &str) {
        // Without what differs from run to run.
        let line = line.replace(&*self.folder.to_string_lossy(), "…");
        self.tell(format!("ERROR{line}"));
        if !CAUSED.iter().any(|caused| line.contains(caused)) {
            self.breaks("nothing asks for a human without cause", line);
        }
    }

    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap().clone()
    }

    pub fn trace(&self) -> Vec<String> {
        self.trace.lock().unwrap().clone()
    }

    /// Of the whole trace.
    pub fn digest(&self) -> Digest {
        Digest::of(self.trace.lock().unwrap().join("\n"))
    }
}
