//! Nothing that is to be there belongs to what is to go.

use std::collections::HashMap;

use super::Draft;
use crate::{
    diagnostic::Diagnostic,
    kinds::{Need, Spec},
    site::Site,
};

/// Kinds without which nothing that names them can be: an owner, a group, a package, a folder that is bound.
const NEEDED: [&str; 4] = ["directory", "group", "package", "user"];

/// A file of a user that is `absent`, and the like. True where there is one.
pub(super) fn is_needed(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) -> bool {
    let going = drafts.iter().map(|draft| (draft, &draft.resource.spec));
    // That root cannot go is an error of its own.
    let goes = |spec: &Spec| spec.absent() && NEEDED.contains(&spec.kind()) && spec.name() != "root";
    let going = going.filter(|(_, spec)| goes(spec));
    let going: HashMap<(&str, &str), &Draft> = going.map(|(draft, spec)| ((spec.kind(), spec.name()), draft)).collect();
    if going.is_empty() {
        return false;
    }
    let before = errors.len();
    for draft in drafts.iter().filter(|draft| !draft.resource.spec.absent()) {
        for need in draft.resource.spec.needs() {
            let Need::Named(kind, name) = &need else { continue };
            if let Some(owner) = going.get(&(*kind, name.as_str())) {
                let (id, of) = (draft.resource.id(), owner.resource.id());
                let error = Diagnostic::new(format!("{id} is to be there, and {of}, which it needs, is to go"))
                    .at(site.sources.place(draft.named, "here"))
                    .at(site.sources.place(owner.named, "`absent`"));
                errors.push(error.help("keep both, take both away, or name another"));
            }
        }
    }
    errors.len() > before
}
