//! Names, addresses, pod ranges and tokens of new nodes. All are recorded in the blueprint: nobody derives them again.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use ipnet::IpNet;
use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{Digest, NodeName, PoolName};

use super::Draft;
use crate::{
    blueprint::{NodePlan, NodeState},
    policy::PoolPolicy,
    report::Waiting,
};

/// Nodes get addresses from here on: `10.89.1.1` in `10.89.0.0/16`.
const FIRST_NODE: u128 = 257;
/// The same in a subnet of fewer than 512 addresses.
const FIRST_NODE_SMALL: u128 = 32;
/// Prefix of a node's pod range: 254 pods.
const POD_PREFIX: u8 = 24;
const POD_PREFIX_V6: u8 = 64;

impl Draft<'_> {
    /// Adds a node with the pool's next ordinal; says why when it cannot.
    pub(super) fn add_node(&mut self, pool: &PoolName, policy: &PoolPolicy, reason: &str) -> Option<NodeName> {
        // Somebody may have an address that the blueprint believes free.
        if self.input.parent.is_some() && !self.input.seen.latest.complete {
            self.waits(Waiting::Inventory);
            return None;
        }
        let Some(address) = self.free_node_address() else {
            self.waits(Waiting::Addresses);
            return None;
        };
        let Some(pods) = self.free_pods() else {
            self.waits(Waiting::Pods);
            return None;
        };
        let ordinal = self.next.last_ordinal.get(pool).copied().unwrap_or(0) + 1;
        let name = NodeName::of(pool, ordinal);
        let init = policy.member == MemberRole::ControlPlane
            && !self.next.born
            && !self.next.nodes.values().any(|node| node.init && node.state == NodeState::InService);
        let node = NodePlan {
            pool: pool.clone(),
            member: policy.member,
            address,
            pods,
            incarnation: 1,
            token: self.token(&name, 1),
            state: NodeState::InService,
            disks: vec![],
            init,
            image: self.input.policy.node_image.clone(),
            cpus: policy.cpus,
            memory: policy.memory,
        };
        self.next.last_ordinal.insert(pool.clone(), ordinal);
        self.next.nodes.insert(name.clone(), node);
        self.fresh.insert(name.clone());
        self.did(format!("adds {name}: {reason}"));
        Some(name)
    }

    /// 32 hexadecimal digits, the same for the same environment, name and incarnation, and for nothing else.
    pub(super) fn token(&self, node: &NodeName, incarnation: u32) -> String {
        let policy = self.input.policy;
        let text = format!(
            "muster-instance-v1\n{}\n{}\n{}\n{node}\n{incarnation}",
            self.input.seed, policy.cluster, policy.environment
        );
        Digest::of(text).to_string()[..32].to_owned()
    }

    pub(super) fn taken_addresses(&self) -> BTreeSet<IpAddr> {
        let nodes = self.next.nodes.values().map(|node| node.address);
        let balancers = self.next.load_balancers.values().map(|balancer| balancer.address);
        let asked = self.input.policy.endpoints.values().filter_map(|endpoint| endpoint.address);
        let seen = &self.input.seen.latest;
        let instances = seen.instances.values().filter_map(|instance| instance.address);
        nodes.chain(balancers).chain(asked).chain(instances).collect()
    }

    fn free_node_address(&self) -> Option<IpAddr> {
        let subnet = self.next.network.subnet;
        free(subnet, first_node(subnet)..u128::MAX, &self.taken_addresses())
    }

    fn free_pods(&self) -> Option<IpNet> {
        let range = self.input.policy.pods;
        let prefix = if range.addr().is_ipv4() { POD_PREFIX } else { POD_PREFIX_V6 };
        let seen = self.input.seen.latest.instances.values().filter_map(|instance| instance.pods);
        let taken: Vec<IpNet> = self.next.nodes.values().map(|node| node.pods).chain(seen).collect();
        range.subnets(prefix).ok()?.find(|free| !taken.iter().any(|taken| overlap(*taken, *free)))
    }
}

/// Whether two ranges share an address.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn size(subnet: IpNet) -> u128 {
    1u128.checked_shl(u32::from(subnet.max_prefix_len() - subnet.prefix_len())).unwrap_or(u128::MAX)
}

/// Where nodes' addresses begin.
pub(super) fn first_node(subnet: IpNet) -> u128 {
    if size(subnet) < 512 { FIRST_NODE_SMALL } else { FIRST_NODE }
}

/// The first address of a range that nobody has; the last of the subnet, a broadcast address, is never given.
pub(super) fn free(subnet: IpNet, range: Range<u128>, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    // One more candidate than there are takers is enough.
    let last = (size(subnet) - 1).min(range.end).min(range.start + taken.len() as u128 + 1);
    (range.start..last).map(|n| nth(subnet, n)).find(|address| !taken.contains(address))
}

pub(super) fn nth(subnet: IpNet, n: u128) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base).wrapping_add(n as u32))),
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).wrapping_add(n))),
    }
}
