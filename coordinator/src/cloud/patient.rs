//! A caller of the cloud port who does not give up: asks again after every error that passes, and reads until a reading is
//! complete and old enough to hold what was done. Behind it the fake keeps to the contract whatever goes wrong, which holds
//! only where asking again does nothing twice.

use std::net::IpAddr;

use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};

use super::{Answer, Bootstrap, Cloud, CloudError, Proof, Served};

/// So often is asked: at faults of four in ten calls, it fails once in a billion billions.
const TRIES: usize = 40;

pub(super) struct Patient<C> {
    pub(super) cloud: C,
    /// Readings by which the provider's are behind.
    pub(super) lag: u64,
}

fn again<'a, T: Send>(mut ask: impl FnMut() -> Answer<'a, T> + Send + 'a) -> Answer<'a, T> {
    Box::pin(async move {
        let mut answer = ask().await;
        for _ in 1..TRIES {
            let Err(CloudError::Passing(_)) = answer else { break };
            answer = ask().await;
        }
        answer
    })
}

impl<C: Cloud> Cloud for Patient<C> {
    fn observe(&self) -> Answer<'_, Inventory> {
        Box::pin(async move {
            let mut reading = again(move || self.cloud.observe()).await?;
            let mut read = 0;
            while read < self.lag || !reading.complete {
                reading = again(move || self.cloud.observe()).await?;
                read += 1;
            }
            Ok(reading)
        })
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        again(move || self.cloud.ensure_network(plan))
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        again(move || self.cloud.ensure_disk(name, plan))
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        again(move || self.cloud.ensure_instance(name, plan, boot, proof))
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        again(move || self.cloud.start_instance(name, id))
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        again(move || self.cloud.remove_instance(name, id))
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        again(move || self.cloud.ensure_load_balancer(name, plan))
    }

    fn served<'a>(&'a self, plan: &'a LoadBalancerPlan) -> Answer<'a, Option<Served>> {
        again(move || self.cloud.served(plan))
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        again(move || self.cloud.remove_load_balancer(name, id))
    }

    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, address: IpAddr) -> Answer<'a, bool> {
        again(move || self.cloud.vouch(name, id, address))
    }
}
