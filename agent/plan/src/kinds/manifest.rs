//! Kubernetes objects: which differ from what is written, and which left their set.
//!
//! The comparison itself is the API server's (a dry run of server-side apply); this says what it means. Sets are written
//! one by one, and what left any of them is looked through by one resource that comes after all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Describe;
use crate::row::Action;
use muster_catalog::kinds::manifest::ManifestSpec;
pub use muster_catalog::kinds::manifest::ObjectId;

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
    /// Its kind or namespace comes into being with the set, or the one of its name is on its way out.
    KnownAfter(String),
    /// The API server refuses it as things are, with its words: what comes before it in the set may change that.
    Refused(String),
    /// What changed cannot be changed, with the API server's words, and the site lets it be replaced.
    Replaced(String),
    /// It is not tried.
    Impossible(Refusal),
    /// A newer generation wrote it: left alone until this agent has a newer catalog.
    Newer(String),
}

/// Why an object is not written, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    pub help: Option<String>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Of a set that is written.
    Set {
        /// In the order in which they are applied.
        objects: Vec<ObjectSeen>,
        /// What the set may have left in the cluster; none: it was never applied.
        inventory: Option<BTreeSet<ObjectId>>,
    },
    /// Of what left sets.
    Left(Left),
}

/// What left the sets that are looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// In the order in which they go, each with the set that it left.
    pub objects: Vec<Leaving>,
    /// The inventories that are put right with it, by set: what stays in them; none: the set is no more.
    pub inventories: BTreeMap<String, Option<BTreeSet<ObjectId>>>,
}

/// An object that left its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    pub id: ObjectId,
    pub set: String,
    pub fate: Fate,
}

/// What becomes of an object that left its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Deleted,
    /// It was there before any set named it: it loses our marks.
    Released,
    /// It stays, and why.
    Stays(String),
    /// Another set names it.
    Moved {
        to: String,
    },
    /// It is gone or on its way out.
    Gone,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Write(Writing),
    Prune(Left),
}

/// What has to be written of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    /// In order.
    pub writes: Vec<Write>,
    /// What is not tried.
    pub refused: Vec<(ObjectId, Refusal)>,
    /// What a newer generation wrote, and which.
    pub newer: Vec<(ObjectId, String)>,
    /// What the set may have left in the cluster from now on.
    pub inventory: BTreeSet<ObjectId>,
    action: Action,
}

/// One object to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub id: ObjectId,
    /// It is deleted first.
    pub replace: bool,
    lines: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Write(writing) => writing.action,
            Self::Prune(_) => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        let (lines, otherwise) = match self {
            Self::Write(writing) => (writing.lines(), "the set's inventory is put right"),
            Self::Prune(left) => (left.lines(), "the inventories of sets are put right"),
        };
        if lines.is_empty() { vec![otherwise.to_owned()] } else { lines }
    }
}

impl Writing {
    fn lines(&self) -> Vec<String> {
        let writes = self.writes.iter().flat_map(|write| write.lines.iter().cloned());
        let refused = self.refused.iter().map(|(id, refusal)| format!("! {id} is refused: {}", refusal.why));
        let newer = self.newer.iter().map(|(id, by)| format!("! {id} waits: generation {by} wrote it"));
        writes.chain(refused).chain(newer).collect()
    }
}

impl Left {
    fn lines(&self) -> Vec<String> {
        let line = |Leaving { id, set, fate }: &Leaving| match fate {
            Fate::Deleted => Some(format!("- {id} (of {set})")),
            Fate::Released => Some(format!("= {id} (of {set}) is let go: it was there before")),
            Fate::Stays(why) => Some(format!("= {id} (of {set}) stays: {why}")),
            Fate::Moved { to } => Some(format!("= {id} (of {set}) is in {to} now")),
            Fate::Gone => None,
        };
        self.objects.iter().filter_map(line).collect()
    }
}

/// What has to change; none where every object is as written, or nothing is left over.
pub fn diff(_spec: &ManifestSpec, observed: &Observed) -> Option<Change> {
    match observed {
        Observed::Left(left) => (!left.inventories.is_empty()).then(|| Change::Prune(left.clone())),
        Observed::Set { objects, inventory } => written(objects, inventory.as_ref()).map(Change::Write),
    }
}

fn written(objects: &[ObjectSeen], held: Option<&BTreeSet<ObjectId>>) -> Option<Writing> {
    let action = if held.is_none() { Action::Create } else { Action::Change };
    // What left the set stays in its inventory until it is pruned.
    let named = |old: &&ObjectId| objects.iter().any(|object| object.id.same_object(old));
    let mut inventory: BTreeSet<ObjectId> = held.into_iter().flatten().filter(|old| !named(old)).cloned().collect();
    inventory.extend(objects.iter().map(|object| object.id.clone()));
    let mut writing = Writing { writes: vec![], refused: vec![], newer: vec![], inventory, action };
    for ObjectSeen { id, state } in objects {
        let mut write = |replace: bool, lines: Vec<String>| {
            writing.writes.push(Write { id: id.clone(), replace, lines });
        };
        match state {
            ObjectState::AsWritten => {}
            ObjectState::Absent => write(false, vec![format!("+ {id}")]),
            ObjectState::KnownAfter(what) => write(false, vec![format!("+ {id} (known after {what})")]),
            ObjectState::Differs(fields) => {
                let fields = fields.iter().map(|field| format!("    {field}"));
                write(false, std::iter::once(format!("~ {id}")).chain(fields).collect());
            }
            ObjectState::Refused(words) => write(false, vec![format!("! {id} is refused as things are: {words}")]),
            ObjectState::Replaced(words) => write(true, vec![format!("-/+ {id} is replaced: {words}")]),
            ObjectState::Impossible(refusal) => writing.refused.push((id.clone(), refusal.clone())),
            ObjectState::Newer(by) => writing.newer.push((id.clone(), by.clone())),
        }
    }
    let quiet = writing.writes.is_empty() && writing.refused.is_empty() && writing.newer.is_empty();
    (!quiet || held != Some(&writing.inventory)).then_some(writing)
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

    fn set(objects: Vec<ObjectSeen>, inventory: Option<BTreeSet<ObjectId>>) -> Option<Change> {
        diff(&ManifestSpec::set("shop", String::new()), &Observed::Set { objects, inventory })
    }

    fn leaving(name: &str, fate: Fate) -> Leaving {
        Leaving { id: id("Deployment", name), set: "shop".into(), fate }
    }

    #[test]
    fn what_left_is_told_with_its_fate() {
        let objects = vec![
            leaving("a", Fate::Deleted),
            leaving("b", Fate::Released),
            leaving("c", Fate::Stays("it is another's".into())),
            leaving("d", Fate::Moved { to: "app-shop".into() }),
            leaving("e", Fate::Gone),
        ];
        let left = Left { objects, inventories: [("shop".to_owned(), None)].into() };
        let change = diff(&ManifestSpec::gone("shop"), &Observed::Left(left)).unwrap();
        let expected = [
            "- deployment shop/a (of shop)",
            "= deployment shop/b (of shop) is let go: it was there before",
            "= deployment shop/c (of shop) stays: it is another's",
            "= deployment shop/d (of shop) is in app-shop now",
        ];
        assert_eq!((change.action(), change.detail()), (Action::Remove, expected.map(str::to_owned).into()));
        assert_eq!(diff(&ManifestSpec::gone("shop"), &Observed::Left(Left::default())), None);
    }

    #[test]
    fn a_set_is_written_and_what_left_it_stays_in_its_inventory() {
        let objects = vec![
            seen("web", ObjectState::AsWritten),
            seen("api", ObjectState::Differs(vec!["spec.replicas 2 → 3".into()])),
        ];
        let held = [id("Deployment", "web"), id("Service", "old")].into();
        let Some(Change::Write(writing)) = set(objects, Some(held)) else { panic!("nothing changes") };
        assert_eq!(writing.lines(), ["~ deployment shop/api", "    spec.replicas 2 → 3"]);
        assert_eq!(writing.inventory, [id("Deployment", "api"), id("Deployment", "web"), id("Service", "old")].into());
    }

    #[test]
    fn a_quiet_set_has_no_change_and_a_first_one_creates() {
        let objects = vec![seen("web", ObjectState::AsWritten)];
        let held = [id("Deployment", "web"), id("Service", "left")].into();
        assert_eq!(set(objects.clone(), Some(held)), None);
        assert_eq!(set(objects, None).unwrap().action(), Action::Create);
    }

    #[test]
    fn a_moved_api_version_is_the_same_object() {
        let old = ObjectId { api_version: "apps/v1beta1".into(), ..id("Deployment", "web") };
        let change = set(vec![seen("web", ObjectState::AsWritten)], Some([old].into()));
        let Some(Change::Write(writing)) = change else { panic!("nothing changes") };
        assert_eq!(writing.inventory, [id("Deployment", "web")].into());
    }

    #[test]
    fn what_is_refused_is_told_and_the_rest_is_written() {
        let refusal = Refusal { why: "field is immutable".into(), help: None };
        let objects = vec![
            seen("a", ObjectState::Absent),
            seen("b", ObjectState::Refused("no such field".into())),
            seen("c", ObjectState::Replaced("field is immutable".into())),
            seen("d", ObjectState::Impossible(refusal)),
            seen("e", ObjectState::Newer("1.9".into())),
        ];
        let Some(Change::Write(writing)) = set(objects, None) else { panic!("nothing changes") };
        let expected = [
            "+ deployment shop/a",
            "! deployment shop/b is refused as things are: no such field",
            "-/+ deployment shop/c is replaced: field is immutable",
            "! deployment shop/d is refused: field is immutable",
            "! deployment shop/e waits: generation 1.9 wrote it",
        ];
        assert_eq!(writing.lines(), expected);
        let tried: Vec<_> = writing.writes.iter().map(|write| (write.id.name.as_str(), write.replace)).collect();
        assert_eq!(tried, [("a", false), ("b", false), ("c", true)]);
    }

    /// It is not as written: enforcement that rests says so.
    #[test]
    fn a_newer_generations_object_is_a_difference() {
        let held = [id("Deployment", "web")].into();
        assert!(set(vec![seen("web", ObjectState::Newer("1.9".into()))], Some(held)).is_some());
    }
}
