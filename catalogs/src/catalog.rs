//! A compiled catalog: flat, fully resolved, for one node. What the coordinator signs and the agent converges.
//!
//! It travels as TOML, and its digest is its address: equal catalogs of two generations have different digests,
//! because node and generation are part of it; [`Catalog::content_digest`] leaves the generation out.

use muster_ids::{ClusterName, Digest, EnvName, Generation, NodeName, ResourceId};
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{
        Spec,
        cluster_member::MemberRole,
        manifest::{ManifestSpec, Prune},
    },
    tree,
};

/// One node's resources, in an order that respects `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    pub cluster: ClusterName,
    pub environment: EnvName,
    pub node: NodeName,
    pub generation: Generation,
    /// A draft can be planned and never applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draft: bool,
    /// Paths that a change of this catalog must leave alone are simply absent: what left the catalog since the
    /// last generation is no longer managed, unless it stands here with `absent`.
    #[serde(default)]
    pub resource: Vec<Resource>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Converged before this one. Explicit `after` and the edges from claims and needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ResourceId>,
    /// Told when this one changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<ResourceId>,
    pub spec: Spec,
}

impl Resource {
    pub fn id(&self) -> ResourceId {
        self.spec.id()
    }
}

/// A text that is no catalog, from a newer coordinator perhaps.
#[derive(Debug, thiserror::Error)]
#[error("the catalog cannot be read")]
pub struct InvalidCatalog(#[source] toml::de::Error);

impl Catalog {
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a catalog holds nothing that TOML cannot say")
    }

    pub fn from_toml(text: &str) -> Result<Self, InvalidCatalog> {
        // What this cannot read, the other parser reads, or says why not.
        match tree::of(text).and_then(|node| Self::deserialize(&node).ok()) {
            Some(catalog) => Ok(catalog),
            None => toml::from_str(text).map_err(InvalidCatalog),
        }
    }

    /// This catalog as its node tries it before all others: what a control plane that leads does for the whole cluster stays
    /// as in `others`, this node's catalog of the generation that the other nodes follow. Its sets of Kubernetes objects
    /// are theirs, and nothing of this catalog comes before or after them.
    #[must_use]
    pub fn tried(mut self, others: &Catalog) -> Self {
        let mut members = Vec::new();
        for resource in &mut self.resource {
            if let Spec::ClusterMember(member) = &mut resource.spec
                && member.role == MemberRole::ControlPlane
            {
                member.tries = true;
                members.push(ResourceId::new("cluster_member", &member.name));
            }
        }
        if members.is_empty() {
            return self;
        }
        let is_set = |id: &ResourceId| id.kind() == "manifest";
        self.resource.retain(|resource| !is_set(&resource.id()));
        for resource in &mut self.resource {
            resource.after.retain(|id| !is_set(id));
            resource.notify.retain(|id| !is_set(id));
        }
        for resource in &others.resource {
            let Spec::Manifest(set) = &resource.spec else { continue };
            let of = Some(others.generation);
            let prune = set.prune.clone().map(|prune| Prune { of, ..prune });
            let mut after = members.clone();
            after.extend(resource.after.iter().filter(|id| is_set(id)).cloned());
            let spec = Spec::Manifest(ManifestSpec { prune, ..set.clone() });
            self.resource.push(Resource { after, notify: Vec::new(), spec });
        }
        self
    }

    /// The digest of everything but the generation and `draft`: the same for two generations of equal content.
    pub fn content_digest(&self) -> Digest {
        let plain = Catalog { generation: Generation::default(), draft: false, ..self.clone() };
        Digest::of(plain.to_toml())
    }
}
