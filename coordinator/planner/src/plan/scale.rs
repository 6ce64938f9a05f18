//! Pools grow at once and shrink one node at a time; control planes do both one at a time once the cluster lives.
//! The planner's rounds bring each step's next node, where it need not wait.

use std::cmp::Reverse;

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{NodeName, PoolName};

use super::Draft;
use crate::{
    blueprint::{NodePlan, NodeState},
    policy::PoolPolicy,
    report::Waiting,
};

/// Who leaves first: the least of these.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// One that does not serve anyway.
    ready: bool,
    /// The newest.
    ordinal: Reverse<Option<u32>>,
}

/// Whether it leaves with disks that another one is made for.
pub(super) fn hands_on_disks(node: &NodePlan) -> bool {
    node.state >= NodeState::Revoked && !node.disks.is_empty()
}

impl Draft<'_> {
    pub(super) fn grow(&mut self) {
        for (pool, policy) in self.pools() {
            let Some(policy) = policy else { continue };
            if !self.same_member(&pool, policy) {
                self.waits(Waiting::Member { pool });
                continue;
            }
            // Those that are taken back at the next reading need nobody in their place.
            // Nor do those whose disks go to a new node, once it is sure that nobody writes to them any more.
            let held = self.next.nodes.values().filter(|node| node.pool == pool && hands_on_disks(node)).count() as u32;
            let awaited = self.awaited.get(&pool).copied().unwrap_or(0) + held;
            let serving = self.next.in_pool(&pool, NodeState::InService).count() as u32;
            let Some(wanted) = self.wanted(&pool, Some(policy)) else {
                self.waits(Waiting::OddControlPlanes { wanted: policy.count });
                continue;
            };
            let reason = format!("pool {pool} has {serving} of {wanted}");
            let one_by_one = policy.member == MemberRole::ControlPlane && self.next.born;
            for _ in serving + awaited..wanted {
                if one_by_one && !self.steady(&pool, None) {
                    break;
                }
                if self.add_node(&pool, policy, &reason).is_none() || one_by_one {
                    break;
                }
            }
        }
    }

    pub(super) fn shrink(&mut self) {
        for (pool, policy) in self.pools() {
            let Some(wanted) = self.wanted(&pool, policy) else { continue };
            if policy.is_some_and(|policy| !self.same_member(&pool, policy)) {
                continue;
            }
            let serving: Vec<_> = self.next.in_pool(&pool, NodeState::InService).collect();
            if serving.len() as u32 <= wanted {
                continue;
            }
            let Some(leaver) = self.leaver(&serving) else {
                let nodes = serving.iter().map(|(name, _)| (*name).clone()).collect();
                self.waits(Waiting::HoldsDisk { pool, nodes });
                continue;
            };
            let reason = format!("pool {pool} has {} of {wanted}", serving.len());
            // Until it is seen as the blueprint says, it may hold a disk that an older state does not know.
            let token = &self.next.nodes[&leaver].token;
            if !self.input.seen.as_planned(&leaver, token, self.input.policy.settle) {
                self.waits(Waiting::Inventory);
                continue;
            }
            if self.steady(&pool, Some(&leaver)) {
                let state = if self.next.born { NodeState::Draining } else { NodeState::Retired };
                self.set_state(&leaver, state);
                self.did(format!("drains {leaver}: {reason}"));
            }
        }
    }

    /// Whether the pool has too many, and this one may go.
    pub(super) fn surplus(&self, name: &NodeName) -> bool {
        let node = &self.next.nodes[name];
        let serving = self.next.in_pool(&node.pool, NodeState::InService).count() as u32;
        let policy = self.input.policy.pools.get(&node.pool);
        let goes =
            node.disks.is_empty() && !node.init && policy.is_none_or(|policy| self.same_member(&node.pool, policy));
        goes && self.wanted(&node.pool, policy).is_some_and(|wanted| serving > wanted)
    }

    /// How many nodes the pool shall have; none when the wish is refused.
    fn wanted(&self, pool: &PoolName, policy: Option<&PoolPolicy>) -> Option<u32> {
        let control = match policy {
            Some(policy) => policy.member == MemberRole::ControlPlane,
            None => self.next.nodes.values().any(|node| node.pool == *pool && node.member == MemberRole::ControlPlane),
        };
        let wanted = policy.map_or(0, |policy| policy.count);
        (!control || wanted % 2 == 1).then_some(wanted)
    }

    /// Whether all of the pool but `leaver` serve and none is on its way out; says what it waits for.
    fn steady(&mut self, pool: &PoolName, leaver: Option<&NodeName>) -> bool {
        if !self.next.born {
            return true;
        }
        let leaving = self.next.nodes.iter().find(|(_, node)| node.pool == *pool && node.state != NodeState::InService);
        if let Some((node, _)) = leaving {
            let node = node.clone();
            self.waits(Waiting::Turn { pool: pool.clone(), node });
            return false;
        }
        // A worker that does not serve is missed by nobody, above all one that cannot be made.
        let worker = |name: &NodeName| self.next.nodes[name].member == MemberRole::Worker;
        if leaver.is_some_and(|leaver| worker(leaver) && !self.ready(leaver)) {
            return true;
        }
        let serving = self.next.in_pool(pool, NodeState::InService);
        let unready: Vec<_> = serving
            .filter(|(name, _)| Some(*name) != leaver && !self.ready(name))
            .map(|(name, _)| name.clone())
            .collect();
        if !unready.is_empty() {
            self.waits(Waiting::Ready { pool: pool.clone(), nodes: unready });
            return false;
        }
        true
    }

    fn leaver(&self, serving: &[(&NodeName, &NodePlan)]) -> Option<NodeName> {
        serving
            .iter()
            .filter(|(_, node)| node.disks.is_empty() && !node.init)
            .min_by_key(|(name, _)| Score { ready: self.ready(name), ordinal: Reverse(name.ordinal()) })
            .map(|(name, _)| (*name).clone())
    }

    fn same_member(&self, pool: &PoolName, policy: &PoolPolicy) -> bool {
        self.next.nodes.values().all(|node| node.pool != *pool || node.member == policy.member)
    }
}
