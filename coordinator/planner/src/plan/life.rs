//! Birth, adoption, loss and retirement: how nodes of the parent go on.
//!
//! A name's incarnations live one after the other, and each goes one way: in service, draining (lost, where its
//! instance dies on the way), retired, forgotten. One that an operator revoked goes from wherever it is to revoked, and
//! from there to retired: a control plane when its vote is gone, a worker by way of lost. A name ends with the incarnation that is retired. After a recovery the parent may be older than the world; then what is
//! seen with our token counts, because a planner made it from a later blueprint:
//!
//! - A later incarnation than the parent's is one that was in service: it is taken over, with its disks, also where the
//!   parent drains the earlier one, whose drain ended with it. Whether the new one goes is decided anew.
//! - An instance that the parent does not know is taken back where its pool lacks a node, or where it holds a disk that
//!   the site asks for and that has no place yet: the disk has its holder already.
//! - Who drained or left under the lost blueprints says nothing: nodes are asked again.
//!
//! What fits neither way stays as it is and is told.

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{DiskName, NodeName, PoolName};

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

    /// What was revoked serves no more. Its name is refused by the cluster from now on, for its kubelet's certificate goes on
    /// being good; before the birth there is nobody to refuse it.
    pub(super) fn revoke(&mut self) {
        for name in self.input.revoked {
            let state = self.next.nodes.get(name).map(|node| node.state);
            if !matches!(state, Some(NodeState::InService | NodeState::Draining)) {
                continue;
            }
            if self.next.born {
                self.set_state(name, NodeState::Revoked);
                self.next.refused.insert(name.clone());
            } else {
                self.set_state(name, NodeState::Retired);
            }
            if let Some(node) = self.next.nodes.get_mut(name) {
                node.init = false;
            }
            self.did(format!("takes {name} out of service: it was revoked"));
        }
    }

    /// A retired node leaves the blueprint when its instance is gone for sure; its name stays used. Its disks have found
    /// another by then.
    pub(super) fn forget(&mut self) {
        for name in self.named(NodeState::Retired) {
            if !self.next.nodes[&name].disks.is_empty() {
                continue;
            }
            if self.input.seen.absent(&name, self.input.policy.settle) {
                self.next.nodes.remove(&name);
                self.did(format!("forgets {name}: its instance is gone"));
            } else {
                self.waits(Waiting::Removal { node: name });
            }
        }
        for name in self.named(NodeState::InService) {
            if let Some(other) = self.displaced(&name) {
                self.next.nodes.remove(&name);
                self.did(format!("forgets {name}: {other} has its address"));
            }
        }
    }

    /// Who has the address or the pods of a node that does not exist. Only a forgotten node's are given away: a later
    /// blueprint, which a recovery lost, had done with this name. It could never be made again where it was.
    fn displaced(&self, name: &NodeName) -> Option<NodeName> {
        let node = &self.next.nodes[name];
        let seen = self.input.seen;
        if !self.next.born || !node.disks.is_empty() || !seen.absent(name, self.input.policy.settle) {
            return None;
        }
        seen.in_place_of(name, node).cloned()
    }

    /// A draining node is retired when the cluster no longer knows it. Before birth there is nothing to leave. One that
    /// this very planning begins to drain was not asked yet: it has not answered either. One without an instance cannot
    /// leave by itself.
    pub(super) fn retire(&mut self) {
        for name in self.named(NodeState::Draining) {
            if !self.next.born || self.left(&name, NodeState::Draining) {
                self.set_state(&name, NodeState::Retired);
                self.did(format!("retires {name}: it has left the cluster"));
            } else if self.input.seen.absent(&name, self.input.policy.settle) {
                self.set_state(&name, NodeState::Lost);
                self.did(format!("counts {name} as lost: its instance is gone, and it has not left the cluster"));
            } else {
                self.waits(Waiting::Leave { node: name });
            }
        }
        for name in self.named(NodeState::Revoked) {
            let control_plane = self.next.nodes[&name].member == MemberRole::ControlPlane;
            if self.input.seen.absent(&name, self.input.policy.settle) {
                self.set_state(&name, NodeState::Lost);
                self.did(format!("counts {name} as lost: its instance is gone"));
            } else if control_plane && self.left(&name, NodeState::Revoked) {
                self.set_state(&name, NodeState::Retired);
                self.did(format!("retires {name}: it is out of the cluster, which refuses its name"));
            } else {
                self.waits(Waiting::Revocation { node: name });
            }
        }
        for name in self.named(NodeState::Lost) {
            if self.left(&name, NodeState::Lost) {
                self.set_state(&name, NodeState::Retired);
                self.did(format!("retires {name}: it was removed from the cluster"));
            } else {
                self.waits(Waiting::Burial { node: name });
            }
        }
    }

    /// Whether a node that the parent had in this state is gone from the cluster.
    fn left(&self, name: &NodeName, state: NodeState) -> bool {
        let before = self.input.parent.and_then(|parent| parent.nodes.get(name));
        before.is_some_and(|node| node.state == state) && self.input.seen.cluster.left.contains(name)
    }

    /// After a recovery from an older state the provider may know nodes that the blueprint does not. Where tags say all,
    /// the token is ours and the pool lacks a node or a disk's holder, it is taken back; nothing else is ever done to it.
    pub(super) fn adopt(&mut self) {
        let input = self.input;
        self.awaited.clear();
        for (name, instance) in &input.seen.latest.instances {
            let Some((pool, ordinal)) = split(name) else { continue };
            let last = self.next.last_ordinal.entry(pool.clone()).or_default();
            *last = (*last).max(ordinal);
            if let Some(node) = self.next.nodes.get(name) {
                if node.token != instance.token && !self.take_newer(name, instance) {
                    self.waits(Waiting::Other { node: name.clone(), id: instance.id.clone() });
                }
                continue;
            }
            let unknown = Waiting::Unknown { node: name.clone(), id: instance.id.clone() };
            // What nobody trusts is not taken back.
            let policy = input.policy.pools.get(&pool).filter(|_| !input.revoked.contains(name));
            let (Some(policy), Some(address), Some(pods)) = (policy, instance.address, instance.pods) else {
                self.waits(unknown);
                continue;
            };
            let ours = instance.token == self.token(name, instance.incarnation);
            // One that holds a disk which the blueprint sees elsewhere would be two holders.
            let disks = instance.disks.iter().all(|disk| !self.next.disks.contains_key(disk));
            let awaited = self.awaited.get(&pool).copied().unwrap_or(0);
            let others = self.next.in_pool(&pool, NodeState::InService).count() as u32 + awaited;
            let wanted = |disk: &DiskName| input.policy.disks.get(disk).is_some_and(|wanted| wanted.pool == pool);
            let lacked = others < policy.count || instance.disks.iter().any(wanted);
            if !(self.next.born && ours && disks && lacked) {
                self.waits(unknown);
                continue;
            }
            // Nodes that gave their place away are forgotten by now, or as soon as it is sure that they are gone.
            let clash = |node: &NodePlan| node.address == address || overlap(node.pods, pods);
            let mut before = self.next.nodes.iter().filter(|(_, node)| clash(node)).peekable();
            if before.peek().is_some() {
                let gone = |(node, plan): (&NodeName, &NodePlan)| {
                    plan.disks.is_empty() && !input.seen.latest.instances.contains_key(node)
                };
                if before.all(gone) {
                    *self.awaited.entry(pool).or_default() += 1;
                }
                self.waits(unknown);
                continue;
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
    fn take_newer(&mut self, name: &NodeName, instance: &Instance) -> bool {
        let token = self.token(name, instance.incarnation);
        let Some(node) = self.next.nodes.get(name).filter(|node| node.state != NodeState::Retired) else {
            return false;
        };
        let came: Vec<_> = instance.disks.iter().filter(|disk| !node.disks.contains(disk)).cloned().collect();
        // It holds at least what it should, and nothing that another one holds.
        let disks = node.disks.iter().all(|disk| instance.disks.contains(disk))
            && came.iter().all(|disk| !self.next.disks.contains_key(disk));
        let same = instance.address == Some(node.address) && instance.pods == Some(node.pods) && disks;
        if !(instance.incarnation > node.incarnation && instance.token == token && same) {
            return false;
        }
        for disk in came {
            let size = self.input.seen.latest.disks.get(&disk).map_or(0, |seen| seen.size);
            self.next.disks.insert(disk, crate::blueprint::DiskPlan { size, node: name.clone() });
        }
        if let Some(node) = self.next.nodes.get_mut(name) {
            (node.incarnation, node.token) = (instance.incarnation, token);
            node.image.clone_from(&instance.image);
            node.disks.clone_from(&instance.disks);
            // What nobody trusts has to be known in order to go.
            if !self.input.revoked.contains(name) {
                node.state = NodeState::InService;
            }
            self.did(format!("takes incarnation {} of {name} back: it exists", instance.incarnation));
        }
        true
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
            // A worker of too many is not brought back in order to leave. Of control planes the majority is asked first.
            if member == MemberRole::Worker && self.surplus(&name) {
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
