//! From files to a valid site, collecting every error.
//!
//! Each table is decoded by itself, so that what is wrong with one hides nothing in the others; what is wrong is
//! left out or replaced by a harmless value until all is checked, and any error refuses the site in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_ids::{AppName, ClusterName, EnvName, PoolName, RoleName};
use serde::de::DeserializeOwned;

use crate::{
    apps::App,
    compile::empty,
    diagnostic::{Diagnostic, Diagnostics},
    formats,
    kinds::{cluster_member::MemberRole, pod_network::Mode},
    merge::merge,
    role::{self, Role},
    schema,
    shape::{self, Rules, nearest},
    site::{Disk, Endpoint, Pool, Provider, Secret, Site, SiteFiles, nth},
    tables::{ClusterTable, DiskTable, EndpointTable, OneOrMany, PoolTable, ProviderTable, SecretTable},
    tree::{self, At, Node, Sources, Table, Value},
    trial,
};

/// Tables of names that an environment may change and not add to, with the word for one.
const NAMED: &[(&str, &str)] = &[("app", "application"), ("disk", "disk"), ("endpoint", "endpoint"), ("pool", "pool")];

/// Reads a site for one environment. All errors at once.
pub fn load(files: &SiteFiles, environment: &EnvName) -> Result<Site, Diagnostics> {
    let sources = Sources::new(&files.0);
    let mut loader = Loader { sources, errors: Vec::new(), whole: true };
    let site = loader.site(files, environment);
    match site {
        Some(mut site) => {
            // What only shows on a node is tried on one node of each pool. After an error of syntax or shape that
            // would repeat it in other words.
            if loader.whole {
                trial::run(&site, &mut loader.errors);
            }
            if loader.errors.is_empty() {
                site.warnings = warnings(files, &site);
                return Ok(site);
            }
            Err(Diagnostics::sorted(loader.errors))
        }
        None => Err(Diagnostics::sorted(loader.errors)),
    }
}

struct Loader {
    sources: Sources,
    errors: Vec<Diagnostic>,
    /// False after an error that leaves things out.
    whole: bool,
}

impl Loader {
    fn error(&mut self, at: At, message: impl Into<String>, label: impl Into<String>, help: Option<String>) {
        let place = self.sources.place(at, label);
        self.errors.push(Diagnostic::new(message).at(place).help_if(help));
    }

    fn site(&mut self, files: &SiteFiles, environment: &EnvName) -> Option<Site> {
        let tree = self.tables(files, environment)?;
        let roles = self.roles(files);
        let mut site = self.convert(&tree, environment, roles);
        self.check_members(&tree, &mut site);
        self.check_networks(&tree, &site);
        self.check_references(&tree, &site);
        site.texts =
            files.0.iter().filter(|(p, _)| !p.ends_with(".toml")).map(|(p, t)| (p.clone(), t.clone())).collect();
        site.sources = self.sources.clone();
        Some(site)
    }

    /// `muster.toml`, the applications and the environment, merged.
    fn tables(&mut self, files: &SiteFiles, environment: &EnvName) -> Option<Node> {
        if !files.0.contains_key("muster.toml") {
            self.errors.push(
                Diagnostic::new("the site has no file muster.toml")
                    .help("`muster init DIR` makes a site to begin with"),
            );
        }
        let name = format!("environments/{environment}.toml");
        if !files.0.contains_key(&name) {
            let known: Vec<&str> =
                files.0.keys().filter_map(|p| p.strip_prefix("environments/")?.strip_suffix(".toml")).collect();
            let help = match nearest(environment.as_str(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the site has: {}", known.join(", ")),
            };
            self.errors.push(
                Diagnostic::new(format!("there is no environment `{environment}`: the site has no file {name}"))
                    .help(help),
            );
        }
        if !self.errors.is_empty() {
            self.whole = false;
            return None;
        }
        let partial = Rules { partial: true, templates: true };
        let mut base = self.parse("muster.toml", Some((&schema::SITE, partial)))?;
        for path in files.0.keys().filter(|p| p.starts_with("apps/") && p.ends_with(".toml")) {
            let Some(file) = self.parse(path, Some((&schema::APP_FILE, partial))) else { continue };
            let apps = base.get(&["app"]).and_then(Node::table).cloned().unwrap_or_default();
            for (app, entry) in file.get(&["app"]).and_then(Node::table).into_iter().flatten() {
                if let Some(other) = apps.get(app) {
                    let (first, second) =
                        (self.sources.place(other.key, "here"), self.sources.place(entry.key, "and here"));
                    self.errors.push(
                        Diagnostic::new(format!("two applications are called {app}"))
                            .at(first)
                            .at(second)
                            .help("rename one"),
                    );
                }
            }
            base = merge(&base, &file);
        }
        let over = self.parse(&name, Some((&schema::SITE, partial)))?;
        self.only_what_exists(&base, &over);
        let merged = merge(&base, &known_to(&base, &over));
        if self.whole {
            let mut all = Vec::new();
            shape::check(&schema::SITE, &merged, Rules { partial: false, templates: true }, &self.sources, &mut all);
            // What each file's own check found is known already.
            all.retain(|e| !self.errors.contains(e));
            self.errors.extend(all);
        }
        Some(merged)
    }

    fn parse(&mut self, path: &str, check: Option<(&serde_json::Value, Rules)>) -> Option<Node> {
        let before = self.errors.len();
        let node = tree::parse(&self.sources, path, &mut self.errors)?;
        if self.errors.len() > before {
            // Recovery is partial: what follows an error of syntax may be missing or in another table.
            self.whole = false;
        } else if let Some((schema, rules)) = check {
            shape::check(schema, &node, rules, &self.sources, &mut self.errors);
        }
        Some(node)
    }

    /// An environment changes pools, endpoints and so on; it does not add any. A mistyped name would be a new one.
    fn only_what_exists(&mut self, base: &Node, over: &Node) {
        let none = Table::new();
        let mut unknown = Vec::new();
        let mut compare = |path: &[&str], word: &str| {
            let known = base.get(path).and_then(Node::table).unwrap_or(&none);
            for (name, entry) in over.get(path).and_then(Node::table).into_iter().flatten() {
                if !known.contains_key(name) {
                    let near = nearest(name, known.keys().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
                    unknown.push((entry.key, format!("the site has no {word} `{name}`"), near));
                }
            }
        };
        for (table, word) in NAMED {
            compare(&[table], word);
        }
        for app in base.get(&["app"]).and_then(Node::table).into_iter().flat_map(Table::keys) {
            compare(&["app", app], "component");
        }
        compare_variables(base.get(&["variables"]), over.get(&["variables"]), &mut unknown);
        for (at, message, help) in unknown {
            let help = help.or_else(|| {
                Some("an environment changes what muster.toml declares: declare it there first".to_owned())
            });
            self.error(at, message, "only here", help);
        }
    }

    fn roles(&mut self, files: &SiteFiles) -> BTreeMap<RoleName, Role> {
        let mut roles = BTreeMap::new();
        let rules = Rules { partial: false, templates: true };
        for path in files.0.keys() {
            let Some(name) = path.strip_prefix("roles/").and_then(|p| p.strip_suffix(".toml")) else { continue };
            if name.contains('/') {
                continue;
            }
            let name: RoleName = match name.parse() {
                Ok(name) => name,
                Err(error) => {
                    self.errors.push(
                        Diagnostic::new(format!("the file {path} cannot name a role: {error}")).help("rename it"),
                    );
                    continue;
                }
            };
            let before = self.errors.len();
            let Some(node) = tree::parse(&self.sources, path, &mut self.errors) else { continue };
            self.whole &= self.errors.len() == before;
            if self.errors.len() > before {
                // Its sound parts are kept: others may refer to it.
                let mut unheard = Vec::new();
                roles.insert(name.clone(), role::read(name, path, node, &self.sources, rules, &mut unheard));
                continue;
            }
            roles.insert(name.clone(), role::read(name, path, node, &self.sources, rules, &mut self.errors));
        }
        role::check_includes(&roles, &self.sources, &mut self.errors);
        roles
    }

    /// Decodes a table whose shape was checked already; nothing where it is wrong.
    fn decode<T: DeserializeOwned>(node: &Node) -> Option<T> {
        serde_json::from_value(node.to_json()).ok()
    }

    fn each<'a, K: std::str::FromStr, T: DeserializeOwned>(
        &mut self,
        tree: &'a Node,
        table: &str,
    ) -> Vec<(K, T, &'a Node)> {
        let entries = tree.get(&[table]).and_then(Node::table).into_iter().flatten();
        let all: Vec<Option<_>> =
            entries.map(|(name, e)| Some((name.parse().ok()?, Self::decode(&e.node)?, &e.node))).collect();
        // Others may name what is left out here.
        self.whole &= all.iter().all(Option::is_some);
        all.into_iter().flatten().collect()
    }

    fn convert(&mut self, tree: &Node, environment: &EnvName, roles: BTreeMap<RoleName, Role>) -> Site {
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
            texts: BTreeMap::new(),
            warnings: Vec::new(),
            provided: BTreeMap::new(),
            alone: false,
            variable_tree: variables,
            sources: Sources::default(),
        };
        for (name, table, node) in self.each::<PoolName, PoolTable>(tree, "pool") {
            if let Some(pool) = self.pool(&name, table, node, &site.roles) {
                site.pools.insert(name, pool);
            }
        }
        for (name, table, node) in self.each(tree, "endpoint") {
            let endpoint = self.endpoint(&name, &table, node, &site.provider);
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

    fn endpoint(
        &mut self,
        name: &muster_ids::EndpointName,
        table: &EndpointTable,
        node: &Node,
        provider: &Provider,
    ) -> Endpoint {
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
        let given: Option<IpAddr> = table.address.as_deref().and_then(|a| a.parse().ok());
        let address = match provider {
            Provider::Docker { subnet } => {
                let default = api.then(|| nth(*subnet, 10));
                if given.or(default).is_none() {
                    let help = format!("add address = \"{}\", or another that is free", nth(*subnet, 11));
                    self.error(
                        node.at,
                        format!("endpoint {name} has no address"),
                        "expected `address` in the provider's subnet",
                        Some(help),
                    );
                }
                given.or(default)
            }
            Provider::Aws { .. } => given,
        };
        Endpoint {
            to: table.to.clone(),
            listen: table.listen.unwrap_or(6443),
            port: table.port.unwrap_or(6443),
            check: table.check.clone().unwrap_or_else(|| if api { "/readyz" } else { "/" }.to_owned()),
            address,
        }
    }
}

/// What is worth saying and no error.
fn warnings(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let provider = site.provider.not_offered().map(Diagnostic::new);
    let growing = site.pools.iter().filter(|(_, pool)| pool.max > pool.min).map(|(name, pool)| {
        Diagnostic::new(format!("pool {name} stays at {} nodes: nothing adds nodes by itself yet", pool.min))
    });
    provider.into_iter().chain(growing).chain(unread_roles(files, site)).collect()
}

/// TOML in a folder of `roles/` that no role names: it looks like a role and is none.
fn unread_roles(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let written = site.roles.values().flat_map(|role| &role.resources);
    let named: BTreeSet<String> = written
        .flat_map(|written| ["source", "template"].map(|key| written.node.get(&[key])))
        .filter_map(|node| Some(format!("roles/{}", node?.str()?)))
        .collect();
    let inner = files.0.keys().filter(|path| path.ends_with(".toml"));
    inner
        .filter(|path| path.strip_prefix("roles/").is_some_and(|name| name.contains('/')) && !named.contains(*path))
        .map(|path| {
            Diagnostic::new(format!("{path} is read by nothing"))
                .help("a role is a file directly in roles/: move it there, or take it away")
        })
        .collect()
}

/// Stands in while a wrong name is reported.
fn cluster_name() -> ClusterName {
    "cluster".parse().expect("a valid name")
}

/// The environment without the tables that it may not add: they were reported, and are no pools that lack keys.
fn known_to(base: &Node, over: &Node) -> Node {
    let mut over = over.clone();
    let Value::Table(tables) = &mut over.value else { return over };
    for (table, _) in NAMED {
        let known = base.get(&[table]).and_then(Node::table);
        if let Some(Value::Table(named)) = tables.get_mut(*table).map(|e| &mut e.node.value) {
            named.retain(|name, _| known.is_some_and(|k| k.contains_key(name)));
        }
    }
    over
}

/// Below a table that is empty in `muster.toml` anything may be added.
fn compare_variables(base: Option<&Node>, over: Option<&Node>, unknown: &mut Vec<(At, String, Option<String>)>) {
    let (Some(base), Some(over)) = (base.and_then(Node::table), over.and_then(Node::table)) else {
        if let Some(first) = over.and_then(Node::table).and_then(|t| t.iter().next())
            && base.is_none()
        {
            unknown.push((first.1.key, format!("the site has no variable `{}`", first.0), None));
        }
        return;
    };
    if base.is_empty() {
        return;
    }
    for (name, entry) in over {
        match base.get(name) {
            Some(declared) => compare_variables(Some(&declared.node), Some(&entry.node), unknown),
            None => {
                let near = nearest(name, base.keys().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
                unknown.push((entry.key, format!("the site has no variable `{name}`"), near));
            }
        }
    }
}

mod rules;
