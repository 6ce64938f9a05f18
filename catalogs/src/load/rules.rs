//! What tables of a site must fulfil together.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use muster_ids::{AppName, EndpointName, PoolName};

use super::Loader;
use crate::{
    diagnostic::Diagnostic,
    kinds::{cluster_member::MemberRole, pod_network::Mode},
    shape::nearest,
    site::{Provider, Site},
    tree::{At, Node},
};

impl Loader {
    /// One pool of control planes, odd in number, of a fixed size, behind the endpoint `api`.
    pub(super) fn check_members(&mut self, tree: &Node, site: &mut Site) {
        let planes: Vec<(PoolName, u32, u32)> = site
            .pools
            .iter()
            .filter(|(_, pool)| pool.member == MemberRole::ControlPlane)
            .map(|(name, pool)| (name.clone(), pool.min, pool.max))
            .collect();
        match planes.as_slice() {
            [] if site.pools.is_empty() => {}
            [] => self.error(
                tree.at(&["pool"]),
                "no pool is of control planes",
                "expected a pool whose role says member = \"control-plane\"",
                None,
            ),
            [(name, min, max)] => {
                let key = if tree.get(&["pool", name.as_str(), "count"]).is_some() { "count" } else { "min" };
                let at = tree.at(&["pool", name.as_str(), key]);
                if min != max && key == "min" {
                    let at = tree.at(&["pool", name.as_str(), "max"]);
                    self.error(
                        at,
                        format!("pool {name} of control planes cannot grow by itself"),
                        "expected `count`",
                        None,
                    );
                } else if min % 2 == 0 {
                    let help = format!(
                        "{} or {}: a majority of {min} survives no more losses than one of {}",
                        min - 1,
                        min + 1,
                        min - 1
                    );
                    self.error(
                        at,
                        format!("the number of control planes is even: {min}"),
                        "expected an odd number",
                        Some(help),
                    );
                } else if *min > 7 {
                    self.error(
                        at,
                        format!("{min} control planes are too many"),
                        "expected 1, 3, 5 or 7",
                        Some("every write waits for a majority of them".to_owned()),
                    );
                }
            }
            [(first, ..), (second, ..), ..] => {
                let mut error = Diagnostic::new("two pools are of control planes");
                for (name, label) in [(first, "here"), (second, "and here")] {
                    error.places.push(self.sources.place(tree.at(&["pool", name.as_str(), "role"]), label));
                }
                self.errors.push(error.help("put them into one pool"));
            }
        }
        if tree.get(&["endpoint"]).is_some() {
            match site.endpoints.iter().find(|(name, _)| name.as_str() == "api") {
                None if tree.get(&["endpoint", "api"]).is_none() => self.error(
                    tree.at(&["endpoint"]),
                    "the endpoint `api` is missing",
                    "expected [endpoint.api]",
                    Some(
                        "nodes and users reach the cluster by it: [endpoint.api] with to = \"control-plane\""
                            .to_owned(),
                    ),
                ),
                Some((_, api)) if site.pools.get(&api.to).is_some_and(|p| p.member == MemberRole::Worker) => self
                    .error(
                        tree.at(&["endpoint", "api", "to"]),
                        "the endpoint `api` leads to workers",
                        "expected the pool of control planes",
                        None,
                    ),
                Some(_) | None => {}
            }
        }
    }

    /// Ranges do not overlap and are large enough; addresses lie where they should.
    pub(super) fn check_networks(&mut self, tree: &Node, site: &Site) {
        let mut ranges: Vec<(&str, IpNet, At)> = vec![
            ("the pods' range", site.pods, tree.at(&["cluster", "pods"])),
            ("the services' range", site.services, tree.at(&["cluster", "services"])),
        ];
        match &site.provider {
            Provider::Docker { subnet } => {
                ranges.push(("the provider's subnet", *subnet, tree.at(&["provider", "docker", "subnet"])));
            }
            Provider::Aws { .. } => {}
        }
        for (name, range, at) in &ranges {
            if matches!(range, IpNet::V6(_)) {
                self.error(
                    *at,
                    format!("{name} is IPv6"),
                    "expected an IPv4 range",
                    Some("IPv6 is not offered yet".to_owned()),
                );
                return;
            }
        }
        for (i, (name, range, at)) in ranges.iter().enumerate() {
            for (other_name, other, other_at) in &ranges[..i] {
                if range.contains(other) || other.contains(range) {
                    let mut error = Diagnostic::new(format!("{name} and {other_name} overlap"));
                    error.places.push(self.sources.place(*other_at, other.to_string()));
                    if other_at != at {
                        error.places.push(self.sources.place(*at, range.to_string()));
                    }
                    self.errors.push(error.help("choose ranges that share no address"));
                }
            }
        }
        let nodes = site.pools.values().fold(0_u32, |sum, pool| sum.saturating_add(pool.max));
        let room = |prefix: u8, each: u8| if prefix > each { 0 } else { 1_u64 << (each - prefix) };
        if room(site.pods.prefix_len(), 24) < u64::from(nodes) {
            let label = format!("{nodes} nodes need {nodes} ranges of 256 addresses");
            self.error(tree.at(&["cluster", "pods"]), "the pods' range is too small", label, None);
        }
        if !(12..=28).contains(&site.services.prefix_len()) {
            self.error(
                tree.at(&["cluster", "services"]),
                "the services' range has a wrong size",
                "expected a prefix from /12 to /28",
                None,
            );
        }
        let Provider::Docker { subnet } = &site.provider else { return };
        if !(16..=22).contains(&subnet.prefix_len()) {
            self.error(
                tree.at(&["provider", "docker", "subnet"]),
                "the provider's subnet has a wrong size",
                "expected a prefix from /16 to /22",
                None,
            );
            return;
        }
        self.check_addresses(tree, site, *subnet);
    }

    /// What tables name must be there.
    pub(super) fn check_references(&mut self, tree: &Node, site: &Site) {
        let pools: Vec<String> =
            tree.get(&["pool"]).and_then(Node::table).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let references = site
            .endpoints
            .iter()
            .map(|(name, e)| (format!("endpoint {name}"), &e.to, tree.at(&["endpoint", name.as_str(), "to"])))
            .chain(
                site.disks
                    .iter()
                    .map(|(name, d)| (format!("disk {name}"), &d.pool, tree.at(&["disk", name.as_str(), "pool"]))),
            );
        let missing: Vec<_> = references.filter(|(_, pool, _)| !pools.iter().any(|p| p == pool.as_str())).collect();
        // A pool with a bad name was reported, and is what is meant.
        let all_named_well = pools.iter().all(|p| p.parse::<PoolName>().is_ok());
        for (what, pool, at) in missing.into_iter().filter(|_| all_named_well) {
            let help = nearest(pool.as_str(), pools.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
            self.error(
                at,
                format!("{what} names the pool `{pool}`, which there is not"),
                format!("expected one of: {}", pools.join(", ")),
                help,
            );
        }
        self.lead_to_workers(tree, site);
        if site.network == Mode::External
            && !site.roles.values().any(|r| r.resources.iter().any(|w| w.kind == "manifest"))
        {
            self.error(
                tree.at(&["cluster", "network"]),
                "the pod network is left to a manifest, and no role has one",
                "expected a role with [[manifest]]",
                Some("add the network's manifest to the role of the control planes".to_owned()),
            );
        }
        self.once_each(tree, site);
    }

    /// Applications run on workers: so do their disks, and so do their endpoints lead there.
    fn lead_to_workers(&mut self, tree: &Node, site: &Site) {
        // With two such pools, which was reported, nobody knows which of them is meant for workers.
        let mut all = site.pools.iter().filter(|(_, pool)| pool.member == MemberRole::ControlPlane);
        let only = all.next().filter(|_| all.next().is_none()).map(|(name, _)| name);
        let planes = |pool| Some(pool) == only;
        let label = "expected a pool of workers: applications run there";
        for (name, endpoint) in site.endpoints.iter().filter(|(name, e)| name.as_str() != "api" && planes(&e.to)) {
            let help = "only the endpoint `api` leads to control planes".to_owned();
            let message = format!("endpoint {name} leads to control planes, `{}`", endpoint.to);
            self.error(tree.at(&["endpoint", name.as_str(), "to"]), message, label, Some(help));
        }
        for (name, disk) in site.disks.iter().filter(|(_, disk)| planes(&disk.pool)) {
            let message = format!("disk {name} is held by control planes, `{}`", disk.pool);
            self.error(tree.at(&["disk", name.as_str(), "pool"]), message, label, None);
        }
        if let Some((name, api)) = site.endpoints.iter().find(|(name, _)| name.as_str() == "api")
            && api.port != 6443
        {
            let at = tree.at(&["endpoint", name.as_str(), "port"]);
            let help = "leave it out; the port that clients use is `listen`".to_owned();
            let message = format!("endpoint api: API servers do not listen on port {}", api.port);
            self.error(at, message, "expected 6443", Some(help));
        }
    }

    /// Endpoints, their ports, disks and namespaces that two components take.
    fn once_each(&mut self, tree: &Node, site: &Site) {
        let mut taken: BTreeMap<String, At> = BTreeMap::new();
        let mut twice = Vec::new();
        let mut ports = BTreeSet::new();
        let mut take = |what: String, at: At| {
            if let Some(first) = taken.insert(what.clone(), at) {
                twice.push((what, first, at));
            }
        };
        for (name, app) in &site.apps {
            let name: &AppName = name;
            let node = app.node.get(&["namespace"]).map_or(app.at, |n| n.at);
            take(format!("namespace {}", app.namespace), node);
            for component in &app.components {
                let at = |path: &[&str]| {
                    let full: Vec<&str> = ["app", name.as_str(), component].iter().chain(path).copied().collect();
                    tree.get(&full).and_then(|n| Some((n.str()?.to_owned(), n.at)))
                };
                for (word, path) in [("endpoint", &["endpoint"][..]), ("disk", &["disk", "name"][..])] {
                    if let Some((value, place)) = at(path) {
                        take(format!("{word} {value}"), place);
                    }
                }
                // Several endpoints may lead to one port, as long as one component is behind it.
                if let Some((value, place)) = at(&["endpoint"])
                    && let Ok(name) = value.parse::<EndpointName>()
                    && let Some(endpoint) = site.endpoints.get(&name)
                    && ports.insert(name)
                    && tree.get(&["endpoint", &value, "port"]).is_some()
                {
                    take(format!("port {}", endpoint.port), place);
                }
            }
        }
        for (what, first, second) in twice {
            let mut error = Diagnostic::new(format!("two components take the {what}"));
            error.places.push(self.sources.place(first, "here"));
            error.places.push(self.sources.place(second, "and here"));
            self.errors.push(error.help("give one another"));
        }
        for (name, app) in &site.apps {
            if app.namespace.starts_with("kube-") || app.namespace == "default" || app.namespace == "muster" {
                let at = app.node.get(&["namespace"]).map_or(app.at, |n| n.at);
                self.error(
                    at,
                    format!("application {name} cannot live in the namespace {}", app.namespace),
                    "that one is the cluster's own",
                    None,
                );
            } else if app.namespace.parse::<AppName>().is_err() {
                let at = app.node.get(&["namespace"]).map_or(app.at, |n| n.at);
                self.error(
                    at,
                    format!("`{}` cannot be a namespace", app.namespace),
                    "expected lower-case letters, digits and `-`",
                    None,
                );
            }
        }
    }
}
