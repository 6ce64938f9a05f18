//! The port over the fake world.

use std::net::IpAddr;

use muster_ids::{Digest, DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
    inventory::{Disk, LoadBalancer},
    steps::configuration,
};
use rand::Rng;

use super::{
    FakeCloud, Fate, Inner,
    world::{FakeBalancer, FakeInstance},
};
use crate::cloud::{Answer, Bootstrap, Cloud, CloudError, Proof};

impl FakeCloud {
    /// Runs `call` as its fate will have it.
    fn change<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut Inner) -> Result<T, CloudError> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            // Others get between two calls, as over a network.
            tokio::task::yield_now().await;
            let (fate, error) = self.fate();
            match fate {
                Fate::Refused => Err(error),
                Fate::Unheard => call(&mut self.lock()).and(Err(error)),
                Fate::Done => call(&mut self.lock()),
            }
        })
    }
}

fn final_error(what: String, hint: &str) -> CloudError {
    CloudError::Final { what, hint: hint.to_owned() }
}

fn ensure(inner: &mut Inner, name: &NodeName, plan: &NodePlan, proof: &Proof) -> Result<String, CloudError> {
    let (draw, full) = (inner.random.random_range(0..100), inner.faults.full);
    let zones = inner.faults.zones.clone();
    let world = &mut inner.world;
    if let Some(instance) = world.instances.iter_mut().find(|instance| instance.token == plan.token) {
        if instance.gone.is_some() {
            // As EC2 does: the token remembers the dead and hands it back.
            return Ok(instance.id.clone());
        }
        if (instance.address, &instance.disks, &instance.image) != (plan.address, &plan.disks, &plan.image) {
            return Err(final_error(
                format!("{} was made with other parameters under this token", instance.id),
                "parameters of a token do not change",
            ));
        }
        instance.running = true;
        return Ok(instance.id.clone());
    }
    if let Some(other) = world.living().find(|instance| instance.node == *name) {
        return Err(final_error(format!("the name {name} belongs to {}", other.id), "remove it"));
    }
    if let Some(other) = world.living().find(|instance| instance.address == plan.address) {
        return Err(final_error(format!("address {} is in use by {}", plan.address, other.node), "remove it"));
    }
    if world.network.is_none() {
        return Err(final_error("there is no network".to_owned(), "make it first"));
    }
    if let Some(disk) = plan.disks.iter().find(|disk| !world.disks.contains_key(*disk)) {
        return Err(final_error(format!("disk {disk} is gone"), "restore a backup"));
    }
    let index = Digest::of(&plan.token).as_bytes()[0] as usize;
    let zone = if zones.is_empty() { "a".to_owned() } else { zones[index % zones.len()].clone() };
    if draw < full {
        return Err(CloudError::Passing(format!("zone {zone} has no capacity")));
    }
    let instance = FakeInstance {
        id: world.next_id("i"),
        node: name.clone(),
        token: plan.token.clone(),
        incarnation: plan.incarnation,
        address: plan.address,
        pods: plan.pods,
        image: plan.image.clone(),
        disks: plan.disks.clone(),
        zone,
        running: true,
        since: world.readings,
        gone: None,
        proof: proof.token.clone(),
    };
    let id = instance.id.clone();
    world.instances.push(instance);
    Ok(id)
}

impl Cloud for FakeCloud {
    fn observe(&self) -> Answer<'_, Inventory> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut inner = self.lock();
            inner.now += 1;
            inner.world.readings += 1;
            let partial = inner.random.random_range(0..100) < inner.faults.partial;
            let (lag, now, world) = (inner.faults.lag, inner.now, &inner.world);
            let mut instances = world.seen(lag);
            if partial {
                // The first page came, the second did not.
                instances = instances.into_iter().take(1).collect();
            }
            let balancers = world.balancers.iter().filter(|(_, balancer)| world.readings > balancer.since + lag);
            let balancers = balancers.map(|(name, balancer)| {
                let seen = LoadBalancer {
                    id: balancer.id.clone(),
                    running: balancer.running,
                    address: Some(balancer.plan.address),
                    configuration: configuration(&balancer.plan),
                };
                (name.clone(), seen)
            });
            Ok(Inventory {
                taken: now,
                complete: !partial,
                network: world.network.clone(),
                instances,
                disks: world.disks.clone(),
                load_balancers: balancers.collect(),
            })
        })
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        self.change(move |inner| {
            let wanted = plan.subnet.to_string();
            match &inner.world.network {
                Some(subnet) if *subnet != wanted => {
                    Err(final_error(format!("the network has subnet {subnet}"), "a subnet cannot change"))
                }
                Some(_) => Ok(()),
                None => {
                    inner.world.network = Some(wanted);
                    Ok(())
                }
            }
        })
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        self.change(move |inner| {
            if let Some(disk) = inner.world.disks.get(name) {
                return Ok(disk.id.clone());
            }
            let id = inner.world.next_id("vol");
            inner.world.disks.insert(name.clone(), Disk { id: id.clone(), size: plan.size });
            Ok(id)
        })
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        _boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        self.change(move |inner| ensure(inner, name, plan, proof))
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.change(move |inner| {
            let living = |instance: &&mut FakeInstance| instance.id == id && instance.gone.is_none();
            match inner.world.instances.iter_mut().find(living) {
                Some(instance) if instance.node != *name => {
                    Err(final_error(format!("{id} is {}, not {name}", instance.node), "look at it"))
                }
                Some(instance) => {
                    instance.running = true;
                    Ok(())
                }
                None => Err(CloudError::Passing(format!("{id} is not there to be started"))),
            }
        })
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.change(move |inner| {
            let readings = inner.world.readings;
            let Some(instance) = inner.world.instances.iter_mut().find(|instance| instance.id == id) else {
                return Ok(());
            };
            if instance.node != *name {
                return Err(final_error(format!("{id} is {}, not {name}", instance.node), "look at it"));
            }
            instance.gone = instance.gone.or(Some(readings));
            Ok(())
        })
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        self.change(move |inner| {
            let since = inner.world.readings;
            match inner.world.balancers.get_mut(name) {
                // The address is fixed at creation: another one is another load balancer.
                Some(balancer) if balancer.plan.address == plan.address => {
                    balancer.plan = plan.clone();
                    balancer.running = true;
                }
                Some(_) | None => {
                    let id = inner.world.next_id("lb");
                    let balancer = FakeBalancer { id, plan: plan.clone(), running: true, since };
                    inner.world.balancers.insert(name.clone(), balancer);
                }
            }
            Ok(())
        })
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        self.change(move |inner| match inner.world.balancers.iter().find(|(_, balancer)| balancer.id == id) {
            Some((other, _)) if other != name => Err(final_error(format!("{id} is {other}, not {name}"), "look at it")),
            Some(_) => {
                inner.world.balancers.remove(name);
                Ok(())
            }
            None => Ok(()),
        })
    }

    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, address: IpAddr) -> Answer<'a, bool> {
        Box::pin(async move {
            let inner = self.lock();
            Ok(inner.world.living().any(|instance| {
                instance.node == *name && instance.id == id && instance.address == address && instance.running
            }))
        })
    }
}
