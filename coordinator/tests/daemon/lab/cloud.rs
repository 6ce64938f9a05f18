//! The fake provider.

use std::net::IpAddr;

use muster_coordinator::cloud::{Answer, Bootstrap, Cloud, Proof, fake::FakeCloud};
use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};
use muster_proto::{Clock as _, SystemClock};

/// The fake with the real time on its readings: certificates of the same test are judged by it.
#[derive(Clone)]
pub struct TestCloud {
    pub fake: FakeCloud,
}

impl Cloud for TestCloud {
    fn observe(&self) -> Answer<'_, Inventory> {
        Box::pin(async {
            let mut inventory = self.fake.observe().await?;
            inventory.taken = SystemClock.now();
            Ok(inventory)
        })
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        self.fake.ensure_network(plan)
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        self.fake.ensure_disk(name, plan)
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        self.fake.ensure_instance(name, plan, boot, proof)
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.fake.start_instance(name, id)
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.fake.remove_instance(name, id)
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        self.fake.ensure_load_balancer(name, plan)
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        self.fake.remove_load_balancer(name, id)
    }

    /// All agents of a test are on loopback: the address says nothing, the instance does.
    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, _: IpAddr) -> Answer<'a, bool> {
        Box::pin(async move {
            let inventory = self.fake.observe().await?;
            Ok(inventory.instances.get(name).is_some_and(|instance| instance.id == id && instance.running))
        })
    }
}
