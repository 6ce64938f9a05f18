//! The provider: the product's own fake, with the simulation's time on its readings and a way to it that takes time.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use muster_coordinator::cloud::{
    Answer, Bootstrap, Cloud, Proof,
    fake::{FakeCloud, Faults},
};
use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::clock::SimClock;

/// Cheap to clone; clones are one provider.
#[derive(Clone)]
pub struct SimCloud {
    pub fake: FakeCloud,
    clock: SimClock,
    random: Arc<Mutex<StdRng>>,
}

impl SimCloud {
    pub fn new(seed: u64, clock: SimClock) -> Self {
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed ^ 0xc10d)));
        Self { fake: FakeCloud::new(seed, Faults::default()), clock, random }
    }

    /// A call crosses the network twice: its caller may die on either way.
    async fn crossing(&self) {
        let wait = self.random.lock().unwrap().random_range(5..60);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    fn over<'a, T: Send + 'a>(&'a self, call: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            self.crossing().await;
            let answer = call.await;
            self.crossing().await;
            answer
        })
    }
}

impl Cloud for SimCloud {
    fn observe(&self) -> Answer<'_, Inventory> {
        Box::pin(async {
            self.crossing().await;
            // Of the moment in which it was taken, not in which it arrives.
            let taken = self.clock.seconds();
            let mut inventory = self.fake.observe().await?;
            inventory.taken = taken;
            self.crossing().await;
            Ok(inventory)
        })
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        self.over(self.fake.ensure_network(plan))
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        self.over(self.fake.ensure_disk(name, plan))
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        self.over(self.fake.ensure_instance(name, plan, boot, proof))
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.over(self.fake.start_instance(name, id))
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.over(self.fake.remove_instance(name, id))
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        self.over(self.fake.ensure_load_balancer(name, plan))
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        self.over(self.fake.remove_load_balancer(name, id))
    }

    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, address: IpAddr) -> Answer<'a, bool> {
        self.over(self.fake.vouch(name, id, address))
    }
}
