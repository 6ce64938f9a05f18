//! From a valid site and what is known of one node to that node's catalog.
//!
//! Flat and resolved: no template, no role, no `when` is left, and every edge is written out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, Generation, NodeName, PoolName, ResourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::{
    apps,
    catalog::{Catalog, Resource},
    diagnostic::{Diagnostic, Diagnostics},
    graph,
    kinds::{
        self, SecretName, Spec, Texts,
        cluster_member::{Gone, MemberRole, Start, Worker},
        pod_network::Mode,
        pod_network::Peer,
    },
    role::{self, Role, Written},
    shape::{self, Rules, nearest},
    site::{Pool, Site},
    template::Engine,
    tree::{At, Node, Table, Value},
};

mod owners;
mod sets;

/// What a node reports of itself; `facts.…` in `when` and templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub hostname: String,
    /// As in `debian`.
    pub os: String,
    /// As in `12`.
    pub os_version: String,
    /// As in `amd64`, Debian's words.
    pub arch: String,
    pub kernel: String,
    /// `container`, `vm` or `none`.
    pub virtualization: String,
    /// `1` or `2`.
    pub cgroup: u32,
    /// CPUs that the node may use.
    pub cpus: u32,
    /// Bytes that the node may use.
    pub memory: u64,
    /// CPUs that the kernel shows: a container's limits are left out, as kubelet sees it. 0: not told.
    pub machine_cpus: u32,
    /// Bytes that the kernel shows, likewise.
    pub machine_memory: u64,
    /// The first address of the interface with the default route.
    pub address: String,
    pub interface: String,
}

/// What the blueprint says of a node, and the facts that it reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInput {
    pub name: NodeName,
    pub pool: PoolName,
    pub address: IpAddr,
    pub node_pods: IpNet,
    pub peers: Vec<Peer>,
    pub start: Start,
    /// Nodes that died and have not left the cluster.
    pub gone: Vec<Gone>,
    pub endpoints: BTreeMap<EndpointName, IpAddr>,
    /// Sets of Kubernetes objects that left the site: the control plane that leads deletes what is left of them.
    pub left_sets: BTreeSet<String>,
    /// Disks that this node holds, mounted at `/var/lib/muster/disks/NAME`.
    pub disks: Vec<DiskName>,
    pub facts: Facts,
}

/// Compiles one node's catalog. Errors that only show with the node's facts are diagnostics with the place in the site.
pub fn compile(site: &Site, node: &NodeInput, generation: Generation) -> Result<Catalog, Diagnostics> {
    let mut errors = Vec::new();
    let resource = resources(site, node, false, &mut errors);
    if !errors.is_empty() {
        return Err(Diagnostics::sorted(errors));
    }
    Ok(Catalog {
        cluster: site.cluster.clone(),
        environment: site.environment.clone(),
        node: node.name.clone(),
        generation,
        draft: false,
        resource,
    })
}

/// One resource on its way into the catalog.
struct Draft {
    resource: Resource,
    /// Where its table stands.
    at: At,
    /// Where its naming key stands.
    named: At,
    /// As they were written; `targets` moves them into the resource.
    after: Vec<(ResourceId, At)>,
    notify: Vec<(ResourceId, At)>,
}

/// The node's resources in order. With `all`, what `when` leaves out is checked too.
pub(crate) fn resources(site: &Site, node: &NodeInput, all: bool, errors: &mut Vec<Diagnostic>) -> Vec<Resource> {
    let Some(pool) = site.pools.get(&node.pool) else {
        errors.push(
            Diagnostic::new(format!("the site has no pool `{}`", node.pool))
                .help("it was there when the node was made: put it back, or remove the node"),
        );
        return Vec::new();
    };
    let engine = Engine::new(&context(site, node, pool, errors), &site.sources);
    let mut compiler = Compiler { site, node, pool, engine, errors };
    let mut drafts = Vec::new();
    // Ids that exist in the site but not on this node: edges to them are left out.
    let mut elsewhere = BTreeSet::new();
    for role in role::with_included(&site.roles, &pool.role) {
        for written in &role.resources {
            if !written.sound || !compiler.resource(role, written, all, &mut drafts, &mut elsewhere) {
                // What failed was reported: that others name it is no second error.
                let name = written.node.get(&[Spec::naming_key(written.kind)]).and_then(Node::str).unwrap_or_default();
                elsewhere.insert(ResourceId::new(written.kind, name));
            }
        }
    }
    if pool.member == MemberRole::ControlPlane {
        for (name, app) in &site.apps {
            let manifest = apps::compile(name, app, site, &compiler.engine, compiler.errors);
            if let Some(spec) = manifest {
                let resource = Resource { after: Vec::new(), notify: Vec::new(), spec: Spec::Manifest(spec) };
                drafts.push(Draft { resource, at: app.at, named: app.at, after: Vec::new(), notify: Vec::new() });
            }
        }
        sets::pruned(&mut drafts, &node.left_sets, site.variable_tree.at);
    }
    let drafts = owners::one_each(drafts, site, compiler.errors);
    owners::no_file_holds_another(&drafts, site, compiler.errors);
    let drafts = targets(drafts, &elsewhere, site, compiler.errors);
    ordered(drafts, site, compiler.errors)
}

/// What templates and `when` may use.
fn context(site: &Site, node: &NodeInput, pool: &Pool, errors: &mut Vec<Diagnostic>) -> Json {
    if site.alone {
        return json!({ "facts": node.facts });
    }
    let endpoints: Map<String, Json> = site
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            let address = node.endpoints.get(name).copied().or(endpoint.address);
            let value = json!({
                "address": address.map(|a| a.to_string()).unwrap_or_default(),
                "listen": endpoint.listen,
                "port": endpoint.port,
            });
            (name.to_string(), value)
        })
        .collect();
    let mut context = json!({
        "facts": node.facts,
        "node": {
            "name": node.name,
            "pool": node.pool,
            "address": node.address.to_string(),
            "pods": node.node_pods.to_string(),
            "disks": node.disks,
        },
        "pool": {
            "name": node.pool,
            "role": pool.role,
            "member": pool.member,
            "cpus": pool.cpus,
            "memory": pool.memory,
        },
        "peers": node.peers,
        "cluster": {
            "name": site.cluster,
            "environment": site.environment,
            "kubernetes": site.kubernetes,
            "pods": site.pods.to_string(),
            "services": site.services.to_string(),
            "dns": site.dns().to_string(),
            "network": site.network,
            "api": api(site, node),
        },
        "endpoints": endpoints,
    });
    // The values of variables may use all of the above, and what the coordinator provides, but not one another.
    if let Some(map) = context.as_object_mut() {
        map.extend(site.provided.clone());
    }
    let engine = Engine::new(&context, &site.sources);
    let variables = engine.tree(&site.variable_tree, errors).to_json();
    if let (Some(map), Json::Object(variables)) = (context.as_object_mut(), variables) {
        map.extend(variables);
    }
    context
}

fn api(site: &Site, node: &NodeInput) -> String {
    let Some((name, endpoint)) = site.endpoints.iter().find(|(name, _)| name.as_str() == "api") else {
        return String::new();
    };
    match node.endpoints.get(name).copied().or(endpoint.address) {
        Some(address) => format!("{address}:{}", endpoint.listen),
        None => String::new(),
    }
}

struct Compiler<'a> {
    site: &'a Site,
    node: &'a NodeInput,
    pool: &'a Pool,
    engine: Engine<'a>,
    errors: &'a mut Vec<Diagnostic>,
}

impl Compiler<'_> {
    /// True when it could be read; what is wrong was reported.
    fn resource(
        &mut self,
        role: &Role,
        written: &Written,
        all: bool,
        drafts: &mut Vec<Draft>,
        elsewhere: &mut BTreeSet<ResourceId>,
    ) -> bool {
        let mut table = written.node.table().cloned().unwrap_or_default();
        let when = table.remove("when");
        let here = match when.as_ref().and_then(|e| e.node.str().map(|text| (text, e.node.at))) {
            Some((text, at)) => self.engine.holds(text, at, self.errors),
            None => true,
        };
        let mut rendered = Node { at: written.node.at, value: Value::Table(table) };
        if written.templates {
            let before = self.errors.len();
            let schema = &kinds::SCHEMAS[written.kind];
            native(&self.engine, schema, &mut rendered, self.errors);
            if self.errors.len() > before {
                return false;
            }
            rendered = self.engine.tree(&rendered, self.errors);
            if self.errors.len() > before {
                return false;
            }
            let strict = Rules { partial: false, templates: false };
            // What is not here, because this environment leaves its variables blank, has no values to be judged by.
            let mut unheard = Vec::new();
            let errors = if here { &mut *self.errors } else { &mut unheard };
            if !shape::check(schema, &rendered, strict, &self.site.sources, errors) {
                return false;
            }
        }
        let Some(draft) = self.draft(role, written.kind, &rendered) else { return false };
        if !here {
            elsewhere.insert(draft.resource.id());
        }
        if here || all {
            self.secrets(&draft.resource.spec, &rendered);
            let judged = here || !written.templates;
            for fault in draft.resource.spec.faults().into_iter().filter(|_| judged) {
                let place = rendered.table().and_then(|t| t.get(fault.key)).map_or(draft.at, |e| e.key);
                let diagnostic = Diagnostic::new(fault.message).at(self.site.sources.place(place, fault.label));
                self.errors.push(diagnostic.help_if(fault.help));
            }
        }
        if here && written.kind == "manifest" && self.pool.member == MemberRole::Worker {
            let place = self.site.sources.place(draft.named, format!("of the role {}", role.name));
            let help =
                "move it into the role of the control planes, or give it when = 'pool.member == \"control-plane\"'";
            let message = format!("pool {} has a manifest, and its nodes are workers", self.node.pool);
            self.errors.push(Diagnostic::new(message).at(place).help(help));
        }
        if here {
            drafts.push(draft);
        }
        true
    }

    fn draft(&mut self, role: &Role, kind: &'static str, rendered: &Node) -> Option<Draft> {
        let mut table = rendered.table()?.clone();
        let after = references(table.remove("after").map(|e| e.node));
        let notify = references(table.remove("notify").map(|e| e.node));
        let named = table.get(Spec::naming_key(kind)).map_or(rendered.at, |e| e.node.at);
        let mut json = Node { at: rendered.at, value: Value::Table(table) }.into_json();
        if let Some(map) = json.as_object_mut() {
            match kind {
                "cluster_member" => self.fill_member(map),
                "pod_network" => self.fill_network(map),
                _ => {}
            }
        }
        let mut spec = match Spec::decode(kind, json) {
            Ok(spec) => spec,
            Err(error) => {
                let place = self.site.sources.place(rendered.at, "");
                self.errors.push(Diagnostic::new(format!("this {kind} cannot be read: {error}")).at(place));
                return None;
            }
        };
        self.resolve(role, rendered, &mut spec)?;
        let resource = Resource { after: Vec::new(), notify: Vec::new(), spec };
        Some(Draft { resource, at: rendered.at, named, after, notify })
    }

    /// Secrets that a resource names must be declared.
    fn secrets(&mut self, spec: &Spec, rendered: &Node) {
        for SecretName { name: secret, key, index } in spec.secrets() {
            let at = match index {
                None => rendered.at(&[key]),
                Some(index) => {
                    let places = rendered.get(&[key]).and_then(Node::array).unwrap_or_default();
                    places.get(index).map_or_else(|| rendered.at(&[key]), |node| node.at)
                }
            };
            if !self.site.secrets.contains_key(secret) {
                let known = self.site.secrets.keys().map(String::as_str);
                let help = match nearest(secret, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add [secret.{secret}] with generate = true to muster.toml"),
                };
                let place = self.site.sources.place(at, "not declared");
                self.errors.push(Diagnostic::new(format!("there is no secret `{secret}`")).at(place).help(help));
            }
        }
    }

    /// What the site and the blueprint know of a member; a role adds to it.
    fn fill_member(&self, map: &mut Map<String, Json>) {
        let (site, node) = (self.site, self.node);
        let mut labels: BTreeMap<String, Json> =
            self.pool.labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        labels.insert("muster.dev/pool".to_owned(), json!(node.pool));
        labels.extend(node.disks.iter().map(|disk| (format!("muster.dev/disk-{disk}"), json!("true"))));
        if let Some(Json::Object(own)) = map.remove("labels") {
            labels.extend(own);
        }
        // Applications run on workers: endpoints lead there.
        let of_role = match self.pool.member {
            MemberRole::ControlPlane => Some("node-role.kubernetes.io/control-plane:NoSchedule".into()),
            MemberRole::Worker => None,
        };
        let mut taints: Vec<Json> = of_role.into_iter().collect();
        let mut more: Vec<Json> = self.pool.taints.iter().map(|t| Json::from(t.as_str())).collect();
        if let Some(Json::Array(own)) = map.remove("taints") {
            more.extend(own);
        }
        for taint in more {
            // Twice the same is what kubelet refuses to start with.
            if !taints.contains(&taint) {
                taints.push(taint);
            }
        }
        map.insert("name".to_owned(), json!(node.name));
        map.insert("role".to_owned(), json!(self.pool.member));
        map.insert("start".to_owned(), json!(node.start));
        map.insert("address".to_owned(), json!(node.address.to_string()));
        map.insert("api_endpoint".to_owned(), json!(api(site, node)));
        map.insert("kubernetes".to_owned(), json!(site.kubernetes));
        map.insert("pods".to_owned(), json!(site.pods.to_string()));
        map.insert("services".to_owned(), json!(site.services.to_string()));
        map.entry("image_repository").or_insert_with(|| json!("registry.k8s.io"));
        map.insert("labels".to_owned(), json!(labels));
        map.insert("taints".to_owned(), json!(taints));
        // Who leads cleans up; who leads is not known here.
        let gone: &[Gone] = match self.pool.member {
            MemberRole::ControlPlane => &node.gone,
            MemberRole::Worker => &[],
        };
        map.insert("gone".to_owned(), json!(gone));
        map.insert("workers".to_owned(), json!(self.workers()));
    }

    /// The workers' labels and taints, for a control plane. By their pools alone: what follows from another node's facts
    /// has no place in this one's catalog, so a pool whose role says more of its own is left to the join.
    fn workers(&self) -> Vec<Worker> {
        let site = self.site;
        let worker = |peer: &Peer| {
            let (name, _) = peer.name.rsplit_once('-')?;
            let (_, pool) = site.pools.iter().find(|(pool, _)| pool.as_str() == name)?;
            let more = role::with_included(&site.roles, &pool.role).into_iter().flat_map(|role| &role.resources).any(
                |written| {
                    let says = |key| written.node.get(&[key]).is_some();
                    written.kind == "cluster_member" && (says("labels") || says("taints"))
                },
            );
            let fits = pool.member == MemberRole::Worker && !more;
            fits.then(|| Worker { name: peer.name.clone(), labels: pool.labels.clone(), taints: pool.taints.clone() })
        };
        match self.pool.member {
            MemberRole::ControlPlane => {
                let mut workers: Vec<Worker> = self.node.peers.iter().filter_map(worker).collect();
                workers.sort_by(|one, other| one.name.cmp(&other.name));
                workers
            }
            MemberRole::Worker => Vec::new(),
        }
    }

    fn fill_network(&self, map: &mut Map<String, Json>) {
        let node = self.node;
        map.entry("mode").or_insert_with(|| json!(self.site.network));
        map.insert("pods".to_owned(), json!(self.site.pods.to_string()));
        map.insert("node_pods".to_owned(), json!(node.node_pods.to_string()));
        map.insert("address".to_owned(), json!(node.address.to_string()));
        let external = map.get("mode") == Some(&json!(Mode::External));
        let mut peers: Vec<&Peer> = if external { Vec::new() } else { node.peers.iter().collect() };
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        map.insert("peers".to_owned(), json!(peers));
    }

    /// Puts the text of `source` and `template` in the place of their names.
    fn resolve(&mut self, role: &Role, rendered: &Node, spec: &mut Spec) -> Option<()> {
        let Some(Texts { content, source, template }) = spec.texts() else { return Some(()) };
        if usize::from(content.is_some()) + usize::from(source.is_some()) + usize::from(template.is_some()) > 1 {
            return Some(());
        }
        if let Some(name) = source.take() {
            let path = self.existing(role, &name, rendered.at(&["source"]))?;
            *content = self.site.sources.text(&path).map(str::to_owned);
        }
        if let Some(name) = template.take() {
            let path = self.existing(role, &name, rendered.at(&["template"]))?;
            *content = Some(self.engine.file(&path, self.errors)?);
        }
        Some(())
    }

    /// A file of the site, relative to the role's folder.
    fn existing(&mut self, role: &Role, name: &str, at: At) -> Option<String> {
        let folder = role.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = join(folder, name);
        if self.site.sources.file(&path).is_some() {
            return Some(path);
        }
        let files = self.site.texts.keys().filter_map(|p| p.strip_prefix(&format!("{folder}/")).map(str::to_owned));
        let files: Vec<String> = files.filter(|p| p.contains('/')).collect();
        let help = nearest(name, files.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
        let place = self.site.sources.place(at, format!("expected a file {path}"));
        self.errors.push(Diagnostic::new(format!("the site has no file {path}")).at(place).help_if(help));
        None
    }
}

/// `suites = "{{ packages.suites }}"`: where the key expects no text, the value itself is meant.
fn native(engine: &Engine<'_>, schema: &Json, node: &mut Node, errors: &mut Vec<Diagnostic>) {
    let Value::Table(table) = &mut node.value else { return };
    for (key, entry) in table.iter_mut() {
        let Value::String(text) = &entry.node.value else { continue };
        let property = schema.get("properties").and_then(|p| p.get(key));
        if shape::is_template(text)
            && !shape::may_be_text(schema, property)
            && let Some(value) = engine.value(text, entry.node.at, errors)
        {
            entry.node = value;
        }
    }
}

fn references(node: Option<Node>) -> Vec<(ResourceId, At)> {
    let all = node.as_ref().and_then(Node::array).unwrap_or_default();
    all.iter().filter_map(|n| Some((n.str()?.parse::<ResourceId>().ok()?, n.at))).collect()
}

/// `after` and `notify` must name something; what this node does not have is left out.
fn targets(
    mut drafts: Vec<Draft>,
    elsewhere: &BTreeSet<ResourceId>,
    site: &Site,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Draft> {
    let ids: HashSet<ResourceId> = drafts.iter().map(|d| d.resource.id()).collect();
    for draft in &mut drafts {
        let Draft { resource, after, notify, .. } = draft;
        for (key, written, list) in [("after", after, &mut resource.after), ("notify", notify, &mut resource.notify)] {
            for (id, at) in written.iter() {
                if ids.contains(id) {
                    list.push(id.clone());
                } else if !elsewhere.contains(id) {
                    let mut known: Vec<String> = ids.iter().chain(elsewhere).map(ToString::to_string).collect();
                    known.sort();
                    let help = nearest(&id.to_string(), known.iter().map(String::as_str));
                    errors.push(
                        Diagnostic::new(format!("`{key}` names {id}, which no role of this pool has"))
                            .at(site.sources.place(*at, "expected a resource of this node"))
                            .help_if(help.map(|n| format!("did you mean `{n}`?"))),
                    );
                }
            }
            list.sort();
            list.dedup();
        }
    }
    drafts
}

/// A path below a folder; the folder may be none.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Adds the edges from claims and needs, and sorts.
fn ordered(drafts: Vec<Draft>, site: &Site, errors: &mut Vec<Diagnostic>) -> Vec<Resource> {
    let ids: Vec<ResourceId> = drafts.iter().map(|d| d.resource.id()).collect();
    let index: HashMap<&ResourceId, usize> = ids.iter().enumerate().map(|(i, id)| (id, i)).collect();
    let mut edges = vec![BTreeSet::new(); drafts.len()];
    for (i, draft) in drafts.iter().enumerate() {
        edges[i].extend(draft.resource.after.iter().filter_map(|id| index.get(id).copied()));
        // Who is told comes after who tells.
        for told in draft.resource.notify.iter().filter_map(|id| index.get(id)) {
            edges[*told].insert(i);
        }
    }
    let resources: Vec<&Resource> = drafts.iter().map(|d| &d.resource).collect();
    graph::needed(&resources, &mut edges);
    match graph::order(&edges) {
        Ok(order) => {
            let mut resources: Vec<Option<Resource>> = drafts.into_iter().map(|d| Some(d.resource)).collect();
            let take = |i: usize| {
                let mut resource = resources[i].take()?;
                let after: BTreeSet<&ResourceId> = edges[i].iter().map(|b| &ids[*b]).collect();
                resource.after = after.into_iter().cloned().collect();
                Some(resource)
            };
            order.into_iter().filter_map(take).collect()
        }
        Err(circle) => {
            let names: Vec<String> = circle.iter().map(|i| ids[*i].to_string()).collect();
            let first = names.first().cloned().unwrap_or_default();
            let mut error = Diagnostic::new(format!("resources wait for one another: {} → {first}", names.join(" → ")));
            for (position, i) in circle.iter().enumerate() {
                let next = circle[(position + 1) % circle.len()];
                error = error.at(site.sources.place(edge_place(&drafts, *i, next), edge_label(&drafts, *i, next)));
            }
            errors.push(error.help("take away one `after` or `notify`"));
            Vec::new()
        }
    }
}

/// Where it is written that `before` comes before `next`.
fn edge_place(drafts: &[Draft], before: usize, next: usize) -> At {
    let (b, n) = (&drafts[before], &drafts[next]);
    let written = n.after.iter().find(|(id, _)| *id == b.resource.id());
    let told = b.notify.iter().find(|(id, _)| *id == n.resource.id());
    written.or(told).map_or(n.named, |(_, at)| *at)
}

fn edge_label(drafts: &[Draft], before: usize, next: usize) -> String {
    let (b, n) = (drafts[before].resource.id(), drafts[next].resource.id());
    let told = drafts[before].resource.notify.contains(&n);
    let written = drafts[next].resource.after.contains(&b);
    match (written, told) {
        (true, _) => format!("{n} comes after {b}"),
        (false, true) => format!("{b} notifies {n}"),
        (false, false) => format!("{n} needs {b}"),
    }
}

/// The tree of an empty table, for a site without variables.
pub(crate) fn empty(at: At) -> Node {
    Node { at, value: Value::Table(Table::new()) }
}
