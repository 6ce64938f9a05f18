//! Addresses of endpoints that the site leaves to the planner: one is chosen once, recorded in the blueprint, and stays.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use ipnet::IpNet;
use muster_ids::EndpointName;

use super::{
    Draft,
    allocate::{first_node, free, nth},
};
use crate::{blueprint::Blueprint, policy::Policy, report::Waiting};

/// Before it are the provider's own: gateway, coordinator, artefacts.
const FIRST: u128 = 10;
/// One below the nodes' first is left out, so that these are what the site's check of a written address takes.
const END: u128 = 256;

impl Draft<'_> {
    /// The address of an endpoint: as written, else as before, else as it exists at the provider, else the first that is
    /// free. Says why there is none.
    pub(super) fn endpoint_address(&mut self, name: &EndpointName) -> Option<IpAddr> {
        let input = self.input;
        if let Some(written) = input.policy.endpoints.get(name)?.address {
            return Some(written);
        }
        let kept = self.next.load_balancers.get(name).map(|balancer| balancer.address);
        if kept.is_some_and(|kept| written_for(input.policy, kept).is_none()) {
            return kept;
        }
        let latest = &input.seen.latest;
        // A load balancer that the blueprint does not know may have an address that it believes free.
        if input.parent.is_some() && !latest.complete {
            self.waits(Waiting::Inventory);
            return None;
        }
        let (range, subnet) = (range(self.next.network.subnet), self.next.network.subnet);
        let mut taken = self.taken_addresses();
        let others = latest.load_balancers.iter().filter(|(other, _)| *other != name);
        taken.extend(others.filter_map(|(_, balancer)| balancer.address));
        let exists = latest.load_balancers.get(name).and_then(|balancer| balancer.address);
        let found = exists
            .filter(|address| !taken.contains(address) && range.clone().any(|n| nth(subnet, n) == *address))
            .or_else(|| free(subnet, range, &taken));
        if found.is_none() {
            self.waits(Waiting::Addresses);
        }
        found
    }
}

/// Where endpoints' addresses lie, counted from the subnet's first.
fn range(subnet: IpNet) -> Range<u128> {
    FIRST..END.min(first_node(subnet))
}

/// The endpoint that the site writes an address for.
fn written_for(policy: &Policy, address: IpAddr) -> Option<&EndpointName> {
    policy.endpoints.iter().find(|(_, endpoint)| endpoint.address == Some(address)).map(|(name, _)| name)
}

/// An address that the site writes for one endpoint, and that was chosen for another before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressTaken {
    /// It is written for this one.
    pub endpoint: EndpointName,
    pub address: IpAddr,
    /// It has the address already.
    pub holder: EndpointName,
    /// One that nobody has.
    pub free: Option<IpAddr>,
}

/// What the site writes that an earlier choice forbids: [`super::plan()`] would move an endpoint that clients know.
pub fn addresses_taken(policy: &Policy, parent: &Blueprint) -> Vec<AddressTaken> {
    let written = policy.endpoints.values().filter_map(|endpoint| endpoint.address);
    let known = parent.load_balancers.values().map(|balancer| balancer.address);
    let nodes = parent.nodes.values().map(|node| node.address);
    let taken: BTreeSet<IpAddr> = written.chain(known).chain(nodes).collect();
    let subnet = parent.network.subnet;
    let free = free(subnet, range(subnet), &taken);
    let chosen = |name: &EndpointName| policy.endpoints.get(name).is_some_and(|endpoint| endpoint.address.is_none());
    let held = parent.load_balancers.iter().filter(|(name, _)| chosen(name));
    let taken = held.filter_map(|(holder, balancer)| {
        let endpoint = written_for(policy, balancer.address)?.clone();
        Some(AddressTaken { endpoint, address: balancer.address, holder: holder.clone(), free })
    });
    taken.collect()
}
