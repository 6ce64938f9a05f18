//! Applications: a short form that becomes Kubernetes objects.
//!
//! A component without a disk is a Deployment, one with a disk a StatefulSet of one pod. What every application needs to
//! live through a node's loss and a roll-out (spread, probes, budgets, a drain before the end) is not asked for:
//! it is always there.

mod objects;
mod room;

use std::collections::BTreeMap;

use muster_ids::{AppName, DiskName, EndpointName, PoolName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    kinds::{cluster_member::MemberRole, manifest::ManifestSpec},
    shape::{self, Rules, nearest},
    site::Site,
    template::Engine,
    tree::{At, Node},
};

/// `[app.NAME]`, with its places; its texts may be templates.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its namespace in Kubernetes: no other application is in it.
    pub namespace: String,
    /// The names of its components.
    pub components: Vec<String>,
    /// The endpoints that lead to it.
    pub endpoints: Vec<EndpointName>,
    pub(crate) at: At,
    pub(crate) node: Node,
}

/// `[app.NAME]`: a namespace and components.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "an application")]
pub(crate) struct AppTable {
    /// Its namespace in Kubernetes, as it is: no template. Absent: the application's name.
    pub(crate) namespace: Option<String>,
    /// A component by its name, which is also the host name that the others reach it by.
    #[serde(flatten)]
    pub(crate) components: BTreeMap<AppName, ComponentTable>,
}

/// `[app.NAME.COMPONENT]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a component")]
#[serde(deny_unknown_fields)]
pub(crate) struct ComponentTable {
    /// Its image. A name without a registry's host gets the variable `images.registry` in front.
    #[schemars(extend("format" = "image"))]
    pub(crate) image: String,
    /// How many pods, on as many nodes as there are. With a disk: one.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) replicas: u32,
    /// The port that it listens on.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<u16>,
    /// Takes traffic while this answers: a path (HTTP), or a command. Absent: while the port is open.
    pub(crate) ready: Option<Probe>,
    /// Started anew when this does not answer: a path (HTTP), or a command. Absent: when it ends.
    pub(crate) alive: Option<Probe>,
    /// The program, where the image's own will not do.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// Its arguments, where the image's own will not do.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "env" }))]
    pub(crate) settings: BTreeMap<String, String>,
    /// Secrets: `DATABASE_PASSWORD = "NAME"` puts `[secret.NAME]` into a file and the file's path into the environment
    /// variable `DATABASE_PASSWORD_FILE`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "env" }))]
    pub(crate) secrets: BTreeMap<String, String>,
    /// The endpoint that leads to it.
    pub(crate) endpoint: Option<EndpointName>,
    /// The pool whose nodes it runs on, whatever the pool's taints. Absent: every node of a worker pool without taints.
    pub(crate) pool: Option<PoolName>,
    /// A disk that outlives pod and node, and where it is mounted.
    pub(crate) disk: Option<DiskMount>,
    /// Components of this application that may reach it; an endpoint always may. Absent: everyone may.
    pub(crate) allow_from: Option<Vec<AppName>>,
    /// CPUs that are kept free for each pod.
    #[schemars(range(min = 0.01))]
    pub(crate) cpu: Option<f64>,
    /// Memory that is kept free for each pod; a pod that takes more is ended.
    #[schemars(extend("format" = "size"))]
    pub(crate) memory: Option<String>,
    /// User and group id that it runs as; never root.
    #[serde(default = "nonroot")]
    #[schemars(range(min = 1))]
    pub(crate) user: u32,
    /// Folders that it may write, empty at first; all else but the disk is read-only.
    #[serde(default)]
    pub(crate) scratch: Vec<ScratchPath>,
    /// Seconds between "no new traffic" and the signal to end.
    #[serde(default = "drain")]
    #[schemars(range(max = 3600))]
    pub(crate) drain: u32,
    /// Seconds that it gets to end after the signal.
    #[serde(default = "grace")]
    #[schemars(range(min = 1, max = 3600))]
    pub(crate) grace: u32,
}

/// The name of an application's set of objects.
pub(crate) fn set(app: &AppName) -> String {
    format!("app-{app}")
}

fn one() -> u32 {
    1
}

fn nonroot() -> u32 {
    65532
}

fn drain() -> u32 {
    5
}

fn grace() -> u32 {
    30
}

/// A path, asked by HTTP, or a command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Probe {
    Path(#[schemars(extend("format" = "path"))] String),
    Command(#[schemars(length(min = 1))] Vec<String>),
}

/// `disk = { name = "payments", path = "/var/lib/postgresql/data" }`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "the disk of a component")]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskMount {
    /// A `[disk.NAME]`.
    pub(crate) name: DiskName,
    #[schemars(extend("format" = "path"))]
    pub(crate) path: String,
}

/// An absolute path.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct ScratchPath(#[schemars(extend("format" = "path"))] pub(crate) String);

/// The application's objects as one manifest.
pub(crate) fn compile(
    name: &AppName,
    app: &App,
    site: &Site,
    engine: &Engine<'_>,
    errors: &mut Vec<Diagnostic>,
) -> Option<ManifestSpec> {
    let before = errors.len();
    let rendered = engine.tree(&app.node, errors);
    let strict = Rules { partial: false, templates: false };
    if errors.len() > before || !shape::check(&crate::schema::APP, &rendered, strict, &site.sources, errors) {
        return None;
    }
    let table: AppTable = match serde_json::from_value(rendered.to_json()) {
        Ok(table) => table,
        Err(error) => {
            errors.push(
                Diagnostic::new(format!("this application cannot be read: {error}")).at(site.sources.place(app.at, "")),
            );
            return None;
        }
    };
    check(&table, &rendered, site, errors);
    if errors.len() > before {
        return None;
    }
    Some(objects::manifest(name, app, &table, site, engine))
}

/// What a component names must be there.
fn check(table: &AppTable, node: &Node, site: &Site, errors: &mut Vec<Diagnostic>) {
    let mut error = |message: String, at: At, label: String, help: Option<String>| {
        errors.push(Diagnostic::new(message).at(site.sources.place(at, label)).help_if(help));
    };
    let mean =
        |name: &str, known: &[&str]| nearest(name, known.iter().copied()).map(|n| format!("did you mean `{n}`?"));
    for (component, spec) in &table.components {
        let name = component.as_str();
        let at = |key: &str| node.at(&[name, key]);
        if let Some(endpoint) = &spec.endpoint {
            match site.endpoints.get(endpoint) {
                None => {
                    let known: Vec<&str> = site.endpoints.keys().map(EndpointName::as_str).collect();
                    error(
                        format!("there is no endpoint `{endpoint}`"),
                        at("endpoint"),
                        format!("expected one of: {}", known.join(", ")),
                        mean(endpoint.as_str(), &known),
                    );
                }
                Some(_) if endpoint.as_str() == "api" => error(
                    "the endpoint `api` is the cluster's own".to_owned(),
                    at("endpoint"),
                    "expected another endpoint".to_owned(),
                    None,
                ),
                Some(_) if spec.port.is_none() => error(
                    format!("{name} has an endpoint and no port"),
                    at("endpoint"),
                    "leads to no port".to_owned(),
                    Some("add `port`, the port that the component listens on".to_owned()),
                ),
                Some(_) => {}
            }
        }
        if let Some(pool) = &spec.pool {
            place(name, spec, pool, node, site, &mut error);
        }
        room::check(name, spec, node, site, &mut error);
        if let Some(disk) = &spec.disk {
            if !site.disks.contains_key(&disk.name) {
                let known: Vec<&str> = site.disks.keys().map(DiskName::as_str).collect();
                error(
                    format!("there is no disk `{}`", disk.name),
                    node.at(&[name, "disk", "name"]),
                    format!("expected one of: {}", known.join(", ")),
                    mean(disk.name.as_str(), &known),
                );
            }
            if spec.replicas != 1 {
                error(
                    format!("{name} has a disk and {} replicas", spec.replicas),
                    at("replicas"),
                    "a disk serves one pod".to_owned(),
                    None,
                );
            }
        }
        for (variable, secret) in &spec.secrets {
            if !site.secrets.contains_key(secret) {
                let known: Vec<&str> = site.secrets.keys().map(String::as_str).collect();
                error(
                    format!("there is no secret `{secret}`"),
                    node.at(&[name, "secrets", variable]),
                    format!("expected one of: {}", known.join(", ")),
                    mean(secret, &known)
                        .or_else(|| Some(format!("add [secret.{secret}] with generate = true to muster.toml"))),
                );
            }
        }
        let mounts = spec.disk.iter().map(|disk| (&disk.path, node.at(&[name, "disk", "path"])));
        let scratch = node.get(&[name, "scratch"]).and_then(Node::array).unwrap_or_default();
        let mut taken = BTreeMap::new();
        for (path, place) in mounts.chain(spec.scratch.iter().map(|path| &path.0).zip(scratch.iter().map(|n| n.at))) {
            if path == "/" {
                error(format!("{name} would lose its image below `/`"), place, "expected a folder".to_owned(), None);
            } else if taken.insert(path, place).is_some() {
                error(format!("{name} has two folders at {path}"), place, "the second".to_owned(), None);
            }
        }
        for variable in spec.secrets.keys().map(|secret| format!("{secret}_FILE")) {
            if spec.settings.contains_key(&variable) {
                error(
                    format!("{name} has `{variable}` as a setting and by a secret"),
                    node.at(&[name, "settings", &variable]),
                    "expected another name".to_owned(),
                    Some("the path of a secret's file stands in that variable by itself".to_owned()),
                );
            }
        }
        for (key, probe) in [("ready", &spec.ready), ("alive", &spec.alive)] {
            if matches!(probe, Some(Probe::Path(_))) && spec.port.is_none() {
                error(
                    format!("`{key}` of {name} is a path, and there is no port"),
                    at(key),
                    "asked at no port".to_owned(),
                    Some("add `port`, the port that the component listens on".to_owned()),
                );
            }
        }
        for (i, from) in spec.allow_from.iter().flatten().enumerate() {
            if !table.components.contains_key(from) {
                let known: Vec<&str> = table.components.keys().map(AppName::as_str).collect();
                let place = node
                    .get(&[name, "allow_from"])
                    .and_then(Node::array)
                    .and_then(|a| a.get(i))
                    .map_or(node.at, |n| n.at);
                error(
                    format!("this application has no component `{from}`"),
                    place,
                    format!("expected one of: {}", known.join(", ")),
                    mean(from.as_str(), &known),
                );
            }
        }
    }
}

/// What takes an error: its message, its place, the words at the place, and the way out.
type Told<'a> = dyn FnMut(String, At, String, Option<String>) + 'a;

/// A pool that is there, of workers, with room, and the one that the component's endpoint and disk are at.
fn place(name: &str, spec: &ComponentTable, pool: &PoolName, node: &Node, site: &Site, error: &mut Told<'_>) {
    let at = node.at(&[name, "pool"]);
    let workers = site.pools.iter().filter(|(_, pool)| pool.member == MemberRole::Worker);
    let workers: Vec<&str> = workers.map(|(name, _)| name.as_str()).collect();
    if !workers.contains(&pool.as_str()) {
        let message = match site.pools.contains_key(pool) {
            true => format!("the pool `{pool}` is of control planes, where no application runs"),
            false => format!("there is no pool `{pool}`"),
        };
        let help = nearest(pool.as_str(), workers.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        error(message, at, format!("expected one of: {}", workers.join(", ")), help);
        return;
    }
    let endpoint = spec.endpoint.as_ref().and_then(|endpoint| Some((endpoint, site.endpoints.get(endpoint)?)));
    if let Some((endpoint, leads)) = endpoint.filter(|(_, leads)| leads.to != *pool) {
        let message = format!("the endpoint {endpoint} leads to {}, and {name} runs on {pool}", leads.to);
        error(
            message,
            at,
            "nobody would answer there".to_owned(),
            Some(format!("write to = \"{pool}\" for the endpoint")),
        );
    }
    let disk = spec.disk.as_ref().and_then(|mount| Some((&mount.name, site.disks.get(&mount.name)?)));
    if let Some((disk, held)) = disk.filter(|(_, held)| held.pool != *pool) {
        let message = format!("the disk {disk} is at a node of {}, and {name} runs on {pool}", held.pool);
        error(message, at, "away from its disk".to_owned(), Some(format!("write pool = \"{pool}\" for the disk, too")));
    }
}
