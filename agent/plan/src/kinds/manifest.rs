//! Kubernetes objects: which differ from what is written, and which left the set.
//!
//! The comparison itself is the API server's (a dry run of server-side apply); this says what it means.

use std::collections::BTreeSet;

use super::Describe;
use crate::row::Action;
use muster_catalog::kinds::manifest::ManifestSpec;

/// Names one object: API version and kind as written, namespace where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectId {
    /// The same object whatever the version of its group by which it was applied.
    pub fn same_object(&self, other: &Self) -> bool {
        self.group() == other.group()
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }

    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.to_lowercase();
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}

/// One object of the set beside the live one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSeen {
    pub id: ObjectId,
    pub state: ObjectState,
}

/// How the live object compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectState {
    AsWritten,
    Absent,
    /// Field paths that would change, with old and new value; never of a Secret.
    Differs(Vec<String>),
    /// Its kind or namespace comes into being with the set.
    KnownAfter(String),
    /// A newer generation wrote it: left alone.
    Newer(String),
}

/// What was seen of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// In the order in which they are applied.
    pub objects: Vec<ObjectSeen>,
    /// What the set held when it was last applied; none: never.
    pub inventory: Option<BTreeSet<ObjectId>>,
}

/// What has to be done. Removal goes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub prune: BTreeSet<ObjectId>,
    /// In order, with what is shown of each.
    pub apply: Vec<(ObjectId, Vec<String>)>,
    /// The inventory after it.
    pub inventory: BTreeSet<ObjectId>,
    action: Action,
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        let removed = self.prune.iter().map(|id| format!("- {id}"));
        let applied = self.apply.iter().flat_map(|(_, lines)| lines.iter().cloned());
        let lines: Vec<_> = removed.chain(applied).collect();
        if lines.is_empty() { vec!["the set's inventory is put right".to_owned()] } else { lines }
    }
}

/// What has to change; none where every object is as written and none is left over.
pub fn diff(spec: &ManifestSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        let prune = observed.inventory.clone()?;
        return Some(Change { prune, apply: Vec::new(), inventory: BTreeSet::new(), action: Action::Remove });
    }
    let wanted: BTreeSet<_> = observed.objects.iter().map(|object| object.id.clone()).collect();
    let held = observed.inventory.clone().unwrap_or_default();
    let prune = held.iter().filter(|old| !wanted.iter().any(|id| id.same_object(old))).cloned().collect();
    let apply: Vec<_> =
        observed.objects.iter().filter_map(|object| Some((object.id.clone(), lines(object)?))).collect();
    let action = if observed.inventory.is_none() { Action::Create } else { Action::Change };
    let change = Change { prune, apply, inventory: wanted, action };
    let quiet = change.apply.is_empty() && observed.inventory.as_ref() == Some(&change.inventory);
    (!quiet).then_some(change)
}

fn lines(object: &ObjectSeen) -> Option<Vec<String>> {
    match &object.state {
        ObjectState::AsWritten | ObjectState::Newer(_) => None,
        ObjectState::Absent => Some(vec![format!("+ {}", object.id)]),
        ObjectState::KnownAfter(what) => Some(vec![format!("+ {} (known after {what})", object.id)]),
        ObjectState::Differs(fields) => {
            let mut lines = vec![format!("~ {}", object.id)];
            lines.extend(fields.iter().map(|field| format!("    {field}")));
            Some(lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, name: &str) -> ObjectId {
        ObjectId { api_version: "apps/v1".into(), kind: kind.into(), namespace: Some("shop".into()), name: name.into() }
    }

    fn seen(name: &str, state: ObjectState) -> ObjectSeen {
        ObjectSeen { id: id("Deployment", name), state }
    }

    fn spec() -> ManifestSpec {
        ManifestSpec {
            name: "shop".into(),
            content: None,
            source: None,
            template: None,
            secrets: vec![],
            absent: false,
        }
    }

    #[test]
    fn a_set_that_left_the_site_is_deleted_once() {
        let gone = ManifestSpec::gone("shop");
        let held = Observed { objects: vec![], inventory: Some([id("Deployment", "web")].into()) };
        let change = diff(&gone, &held).unwrap();
        assert_eq!((change.action(), change.detail()), (Action::Remove, vec!["- deployment shop/web".to_owned()]));
        assert!(change.inventory.is_empty());
        assert_eq!(diff(&gone, &Observed { objects: vec![], inventory: None }), None);
    }

    #[test]
    fn what_left_the_set_is_pruned_and_what_is_right_is_left_alone() {
        let observed = Observed {
            objects: vec![
                seen("web", ObjectState::AsWritten),
                seen("api", ObjectState::Differs(vec!["spec.replicas 2 → 3".into()])),
            ],
            inventory: Some([id("Deployment", "web"), id("Service", "old")].into()),
        };
        let change = diff(&spec(), &observed).unwrap();
        assert_eq!(change.detail(), ["- service shop/old", "~ deployment shop/api", "    spec.replicas 2 → 3"]);
        assert_eq!(change.inventory, [id("Deployment", "api"), id("Deployment", "web")].into());
    }

    #[test]
    fn a_quiet_set_has_no_change_and_a_first_one_creates() {
        let objects = vec![seen("web", ObjectState::AsWritten)];
        let quiet = Observed { objects: objects.clone(), inventory: Some([id("Deployment", "web")].into()) };
        assert_eq!(diff(&spec(), &quiet), None);
        let first = Observed { objects, inventory: None };
        assert_eq!(diff(&spec(), &first).unwrap().action(), Action::Create);
    }

    #[test]
    fn a_moved_api_version_is_the_same_object() {
        let old = ObjectId { api_version: "apps/v1beta1".into(), ..id("Deployment", "web") };
        let observed = Observed { objects: vec![seen("web", ObjectState::AsWritten)], inventory: Some([old].into()) };
        assert!(diff(&spec(), &observed).unwrap().prune.is_empty());
    }

    #[test]
    fn a_newer_generations_object_is_left_alone() {
        let observed = Observed {
            objects: vec![seen("web", ObjectState::Newer("1.9".into()))],
            inventory: Some([id("Deployment", "web")].into()),
        };
        assert_eq!(diff(&spec(), &observed), None);
    }
}
