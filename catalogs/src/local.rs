//! One file without a site: what `muster-agent apply FILE` converges.
//!
//! The file looks like a role's, and its errors, edges and owners are found as in a site. Templates know `facts`
//! only; what needs a cluster is refused.

use std::collections::BTreeMap;

use ipnet::IpNet;
use muster_ids::{Generation, NodeName, PoolName, RoleName};

use crate::{
    catalog::Catalog,
    compile::{self, Facts, NodeInput},
    diagnostic::{Diagnostic, Diagnostics},
    kinds::{cluster_member::MemberRole, cluster_member::Start, pod_network::Mode},
    role::{self, Role},
    shape::{Rules, is_template},
    site::{Pool, Provider, Site, nth},
    tree::{self, Node, Sources},
};

/// Kinds that a coordinator must help with.
const OF_A_CLUSTER: &[&str] = &["cluster_member", "manifest", "pod_network"];

/// Compiles one file for this node. `read` gives the text of a file that `source` or `template` names, by its path
/// relative to the file's folder; nothing where there is none. The catalog's cluster and environment are `local`, its
/// generation is 0.0.
pub fn local(
    file: &str,
    text: &str,
    read: &mut dyn FnMut(&str) -> Option<String>,
    facts: &Facts,
) -> Result<Catalog, Diagnostics> {
    let mut sources = Sources::default();
    sources.add(file.to_owned(), text.to_owned());
    let mut errors = Vec::new();
    let name: RoleName = fixed("local");
    let role = tree::parse(&sources, file, &mut errors).map(|tree| {
        let rules = Rules { partial: false, templates: true };
        role::read(name.clone(), file, tree, &sources, rules, &mut errors)
    });
    let Some(role) = role.filter(|_| errors.is_empty()) else { return Err(Diagnostics::sorted(errors)) };
    of_no_cluster(&role, &sources, &mut errors);
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    for written in &role.resources {
        for key in ["source", "template"] {
            let named = written.node.get(&[key]).and_then(Node::str).filter(|n| !is_template(n));
            if let Some((path, text)) = named.and_then(|path| Some((path, read(path)?))) {
                sources.add(compile::join(folder, path), text);
            }
        }
    }
    let at = sources.file(file);
    let (Some(at), true) = (at, errors.is_empty()) else { return Err(Diagnostics::sorted(errors)) };
    let pool: PoolName = fixed("local");
    let net = IpNet::new_assert([192, 0, 2, 0].into(), 24);
    let site = Site {
        cluster: fixed("local"),
        environment: fixed("local"),
        protected: false,
        kubernetes: String::new(),
        pods: net,
        services: net,
        network: Mode::External,
        provider: Provider::Docker { subnet: net },
        pools: BTreeMap::from([(
            pool.clone(),
            Pool {
                role: name.clone(),
                member: MemberRole::Worker,
                min: 1,
                max: 1,
                labels: BTreeMap::new(),
                taints: Vec::new(),
                cpus: None,
                memory: None,
                disrupt: 1,
                instance: Vec::new(),
            },
        )]),
        endpoints: BTreeMap::new(),
        disks: BTreeMap::new(),
        apps: BTreeMap::new(),
        variables: BTreeMap::new(),
        secrets: BTreeMap::new(),
        roles: BTreeMap::from([(name, role)]),
        texts: BTreeMap::new(),
        warnings: Vec::new(),
        provided: BTreeMap::new(),
        alone: true,
        variable_tree: compile::empty(at),
        sources,
    };
    let node = NodeInput {
        name: facts.hostname.parse().unwrap_or_else(|_| fixed::<NodeName>("this-node")),
        pool,
        address: nth(net, 1),
        node_pods: net,
        peers: Vec::new(),
        start: Start::Join,
        gone: Vec::new(),
        endpoints: BTreeMap::new(),
        left_sets: [].into(),
        disks: Vec::new(),
        facts: facts.clone(),
    };
    compile::compile(&site, &node, Generation::default())
}

/// A name that is written here.
fn fixed<T: std::str::FromStr>(name: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    name.parse().expect("a valid name")
}

fn of_no_cluster(role: &Role, sources: &Sources, errors: &mut Vec<Diagnostic>) {
    for (key, at) in role.head_places() {
        errors.push(
            Diagnostic::new(format!("`{key}` belongs to a role of a site"))
                .at(sources.place(at, "this file stands alone"))
                .help("leave it out, or apply the site by its coordinator"),
        );
    }
    for written in role.resources.iter().filter(|w| OF_A_CLUSTER.contains(&w.kind)) {
        errors.push(
            Diagnostic::new(format!("a {} needs a coordinator", written.kind.replace('_', " ")))
                .at(sources.place(written.node.at, "this file stands alone"))
                .help("put it into a role of a site"),
        );
    }
}
