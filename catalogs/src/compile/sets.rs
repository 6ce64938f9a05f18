//! Sets of Kubernetes objects: all are written before anything that left one is deleted, so that what moves between two
//! is never gone in between.

use std::collections::BTreeSet;

use muster_ids::ResourceId;

use super::Draft;
use crate::{
    catalog::Resource,
    kinds::{
        Spec,
        manifest::{ManifestSpec, Prune},
    },
    tree::At,
};

/// Adds the resource that prunes, and puts what is absent by hand behind all that is written. `left` are sets that stood
/// in an earlier site; `at` is the place of what stands nowhere any more.
pub(super) fn pruned(drafts: &mut Vec<Draft>, left: &BTreeSet<String>, at: At) {
    let sets = drafts.iter().filter_map(|draft| match &draft.resource.spec {
        Spec::Manifest(spec) => Some(spec),
        _other => None,
    });
    let (absent, sets): (Vec<&ManifestSpec>, Vec<&ManifestSpec>) = sets.partition(|spec| spec.absent);
    let stands = |name: &String| sets.iter().chain(&absent).any(|spec| spec.name == *name);
    // A set that is written after all, by a template say, is not gone.
    let gone: BTreeSet<String> = left.iter().filter(|name| !stands(name)).cloned().collect();
    let written: Vec<ResourceId> = sets.iter().map(|spec| ResourceId::new("manifest", &spec.name)).collect();
    let absent: Vec<String> = absent.iter().map(|spec| spec.name.clone()).collect();
    let prune = Prune::of(sets, gone);
    for name in absent {
        let id = ResourceId::new("manifest", &name);
        // Whoever is to come after it by hand cannot come before it.
        let free: Vec<ResourceId> = written.iter().filter(|set| !comes_after(drafts, set, &id)).cloned().collect();
        let draft = drafts.iter_mut().find(|draft| draft.resource.id() == id);
        draft.into_iter().for_each(|draft| draft.resource.after.extend(free.iter().cloned()));
    }
    if !(prune.sets.is_empty() && prune.gone.is_empty()) {
        let spec = Spec::Manifest(ManifestSpec::pruning(prune));
        let resource = Resource { after: written, notify: Vec::new(), spec };
        drafts.push(Draft { resource, at, named: at, after: Vec::new(), notify: Vec::new() });
    }
}

/// Whether edges that are written lead from `first` to `last`.
fn comes_after(drafts: &[Draft], last: &ResourceId, first: &ResourceId) -> bool {
    let mut seen = BTreeSet::from([first.clone()]);
    let mut open = vec![first.clone()];
    while let Some(id) = open.pop() {
        let told = drafts.iter().filter(|draft| draft.resource.id() == id).flat_map(|draft| &draft.notify);
        let waits = drafts.iter().filter(|draft| draft.after.iter().any(|(before, _)| *before == id));
        let next: Vec<ResourceId> =
            told.map(|(id, _)| id.clone()).chain(waits.map(|draft| draft.resource.id())).collect();
        open.extend(next.into_iter().filter(|id| seen.insert(id.clone())));
    }
    seen.contains(last)
}
