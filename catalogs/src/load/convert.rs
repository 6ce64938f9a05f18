//! From checked tables to the site's types.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use muster_ids::{AppName, ClusterName, EnvName, PoolName, RoleName};

use super::Loader;
use crate::{
    apps::App,
    compile::empty,
    diagnostic::Diagnostic,
    formats,
    kinds::{cluster_member::MemberRole, pod_network::Mode},
    role::{self, Role},
    shape::nearest,
    site::{Disk, Endpoint, Pool, Provider, Secret, Site},
    tables::{ClusterTable, DiskTable, EndpointTable, OneOrMany, PoolTable, ProviderTable, SecretTable},
    template::Templates,
    tree::{At, Node, Sources, Table, Value},
};

impl Loader {
    pub(super) fn convert(&mut self, tree: &Node, environment: &EnvName, roles: Arc<BTreeMap<RoleName, Role>>) -> Site {
        let cluster: Option<ClusterTable> = tree.get(&["cluster"]).and_then(Self::decode);
        let net = |text: Option<&str>, default: [u8; 4], prefix: u8| {
            text.and_then(|t| t.parse().ok()).unwrap_or_else(|| IpNet::new_assert(IpAddr::from(default), prefix))
        };
        let variables = tree.get(&["variables"]).cloned().unwrap_or_else(|| empty(tree.at));
        let provider = self.provider(tree, environment);
        let mut site = Site {
            cluster: cluster.as_ref().map_or_else(cluster_name, |c| c.name.clone()),
            environment: environment.clone(),
            protected: tree.get(&["protected"]).is_some_and(|n| n.value == Value::Boolean(true)),
            kubernetes: cluster.as_ref().map_or_else(String::new, |c| c.kubernetes.clone()),
            pods: net(cluster.as_ref().map(|c| c.pods.as_str()), [10, 244, 0, 0], 16),
            services: net(cluster.as_ref().map(|c| c.services.as_str()), [10, 96, 0, 0], 12),
            network: cluster.as_ref().map_or(Mode::Vxlan, |c| c.network),
            provider,
            pools: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            disks: BTreeMap::new(),
            apps: BTreeMap::new(),
            variables: match variables.to_json() {
                serde_json::Value::Object(map) => map.into_iter().collect(),
                _ => BTreeMap::new(),
            },
            secrets: BTreeMap::new(),
            roles,
            warnings: Vec::new(),
            provided: BTreeMap::new(),
            alone: false,
            variable_tree: variables,
            sources: Sources::default(),
            templates: Templates::none(),
        };
        for (name, table, node) in self.each::<PoolName, PoolTable>(tree, "pool") {
            if let Some(pool) = self.pool(&name, table, node, &site.roles) {
                site.pools.insert(name, pool);
            }
        }
        for (name, table, node) in self.each(tree, "endpoint") {
            let endpoint = self.endpoint(&name, &table, node);
            site.endpoints.insert(name, endpoint);
        }
        for (name, table, _) in self.each::<_, DiskTable>(tree, "disk") {
            site.disks.insert(name, Disk { pool: table.pool, size: formats::size(&table.size).unwrap_or(1) });
        }
        for (name, table, node) in self.each::<String, SecretTable>(tree, "secret") {
            if !table.generate {
                self.error(node.at(&["generate"]), format!("nothing makes the secret {name}"), "expected true", None);
            }
            site.secrets.insert(name, Secret { generate: table.generate });
        }
        for (name, entry) in tree.get(&["app"]).and_then(Node::table).into_iter().flatten() {
            if let Ok(name) = name.parse::<AppName>() {
                let node = entry.node.clone();
                let namespace =
                    node.get(&["namespace"]).and_then(Node::str).map_or_else(|| name.to_string(), str::to_owned);
                let components = node.table().into_iter().flat_map(Table::keys).filter(|k| *k != "namespace");
                let components: Vec<String> = components.cloned().collect();
                let endpoints =
                    components.iter().filter_map(|c| node.get(&[c, "endpoint"])?.str()?.parse().ok()).collect();
                site.apps.insert(name, App { namespace, components, endpoints, at: entry.key, node });
            }
        }
        site
    }

    fn provider(&mut self, tree: &Node, environment: &EnvName) -> Provider {
        let fallback = Provider::Docker { subnet: IpNet::new_assert(IpAddr::from([10, 89, 0, 0]), 16) };
        let Some(node) = tree.get(&["provider"]) else {
            let path = format!("environments/{environment}.toml");
            if let Some(at) = self.sources.file(&path) {
                let help = "add [provider.docker] for containers on this machine".to_owned();
                self.error(at, format!("the environment {environment} has no provider"), "in this file", Some(help));
            }
            return fallback;
        };
        let Some(table) = Self::decode::<ProviderTable>(node) else { return fallback };
        match (table.docker, table.aws) {
            (Some(docker), None) => docker.subnet.parse().map_or(fallback, |subnet| Provider::Docker { subnet }),
            (None, Some(aws)) => Provider::Aws { region: aws.region },
            (None, None) => {
                self.error(node.at, "the provider is missing", "expected [provider.docker] or [provider.aws]", None);
                fallback
            }
            (Some(_), Some(_)) => {
                self.error(
                    node.at(&["aws"]),
                    "two providers are given",
                    "expected one",
                    Some("give each environment its own".to_owned()),
                );
                fallback
            }
        }
    }

    fn pool(
        &mut self,
        name: &PoolName,
        table: PoolTable,
        node: &Node,
        roles: &BTreeMap<RoleName, Role>,
    ) -> Option<Pool> {
        let (min, max) = match (table.count, table.min, table.max) {
            (Some(count), None, None) => (count, count),
            (None, Some(min), max) => (min, max.unwrap_or(min)),
            (Some(count), min, max) => {
                let key = if min.is_some() { "min" } else { "max" };
                let (one, other) = (node.at(&["count"]), node.at(&[key]));
                let places = [(one.min(other), "here"), (one.max(other), "and here")];
                let mut error = Diagnostic::new(format!("pool {name} has `count` and `{key}`"));
                error.places.extend(places.map(|(at, label)| self.sources.place(at, label)));
                let help = "give `count`, or `min` and `max`; an environment changes single keys and takes none away";
                self.errors.push(error.help(help));
                (count, max.unwrap_or(count))
            }
            (None, None, max) => {
                self.error(
                    node.at,
                    format!("pool {name} does not say how many nodes"),
                    "expected `count`, or `min` and `max`",
                    None,
                );
                (1, max.unwrap_or(1))
            }
        };
        // More was reported; to go on with would take as long.
        let (min, max) = (min.min(MOST_NODES), max.min(MOST_NODES));
        if min > max {
            self.error(
                node.at(&["max"]),
                format!("pool {name}: `max` is below `min`"),
                format!("expected at least {min}"),
                None,
            );
        }
        if !roles.contains_key(&table.role) {
            let help = nearest(table.role.as_str(), roles.keys().map(RoleName::as_str))
                .map(|n| format!("did you mean `{n}`?"));
            self.error(
                node.at(&["role"]),
                format!("there is no role `{}`", table.role),
                format!("expected a file roles/{}.toml", table.role),
                help,
            );
            self.whole = false;
            return None;
        }
        let member = self.member(name, &table.role, node, roles);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: at least 0.1")]
        let cpus = table.cpus.map(|c| (c * 1000.0).round() as u32);
        Some(Pool {
            role: table.role,
            member,
            min,
            max,
            labels: table.labels,
            taints: table.taints.into_iter().map(|t| t.0).collect(),
            cpus,
            memory: table.memory.as_deref().and_then(formats::size),
            disrupt: table.disrupt,
            instance: match table.instance {
                None => Vec::new(),
                Some(OneOrMany::One(one)) => vec![one],
                Some(OneOrMany::Many(many)) => many,
            },
        })
    }

    /// What a pool's role, with all that it includes, is to Kubernetes.
    fn member(
        &mut self,
        pool: &PoolName,
        role: &RoleName,
        node: &Node,
        roles: &BTreeMap<RoleName, Role>,
    ) -> MemberRole {
        let all = role::with_included(roles, role);
        let given: Vec<(MemberRole, At)> = all.iter().filter_map(|r| r.member).collect();
        if let Some((_, other)) = given.iter().find(|(member, _)| *member != given[0].0) {
            let places = [self.sources.place(given[0].1, "here"), self.sources.place(*other, "and here")];
            let mut error = Diagnostic::new(format!("pool {pool} is control plane and worker"));
            error.places.extend(places);
            self.errors.push(error.help("include one of the two roles"));
        }
        match given.first() {
            Some((member, _)) => *member,
            None => {
                let help = format!("add member = \"worker\" to roles/{role}.toml");
                self.error(
                    node.at(&["role"]),
                    format!("pool {pool} is neither control plane nor worker"),
                    "no role of it says `member`",
                    Some(help),
                );
                MemberRole::Worker
            }
        }
    }

    fn endpoint(&mut self, name: &muster_ids::EndpointName, table: &EndpointTable, node: &Node) -> Endpoint {
        let api = name.as_str() == "api";
        for (key, given) in [("listen", table.listen), ("port", table.port)] {
            if given.is_none() && !api {
                self.error(
                    node.at,
                    format!("endpoint {name} needs `{key}`"),
                    format!("`{key}` is missing: a port"),
                    None,
                );
            }
        }
        if let (false, Some(port)) = (api, table.port)
            && !(30000..=32767).contains(&port)
        {
            self.error(
                node.at(&["port"]),
                format!("endpoint {name}: {port} is no NodePort"),
                "expected 30000 to 32767",
                None,
            );
        }
        Endpoint {
            to: table.to.clone(),
            listen: table.listen.unwrap_or(6443),
            port: table.port.unwrap_or(6443),
            check: table.check.clone().unwrap_or_else(|| if api { "/readyz" } else { "/" }.to_owned()),
            // Absent: the planner chooses one, which only a blueprint remembers.
            address: table.address.as_deref().and_then(|address| address.parse().ok()),
        }
    }
}

/// What the schema takes, and what is gone on with where somebody wrote more.
const MOST_NODES: u32 = 250;

/// Stands in while a wrong name is reported.
fn cluster_name() -> ClusterName {
    "cluster".parse().expect("a valid name")
}
