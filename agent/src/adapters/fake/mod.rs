//! A machine in memory: fakes of all ports that hold to the same contract as the real ones, and can be told to fail.

mod archives;
mod clock;
mod cluster;
mod commands;
mod coordinator;
mod docker;
mod files;
mod mounts;
mod packages;
mod units;

use std::{collections::BTreeMap, sync::Arc};

pub use archives::FakeArchives;
pub use clock::FakeClock;
pub use cluster::FakeCluster;
pub use commands::FakeCommands;
pub use coordinator::FakeCoordinator;
pub use docker::FakeDocker;
pub use files::FakeFiles;
pub use mounts::FakeMounts;
pub use packages::FakePackages;
pub use units::FakeUnits;

use muster_ids::Generation;

use crate::{
    Context, Scope, StepError,
    ports::{Health, Kube},
};

/// All fakes of one node, to look at and to tamper with.
#[derive(Clone, Default)]
pub struct FakeMachine {
    pub files: Arc<FakeFiles>,
    pub mounts: Arc<FakeMounts>,
    pub archives: Arc<FakeArchives>,
    pub packages: Arc<FakePackages>,
    pub units: Arc<FakeUnits>,
    pub docker: Arc<FakeDocker>,
    pub commands: Arc<FakeCommands>,
    pub clock: Arc<FakeClock>,
    pub coordinator: Arc<FakeCoordinator>,
}

impl FakeMachine {
    /// A Debian node with nothing but root on it.
    pub fn new() -> Self {
        let machine = Self::default();
        machine.files.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        machine.files.put("/etc/group", "root:x:0:\n");
        machine
    }

    /// For a converge of this node, with no paths of its own.
    pub fn node(&self, name: &str) -> Context {
        self.context(Scope {
            cluster: "c".parse().expect("a name"),
            environment: "e".parse().expect("a name"),
            node: name.parse().expect("a node's name"),
            generation: Generation::default(),
            owned: Default::default(),
            keys: Default::default(),
            groups: Default::default(),
            objects: Vec::new(),
        })
    }

    pub fn context(&self, scope: Scope) -> Context {
        Context {
            files: Arc::clone(&self.files) as _,
            mounts: Arc::clone(&self.mounts) as _,
            archives: Arc::clone(&self.archives) as _,
            packages: Arc::clone(&self.packages) as _,
            units: Arc::clone(&self.units) as _,
            docker: Arc::clone(&self.docker) as _,
            commands: Arc::clone(&self.commands) as _,
            clock: Arc::clone(&self.clock) as _,
            kube: Arc::new(NoKube),
            turns: Arc::clone(&self.coordinator) as _,
            secrets: Arc::clone(&self.coordinator) as _,
            tickets: Arc::clone(&self.coordinator) as _,
            scope: Arc::new(scope),
        }
    }
}

/// A node without a cluster.
pub struct NoKube;

#[async_trait::async_trait]
impl Kube for NoKube {
    async fn client(&self) -> Result<kube::Client, StepError> {
        Err(StepError::waits("this node to become a member of a cluster"))
    }
}

/// A node that is no member of a cluster: never unfit.
pub struct NoMember;

#[async_trait::async_trait]
impl Health for NoMember {
    async fn node_ready(&self) -> Option<bool> {
        None
    }

    async fn ready_since(&self, _since: i64) -> Option<bool> {
        None
    }

    async fn pods(&self) -> Option<BTreeMap<String, bool>> {
        None
    }

    async fn workloads(&self) -> Vec<muster_plan::Workload> {
        Vec::new()
    }
}
