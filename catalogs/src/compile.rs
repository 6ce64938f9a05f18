//! From a valid site and what is known of one node to that node's catalog.
//!
//! Flat and resolved: no template, no role, no `when` is left, and every edge is written out.

mod aliases;
mod context;
mod edges;
mod gone;
mod member;
mod owners;
mod sets;
mod texts;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, Generation, NodeName, PoolName, ResourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{
    apps,
    catalog::{Catalog, Resource},
    diagnostic::{Diagnostic, Diagnostics},
    kinds::{
        self, SecretName, Spec,
        cluster_member::{Gone, MemberRole, Start},
        pod_network::Peer,
    },
    role::{self, Role, Written},
    shape::{self, Rules, nearest},
    site::{Pool, Site},
    template::Engine,
    tree::{At, Node, Table, Value, Without},
};
pub(crate) use texts::join;

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
    /// Names of nodes that the cluster refuses for good.
    pub refused: BTreeSet<NodeName>,
    pub endpoints: BTreeMap<EndpointName, IpAddr>,
    /// Sets of Kubernetes objects that left the site: the control plane that leads deletes what is left of them.
    pub left_sets: BTreeSet<String>,
    /// Disks that this node holds, mounted at `/var/lib/muster/disks/NAME`.
    pub disks: Vec<DiskName>,
    pub facts: Facts,
}

/// Compiles one node's catalog. Errors that only show with the node's facts are diagnostics with the place in the site.
pub fn compile(site: &Site, node: &NodeInput, generation: Generation) -> Result<Catalog, Diagnostics> {
    compile_with(site, node, generation, &mut Decoded::new())
}

/// Resources that are decoded already, by the place of their table, and that nobody needs any more.
pub(crate) type Decoded = HashMap<At, Spec>;

pub(crate) fn compile_with(
    site: &Site,
    node: &NodeInput,
    generation: Generation,
    decoded: &mut Decoded,
) -> Result<Catalog, Diagnostics> {
    let mut errors = Vec::new();
    let resource = resources(site, node, false, decoded, &mut errors);
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
pub(crate) fn resources(
    site: &Site,
    node: &NodeInput,
    all: bool,
    decoded: &mut Decoded,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Resource> {
    let Some(pool) = site.pools.get(&node.pool) else {
        errors.push(
            Diagnostic::new(format!("the site has no pool `{}`", node.pool))
                .help("it was there when the node was made: put it back, or remove the node"),
        );
        return Vec::new();
    };
    let engine =
        Engine::new(&context::of(site, node, pool, errors), &site.sources, site.templates.clone(), site.names(node));
    let mut compiler = Compiler { site, node, pool, engine, decoded, errors };
    let written: usize = role::with_included(&site.roles, &pool.role).iter().map(|role| role.resources.len()).sum();
    let mut drafts = Vec::with_capacity(written + site.apps.len());
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
    let drafts = owners::one_each(drafts, site, &node.facts, compiler.errors);
    owners::no_file_holds_another(&drafts, site, compiler.errors);
    owners::no_block_in_a_whole_file(&drafts, site, compiler.errors);
    owners::no_file_is_written_into(&drafts, site, compiler.errors);
    owners::nothing_is_taken_away(&drafts, site, compiler.errors);
    if gone::is_needed(&drafts, site, compiler.errors) {
        // Its order would be a second error.
        return Vec::new();
    }
    let drafts = edges::targets(drafts, &elsewhere, site, compiler.errors);
    edges::ordered(drafts, site, compiler.errors)
}

struct Compiler<'a> {
    site: &'a Site,
    node: &'a NodeInput,
    pool: &'a Pool,
    engine: Engine<'a>,
    decoded: &'a mut Decoded,
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
        let here = match written.node.get(&["when"]).and_then(|node| Some((node.str()?, node.at))) {
            Some((text, at)) => self.engine.holds(text, at, self.errors),
            None => true,
        };
        let rendered;
        let node = if written.templates && !written.content {
            match self.rendered(written, here) {
                Some(node) => {
                    rendered = node;
                    &rendered
                }
                None => return false,
            }
        } else {
            &written.node
        };
        let Some(draft) = self.draft(role, written, node) else { return false };
        if !here {
            elsewhere.insert(draft.resource.id());
        }
        if here || all {
            self.secrets(&draft.resource.spec, node);
            let judged = here || !written.templates;
            for fault in draft.resource.spec.faults().into_iter().filter(|_| judged) {
                let place = node.table().and_then(|t| t.get(fault.key)).map_or(draft.at, |e| e.key);
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

    /// The resource's table with all its texts rendered, and its shape checked again.
    fn rendered(&mut self, written: &Written, here: bool) -> Option<Node> {
        let mut table = written.node.table().cloned().unwrap_or_default();
        table.remove("when");
        let mut rendered = Node { at: written.node.at, value: Value::Table(table) };
        let before = self.errors.len();
        let schema = &kinds::SCHEMAS[written.kind];
        native(&self.engine, schema, &mut rendered, self.errors);
        if self.errors.len() > before {
            return None;
        }
        rendered = self.engine.tree(&rendered, self.errors);
        if self.errors.len() > before {
            return None;
        }
        let strict = Rules { partial: false, templates: false };
        // Where its `when` leaves it out, as for variables that this environment leaves blank, its values are none.
        let mut unheard = Vec::new();
        let errors = if here { &mut *self.errors } else { &mut unheard };
        shape::check(schema, &rendered, strict, &self.site.sources, errors).then_some(rendered)
    }

    fn draft(&mut self, role: &Role, written: &Written, node: &Node) -> Option<Draft> {
        let kind = written.kind;
        let named = node.at(&[Spec::naming_key(kind)]);
        let mut spec = match self.decoded.remove(&written.node.at).or_else(|| written.spec.clone()) {
            Some(spec) => spec,
            None => self.decode(kind, node)?,
        };
        if written.content
            && let (Some(text), Some(texts)) = (node.get(&["content"]), spec.texts())
        {
            *texts.content = Some(self.engine.text_of(text, self.errors)?);
        }
        self.resolve(role, node, &mut spec)?;
        let resource = Resource { after: Vec::new(), notify: Vec::new(), spec };
        let (after, notify) = (references(node.get(&["after"])), references(node.get(&["notify"])));
        Some(Draft { resource, at: node.at, named, after, notify })
    }

    fn decode(&mut self, kind: &'static str, node: &Node) -> Option<Spec> {
        let own = Without(node, role::COMMON);
        let decoded = match kind {
            // The site and the blueprint know more of them.
            "cluster_member" | "pod_network" => {
                Map::deserialize(own).map_err(|error| error.to_string()).and_then(|mut map| {
                    match kind {
                        "cluster_member" => self.fill_member(&mut map),
                        _ => self.fill_network(&mut map),
                    }
                    Spec::decode(kind, Json::Object(map)).map_err(|error| error.to_string())
                })
            }
            _ => Spec::decode(kind, own).map_err(|error| error.to_string()),
        };
        match decoded {
            Ok(spec) => Some(spec),
            Err(error) => {
                let place = self.site.sources.place(node.at, "");
                self.errors.push(Diagnostic::new(format!("this {kind} cannot be read: {error}")).at(place));
                None
            }
        }
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

fn references(node: Option<&Node>) -> Vec<(ResourceId, At)> {
    let all = node.and_then(Node::array).unwrap_or_default();
    all.iter().filter_map(|n| Some((n.str()?.parse::<ResourceId>().ok()?, n.at))).collect()
}

/// The tree of an empty table, for a site without variables.
pub(crate) fn empty(at: At) -> Node {
    Node { at, value: Value::Table(Table::new()) }
}
