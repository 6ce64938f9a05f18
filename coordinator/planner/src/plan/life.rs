//! Birth, adoption, loss and retirement: how nodes of the parent go on.

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{NodeName, PoolName};

use super::Draft;
use crate::{
    blueprint::{NodePlan, NodeState},
    inventory::Instance,
    plan::allocate::overlap,
    report::Waiting,
};

impl Draft<'_> {
    /// Once a control plane has reported a living cluster nobody starts another one.
    pub(super) fn birth(&mut self) {
        if self.input.seen.cluster.born && !self.next.born {
            self.next.born = true;
            for node in self.next.nodes.values_mut() {
                node.init = false;
            }
            self.did("the cluster is born: from now on nodes only join it");
        }
    }

    /// A retired node leaves the blueprint when its instance is gone for sure; its name stays used.
    pub(super) fn forget(&mut self) {
        for name in self.named(NodeState::Retired) {
            if self.input.seen.absent(&name, self.input.policy.settle) {
                self.next.nodes.remove(&name);
                self.did(format!("forgets {name}: its instance is gone"));
            } else {
                self.waits(Waiting::Removal { node: name });
            }
        }
    }

    /// A draining node is retired when the cluster no longer knows it. Before birth there is nothing to leave.
    pub(super) fn retire(&mut self) {
        for name in self.named(NodeState::Draining) {
            if !self.next.born || self.input.seen.cluster.left.contains(&name) {
                self.set_state(&name, NodeState::Retired);
                self.did(format!("retires {name}: it has left the cluster"));
            } else {
                self.waits(Waiting::Leave { node: name });
            }
        }
    }

    /// After a recovery from an older state the provider may know nodes that the blueprint does not. Where tags say all,
    /// the token is ours and the pool lacks a node, it is taken back; nothing else is ever done to it.
    pub(super) fn adopt(&mut self) {
        let input = self.input;
        for (name, instance) in &input.seen.latest.instances {
            let Some((pool, ordinal)) = split(name) else { continue };
            let last = self.next.last_ordinal.entry(pool.clone()).or_default();
            *last = (*last).max(ordinal);
            if self.next.nodes.contains_key(name) {
                self.take_newer(name, instance);
                continue;
            }
            let unknown = Waiting::Unknown { node: name.clone(), id: instance.id.clone() };
            let policy = input.policy.pools.get(&pool);
            let (Some(policy), Some(address), Some(pods)) = (policy, instance.address, instance.pods) else {
                self.waits(unknown);
                continue;
            };
            // Whoever has its address in an older blueprint was retired and forgotten before it was given away.
            let clash = |node: &NodePlan| node.address == address || overlap(node.pods, pods);
            let before: Vec<NodeName> =
                self.next.nodes.iter().filter(|(_, node)| clash(node)).map(|(name, _)| name.clone()).collect();
            let free = before
                .iter()
                .all(|node| self.next.nodes[node].disks.is_empty() && input.seen.absent(node, input.policy.settle));
            let ours = instance.token == self.token(name, instance.incarnation);
            // One that holds a disk which the blueprint sees elsewhere would be two holders.
            let disks = instance.disks.iter().all(|disk| !self.next.disks.contains_key(disk));
            let others =
                self.next.in_pool(&pool, NodeState::InService).filter(|(node, _)| !before.contains(node)).count();
            if !(self.next.born && ours && free && disks && others < policy.count as usize) {
                self.waits(unknown);
                continue;
            }
            for node in before {
                self.next.nodes.remove(&node);
                self.did(format!("forgets {node}: {name} has its address"));
            }
            for disk in &instance.disks {
                let size = input.seen.latest.disks.get(disk).map_or(0, |seen| seen.size);
                let plan = crate::blueprint::DiskPlan { size, node: name.clone() };
                self.next.disks.insert(disk.clone(), plan);
            }
            let node = NodePlan {
                pool: pool.clone(),
                member: policy.member,
                address,
                pods,
                incarnation: instance.incarnation,
                token: instance.token.clone(),
                state: NodeState::InService,
                disks: instance.disks.clone(),
                init: false,
                image: instance.image.clone(),
                cpus: policy.cpus,
                memory: policy.memory,
            };
            self.next.nodes.insert(name.clone(), node);
            self.did(format!("takes {name} back: it exists and the pool lacks it"));
        }
    }

    /// An older state may know an earlier incarnation than the one that exists, and not the disks that came with it.
    fn take_newer(&mut self, name: &NodeName, instance: &Instance) {
        let token = self.token(name, instance.incarnation);
        let Some(node) = self.next.nodes.get(name) else { return };
        let came: Vec<_> = instance.disks.iter().filter(|disk| !node.disks.contains(disk)).cloned().collect();
        // It holds at least what it should, and nothing that another one holds.
        let disks = node.disks.iter().all(|disk| instance.disks.contains(disk))
            && came.iter().all(|disk| !self.next.disks.contains_key(disk));
        let same = instance.address == Some(node.address) && instance.pods == Some(node.pods) && disks;
        if !(instance.incarnation > node.incarnation && instance.token == token && same) {
            return;
        }
        for disk in came {
            let size = self.input.seen.latest.disks.get(&disk).map_or(0, |seen| seen.size);
            self.next.disks.insert(disk, crate::blueprint::DiskPlan { size, node: name.clone() });
        }
        if let Some(node) = self.next.nodes.get_mut(name) {
            (node.incarnation, node.token) = (instance.incarnation, token);
            node.image.clone_from(&instance.image);
            node.disks.clone_from(&instance.disks);
            self.did(format!("takes incarnation {} of {name} back: it exists", instance.incarnation));
        }
    }

    /// A node whose instance is lost for sure gets a new one under the same name, with a new token.
    pub(super) fn replace(&mut self) {
        let settle = self.input.policy.settle;
        for name in self.named(NodeState::InService) {
            let node = &self.next.nodes[&name];
            let (token, member, next) = (node.token.clone(), node.member, node.incarnation + 1);
            if !self.input.seen.lost(&name, &token, settle) {
                let made = self.input.seen.made.get(&name).is_some_and(|made| made.token == token);
                if made && !self.input.seen.latest.instances.contains_key(&name) {
                    self.waits(Waiting::Reading { node: name });
                }
                continue;
            }
            if member == MemberRole::ControlPlane && self.next.born {
                let all = self.next.control_planes().count() as u32;
                let ready =
                    self.next.control_planes().filter(|(other, _)| **other != name && self.ready(other)).count();
                let (ready, needed) = (ready as u32, all / 2 + 1);
                if ready < needed {
                    self.waits(Waiting::Quorum { ready, needed });
                    continue;
                }
            }
            let token = self.token(&name, next);
            let image = self.input.policy.node_image.clone();
            if let Some(node) = self.next.nodes.get_mut(&name) {
                (node.incarnation, node.token, node.image) = (next, token, image);
            }
            self.fresh.insert(name.clone());
            self.did(format!("replaces the instance of {name}: two readings agree that it is gone"));
        }
    }

    pub(super) fn named(&self, state: NodeState) -> Vec<NodeName> {
        self.next.nodes.iter().filter(|(_, node)| node.state == state).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn set_state(&mut self, name: &NodeName, state: NodeState) {
        if let Some(node) = self.next.nodes.get_mut(name) {
            node.state = state;
        }
    }
}

/// A node's pool and ordinal from its name.
fn split(name: &NodeName) -> Option<(PoolName, u32)> {
    let (pool, _) = name.as_str().rsplit_once('-')?;
    Some((pool.parse().ok()?, name.ordinal()?))
}
