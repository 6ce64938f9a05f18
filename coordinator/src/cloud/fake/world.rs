//! What the fake cloud holds.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{blueprint::LoadBalancerPlan, inventory};

/// Everything, the gone included.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// In the order in which they were made; never shortened.
    pub instances: Vec<FakeInstance>,
    pub disks: BTreeMap<DiskName, inventory::Disk>,
    pub network: Option<String>,
    pub(super) balancers: BTreeMap<EndpointName, FakeBalancer>,
    /// How often it was read.
    pub readings: u64,
    pub(super) made: u64,
}

/// One instance.
#[derive(Debug, Clone)]
pub struct FakeInstance {
    pub id: String,
    pub node: NodeName,
    pub token: String,
    pub incarnation: u32,
    pub address: IpAddr,
    pub pods: IpNet,
    pub image: String,
    pub disks: Vec<DiskName>,
    pub zone: String,
    pub running: bool,
    /// The reading at which it was made.
    pub since: u64,
    /// The reading at which it was removed or lost.
    pub gone: Option<u64>,
    /// What it enrols with.
    pub proof: String,
}

#[derive(Debug, Clone)]
pub(super) struct FakeBalancer {
    pub(super) id: String,
    pub(super) plan: LoadBalancerPlan,
    pub(super) running: bool,
    pub(super) since: u64,
}

impl World {
    pub(super) fn next_id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{}", self.made)
    }

    pub(super) fn each(&mut self, node: &NodeName, change: impl Fn(&mut FakeInstance)) {
        self.instances.iter_mut().filter(|instance| instance.node == *node && instance.gone.is_none()).for_each(change);
    }

    /// Instances that exist.
    pub fn living(&self) -> impl Iterator<Item = &FakeInstance> {
        self.instances.iter().filter(|instance| instance.gone.is_none())
    }

    /// What a reading with `lag` shows.
    pub(super) fn seen(&self, lag: u64) -> BTreeMap<NodeName, inventory::Instance> {
        let shown = |instance: &&FakeInstance| {
            let known = self.readings > instance.since + lag;
            let gone = instance.gone.is_some_and(|gone| self.readings > gone + lag);
            known && !gone
        };
        self.instances
            .iter()
            .filter(shown)
            .map(|instance| {
                let seen = inventory::Instance {
                    id: instance.id.clone(),
                    token: instance.token.clone(),
                    incarnation: instance.incarnation,
                    running: instance.running && instance.gone.is_none(),
                    started: true,
                    address: Some(instance.address),
                    pods: Some(instance.pods),
                    image: instance.image.clone(),
                    disks: instance.disks.clone(),
                };
                (instance.node.clone(), seen)
            })
            .collect()
    }
}
