//! `[[manifest]]`: Kubernetes objects, by server-side apply; what leaves the site is pruned.

use std::collections::BTreeSet;

use muster_ids::{Digest, Generation};
use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal, Texts, content::Given};

mod objects;

pub use objects::{DocumentError, ObjectId, documents};

/// Kinds that are never deleted to be made anew: what they hold would go with them.
pub const KEPT: [&str; 4] = ["CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"];

/// Objects that the cluster must hold, in a role of the control planes. Only the control-plane agent that holds the Lease applies them.
///
/// Equal is what a dry run of the API server would not change. Fields that others wrote are left alone where the set does not name them, and
/// what a set named before and does not any more is taken out. Objects that leave all sets are removed, see *What leaves the site*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a manifest")]
#[serde(deny_unknown_fields)]
pub struct ManifestSpec {
    /// Names the set; objects that leave all sets are pruned, once every set is written.
    #[schemars(extend("format" = "word"))]
    pub name: String,
    /// YAML documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub source: Option<String>,
    /// A template of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub template: Option<String>,
    /// Secrets by name. A value `muster-secret:NAME` in the `data` of a Secret object stands for the Base64 of that
    /// secret, which the agent fetches by a call of its own just before it applies the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Kinds as in "Job": where a changed field of such an object cannot be changed, it is deleted with its pods and made
    /// anew when they have ended. Never a volume, a claim, a namespace or a definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<String>,
    /// Deletes every object that was applied under this name, and that no other set names. A set or an application that
    /// leaves the site is deleted by itself; this is for a set whose name is a template, or which a `when` leaves out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// In a compiled catalog alone: the sets that this resource prunes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub prune: Option<Prune>,
}

/// What is looked through for objects that left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// Sets that are written.
    #[serde(default)]
    pub sets: BTreeSet<String>,
    /// Sets that are no more.
    #[serde(default)]
    pub gone: BTreeSet<String>,
    /// Of the names of all objects in `sets`: when one leaves, this is another resource, and what it does then is no repair.
    pub names: Digest,
    /// While this node tries a catalog before all others: the generation of the others' catalogs, whose sets these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Generation>,
}

impl Prune {
    /// Prunes these sets after they are written, and those in `gone`.
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a ManifestSpec>, gone: BTreeSet<String>) -> Self {
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for set in sets {
            names.insert(set.name.clone());
            ids.extend(set.objects().iter().map(|id| format!("{} {}\n", set.name, id.claim())));
        }
        Self { sets: names, gone, names: Digest::of(ids.into_iter().collect::<String>()), of: None }
    }
}

impl ManifestSpec {
    /// Names the resource that prunes; no set of a site can have a blank in its name.
    pub const PRUNE: &str = "what left";

    /// A set of these objects.
    pub fn set(name: &str, content: String) -> Self {
        Self {
            name: name.to_owned(),
            content: Some(content),
            source: None,
            template: None,
            secrets: Vec::new(),
            replace: Vec::new(),
            absent: false,
            prune: None,
        }
    }

    /// The set that is to be deleted.
    pub fn gone(name: &str) -> Self {
        Self { content: None, absent: true, ..Self::set(name, String::new()) }
    }

    /// What prunes these sets.
    pub fn pruning(prune: Prune) -> Self {
        Self { content: None, prune: Some(prune), ..Self::set(Self::PRUNE, String::new()) }
    }

    /// The sets that this resource prunes; none: it writes one.
    pub fn prunes(&self) -> Option<Prune> {
        let gone = || Prune::of([], [self.name.clone()].into());
        if self.absent { Some(gone()) } else { self.prune.clone() }
    }

    /// The objects that the set names, as written; none where they cannot be read.
    pub fn objects(&self) -> Vec<ObjectId> {
        let objects = documents(self.content.as_deref().unwrap_or_default()).unwrap_or_default();
        objects.iter().map(ObjectId::of).collect()
    }

    /// What is wrong with what is written in the set.
    fn content_faults(&self) -> Vec<Fault> {
        let objects = match documents(self.content.as_deref().unwrap_or_default()) {
            Ok(objects) => objects,
            Err(error) => {
                let message = format!("the manifest {}: {error}", self.name);
                let label = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
                return vec![Fault::new("name", message, label)];
            }
        };
        let ids: Vec<ObjectId> = objects.iter().map(ObjectId::of).collect();
        let mut faults = Vec::new();
        let mut claims = BTreeSet::new();
        for id in ids.iter().filter(|id| !claims.insert(id.claim())) {
            let message = format!("the manifest {} has {id} twice", self.name);
            faults.push(Fault::new("name", message, "expected each object once"));
        }
        for kind in &self.replace {
            let message = format!("the manifest {} may not replace {kind}", self.name);
            if KEPT.contains(&kind.as_str()) {
                faults.push(Fault::new("replace", message, "what it holds would go with it"));
            } else if !ids.iter().any(|id| id.kind == *kind) {
                let near = ids.iter().find(|id| id.kind.eq_ignore_ascii_case(kind));
                let help = near.map(|id| format!("did you mean `{}`?", id.kind));
                let message = format!("the manifest {} has no {kind}", self.name);
                faults.push(Fault { help, ..Fault::new("replace", message, "a kind of no object") });
            }
        }
        faults
    }
}

impl Kind for ManifestSpec {
    fn claims(&self) -> Vec<Claim> {
        let objects = self.objects();
        let objects = objects.iter().map(|id| Claim::new("the object", id.claim()));
        std::iter::once(Claim::new("manifest", &self.name)).chain(objects).collect()
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Kind("cluster_member")]
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        let named = |(index, name)| SecretName { name, key: "secrets", index: Some(index) };
        self.secrets.iter().map(String::as_str).enumerate().map(named).collect()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        let text = self.content.clone().unwrap_or_default();
        if self.prunes().is_some() { vec![] } else { vec![Signal::Objects { set: self.name.clone(), text }] }
    }

    fn texts(&mut self) -> Option<Texts<'_>> {
        Some(Texts {
            content: &mut self.content,
            source: &mut self.source,
            template: Some(&mut self.template),
            binary: None,
        })
    }

    fn faults(&self) -> Vec<Fault> {
        let keys = [
            ("content", self.content.is_some()),
            ("source", self.source.is_some()),
            ("template", self.template.is_some()),
        ];
        let subject = format!("the manifest {}", self.name);
        Given { subject, named: "name", keys: &keys, absent: self.absent }.faults(|| self.content_faults())
    }
}
