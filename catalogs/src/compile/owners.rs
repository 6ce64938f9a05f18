//! No two resources of a node own the same thing, by whatever name, none lies in what another makes a file, and none takes
//! away what another makes.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{Draft, Facts, aliases::Aliases};
use crate::{
    apps,
    diagnostic::Diagnostic,
    kinds::{Claim, Owned, Place, Signal, Spec, container::PORT},
    site::Site,
};

/// Two resources with the same claim are an error at both places.
pub(super) fn one_each(drafts: Vec<Draft>, site: &Site, facts: &Facts, errors: &mut Vec<Diagnostic>) -> Vec<Draft> {
    let aliases = Aliases::of(&drafts, &facts.arch);
    // Hashed maps here and below: they are asked and never walked, so that their order cannot show.
    let mut owners: HashMap<Claim, (usize, Option<String>)> = HashMap::with_capacity(drafts.len());
    let mut kept: Vec<Draft> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let claims = draft.resource.spec.claims();
        let mut taken = claims.iter().filter_map(|claim| {
            let real = aliases.resolved(claim);
            let (owner, name) = owners.get(&*real)?;
            Some((claim, real, *owner, name))
        });
        if let Some((claim, real, owner, name)) = taken.next() {
            let more = match taken.filter(|(.., other, _)| *other == owner).count() {
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
            let same_file = site.sources.path(first.named) == site.sources.path(second.named);
            let help = if matches!(draft.resource.spec, Spec::Manifest(_)) {
                "keep it in one of the two"
            } else if same_file {
                "keep one, or give each a `when` of its own"
            } else {
                "keep one, or give each role its own and include both"
            };
            let name = name.as_deref().unwrap_or_else(|| real.name());
            let what = if name == claim.name() { String::new() } else { format!(", which is {name}") };
            errors.push(twice(format!("two resources own {claim}{what}{more}"), first, second, site).help(help));
            continue;
        }
        for claim in claims {
            let real = match aliases.resolved(&claim) {
                Cow::Owned(real) => Some(real),
                Cow::Borrowed(_) => None,
            };
            match real {
                Some(real) => owners.insert(real, (kept.len(), Some(claim.name().to_owned()))),
                None => owners.insert(claim, (kept.len(), None)),
            };
        }
        kept.push(draft);
    }
    no_mount_on_a_file(&kept, &aliases, site, errors);
    no_port_of_all_addresses(&kept, site, errors);
    no_link_in_a_circle(&kept, &aliases, site, errors);
    kept
}

/// A link that leads to itself by way of others of the site.
fn no_link_in_a_circle(drafts: &[Draft], aliases: &Aliases, site: &Site, errors: &mut Vec<Diagnostic>) {
    for draft in drafts {
        if let Spec::Link(link) = &draft.resource.spec
            && aliases.leads_to_itself(&link.path)
        {
            let error = Diagnostic::new(format!("{} leads to itself by way of other links", link.path))
                .at(site.sources.place(draft.named, "in a circle"));
            errors.push(error.help("lead one of them to a file or folder"));
        }
    }
}

/// A port of every address, and the same of one.
fn no_port_of_all_addresses(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) {
    let ports = |draft: &'_ Draft| -> Vec<String> {
        let claims = draft.resource.spec.claims();
        claims.into_iter().filter(|claim| claim.what() == PORT).map(|claim| claim.name().to_owned()).collect()
    };
    let mut everywhere: HashMap<String, &Draft> = HashMap::new();
    for draft in drafts {
        everywhere.extend(ports(draft).into_iter().filter(|port| !port.contains(':')).map(|port| (port, draft)));
    }
    for draft in drafts.iter().filter(|_| !everywhere.is_empty()) {
        for port in ports(draft) {
            let Some((_, number)) = port.rsplit_once(':') else { continue };
            let Some(other) = everywhere.get(number) else { continue };
            let (first, second) = if draft.named <= other.named { (draft, *other) } else { (*other, draft) };
            let message = format!("two resources own port {number}, one of them at every address");
            errors.push(twice(message, first, second, site).help("give one another port, or each an address"));
        }
    }
}

fn twice(message: String, first: &Draft, second: &Draft, site: &Site) -> Diagnostic {
    let places = [(first, "here"), (second, "and here")];
    let places = places.into_iter().map(|(draft, label)| site.sources.place(draft.named, label));
    let mut error = Diagnostic::new(message);
    error.places.extend(places);
    error
}

/// Something mounted at a file's path hides the file: each converge would see the other's content.
fn no_mount_on_a_file(drafts: &[Draft], aliases: &Aliases, site: &Site, errors: &mut Vec<Diagnostic>) {
    let real = |path: &str| aliases.path(path).unwrap_or_else(|| path.to_owned());
    let mounted = drafts.iter().filter_map(|draft| match &draft.resource.spec {
        Spec::Mount(mount) if !mount.absent => Some((real(&mount.path), draft)),
        _other => None,
    });
    let mounted: HashMap<String, &Draft> = mounted.collect();
    if mounted.is_empty() {
        return;
    }
    // An archive's folder is put in its place as a whole, which what is mounted there forbids.
    let whole = |draft: &&Draft| match &draft.resource.spec {
        Spec::Archive(_) => true,
        spec => spec.place().is_none_or(|place| !place.holds),
    };
    for draft in drafts.iter().filter(whole) {
        for claim in draft.resource.spec.claims().iter().filter(|claim| claim.what().is_empty()) {
            let Some(mount) = mounted.get(&real(claim.name())) else { continue };
            let (first, second) = if draft.named <= mount.named { (draft, *mount) } else { (*mount, draft) };
            let (noun, help) = match &draft.resource.spec {
                Spec::Archive(_) => ("an archive's folder", "mount it above the archive's folder, or elsewhere"),
                _other => ("a file", "mount it elsewhere, or write the file that is mounted"),
            };
            let message = format!("{claim} is {noun}, and something is mounted there");
            errors.push(twice(message, first, second, site).help(help));
        }
    }
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

/// A block in a file that the site writes as a whole.
pub(super) fn no_block_in_a_whole_file(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) {
    let blocks = drafts.iter().filter_map(|draft| match &draft.resource.spec {
        Spec::Block(block) => Some((draft, block)),
        _other => None,
    });
    let mut blocks = blocks.peekable();
    if blocks.peek().is_none() {
        return;
    }
    let aliases = Aliases::of(drafts, "");
    let real = |path: &str| aliases.path(path).unwrap_or_else(|| path.to_owned());
    let whole = drafts.iter().filter_map(|draft| match &draft.resource.spec {
        Spec::File(file) => Some((real(&file.path), draft)),
        Spec::Link(link) => Some((real(&link.path), draft)),
        _other => None,
    });
    let whole: HashMap<String, &Draft> = whole.collect();
    for (draft, block) in blocks {
        if let Some(owner) = whole.get(&real(&block.path)) {
            let error = Diagnostic::new(format!("{} is written as a whole and has a block", block.path))
                .at(site.sources.place(owner.named, "all of it"))
                .at(site.sources.place(draft.named, "a part of it"));
            errors.push(
                error.help("write the block's lines where the rest stands, or leave the rest to whom it belongs"),
            );
        }
    }
}

/// A folder that is to go with what is to be in it, and one that is to hold nothing else than the site's, and is another's as a
/// whole: a home, what a command creates, a container's volume.
pub(super) fn nothing_is_taken_away(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) {
    let empties = |draft: &Draft| match &draft.resource.spec {
        Spec::Directory(folder) => folder.absent || folder.purge,
        Spec::File(file) => file.absent,
        Spec::Archive(_) => true,
        _other => false,
    };
    if !drafts.iter().any(empties) {
        return;
    }
    let present = drafts.iter().filter(|draft| !draft.resource.spec.absent());
    let mut owned: Vec<(String, bool, &Draft)> = present
        .flat_map(|draft| draft.resource.spec.owns().into_iter().map(move |owned| (owned.path, owned.tree, draft)))
        .collect();
    owned.sort_by(|a, b| a.0.cmp(&b.0));
    for draft in drafts.iter().filter(|draft| empties(draft)) {
        let spec = &draft.resource.spec;
        let own = spec.name();
        let inside = format!("{}/", own.trim_end_matches('/'));
        let from = |start: &str| owned[owned.partition_point(|(path, ..)| path.as_str() < start)..].iter();
        let other = |(.., owner): &&(String, bool, &Draft)| !std::ptr::eq(*owner, draft);
        let same = from(own).take_while(|(path, ..)| path == own).filter(other);
        let below = from(&inside).take_while(|(path, ..)| path.starts_with(&inside));
        let is_there = |path: &str| format!("{own} is to go, and {path} is to be there");
        let found = match spec {
            Spec::File(_) => same.map(|(path, _, owner)| (is_there(path), path, *owner)).next(),
            // What is only remade does not count: data does.
            Spec::Archive(archive) if !archive.absent => below
                .filter(|(_, tree, _)| *tree)
                .map(|(path, _, owner)| {
                    (
                        format!(
                            "{path} lies in the archive's folder {own}, and goes with it when that is unpacked anew"
                        ),
                        path,
                        *owner,
                    )
                })
                .next(),
            Spec::Directory(folder) if !folder.absent => same
                // A mount's folder may be kept clean: it is the mount's file system that is.
                .filter(|(_, tree, owner)| *tree && !matches!(owner.resource.spec, Spec::Mount(_)))
                .map(|(path, _, owner)| {
                    (format!("a purge of {path} would empty what {} owns", owner.resource.id()), path, *owner)
                })
                .next(),
            _absent => same.chain(below).next().map(|(path, _, owner)| (is_there(path), path, *owner)),
        };
        let taken = if matches!(spec, Spec::Archive(_)) { "all of it is the archive's" } else { "`purge`" };
        if let Some((message, path, owner)) = found {
            let error = Diagnostic::new(message)
                .at(site.sources.place(draft.named, if spec.absent() { "`absent`" } else { taken }))
                .at(site.sources.place(owner.named, format!("owns {path}")));
            errors.push(error.help("keep one of the two, or give each a `when` of its own"));
        }
    }
}

/// `/etc/fstab` as a file, and a mount, which has a line of it.
pub(super) fn no_file_is_written_into(drafts: &[Draft], site: &Site, errors: &mut Vec<Diagnostic>) {
    let mut written: HashMap<String, &Draft> = HashMap::new();
    for draft in drafts.iter().filter(|draft| SHARED.contains(&draft.resource.spec.kind())) {
        // A file of keys is kept from purges, and still others have lines in it.
        let own: HashSet<Owned> = match &draft.resource.spec {
            Spec::AuthorizedKey(_) => HashSet::new(),
            spec => spec.owns().into_iter().collect(),
        };
        for signal in draft.resource.spec.signals() {
            if let Signal::Path(path) = signal
                && !own.contains(&Owned::one(&path))
            {
                written.entry(path).or_insert(draft);
            }
        }
    }
    let homes: HashMap<&str, Option<&str>> = drafts
        .iter()
        .filter_map(|draft| match &draft.resource.spec {
            Spec::User(user) => Some((user.name.as_str(), user.home.as_deref())),
            _other => None,
        })
        .collect();
    for draft in drafts {
        if let Spec::AuthorizedKey(key) = &draft.resource.spec {
            // Where nobody says otherwise, as useradd makes it.
            let home = match homes.get(key.user.as_str()).copied().flatten() {
                Some(home) => home.to_owned(),
                None if key.user == "root" => "/root".to_owned(),
                None => format!("/home/{}", key.user),
            };
            written.entry(format!("{home}/.ssh/authorized_keys")).or_insert(draft);
        }
    }
    for draft in drafts.iter().filter(|draft| matches!(draft.resource.spec, Spec::File(_))) {
        let Some(writer) = written.get(draft.resource.spec.name()) else { continue };
        let (path, of) = (draft.resource.spec.name(), writer.resource.id());
        let error = Diagnostic::new(format!("{path} is written whole, and {of} has a part of it"))
            .at(site.sources.place(draft.named, "all of it"))
            .at(site.sources.place(writer.named, "a part of it"));
        errors.push(error.help("leave the file out, and write its parts as resources"));
    }
}

/// Kinds that keep their part of a file that others keep theirs in.
const SHARED: &[&str] = &["authorized_key", "group", "mount", "swap", "user"];
