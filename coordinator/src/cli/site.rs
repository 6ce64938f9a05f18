//! A site's folder: read it, check it, copy the shipped one.

mod read;

use std::{fs, path::Path};

use anyhow::{Context, bail};
use include_dir::{Dir, include_dir};
use muster_catalog::{Site, SiteFiles};
use muster_ids::EnvName;

pub use read::read;

use super::{args::Global, render};
use crate::{cloud::docker::Scope, local::start};

static ENVIRONMENTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../catalogs/environments");
static ROLES: Dir = include_dir!("$CARGO_MANIFEST_DIR/../catalogs/roles");
static APPS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../catalogs/apps");
static MUSTER: &str = include_str!("../../../catalogs/muster.toml");

/// Reads and checks the site of this call. Diagnostics are printed; `None` says that there were some.
pub fn load(global: &Global) -> anyhow::Result<Option<(SiteFiles, Site)>> {
    let files = read(&global.site)?;
    let environment: EnvName = global.environment().parse()?;
    match muster_catalog::load(&files, &environment) {
        Ok(site) => Ok(Some((files, site))),
        Err(diagnostics) => {
            render::diagnostics(&diagnostics, global.json)?;
            Ok(None)
        }
    }
}

/// What taking an environment down must know of its site.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    pub scope: Scope,
    pub protected: bool,
}

/// Reads a site's names alone: an error elsewhere in it must not keep an environment alive. Diagnostics are printed where
/// not even these are there; `None` says so.
pub fn names(global: &Global) -> anyhow::Result<Option<Names>> {
    let files = read(&global.site)?;
    let environment: EnvName = global.environment().parse()?;
    let errors = match muster_catalog::load(&files, &environment) {
        Ok(site) => return Ok(Some(Names { scope: start::scope(&site), protected: site.protected })),
        Err(errors) => errors,
    };
    let names = rough(&files, &environment);
    match &names {
        Some(Names { scope, .. }) => {
            eprintln!("the site has errors (see muster validate); this is about {scope}, whatever they are");
        }
        None => render::diagnostics(&errors, global.json)?,
    }
    Ok(names)
}

/// Whose site it is, for advice: nothing where that cannot be read.
pub fn scope(global: &Global) -> Option<Scope> {
    Some(rough(&read(&global.site).ok()?, &global.environment().parse().ok()?)?.scope)
}

/// The names as two files say them that are TOML, the environment's before the cluster's. What is there and is no name
/// is not passed over: the other file's may be of another cluster.
fn rough(files: &SiteFiles, environment: &EnvName) -> Option<Names> {
    let table = |path: &str| files.texts.get(path)?.parse::<toml::Table>().ok();
    let tables = [table(&format!("environments/{environment}.toml"))?, table("muster.toml")?];
    let name = tables.iter().find_map(|table| table.get("cluster")?.get("name"))?;
    let cluster = name.as_str()?.parse().ok()?;
    let protected = tables.iter().find_map(|table| table.get("protected"));
    Some(Names {
        scope: Scope { cluster, environment: environment.clone() },
        protected: protected.is_some_and(|said| said.as_bool() != Some(false)),
    })
}

/// `muster init`: never writes over anything.
pub fn init(dir: &Path) -> anyhow::Result<usize> {
    if dir.exists() && fs::read_dir(dir).with_context(|| format!("{} is no folder", dir.display()))?.next().is_some() {
        bail!("{} is not empty, and nothing of it would be overwritten\n  help: name a new folder", dir.display());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut count = 1;
    fs::write(dir.join("muster.toml"), MUSTER)?;
    for (part, shipped) in [("environments", &ENVIRONMENTS), ("roles", &ROLES), ("apps", &APPS)] {
        count += copy(shipped, &dir.join(part))?;
    }
    Ok(count)
}

fn copy(from: &Dir, to: &Path) -> anyhow::Result<usize> {
    fs::create_dir_all(to)?;
    let mut count = 0;
    for file in from.files() {
        fs::write(to.join(file.path().file_name().context("a shipped file has a name")?), file.contents())?;
        count += 1;
    }
    for dir in from.dirs() {
        count += copy(dir, &to.join(dir.path().file_name().context("a shipped folder has a name")?))?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_site_is_the_shipped_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        init(&target).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../catalogs");
        assert_eq!(read(&target).unwrap(), read(&shipped).unwrap());
        assert!(init(&target).is_err(), "a second init must not overwrite");
    }

    #[test]
    fn a_broken_site_still_says_whose_it_is() {
        let local: EnvName = "local".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        init(&target).unwrap();
        let shipped = read(&target).unwrap();
        let site = muster_catalog::load(&shipped, &local).unwrap();
        let with = |file: &str, text: &str| {
            let mut files = shipped.clone();
            files.texts.entry(file.to_owned()).or_default().push_str(text);
            rough(&files, &local)
        };
        let names = Some(Names { scope: start::scope(&site), protected: false });
        assert_eq!(with("roles/base.toml", "\n[[file]\n"), names);
        assert_eq!(with("environments/local.toml", "\n[pool.nosuch]\nrole = 3\n"), names);
        // Nothing is guessed.
        assert_eq!(with("environments/local.toml", "\n[pool.nosuch\n"), None);
        let own = shipped.texts["environments/local.toml"].replace("[cluster]\n", "[cluster]\nname = 3\n");
        let mut other = shipped.clone();
        assert_ne!(other.texts.insert("environments/local.toml".to_owned(), own.clone()), Some(own));
        assert_eq!(rough(&other, &local), None);
        let mut protected = shipped.clone();
        protected
            .texts
            .entry("environments/local.toml".to_owned())
            .and_modify(|text| text.insert_str(0, "protected = 3\n"));
        assert!(rough(&protected, &local).unwrap().protected, "what it says there is not `false`");
        assert_eq!(rough(&shipped, &"nosuch".parse().unwrap()), None);
    }
}
