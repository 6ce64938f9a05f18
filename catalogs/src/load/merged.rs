//! `muster.toml`, the applications and one environment, merged to the tables of a site.

use muster_ids::EnvName;

use super::Loader;
use crate::{
    diagnostic::Diagnostic,
    files::SiteFiles,
    merge::merge,
    schema,
    shape::{self, Rules, nearest},
    tree::{At, Node, Table, Value},
};

/// Tables of names that an environment may change and not add to, with the word for one.
const NAMED: &[(&str, &str)] = &[("app", "application"), ("disk", "disk"), ("endpoint", "endpoint"), ("pool", "pool")];

impl Loader {
    /// `muster.toml`, the applications and the environment, merged.
    pub(super) fn tables(&mut self, files: &SiteFiles, environment: &EnvName) -> Option<Node> {
        let is_there = |path: &str| files.texts.contains_key(path) || files.binary.contains_key(path);
        let name = format!("environments/{environment}.toml");
        if !is_there("muster.toml") {
            self.errors.push(
                Diagnostic::new("the site has no file muster.toml")
                    .help("`muster init DIR` makes a site to begin with"),
            );
        }
        if !is_there(&name) {
            let known: Vec<&str> =
                files.texts.keys().filter_map(|p| p.strip_prefix("environments/")?.strip_suffix(".toml")).collect();
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
        if files.binary.contains_key(&name) {
            self.is_no_text(&name);
        }
        let partial = Rules { partial: true, templates: true };
        let mut base = self.parse("muster.toml", Some((&schema::SITE, partial)))?;
        let paths = files.texts.keys().chain(files.binary.keys());
        for path in paths.filter(|p| p.starts_with("apps/") && p.ends_with(".toml")) {
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
