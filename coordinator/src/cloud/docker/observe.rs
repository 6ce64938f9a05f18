//! One reading: containers, volumes and the network of the environment.

use std::str::FromStr;

use bollard::query_parameters::ListVolumesOptions;
use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    inventory::{Disk, Instance, LoadBalancer},
};
use tracing::warn;

use super::{
    balancer::LOADED,
    cloud::DockerCloud,
    container::{Found, State},
    error::DockerError,
    scope::{ADDRESS, DISK, DISKS, ENDPOINT, INCARNATION, NODE, PODS, ROLE, Role, SIZE, TOKEN},
};
use crate::cloud::haproxy;

fn label<T: FromStr>(found: &Found, name: &str) -> Option<T> {
    found.labels.get(name)?.parse().ok()
}

impl DockerCloud {
    pub(super) async fn read(&self) -> Result<Inventory, DockerError> {
        let mut inventory = Inventory { taken: (self.config.now)(), complete: true, ..Default::default() };
        let scope = &self.config.scope;
        let containers = self.engine.containers(scope).await?;
        for found in containers {
            // A container that is on its way out is neither there nor gone.
            if found.state == State::Removing {
                inventory.complete = false;
                continue;
            }
            if found.role == Role::Node.to_string() {
                match (label::<NodeName>(&found, NODE), instance(&found)) {
                    (Some(node), Some(instance)) => drop(inventory.instances.insert(node, instance)),
                    (_, None) | (None, _) => {
                        warn!(container = found.name, "labels of a node that cannot be read");
                        inventory.complete = false;
                    }
                }
            } else if found.role == Role::LoadBalancer.to_string() {
                let Some(endpoint) = label::<EndpointName>(&found, ENDPOINT) else {
                    inventory.complete = false;
                    continue;
                };
                let configuration = match self.engine.read_file(&found.id, LOADED).await {
                    Ok(text) => haproxy::plan_of(&String::from_utf8_lossy(&text.unwrap_or_default())),
                    Err(error) => {
                        warn!(%error, "a load balancer's configuration was not read");
                        inventory.complete = false;
                        continue;
                    }
                };
                let balancer = LoadBalancer {
                    running: found.state == State::Running,
                    address: label(&found, ADDRESS),
                    configuration,
                    id: found.id,
                };
                inventory.load_balancers.insert(endpoint, balancer);
            }
        }
        let options = ListVolumesOptions { filters: Some(scope.filter()) };
        let volumes = self.engine.docker.list_volumes(Some(options)).await;
        let volumes = volumes.map_err(|error| DockerError::of("list volumes", error))?.volumes.unwrap_or_default();
        for volume in volumes.into_iter().filter(|volume| volume.labels.get(ROLE) == Some(&Role::Disk.to_string())) {
            let name = volume.labels.get(DISK).and_then(|name| name.parse::<DiskName>().ok());
            let size = volume.labels.get(SIZE).and_then(|size| size.parse().ok());
            match (name, size) {
                (Some(name), Some(size)) => drop(inventory.disks.insert(name, Disk { id: volume.name, size })),
                (None, _) | (_, None) => inventory.complete = false,
            }
        }
        inventory.network = self.engine.network(&scope.network()).await?.and_then(|network| network.id);
        Ok(inventory)
    }
}

fn instance(found: &Found) -> Option<Instance> {
    let disks = found.labels.get(DISKS).map(String::as_str).unwrap_or_default();
    let disks: Result<Vec<DiskName>, _> = disks.split(',').filter(|name| !name.is_empty()).map(str::parse).collect();
    Some(Instance {
        id: found.id.clone(),
        token: found.labels.get(TOKEN)?.clone(),
        incarnation: label(found, INCARNATION)?,
        // The daemon itself brings back one that restarts.
        running: matches!(found.state, State::Running | State::Restarting),
        started: found.state != State::Created,
        address: label(found, ADDRESS),
        pods: label(found, PODS),
        image: found.image.clone(),
        disks: disks.ok()?,
    })
}
