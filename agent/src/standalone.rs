//! One file of resources, without a site and without a coordinator: what `muster-agent apply FILE` reads.

use std::path::{Path, PathBuf};

use muster_catalog::{Catalog, Facts, Resource, Spec};
use muster_ids::{Generation, ResourceId};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, #[source] source: std::io::Error },
    #[error("{} is not TOML", .path.display())]
    Toml { path: PathBuf, #[source] source: toml::de::Error },
    #[error("{}: {what}", .path.display())]
    Wrong { path: PathBuf, what: String },
}

/// Reads a file of `[[file]]`, `[[package]]` and so on, or a whole compiled catalog.
pub fn load(path: &Path, facts: &Facts) -> Result<Catalog, StandaloneError> {
    let wrong = |what: String| StandaloneError::Wrong { path: path.to_owned(), what };
    let text = std::fs::read_to_string(path).map_err(|source| StandaloneError::Read { path: path.to_owned(), source })?;
    let table: toml::Table = text.parse().map_err(|source| StandaloneError::Toml { path: path.to_owned(), source })?;
    if table.contains_key("resource") && table.contains_key("node") {
        return Catalog::from_toml(&text).map_err(|error| wrong(error.to_string()));
    }
    let mut resource = Vec::new();
    for (kind, value) in table {
        if !Spec::KINDS.contains(&kind.as_str()) {
            return Err(wrong(format!("unknown key `{kind}`: a file has {}", Spec::KINDS.join(", "))));
        }
        let toml::Value::Array(items) = value else {
            return Err(wrong(format!("`{kind}` is written [[{kind}]]")));
        };
        for item in items {
            let toml::Value::Table(mut item) = item else {
                return Err(wrong(format!("`{kind}` is written [[{kind}]]")));
            };
            let after = ids(item.remove("after")).map_err(&wrong)?;
            let notify = ids(item.remove("notify")).map_err(&wrong)?;
            let spec = toml::Table::from_iter([(kind.clone(), toml::Value::Table(item))]);
            let spec: Spec = spec.try_into().map_err(|error: toml::de::Error| wrong(format!("[[{kind}]]: {}", error.message())))?;
            resource.push(Resource { after, notify, spec });
        }
    }
    let name = "local";
    let node = facts.hostname.parse().or_else(|_| "this-node".parse());
    Ok(Catalog {
        cluster: name.parse().map_err(|error: muster_ids::InvalidName| wrong(error.to_string()))?,
        environment: name.parse().map_err(|error: muster_ids::InvalidName| wrong(error.to_string()))?,
        node: node.map_err(|error: muster_ids::InvalidName| wrong(error.to_string()))?,
        generation: Generation::default(),
        draft: false,
        resource,
    })
}

fn ids(value: Option<toml::Value>) -> Result<Vec<ResourceId>, String> {
    match value {
        None => Ok(Vec::new()),
        Some(value) => value.try_into().map_err(|error: toml::de::Error| error.message().to_owned()),
    }
}
