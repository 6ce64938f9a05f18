//! Sites and blueprints as parsed values, read from the store once: both are addressed by content and never change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use muster_catalog::{Catalog, Diagnostics, Facts, Site, SiteFiles};
use muster_ids::{Digest, EnvName, Generation, NodeName};
use muster_planner::Blueprint;

use crate::{
    plan::node_inputs,
    state::Publication,
    store::{Store, StoreError},
};

/// Why a publication's parts could not be read. The program wrote them: this is damage, or an older program.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error("the store does not have it")]
    Store(#[from] StoreError),
    #[error("object {0} holds something else than expected")]
    Json(Digest, #[source] serde_json::Error),
    #[error("the site {} no longer loads: {}", .0.short(), summary(.1))]
    Site(Digest, Diagnostics),
}

fn summary(diagnostics: &Diagnostics) -> String {
    diagnostics.0.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// As many of each are kept; two are in use during a rollout.
const KEPT: usize = 8;

/// The cache.
pub struct Library {
    store: Arc<dyn Store>,
    environment: EnvName,
    provided: BTreeMap<String, serde_json::Value>,
    sites: Mutex<BTreeMap<Digest, Arc<Site>>>,
    blueprints: Mutex<BTreeMap<Digest, Arc<Blueprint>>>,
}

/// A publication with its parts.
#[derive(Clone)]
pub struct Published {
    pub publication: Publication,
    pub site: Arc<Site>,
    pub blueprint: Arc<Blueprint>,
}

impl Library {
    /// `provided`: values for templates that stand in no file, by name.
    pub fn new(store: Arc<dyn Store>, environment: EnvName, provided: BTreeMap<String, serde_json::Value>) -> Self {
        Self { store, environment, provided, sites: Mutex::default(), blueprints: Mutex::default() }
    }

    /// Site and blueprint of a publication.
    pub fn open(&self, publication: &Publication) -> Result<Published, LibraryError> {
        Ok(Published {
            publication: publication.clone(),
            site: self.site(&publication.site_object)?,
            blueprint: self.blueprint(&publication.blueprint)?,
        })
    }

    /// The files of a site, by the object that holds them.
    pub fn files(&self, object: &Digest) -> Result<SiteFiles, LibraryError> {
        let bytes = self.store.object(object)?;
        serde_json::from_slice(&bytes).map_err(|error| LibraryError::Json(*object, error))
    }

    pub fn keep_files(&self, files: &SiteFiles) -> Result<Digest, LibraryError> {
        let json = serde_json::to_vec(files).expect("a map of files is JSON");
        Ok(self.store.put_object(&json)?)
    }

    pub fn site(&self, object: &Digest) -> Result<Arc<Site>, LibraryError> {
        cached(&self.sites, object, || {
            let files = self.files(object)?;
            self.load(&files).map_err(|errors| LibraryError::Site(files.digest(), errors))
        })
    }

    /// Loads files as this environment's site.
    pub fn load(&self, files: &SiteFiles) -> Result<Site, Diagnostics> {
        let mut site = muster_catalog::load(files, &self.environment)?;
        for (name, value) in &self.provided {
            site.provide(name, value.clone());
        }
        Ok(site)
    }

    pub fn blueprint(&self, object: &Digest) -> Result<Arc<Blueprint>, LibraryError> {
        cached(&self.blueprints, object, || {
            let bytes = self.store.object(object)?;
            serde_json::from_slice(&bytes).map_err(|error| LibraryError::Json(*object, error))
        })
    }

    pub fn keep_blueprint(&self, blueprint: &Blueprint) -> Result<Digest, LibraryError> {
        Ok(self.store.put_object(blueprint.to_json().as_bytes())?)
    }
}

fn cached<T>(
    cache: &Mutex<BTreeMap<Digest, Arc<T>>>,
    key: &Digest,
    make: impl FnOnce() -> Result<T, LibraryError>,
) -> Result<Arc<T>, LibraryError> {
    let held = || cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = held().get(key) {
        return Ok(Arc::clone(found));
    }
    let made = Arc::new(make()?);
    let mut held = held();
    if held.len() >= KEPT {
        held.clear();
    }
    held.insert(*key, Arc::clone(&made));
    Ok(made)
}

/// One node's catalog; absent for a node that the blueprint does not know.
pub fn compile(
    site: &Site,
    blueprint: &Blueprint,
    node: &NodeName,
    facts: Facts,
    generation: Generation,
) -> Option<Result<Catalog, Diagnostics>> {
    let input = node_inputs(blueprint, node, facts)?;
    Some(muster_catalog::compile(site, &input, generation))
}
