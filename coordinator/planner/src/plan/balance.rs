//! Load balancers: a fixed address each, and the nodes in service of one pool behind it.

use std::{collections::BTreeMap, net::SocketAddr};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::EndpointName;

use super::Draft;
use crate::{
    blueprint::{LoadBalancerPlan, NodeState},
    policy::EndpointPolicy,
};

impl Draft<'_> {
    pub(super) fn balance(&mut self) {
        let input = self.input;
        for name in self.next.load_balancers.keys().cloned().collect::<Vec<_>>() {
            if !input.policy.endpoints.contains_key(&name) {
                self.next.load_balancers.remove(&name);
                self.did(format!("removes load balancer {name}: the site does not name it any more"));
            }
        }
        // The API first, so that it has the first address in every environment.
        let mut endpoints: Vec<_> = input.policy.endpoints.iter().collect();
        endpoints.sort_by_key(|(name, endpoint)| (!self.passes_through(endpoint), *name));
        for (name, endpoint) in endpoints {
            self.balance_one(name, endpoint);
        }
    }

    fn balance_one(&mut self, name: &EndpointName, endpoint: &EndpointPolicy) {
        let Some(address) = self.endpoint_address(name) else { return };
        let targets: BTreeMap<_, _> = self
            .next
            .in_pool(&endpoint.to, NodeState::InService)
            .map(|(node, plan)| (node.clone(), SocketAddr::new(plan.address, endpoint.port)))
            .collect();
        let plan = LoadBalancerPlan {
            address,
            listen: endpoint.listen,
            targets,
            tls: self.passes_through(endpoint),
            check: endpoint.check.clone(),
        };
        let names =
            |plan: &LoadBalancerPlan| plan.targets.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self.next.load_balancers.insert(name.clone(), plan.clone()) {
            None => self.did(format!("adds load balancer {name} at {address}:{}: {}", plan.listen, names(&plan))),
            Some(old) if old != plan => self.did(format!("points load balancer {name} at {}", names(&plan))),
            Some(_) => {}
        }
    }

    /// The API server ends TLS itself and asks for client certificates.
    fn passes_through(&self, endpoint: &EndpointPolicy) -> bool {
        self.input.policy.pools.get(&endpoint.to).is_some_and(|pool| pool.member == MemberRole::ControlPlane)
    }
}
