//! Disks get a holder once and stay with it. Only when that one was revoked they go to another: a new node, once the old
//! instance is proven gone.
//!
//! A container is given its mounts when it is created, so a disk goes to a node whose instance this very planning asks
//! for. A disk that comes to a living pool gets a new node, and the pool shrinks by another one afterwards. An instance
//! that is seen with the disk holds it, whatever the blueprint knows: nobody else gets it, for two would write to it.

use muster_ids::{DiskName, NodeName};

use super::Draft;
use crate::{
    blueprint::{DiskPlan, NodeState},
    report::Waiting,
};

/// Where a disk goes best: the least of these.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    disks_held: usize,
    ordinal: Option<u32>,
}

impl Draft<'_> {
    pub(super) fn place_disks(&mut self) {
        let input = self.input;
        for (disk, plan) in &mut self.next.disks {
            if let Some(wanted) = input.policy.disks.get(disk) {
                // A disk never shrinks: its file system would not survive it.
                plan.size = plan.size.max(wanted.size);
            }
            if input.seen.disk_lost(disk, input.policy.settle) {
                self.waits.push(Waiting::DiskLost { disk: disk.clone() });
            }
        }
        self.hand_on();
        for (disk, wanted) in &input.policy.disks {
            if self.next.disks.contains_key(disk) {
                continue;
            }
            // Without a complete reading nobody knows who holds it already.
            if input.parent.is_some() && !input.seen.latest.complete {
                self.waits(Waiting::Inventory);
                continue;
            }
            let mut seen = input.seen.latest.instances.iter();
            if let Some((node, _)) = seen.find(|(_, instance)| instance.disks.contains(disk)) {
                self.waits(Waiting::DiskHeld { disk: disk.clone(), node: node.clone() });
                continue;
            }
            let Some(pool) = input.policy.pools.get(&wanted.pool) else {
                self.waits(Waiting::DiskPlace { disk: disk.clone(), pool: wanted.pool.clone() });
                continue;
            };
            let place = self.place(&wanted.pool).or_else(|| {
                self.add_node(&wanted.pool, pool, &format!("disk {disk} needs a node that is created with it"))
            });
            match place {
                Some(node) => self.put(disk, wanted.size, &node),
                None => self.waits(Waiting::DiskPlace { disk: disk.clone(), pool: wanted.pool.clone() }),
            }
        }
    }

    /// Disks of nodes that were revoked, whose instances cannot write to them any more.
    fn hand_on(&mut self) {
        for from in self.named(NodeState::Retired) {
            let node = &self.next.nodes[&from];
            let (pool, disks) = (node.pool.clone(), node.disks.clone());
            if disks.is_empty() || !self.input.seen.absent(&from, self.input.policy.settle) {
                continue;
            }
            for disk in disks {
                let place = self.place(&pool).or_else(|| {
                    let policy = self.input.policy.pools.get(&pool)?;
                    self.add_node(&pool, policy, &format!("disk {disk} needs a node in place of {from}"))
                });
                let Some(to) = place else {
                    self.waits(Waiting::DiskPlace { disk, pool: pool.clone() });
                    continue;
                };
                let size = self.next.disks.get(&disk).map_or(0, |plan| plan.size);
                if let Some(old) = self.next.nodes.get_mut(&from) {
                    old.disks.retain(|held| *held != disk);
                }
                self.put(&disk, size, &to);
            }
        }
    }

    fn place(&self, pool: &muster_ids::PoolName) -> Option<NodeName> {
        self.next
            .in_pool(pool, NodeState::InService)
            .filter(|(name, _)| self.fresh.contains(*name))
            .min_by_key(|(name, node)| Score { disks_held: node.disks.len(), ordinal: name.ordinal() })
            .map(|(name, _)| name.clone())
    }

    fn put(&mut self, disk: &DiskName, size: u64, node: &NodeName) {
        self.next.disks.insert(disk.clone(), DiskPlan { size, node: node.clone() });
        if let Some(plan) = self.next.nodes.get_mut(node) {
            plan.disks.push(disk.clone());
        }
        self.did(format!("places disk {disk} on {node}"));
    }
}
