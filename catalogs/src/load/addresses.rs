//! Addresses that the site writes for its endpoints. One that it does not write is chosen when a plan is made, because only
//! the blueprint knows who has which.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::Loader;
use crate::{
    diagnostic::Diagnostic,
    site::{Site, nth},
    tree::{At, Node},
};

/// Below are gateway, coordinator and artefacts, above are the nodes: the planner chooses among the same.
const FIRST: u32 = 10;
const LAST: u32 = 255;

impl Loader {
    /// Each lies where endpoints' do, and is one endpoint's: a load balancer is a container with an address of its own.
    pub(super) fn check_addresses(&mut self, tree: &Node, site: &Site, subnet: IpNet) {
        let (first, last) = (nth(subnet, FIRST), nth(subnet, LAST));
        let way_out = match free(site, subnet) {
            Some(free) => format!("write {free}, or leave `address` out: then a free one is chosen"),
            None => "leave `address` out: then a free one is chosen".to_owned(),
        };
        let mut taken: BTreeMap<IpAddr, At> = BTreeMap::new();
        for (name, endpoint) in &site.endpoints {
            let Some(address) = endpoint.address else { continue };
            let at = tree.at(&["endpoint", name.as_str(), "address"]);
            if address < first || address > last {
                let help = format!(
                    "{way_out}; below {first} are the coordinator's and the artefacts' addresses, above {last} the nodes'"
                );
                self.error(
                    at,
                    format!("endpoint {name} cannot have the address {address}"),
                    format!("expected {first} to {last}"),
                    Some(help),
                );
            }
            if let Some(other) = taken.insert(address, at) {
                let mut error = Diagnostic::new(format!("two endpoints have the address {address}"));
                error.places.push(self.sources.place(other.min(at), "here"));
                error.places.push(self.sources.place(other.max(at), "and here"));
                self.errors.push(error.help(format!("give one another: {way_out}")));
            }
        }
    }
}

/// An address that is not written, nor the first choice for an endpoint without one.
fn free(site: &Site, subnet: IpNet) -> Option<IpAddr> {
    let written: BTreeSet<IpAddr> = site.endpoints.values().filter_map(|endpoint| endpoint.address).collect();
    let chosen = site.endpoints.values().filter(|endpoint| endpoint.address.is_none()).count();
    (FIRST..=LAST).map(|index| nth(subnet, index)).filter(|address| !written.contains(address)).nth(chosen)
}
