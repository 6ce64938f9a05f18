//! The adapter of the cloud port.

use std::{collections::HashMap, net::IpAddr};

use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};

use super::{
    engine::Engine,
    error::DockerError,
    scope::{DISK, Role, SIZE, Scope},
    served::ask,
};
use crate::cloud::{Answer, Bootstrap, Cloud, CloudError, Proof, Served};

/// What the adapter is told about its environment.
#[derive(Clone)]
pub struct DockerConfig {
    pub scope: Scope,
    /// Image of load balancers.
    pub services_image: String,
    /// Capabilities of nodes, as [`super::bounding_capabilities`] reads them on the host.
    pub capabilities: Vec<String>,
    /// Seconds since the epoch.
    pub now: fn() -> i64,
}

/// Nodes, disks and load balancers of one environment on one daemon.
#[derive(Clone)]
pub struct DockerCloud {
    pub(super) engine: Engine,
    pub(super) config: DockerConfig,
}

impl DockerCloud {
    pub fn new(engine: Engine, config: DockerConfig) -> Self {
        Self { engine, config }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn make_disk(&self, name: &DiskName, plan: &DiskPlan) -> Result<String, DockerError> {
        let volume = self.config.scope.disk(name);
        let labels = HashMap::from([(DISK.to_owned(), name.to_string()), (SIZE.to_owned(), plan.size.to_string())]);
        self.engine.ensure_volume(&self.config.scope, &volume, Role::Disk, labels).await?;
        Ok(volume)
    }
}

fn answer<'a, T: Send + 'a>(call: impl Future<Output = Result<T, DockerError>> + Send + 'a) -> Answer<'a, T> {
    Box::pin(async { call.await.map_err(CloudError::from) })
}

impl Cloud for DockerCloud {
    fn observe(&self) -> Answer<'_, Inventory> {
        answer(self.read())
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        answer(async { self.engine.ensure_network(&self.config.scope, plan.subnet).await.map(drop) })
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        answer(self.make_disk(name, plan))
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        answer(self.make_node(name, plan, boot, proof))
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        answer(self.start_node(name, id))
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        answer(self.unmake_node(name, id))
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        answer(self.make_balancer(name, plan))
    }

    fn served<'a>(&'a self, plan: &'a LoadBalancerPlan) -> Answer<'a, Option<Served>> {
        Box::pin(async move { Ok(Some(ask(plan).await)) })
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        answer(async { self.remove_ours(id, super::scope::ENDPOINT, name.as_str()).await })
    }

    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, address: IpAddr) -> Answer<'a, bool> {
        answer(self.vouches(name, id, address))
    }
}
