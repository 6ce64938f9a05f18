//! What is worth saying of a site and no error.

use std::collections::BTreeSet;

use crate::{diagnostic::Diagnostic, files::SiteFiles, site::Site};

/// What is worth saying and no error.
pub(super) fn warnings(files: &SiteFiles, site: &Site) -> Vec<Diagnostic> {
    let provider = site.provider.not_offered().map(Diagnostic::new);
    let growing = site.pools.iter().filter(|(_, pool)| pool.max > pool.min).map(|(name, pool)| {
        Diagnostic::new(format!("pool {name} stays at {} nodes: nothing adds nodes by itself yet", pool.min))
    });
    provider.into_iter().chain(growing).chain(unread_roles(files, site)).chain(unread_environments(files)).collect()
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
    let written = site.roles.values().flat_map(|role| &role.resources);
    let named: BTreeSet<String> = written
        .flat_map(|written| ["source", "template"].map(|key| written.node.get(&[key])))
        .filter_map(|node| Some(format!("roles/{}", node?.str()?)))
        .collect();
    let inner = files.texts.keys().filter(|path| path.ends_with(".toml"));
    inner
        .filter(|path| path.strip_prefix("roles/").is_some_and(|name| name.contains('/')) && !named.contains(*path))
        .map(|path| {
            Diagnostic::new(format!("{path} is read by nothing"))
                .help("a role is a file directly in roles/: move it there, or take it away")
        })
        .collect()
}
