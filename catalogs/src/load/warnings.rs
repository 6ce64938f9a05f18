//! What is worth saying of a site and no error.

use std::collections::BTreeSet;

use crate::{diagnostic::Diagnostic, files::SiteFiles, site::Site};

/// What is worth saying and no error.
pub(super) fn warnings(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let provider = site.provider.not_offered().map(Diagnostic::new);
    let growing = site.pools.iter().filter(|(_, pool)| pool.max > pool.min).map(|(name, pool)| {
        Diagnostic::new(format!("pool {name} stays at {} nodes: nothing adds nodes by itself yet", pool.min))
    });
    let unread = unread_roles(files, site).into_iter().chain(unread_environments(files)).chain(misspelt(files, site));
    provider.into_iter().chain(growing).chain(unread).collect()
}

/// A file where TOML is read whose name ends nearly as TOML's does: nothing reads it, and nobody wanted that.
fn misspelt(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let named = named(site);
    let all = files.texts.keys().chain(files.binary.keys());
    let nearly = |path: &&String| {
        let read = match path.split_once('/') {
            Some(("roles" | "environments", name)) => !name.contains('/'),
            Some(("apps", _)) => true,
            Some(_) | None => false,
        };
        let ending = path.rsplit('/').next().and_then(|name| Some(name.rsplit_once('.')?.1));
        // One letter, or its case: more is another format, as `.tmpl` and `.yml` are.
        let near = |ending: &str| ending != "toml" && strsim::damerau_levenshtein(&ending.to_lowercase(), "toml") <= 1;
        read && ending.is_some_and(near) && !named.contains(*path)
    };
    let warning = |path: &String| {
        let right = path.rsplit_once('.').map_or("", |(stem, _)| stem);
        let warning = Diagnostic::new(format!("{path} is read by nothing: its name does not end in .toml"));
        let place = site.sources.file(path).map(|at| site.sources.place(at, "this file"));
        place.into_iter().fold(warning, Diagnostic::at).help(format!("call it {right}.toml, or take it away"))
    };
    all.filter(nearly).map(warning).collect()
}

/// The files that roles name.
fn named(site: &Site) -> BTreeSet<String> {
    let written = site.roles.values().flat_map(|role| &role.resources);
    let keys = written.flat_map(|written| ["source", "template"].map(|key| written.node.get(&[key])));
    keys.filter_map(|node| Some(format!("roles/{}", node?.str()?))).collect()
}

/// TOML in a folder of `environments/`: it looks like an environment and is none.
fn unread_environments(files: &SiteFiles) -> impl Iterator<Item = Diagnostic> {
    let inner = |path: &&String| path.strip_prefix("environments/").is_some_and(|name| name.contains('/'));
    files.texts.keys().filter(|path| path.ends_with(".toml")).filter(inner).map(|path| {
        Diagnostic::new(format!("{path} is read by nothing"))
            .help("an environment is a file directly in environments/: move it there, or take it away")
    })
}

/// TOML in a folder of `roles/` that no role names: it looks like a role and is none.
fn unread_roles(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let named = named(site);
    let inner = files.texts.keys().filter(|path| path.ends_with(".toml"));
    inner
        .filter(|path| path.strip_prefix("roles/").is_some_and(|name| name.contains('/')) && !named.contains(*path))
        .map(|path| {
            Diagnostic::new(format!("{path} is read by nothing"))
                .help("a role is a file directly in roles/: move it there, or take it away")
        })
        .collect()
}
