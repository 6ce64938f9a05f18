//! What a plan comes to: the planner's own steps, taken in thought until nothing moves, with everything going well.
//!
//! A plan is one step, and what it asks for may need more: a pool shrinks by one node at a time, a disk that comes to a
//! living pool brings a node along, for which another one goes. Nobody should learn that from what happens. Machines
//! that are asked for come, nodes that drain leave, nothing else dies.

use crate::{
    blueprint::{Blueprint, NodeState},
    inventory::{Disk, Instance, Inventory, LoadBalancer, Made, Seen},
    plan::{Input, overlap, plan},
    steps::{Step, configuration, confirmed, steps},
};

/// More rounds than any input needs: a node's way out takes four, and one node of each pool goes at a time.
fn rounds(blueprint: &Blueprint) -> usize {
    20 + 8 * blueprint.nodes.len()
}

/// Where `next`, planned from `input`, comes to rest. From a partial reading nobody can tell: then it is `next` itself.
pub fn foresee(input: Input<'_>, next: &Blueprint) -> Blueprint {
    if !input.seen.latest.complete && input.parent.is_some() {
        return next.clone();
    }
    let mut seen = input.seen.clone();
    let mut blueprint = next.clone();
    for _ in 0..rounds(next) {
        let before = (blueprint.clone(), seen.latest.clone(), seen.cluster.clone());
        read_twice(&mut seen, input.policy.settle);
        (blueprint, _) = plan(Input { seen: &seen, parent: Some(&blueprint), ..input });
        take_steps(&blueprint, &mut seen);
        agents(&blueprint, &mut seen);
        let quiet = Inventory { taken: seen.latest.taken, complete: true, ..before.1 } == seen.latest;
        if quiet && (&blueprint, &seen.cluster) == (&before.0, &before.2) {
            break;
        }
    }
    blueprint
}

/// Two complete readings after the last step, of the same.
fn read_twice(seen: &mut Seen, settle: i64) {
    let taken = seen.latest.taken.max(seen.last_step) + settle + 1;
    seen.latest = Inventory { taken: taken + 1, complete: true, ..std::mem::take(&mut seen.latest) };
    seen.earlier = Some(Inventory { taken, ..seen.latest.clone() });
}

fn take_steps(blueprint: &Blueprint, seen: &mut Seen) {
    let found: Vec<_> = confirmed(blueprint, seen).map(|(node, made)| (node.clone(), made)).collect();
    seen.made.extend(found);
    for step in steps(blueprint, seen) {
        take(&step, blueprint, seen);
    }
}

/// Takes one step as a provider would that refuses nothing but a name or an address that is taken.
fn take(step: &Step, blueprint: &Blueprint, seen: &mut Seen) {
    let world = &mut seen.latest;
    let id = |what: &str| format!("foreseen {what}");
    match step {
        Step::Network => world.network = Some(id("network")),
        Step::Disk { disk } => {
            let size = blueprint.disks[disk].size;
            world.disks.insert(disk.clone(), Disk { id: id(disk.as_str()), size });
            seen.disks.insert(disk.clone());
        }
        Step::LoadBalancer { endpoint, .. } => {
            let plan = &blueprint.load_balancers[endpoint];
            let balancer = LoadBalancer {
                id: id(endpoint.as_str()),
                running: true,
                address: Some(plan.address),
                configuration: configuration(plan),
            };
            world.load_balancers.insert(endpoint.clone(), balancer);
        }
        Step::Instance { node } => {
            let plan = &blueprint.nodes[node];
            let taken = world.instances.iter().any(|(other, instance)| match other == node {
                true => instance.token != plan.token,
                false => {
                    instance.address == Some(plan.address) || instance.pods.is_some_and(|pods| overlap(pods, plan.pods))
                }
            });
            if taken {
                return;
            }
            let instance = Instance {
                id: id(node.as_str()),
                token: plan.token.clone(),
                incarnation: plan.incarnation,
                running: true,
                started: true,
                address: Some(plan.address),
                pods: Some(plan.pods),
                image: plan.image.clone(),
                disks: plan.disks.clone(),
            };
            seen.made.insert(node.clone(), Made { token: instance.token.clone(), id: instance.id.clone() });
            world.instances.insert(node.clone(), instance);
        }
        Step::StartInstance { node, .. } => {
            if let Some(instance) = world.instances.get_mut(node) {
                instance.running = true;
            }
        }
        Step::RemoveInstance { node, .. } => {
            world.instances.remove(node);
            seen.made.remove(node);
        }
        Step::RemoveLoadBalancer { endpoint, .. } => drop(world.load_balancers.remove(endpoint)),
    }
}

/// All that runs is Ready, the cluster is born, and who is to leave has left.
fn agents(blueprint: &Blueprint, seen: &mut Seen) {
    let running = seen.latest.instances.iter().filter(|(_, instance)| instance.running);
    seen.cluster.ready = running.map(|(node, _)| node.clone()).collect();
    seen.cluster.born |= !seen.cluster.ready.is_empty();
    let leaving = blueprint.nodes.iter().filter(|(_, node)| node.state != NodeState::InService);
    seen.cluster.left = leaving.map(|(name, _)| name.clone()).collect();
    let left = &seen.cluster.left;
    seen.cluster.ready.retain(|node| !left.contains(node));
}
