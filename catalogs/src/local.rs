//! One file without a site: what `muster-agent apply FILE` converges.
//!
//! The file looks like a role's, and its errors, edges and owners are found as in a site. Templates know `facts`
//! only; what needs a cluster is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use muster_ids::{Generation, NodeName, PoolName, RoleName};

use crate::{
    catalog::Catalog,
    compile::{self, Decoded, Facts, NodeInput},
    diagnostic::{Diagnostic, Diagnostics},
    files::Binary,
    kinds::{self, cluster_member::MemberRole, cluster_member::Start, pod_network::Mode},
    role::{self, Role},
    shape::{Rules, is_template},
    site::{Pool, Provider, Site, nth},
    template::Templates,
    tree::{self, Sources},
};

/// Kinds that a coordinator must help with.
const OF_A_CLUSTER: &[&str] = &["cluster_member", "manifest", "pod_network"];

/// What a file holds that `source` or `template` names; nothing where there is none, and else why it cannot be read.
pub type Read = Result<Option<Vec<u8>>, String>;

/// Compiles one file for this node. `read` reads a file that it names, by its path relative to the file's folder. The
/// catalog's cluster and environment are `local`, its generation is 0.0.
pub fn local(
    file: &str,
    text: String,
    read: &mut dyn FnMut(&str) -> Read,
    facts: &Facts,
) -> Result<Catalog, Diagnostics> {
    let mut sources = Sources::default();
    // Not copied where it is given away: it may be long.
    sources.add(file.to_owned(), text);
    let mut errors = Vec::new();
    let name: RoleName = fixed("local");
    let role = tree::parse(&sources, file, &mut errors).map(|tree| {
        let rules = Rules { partial: false, templates: true };
        role::read(name.clone(), file, tree, &sources, rules, &mut errors)
    });
    let Some(mut role) = role.filter(|_| errors.is_empty()) else { return Err(Diagnostics::sorted(errors)) };
    of_no_cluster(&role, &sources, &mut errors);
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    for written in &role.resources {
        for key in ["source", "template"] {
            // A mount's source, for one, is no file of the site.
            if kinds::SCHEMAS[written.kind]["properties"][key]["format"] != "site-path" {
                continue;
            }
            let node = written.node.get(&[key]);
            let Some((at, named)) = node.and_then(|node| Some((node.at, node.str()?))) else { continue };
            let path = compile::join(folder, named);
            if is_template(named) || sources.file(&path).is_some() || sources.binary(&path).is_some() {
                continue;
            }
            match read(named).map(|content| content.map(String::from_utf8)) {
                Ok(Some(Ok(text))) => sources.add(path, text),
                Ok(Some(Err(error))) => sources.add_binary(path, Binary(error.into_bytes())),
                Ok(None) => {}
                Err(why) => {
                    let place = sources.place(at, "expected a plain file");
                    errors.push(Diagnostic::new(format!("{path} cannot be read: {why}")).at(place));
                }
            }
        }
    }
    let taken = role.resources.iter_mut().filter_map(|written| Some((written.node.at, written.spec.take()?)));
    let mut decoded = Decoded::new();
    decoded.reserve(taken.size_hint().1.unwrap_or_default());
    decoded.extend(taken);
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
        roles: Arc::new(BTreeMap::from([(name, role)])),
        warnings: Vec::new(),
        provided: BTreeMap::new(),
        alone: true,
        variable_tree: compile::empty(at),
        sources,
        templates: Templates::none(),
    };
    let node = NodeInput {
        name: facts.hostname.parse().unwrap_or_else(|_| fixed::<NodeName>("this-node")),
        pool,
        address: nth(net, 1),
        node_pods: net,
        peers: Vec::new(),
        start: Start::Join,
        gone: Vec::new(),
        refused: BTreeSet::new(),
        endpoints: BTreeMap::new(),
        left_sets: [].into(),
        disks: Vec::new(),
        facts: facts.clone(),
    };
    let catalog = compile::compile_with(&site, &node, Generation::default(), &mut decoded);
    // Who asks for one file ends soon: giving thousands of resources back one by one would be a tenth of the whole.
    std::mem::forget(site);
    catalog
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
