//! No two resources of a node own the same thing, and none lies in what another makes a file.

use std::collections::HashMap;

use super::Draft;
use crate::{
    apps,
    diagnostic::Diagnostic,
    kinds::{Claim, Place, Spec},
    site::Site,
};

/// Two resources with the same claim are an error at both places.
pub(super) fn one_each(drafts: Vec<Draft>, site: &Site, errors: &mut Vec<Diagnostic>) -> Vec<Draft> {
    // Hashed maps here and below: they are asked and never walked, so that their order cannot show.
    let mut owners: HashMap<Claim, usize> = HashMap::new();
    let mut kept: Vec<Draft> = Vec::new();
    for draft in drafts {
        let claims = draft.resource.spec.claims();
        let mut taken = claims.iter().filter_map(|claim| Some((claim, *owners.get(claim)?)));
        if let Some((claim, owner)) = taken.next() {
            let more = match taken.filter(|(_, other)| *other == owner).count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let owner = &kept[owner];
            if let (Spec::Manifest(one), Spec::Manifest(other)) = (&owner.resource.spec, &draft.resource.spec)
                && site.apps.keys().map(apps::set).filter(|set| [&one.name, &other.name].contains(&set)).count() == 2
            {
                // What two applications share is told by the rules for the whole site.
                continue;
            }
            let (first, second) = if owner.named <= draft.named { (owner, &draft) } else { (&draft, owner) };
            let mut error = Diagnostic::new(format!("two resources own {claim}{more}"));
            for (one, label) in [(first, "here"), (second, "and here")] {
                error = error.at(site.sources.place(one.named, label));
            }
            let same_file = site.sources.path(first.named) == site.sources.path(second.named);
            errors.push(error.help(if matches!(draft.resource.spec, Spec::Manifest(_)) {
                "keep it in one of the two"
            } else if same_file {
                "keep one, or give each a `when` of its own"
            } else {
                "keep one, or give each role its own and include both"
            }));
            continue;
        }
        owners.extend(claims.into_iter().map(|claim| (claim, kept.len())));
        kept.push(draft);
    }
    kept
}

/// `/etc/motd` as a file, and something at `/etc/motd/x`.
pub(super) fn no_file_holds_another(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) {
    let is_file =
        |draft: &&Draft| !draft.resource.spec.absent() && draft.resource.spec.place().is_some_and(|place| !place.holds);
    let files: HashMap<&str, &Draft> =
        drafts.iter().filter(is_file).map(|draft| (draft.resource.spec.name(), draft)).collect();
    for draft in drafts {
        let Some(Place { path, .. }) = draft.resource.spec.place() else { continue };
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        for holder in above.filter_map(|above| files.get(above)) {
            let label = format!("lies in {}", holder.resource.spec.name());
            let error = Diagnostic::new(format!("{} is a file and cannot hold {path}", holder.resource.spec.name()))
                .at(site.sources.place(holder.named, "a file"))
                .at(site.sources.place(draft.named, label));
            errors.push(error.help("make the first a [[directory]], or give one another path"));
        }
    }
}
