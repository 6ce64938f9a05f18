//! What a purge or the removal of a folder takes away, and what it leaves: what a resource of the node owns, homes,
//! mounts and sockets that are in use.
//!
//! Two names may lead to one place, as `/var/run` and `/run` do. So what looks like nobody's by its name is looked at again
//! by real paths before it is called so.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use muster_catalog::kinds::directory::is_system;
use muster_ids::ResourceId;
use muster_plan::kinds::directory::Stranger;

use super::accounts::Accounts;
use crate::{
    Owner, Scope, StepError,
    ports::{Entry, FileKind, Files, Inside},
    temporary::is_being_written,
};

/// The first user id of people; those below belong to the system, whose homes are mostly no homes.
const PEOPLE: u32 = 1000;

/// What is not to be taken away, by real path.
struct Guard {
    kept: BTreeMap<PathBuf, Kept>,
    sockets: BTreeSet<OsString>,
}

#[derive(Clone)]
struct Kept {
    /// With all below it.
    tree: bool,
    why: Why,
}

#[derive(Clone)]
enum Why {
    Resource(ResourceId),
    Home {
        user: String,
        uid: u32,
    },
    Mounted,
    /// The kernel has it as a disk or as swap space.
    Disk,
}

impl Why {
    /// An account of the system whose package is gone keeps a home in name only.
    fn is_in_name_only(&self) -> bool {
        match self {
            Self::Home { uid, .. } => (1..PEOPLE).contains(uid),
            Self::Resource(_) | Self::Mounted | Self::Disk => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(by) => write!(f, "belongs to {by}"),
            Self::Home { user, .. } => write!(f, "is the home of {user}"),
            Self::Mounted => f.write_str("has a file system mounted on it"),
            Self::Disk => f.write_str("is in use as a disk or as swap space"),
        }
    }
}

impl Guard {
    fn new(files: &dyn Files, accounts: &Accounts<'_>, scope: &Scope) -> Result<Self, StepError> {
        let in_use = files.in_use()?;
        let mut guard = Self { kept: BTreeMap::new(), sockets: in_use.sockets };
        // A home first: it stays one where the site writes its folder.
        for user in accounts.users()? {
            if user.home.len() > 1 && user.home.starts_with('/') {
                let why = Why::Home { user: user.name.clone(), uid: user.uid };
                guard.keep(files, Path::new(&user.home), Kept { tree: true, why });
            }
        }
        for (path, Owner { by, tree }) in &scope.owned {
            guard.keep(files, Path::new(path), Kept { tree: *tree, why: Why::Resource(by.clone()) });
        }
        for (user, by) in &scope.keys {
            if let Some(user) = accounts.users()?.iter().find(|account| account.name == *user) {
                let file = Path::new(&user.home).join(".ssh/authorized_keys");
                guard.keep(files, &file, Kept { tree: false, why: Why::Resource(by.clone()) });
            }
        }
        for path in in_use.files {
            guard.kept.insert(path, Kept { tree: false, why: Why::Disk });
        }
        for path in in_use.mounts {
            guard.kept.insert(path, Kept { tree: true, why: Why::Mounted });
        }
        Ok(guard)
    }

    fn keep(&mut self, files: &dyn Files, path: &Path, kept: Kept) {
        let mut add = |path: PathBuf, Kept { tree, why }| {
            self.kept.entry(path).and_modify(|kept| kept.tree |= tree).or_insert(Kept { tree, why });
        };
        // By its name, too: who looks for it goes over the links that lead there.
        if let Some(real) = files.real(path).ok().flatten().filter(|real| real != path) {
            add(real, kept.clone());
        }
        add(path.to_owned(), kept);
    }

    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Kept)> {
        let inside = move |(kept, _): &(&PathBuf, &Kept)| kept.starts_with(path);
        self.kept.range(path.to_owned()..).take_while(inside).filter(move |(kept, _)| *kept != path)
    }

    /// Why the folder itself may not be emptied.
    fn emptied(&self, real: &Path) -> Option<String> {
        if is_system(&real.to_string_lossy()) {
            return Some(format!("{} is a folder that the system needs", real.display()));
        }
        let kept = self.kept.get(real)?;
        match &kept.why {
            Why::Home { .. } if !kept.why.is_in_name_only() => Some(format!("{} {}", real.display(), kept.why)),
            // To purge what is mounted is what a purge of its folder asks for.
            Why::Home { .. } | Why::Resource(_) | Why::Mounted | Why::Disk => None,
        }
    }

    /// Why the folder itself may not be removed.
    fn itself(&self, real: &Path) -> Option<String> {
        let kept = self.kept.get(real).filter(|kept| !kept.why.is_in_name_only());
        self.emptied(real).or_else(|| kept.map(|kept| format!("{} {}", real.display(), kept.why)))
    }

    fn holds(&self, path: &Path) -> bool {
        self.below(path).next().is_some()
    }

    fn is_used(&self, socket: &Path) -> bool {
        socket.file_name().is_some_and(|name| self.sockets.contains(name))
    }
}

/// What would go, and what forbids it.
#[derive(Default)]
pub struct Found {
    pub strangers: Vec<Stranger>,
    /// In words: "/srv/x has a file system mounted on it".
    pub reasons: Vec<String>,
}

/// What is in `folder` and nobody's.
pub fn strangers(files: &dyn Files, accounts: &Accounts<'_>, scope: &Scope, folder: &str) -> Result<Found, StepError> {
    let mut found = Found::default();
    if !any_by_name(files, scope, folder)? {
        return Ok(found);
    }
    let Some(real) = files.real(Path::new(folder))? else { return Ok(found) };
    let guard = Guard::new(files, accounts, scope)?;
    collect(files, &guard, &real, &mut found)?;
    for stranger in &mut found.strangers {
        if let Ok(below) = stranger.path.strip_prefix(&real) {
            stranger.path = Path::new(folder).join(below);
        }
    }
    if !found.strangers.is_empty() {
        found.reasons.extend(guard.emptied(&real));
    }
    Ok(found)
}

/// A quick look by names alone: on most nodes there is nothing.
fn any_by_name(files: &dyn Files, scope: &Scope, folder: &str) -> Result<bool, StepError> {
    for Entry { name, kind } in files.entries(Path::new(folder))?.unwrap_or_default() {
        let Some(name) = name.to_str() else { return Ok(true) };
        let path = format!("{}/{name}", folder.trim_end_matches('/'));
        let inside = format!("{path}/");
        let holds = scope.owned.range(inside.clone()..).next().is_some_and(|(next, _)| next.starts_with(&inside));
        match scope.owned.get(&path) {
            Some(owner) if owner.tree || !holds => {}
            Some(_) | None if holds && kind == FileKind::Directory => {
                if any_by_name(files, scope, &path)? {
                    return Ok(true);
                }
            }
            Some(_) | None => return Ok(true),
        }
    }
    Ok(false)
}

fn collect(files: &dyn Files, guard: &Guard, folder: &Path, found: &mut Found) -> Result<(), StepError> {
    let before = found.strangers.len();
    for Entry { name, kind } in files.entries(folder)?.unwrap_or_default() {
        let path = folder.join(&name);
        let kept = guard.kept.get(&path);
        if kept.is_some_and(|kept| kept.tree) || is_being_written(&name) {
            continue;
        }
        let inside = if kind == FileKind::Directory { files.inside(&path)? } else { Inside::default() };
        let used = match kind {
            FileKind::Socket => guard.is_used(&path),
            FileKind::Directory | FileKind::File | FileKind::Link | FileKind::Other => {
                inside.sockets.iter().any(|socket| guard.is_used(socket))
            }
        };
        if guard.holds(&path) || used {
            if kind == FileKind::Directory {
                collect(files, guard, &path, found)?;
            }
        } else if kept.is_none() {
            found.stranger(files, path, kind, inside)?;
        }
    }
    if found.strangers.len() > before {
        found.frozen(folder, files.frozen(folder)?);
    }
    Ok(())
}

impl Found {
    fn stranger(&mut self, files: &dyn Files, path: PathBuf, kind: FileKind, inside: Inside) -> Result<(), StepError> {
        self.frozen(&path, files.frozen(&path)?);
        for (path, word) in inside.frozen {
            self.frozen(&path, Some(word));
        }
        let folder = kind == FileKind::Directory;
        self.strangers.push(Stranger { path, folder, inside: inside.count, more: inside.more });
        Ok(())
    }

    fn frozen(&mut self, path: &Path, word: Option<&'static str>) {
        self.reasons.extend(word.map(|word| format!("{} {word}", path.display())));
    }
}

/// What goes with a folder that is removed with all in it, and why it may not be.
pub fn removal(files: &dyn Files, accounts: &Accounts<'_>, scope: &Scope, folder: &str) -> Result<Found, StepError> {
    let mut found = Found::default();
    let Some(real) = files.real(Path::new(folder))? else { return Ok(found) };
    let guard = Guard::new(files, accounts, scope)?;
    found.reasons.extend(guard.itself(&real));
    found.reasons.extend(guard.below(&real).map(|(path, kept)| format!("{} {}", path.display(), kept.why)));
    for Entry { name, kind } in files.entries(&real)?.unwrap_or_default() {
        let path = real.join(&name);
        let inside = if kind == FileKind::Directory { files.inside(&path)? } else { Inside::default() };
        let own = (kind == FileKind::Socket).then_some(&path);
        let used = inside.sockets.iter().chain(own).filter(|socket| guard.is_used(socket));
        found.reasons.extend(used.map(|socket| format!("{} is a socket that a program holds", socket.display())));
        found.stranger(files, path, kind, inside)?;
    }
    found.frozen(&real, files.frozen(&real)?);
    for stranger in &mut found.strangers {
        if let Ok(below) = stranger.path.strip_prefix(&real) {
            stranger.path = Path::new(folder).join(below);
        }
    }
    Ok(found)
}
