//! A world for the planner's tests: what a provider would hold, and a site that can be changed.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{Digest, EndpointName, NodeName, PoolName};
use muster_planner::{
    Blueprint, Finding, Input, Inventory, PlanReport, Policy, Seen, Step,
    blueprint::NodeState,
    check, check_change,
    inventory::{ClusterSeen, Disk, Instance, LoadBalancer, Made},
    plan,
    policy::{DiskPolicy, EndpointPolicy, PoolPolicy},
    steps,
    steps::{configuration, confirmed},
};

/// What there is, and what the coordinator remembers.
#[derive(Debug, Clone)]
pub struct World {
    /// A state was restored: it may name what is taken by now, and the provider refuses that, as Docker does.
    pub restored: bool,
    pub policy: Policy,
    pub now: i64,
    pub seed: u64,
    /// The provider's truth.
    pub truth: Inventory,
    pub made_ever: u64,
    pub blueprint: Option<Blueprint>,
    pub seen: Seen,
    /// By an operator.
    pub revoked: BTreeSet<NodeName>,
    /// Ids of instances that were drained and are no members any more.
    pub drained: BTreeSet<String>,
}

/// A policy without pools.
pub fn policy() -> Policy {
    Policy {
        cluster: "easypay".parse().unwrap(),
        environment: "local".parse().unwrap(),
        site: Digest::of("site 1"),
        subnet: "10.89.0.0/16".parse().unwrap(),
        pods: "10.244.0.0/16".parse().unwrap(),
        pools: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        disks: BTreeMap::new(),
        sets: [].into(),
        node_image: "muster-node:a".to_owned(),
        settle: 0,
    }
}

impl World {
    pub fn new() -> Self {
        Self {
            restored: false,
            policy: policy(),
            now: 1_000,
            seed: 1,
            truth: Inventory::default(),
            made_ever: 0,
            blueprint: None,
            seen: Seen::default(),
            revoked: BTreeSet::new(),
            drained: BTreeSet::new(),
        }
    }

    /// A pool whose name begins with `control` is the control plane.
    pub fn pool(&mut self, name: &str, count: u32) {
        let member = if name.starts_with("control") { MemberRole::ControlPlane } else { MemberRole::Worker };
        let pool = PoolPolicy { member, count, disrupt: 1, cpus: None, memory: None };
        self.policy.pools.insert(name.parse().unwrap(), pool);
    }

    pub fn endpoint(&mut self, name: &str, to: &str, listen: u16, port: u16, check: &str) {
        let to: PoolName = to.parse().unwrap();
        let endpoint = EndpointPolicy { to, listen, port, check: check.to_owned(), address: None };
        self.policy.endpoints.insert(name.parse::<EndpointName>().unwrap(), endpoint);
    }

    pub fn disk(&mut self, name: &str, pool: &str, size: u64) {
        self.policy.disks.insert(name.parse().unwrap(), DiskPolicy { pool: pool.parse().unwrap(), size });
    }

    /// Reads the provider: what was the latest reading is the one before.
    pub fn read(&mut self, complete: bool) {
        self.now += 1;
        let mut reading = Inventory { taken: self.now, complete, ..self.truth.clone() };
        if !complete {
            reading.instances = reading.instances.into_iter().take(1).collect();
            reading.load_balancers.clear();
        }
        self.seen.earlier = Some(std::mem::replace(&mut self.seen.latest, reading));
    }

    /// Plans once, checks the result, and proves that planning again changes nothing.
    pub fn plan(&mut self) -> (Blueprint, PlanReport) {
        let parent = self.blueprint.clone();
        let (next, report) = self.ask(parent.as_ref());
        // An answer to one blueprint is none to the next, which asks for something else.
        let state = |of: Option<&Blueprint>, node: &NodeName| of?.nodes.get(node).map(|plan| plan.state);
        self.seen.cluster.left.retain(|node| state(parent.as_ref(), node) == state(Some(&next), node));
        let (again, second) = self.ask(Some(&next));
        assert!(again == next, "planning again changes the blueprint: {second:?}");
        assert_eq!(second.did().count(), 0, "planning again does something: {second:?}");
        self.blueprint = Some(next.clone());
        (next, report)
    }

    pub fn input<'a>(&'a self, parent: Option<&'a Blueprint>) -> Input<'a> {
        Input { policy: &self.policy, seen: &self.seen, parent, revoked: &self.revoked, seed: self.seed }
    }

    fn ask(&self, parent: Option<&Blueprint>) -> (Blueprint, PlanReport) {
        plan(self.input(parent))
    }

    /// Findings of the blueprint itself and of its step from `parent`.
    pub fn findings(&self, parent: Option<&Blueprint>) -> Vec<Finding> {
        let Some(blueprint) = &self.blueprint else { return vec![] };
        let change =
            parent.filter(|parent| *parent != blueprint).map(|parent| check_change(parent, blueprint, &self.seen));
        check(blueprint).into_iter().chain(change.into_iter().flatten()).collect()
    }

    /// Takes the steps as a perfect provider would.
    pub fn execute(&mut self) -> Vec<Step> {
        let Some(blueprint) = self.blueprint.clone() else { return vec![] };
        let found: Vec<_> = confirmed(&blueprint, &self.seen).map(|(node, made)| (node.clone(), made)).collect();
        self.seen.made.extend(found);
        let steps = steps(&blueprint, &self.seen);
        for step in &steps {
            self.take(step, &blueprint);
            self.now += 1;
            self.seen.last_step = self.now;
        }
        steps
    }

    fn id(&mut self, kind: &str) -> String {
        self.made_ever += 1;
        format!("{kind}-{}", self.made_ever)
    }

    fn take(&mut self, step: &Step, blueprint: &Blueprint) {
        match step {
            Step::Network => self.truth.network = Some("net".to_owned()),
            Step::Disk { disk } => {
                let id = self.id("vol");
                self.truth.disks.insert(disk.clone(), Disk { id, size: blueprint.disks[disk].size });
                self.seen.disks.insert(disk.clone());
            }
            Step::LoadBalancer { endpoint, .. } => {
                let plan = &blueprint.load_balancers[endpoint];
                let id = match self.truth.load_balancers.get(endpoint) {
                    Some(balancer) if balancer.address == Some(plan.address) => balancer.id.clone(),
                    Some(_) | None => self.id("lb"),
                };
                let balancer =
                    LoadBalancer { id, running: true, address: Some(plan.address), configuration: configuration(plan) };
                self.truth.load_balancers.insert(endpoint.clone(), balancer);
            }
            Step::StartInstance { node, id } => {
                // A stale reading starts nothing.
                if let Some(instance) = self.truth.instances.get_mut(node).filter(|instance| instance.id == *id) {
                    instance.running = true;
                }
            }
            Step::Instance { node } => {
                let plan = &blueprint.nodes[node];
                if let Some(instance) = self.truth.instances.get(node) {
                    assert!(instance.token == plan.token || self.restored, "{node} belongs to another");
                    if instance.token != plan.token {
                        return;
                    }
                } else {
                    let taken = self.truth.instances.values().any(|other| other.address == Some(plan.address));
                    assert!(!taken || self.restored, "the address of {node} is taken");
                    if taken {
                        return;
                    }
                    for disk in &plan.disks {
                        let holder = self.truth.instances.iter().find(|(_, other)| other.disks.contains(disk));
                        assert!(holder.is_none(), "{node} is given {disk}, which {holder:?} holds");
                    }
                    let instance = Instance {
                        id: self.id("i"),
                        token: plan.token.clone(),
                        incarnation: plan.incarnation,
                        running: true,
                        started: true,
                        address: Some(plan.address),
                        pods: Some(plan.pods),
                        image: plan.image.clone(),
                        disks: plan.disks.clone(),
                    };
                    self.truth.instances.insert(node.clone(), instance);
                }
                let id = self.truth.instances[node].id.clone();
                self.seen.made.insert(node.clone(), Made { token: plan.token.clone(), id });
            }
            Step::RemoveInstance { node, id } => {
                // Gone already is success; another one of the name is left alone.
                if let Some(instance) = self.truth.instances.get(node).filter(|instance| instance.id == *id) {
                    let revoked = self.revoked.contains(node);
                    assert!(instance.disks.is_empty() || revoked, "{node} is removed and holds a disk");
                    let worker = blueprint.nodes[node].member == MemberRole::Worker;
                    let left = self.drained.contains(id) || !self.seen.cluster.born || (revoked && worker);
                    assert!(left, "{node} is removed and has not left the cluster");
                    self.truth.instances.remove(node);
                }
                self.seen.made.remove(node);
                self.cluster().ready.remove(node);
                self.cluster().left.remove(node);
            }
            Step::RemoveLoadBalancer { endpoint, id } => {
                if self.truth.load_balancers.get(endpoint).is_some_and(|balancer| balancer.id == *id) {
                    self.truth.load_balancers.remove(endpoint);
                }
            }
        }
    }

    pub fn cluster(&mut self) -> &mut ClusterSeen {
        &mut self.seen.cluster
    }

    /// All that runs becomes Ready, a living control plane is reported, and who drains leaves.
    pub fn agents_do_their_part(&mut self) {
        let running = self.truth.instances.iter().filter(|(_, instance)| instance.running);
        let ready: BTreeSet<NodeName> = running.map(|(node, _)| node.clone()).collect();
        self.seen.cluster.born |= !ready.is_empty();
        self.seen.cluster.ready = ready;
        if let Some(blueprint) = &self.blueprint {
            let leaving = blueprint.nodes.iter().filter(|(_, node)| node.state != NodeState::InService);
            let left: Vec<_> = leaving.map(|(name, _)| name.clone()).collect();
            // Who serves again joins again.
            let serving = self.truth.instances.iter().filter(|(node, _)| !left.contains(node));
            for (_, instance) in serving {
                self.drained.remove(&instance.id);
            }
            self.seen.cluster.left.clear();
            left.iter().for_each(|node| self.leave(node));
        }
    }

    /// Rounds of read, plan, execute with willing agents until nothing changes; how many it took.
    pub fn settle(&mut self) -> usize {
        for round in 1..60 {
            let before = self.state();
            self.read(true);
            self.read(true);
            let parent = self.blueprint.clone();
            self.plan();
            assert_eq!(self.findings(parent.as_ref()), vec![]);
            self.execute();
            self.agents_do_their_part();
            if before == self.state() {
                return round;
            }
        }
        panic!("no fixed point after 60 rounds: {:#?}", self.blueprint);
    }

    /// The coordinator's memory goes back to what `backup` held; the world does not. Nothing was read since, as after any
    /// start. Agents tell who is Ready as ever; who left a cluster is their answer to a blueprint that is no more.
    pub fn restore(&mut self, backup: &World) {
        self.restored = true;
        self.blueprint.clone_from(&backup.blueprint);
        self.revoked.clone_from(&backup.revoked);
        let cluster = ClusterSeen { left: BTreeSet::new(), ..std::mem::take(&mut self.seen.cluster) };
        self.seen =
            Seen { latest: Inventory::default(), earlier: None, last_step: self.now, cluster, ..backup.seen.clone() };
    }

    fn state(&self) -> (Option<Blueprint>, i64, ClusterSeen) {
        (self.blueprint.clone(), self.seen.last_step, self.seen.cluster.clone())
    }

    pub fn leave(&mut self, node: &NodeName) {
        self.drained.extend(self.truth.instances.get(node).map(|instance| instance.id.clone()));
        self.seen.cluster.left.insert(node.clone());
        self.seen.cluster.ready.remove(node);
    }

    pub fn lose(&mut self, node: &NodeName) {
        self.truth.instances.remove(node);
        self.seen.cluster.ready.remove(node);
    }
}
