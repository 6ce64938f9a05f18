//! From files to a valid site, collecting every error.
//!
//! Each table is decoded by itself, so that what is wrong with one hides nothing in the others; what is wrong is
//! left out or replaced by a harmless value until all is checked, and any error refuses the site in the end.

mod addresses;
mod convert;
mod merged;
mod rules;
mod variables;
mod warnings;

use std::{collections::BTreeMap, sync::Arc};

use muster_ids::{EnvName, RoleName};
use serde::de::DeserializeOwned;

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    files::SiteFiles,
    role::{self, Role},
    shape::{self, Rules},
    site::Site,
    template::Templates,
    tree::{self, At, Node, Sources},
    trial,
};

/// Reads a site for one environment. All errors at once.
pub fn load(files: &SiteFiles, environment: &EnvName) -> Result<Site, Diagnostics> {
    Parsed::new(files).site(files, environment)
}

/// Reads a site for each of its environments.
pub fn load_all(files: &SiteFiles) -> Result<BTreeMap<EnvName, Result<Site, Diagnostics>>, Diagnostics> {
    let (mut names, mut errors) = (Vec::new(), Vec::new());
    let paths = files.texts.keys().chain(files.binary.keys());
    for path in paths.filter(|path| is_environment(path)) {
        let name = path.strip_prefix("environments/").and_then(|name| name.strip_suffix(".toml")).unwrap_or(path);
        match name.parse::<EnvName>() {
            Ok(name) => names.push(name),
            Err(error) => errors.push(
                Diagnostic::new(format!("the file {path} cannot name an environment: {error}")).help("rename it"),
            ),
        }
    }
    if names.is_empty() && errors.is_empty() {
        let help = "add environments/NAME.toml, as `muster init DIR` makes them";
        errors.push(Diagnostic::new("the site has no environment").help(help));
    }
    if !errors.is_empty() {
        return Err(Diagnostics::sorted(errors));
    }
    let parsed = &Parsed::new(files);
    // Each on a thread of its own: they share what was read and nothing else.
    let loaded = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || parsed.site(files, name))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(site) => site,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    Ok(names.into_iter().zip(loaded).collect())
}

fn is_environment(path: &str) -> bool {
    path.strip_prefix("environments/").and_then(|name| name.strip_suffix(".toml")).is_some_and(|n| !n.contains('/'))
}

/// A file that is read as TOML in every environment.
fn is_table(path: &str) -> bool {
    let directly = |folder: &str| {
        path.strip_prefix(folder).and_then(|name| name.strip_suffix(".toml")).is_some_and(|name| !name.contains('/'))
    };
    path == "muster.toml" || directly("roles/") || (path.starts_with("apps/") && path.ends_with(".toml"))
}

/// What is the same in every environment.
struct Parsed {
    sources: Sources,
    roles: Arc<BTreeMap<RoleName, Role>>,
    templates: Templates,
    errors: Vec<Diagnostic>,
    whole: bool,
}

impl Parsed {
    fn new(files: &SiteFiles) -> Self {
        let mut loader = Loader { sources: Sources::new(files), errors: Vec::new(), whole: true };
        for path in files.binary.keys().filter(|path| is_table(path)) {
            loader.is_no_text(path);
        }
        let roles = Arc::new(loader.roles(files));
        let templates = Templates::of(&roles, &loader.sources);
        Self { sources: loader.sources, roles, templates, errors: loader.errors, whole: loader.whole }
    }

    fn site(&self, files: &SiteFiles, environment: &EnvName) -> Result<Site, Diagnostics> {
        let mut loader = Loader { sources: self.sources.clone(), errors: Vec::new(), whole: true };
        let Some(tree) = loader.tables(files, environment) else {
            return Err(Diagnostics::sorted(loader.errors));
        };
        loader.errors.extend(self.errors.iter().cloned());
        loader.whole &= self.whole;
        let mut site = loader.convert(&tree, environment, Arc::clone(&self.roles));
        loader.check_members(&tree, &mut site);
        loader.check_networks(&tree, &site);
        loader.check_references(&tree, &site);
        loader.check_variables(&tree);
        site.sources = loader.sources.clone();
        site.templates = self.templates.clone();
        // What only shows on a node is tried on nodes of each pool. After an error of syntax or shape that would
        // repeat it in other words.
        if loader.whole {
            trial::run(&mut site, &mut loader.errors);
        }
        if !loader.errors.is_empty() {
            return Err(Diagnostics::sorted(loader.errors));
        }
        site.warnings = warnings::warnings(files, &site);
        Ok(site)
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

    /// A file of TOML that is not UTF-8. It is read all the same, for its other errors.
    fn is_no_text(&mut self, path: &str) {
        let Some(place) = self.sources.where_no_text(path, "no UTF-8 from here on") else { return };
        let error = Diagnostic::new(format!("{path} is no text")).at(place);
        self.errors.push(error.help("TOML is UTF-8: save it so, as by `iconv -f latin1 -t utf-8`"));
        self.whole = false;
        let text = self.sources.binary(path).map(|content| String::from_utf8_lossy(&content.0).into_owned());
        self.sources.add(path.to_owned(), text.unwrap_or_default());
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

    fn roles(&mut self, files: &SiteFiles) -> BTreeMap<RoleName, Role> {
        let mut roles = BTreeMap::new();
        let rules = Rules { partial: false, templates: true };
        for path in files.texts.keys().chain(files.binary.keys()) {
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
}
