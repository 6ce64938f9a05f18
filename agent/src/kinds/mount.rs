//! `[[mount]]`: mounted, remounted, unmounted; and its line of `/etc/fstab`.
//!
//! Order. What is to be mounted is mounted first and written to fstab then, because a line that cannot be mounted keeps the
//! node from booting. A line that was there before is changed first, because systemd, which reads it, would take a mount of another device away
//! again; where mounting then fails it is put back. What goes is unmounted first, so that a mount in use keeps its line. Killed in
//! between, the next converge sees what is left and goes on from there.

use muster_catalog::kinds::mount::{MountSpec, is_essential};
use muster_plan::{
    fstab,
    kinds::mount::{Attributes, Change, Mounted, Observed, Source, Then, served},
    mounts::{Table, clean},
};

use super::{
    accounts::Accounts,
    fstab_file,
    place::{must_be_roots, not_roots},
};
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Found, MountError, NewMount},
};

pub async fn observe(ctx: &Context, spec: &MountSpec) -> Result<Observed, StepError> {
    let table = ctx.mounts.table()?;
    let path = ctx.mounts.resolve(&spec.path)?;
    let text = ctx.files.read(fstab::PATH)?.unwrap_or_default();
    let stack: Vec<Mounted> = table
        .at(&path)
        .into_iter()
        .map(|mount| {
            let source = ctx.mounts.backing(&mount.source);
            let source =
                source.or_else(|| mount.source.starts_with('/').then(|| ctx.mounts.resolve(&mount.source).ok())?);
            Mounted { source: source.unwrap_or_else(|| mount.source.clone()), mount: mount.clone() }
        })
        .collect();
    let accounts = Accounts::new(&*ctx.files);
    let words = spec.words();
    let value = |key: &str| words.iter().rev().find_map(|word| word.strip_prefix(key));
    let sets = ["mode=", "uid=", "gid="].iter().any(|key| value(key).is_some());
    let id = |name: Option<&str>, of: &dyn Fn(&str) -> Result<Option<u32>, StepError>| match name {
        Some(name) => of(name),
        None => Ok(None),
    };
    let memory = stack.last().is_some_and(|top| matches!(top.mount.fstype.as_str(), "tmpfs" | "ramfs"));
    let attributes = if sets && memory { ctx.files.stat(&path)? } else { None };
    let mut refused = not_roots(ctx, &spec.path)?;
    if refused.is_none() && spec.binds() && !spec.absent {
        refused = not_roots(ctx, &spec.source)?;
    }
    Ok(Observed {
        refused,
        spellings: spellings(ctx, &table, &text, &path),
        source: if spec.absent { Source::Word } else { source(ctx, spec, &table, &path).await? },
        memory: ctx.mounts.memory(),
        attributes: attributes.map(|stat| Attributes { mode: stat.mode, uid: stat.uid, gid: stat.gid }),
        uid: id(value("uid="), &|name| accounts.uid(name))?,
        gid: id(value("gid="), &|name| accounts.gid(name))?,
        hides: !spec.absent && stack.is_empty() && ctx.files.list(&path)?.is_some_and(|names| !names.is_empty()),
        fstab: text,
        path,
        stack,
    })
}

/// Other names of the path, of those in fstab. What lies on a server is not asked, which might not answer.
fn spellings(ctx: &Context, table: &Table, text: &[u8], path: &str) -> Vec<String> {
    let far = |target: &str| {
        let parent = target.rsplit_once('/').map_or("/", |(parent, _)| parent);
        table.holding(parent).is_some_and(|mount| served(&mount.fstype))
    };
    let name = |path: &str| path.rsplit_once('/').map_or("", |(_, name)| name).to_owned();
    // Looked at closely only where it may be so: a node has many mounts, and is looked at whenever one changes.
    let may = |target: &str| {
        let link = || ctx.files.stat(target).is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == FileKind::Link));
        !far(target) && (name(target) == name(path) || link())
    };
    let leads_there = |target: &str| may(target) && ctx.mounts.resolve(target).is_ok_and(|real| real == path);
    let targets = fstab::entries(text).into_iter().map(|entry| clean(&entry.line.target));
    targets.filter(|target| target.starts_with('/') && leads_there(target)).collect()
}

async fn source(ctx: &Context, spec: &MountSpec, table: &Table, path: &str) -> Result<Source, StepError> {
    Ok(match ctx.mounts.find(&spec.source).await? {
        Found::Word => Source::Word,
        Found::Missing => Source::Missing,
        Found::Device { path, number } => Source::Device { path, number },
        Found::File { path } => Source::Image { path },
        Found::Folder { path: folder } => {
            let Some(holding) = table.holding(&folder) else { return Ok(Source::Missing) };
            let inside = folder[holding.point.len().min(folder.len())..].trim_matches('/');
            let root = clean(&format!("{}/{inside}", holding.root));
            // A folder bound onto itself lies in that very mount.
            let above =
                if holding.point == path { table.0.iter().find(|mount| mount.id == holding.parent) } else { None };
            let options = above.unwrap_or(holding).options.clone();
            Source::Folder { device: holding.device.clone(), root, options }
        }
    })
}

pub async fn apply(ctx: &Context, spec: &MountSpec, change: &Change) -> Result<Done, StepError> {
    possible(ctx, spec, change).await?;
    for _ in 0..change.unmount {
        unmount(ctx, change).await?;
    }
    let there_before = change.fstab.as_ref().filter(|line| line.before.is_some() && line.wanted.is_some());
    if let Some(line) = there_before {
        fstab_file::change(ctx, |text| line.edit(text)).await?;
    }
    if let Err(error) = mount(ctx, spec, change).await {
        if let Some(line) = there_before {
            fstab_file::change(ctx, |text| line.undo(text)).await?;
        }
        return Err(error);
    }
    if let (Some(line), None) = (&change.fstab, there_before) {
        fstab_file::change(ctx, |text| line.edit(text)).await?;
    }
    Ok(Done::default())
}

async fn mount(ctx: &Context, spec: &MountSpec, change: &Change) -> Result<(), StepError> {
    let path = change.path.as_str();
    match &change.then {
        Then::Nothing => {}
        Then::Mount(options) => {
            ctx.files.make_dir(path)?;
            let what = NewMount { source: &spec.source, path, fstype: &spec.fstype, options };
            ctx.mounts.mount(&what).await?;
        }
        Then::Remount(options) => ctx.mounts.remount(path, options).await.map_err(|error| {
            StepError::from(error).help(
                "a tmpfs cannot be smaller than what it holds, a file system with an open file not read-only, and a write-protected one \
                 not writable (write `ro`)",
            )
        })?,
    }
    if let Some(how) = &change.propagation {
        ctx.mounts.propagate(path, how).await?;
    }
    if let Some(Attributes { mode, uid, gid }) = change.attributes {
        ctx.files.set(path, mode, uid, gid)?;
    }
    Ok(())
}

/// Whether what is to be mounted can be: asked before anything is taken away for it.
async fn possible(ctx: &Context, spec: &MountSpec, change: &Change) -> Result<(), StepError> {
    let path = change.path.as_str();
    if is_essential(path) {
        return Err(StepError::failed(format!("{} is {path}, which the node lives in", spec.path))
            .help("a link leads there: mount it elsewhere"));
    }
    must_be_roots(ctx, &spec.path)?;
    if !matches!(change.then, Then::Mount(_)) {
        return Ok(());
    }
    if spec.binds() {
        must_be_roots(ctx, &spec.source)?;
    }
    if change.unmount == 0 && ctx.files.stat(path)?.is_some_and(|stat| stat.kind != FileKind::Directory) {
        return Err(StepError::failed(format!("{path} is a file, and what is mounted needs a folder")).help(
            "give the mount another path, or move the file away; one file in another's place is a [[file]] or a link",
        ));
    }
    let found = ctx.mounts.find(&spec.source).await?;
    let name = &spec.source;
    match found {
        Found::Missing if spec.binds() => Err(StepError::failed(format!("the folder {name} to bind is not there"))
            .help("make it with a [[directory]], or name what makes it in `after`")
            .retry()),
        Found::Missing => Err(StepError::failed(format!("there is no {name} on this node"))
            .help("is the disk there? `lsblk --fs` on the node lists all, with their UUIDs and labels")
            .retry()),
        Found::File { .. } if spec.binds() => Err(StepError::failed(format!("{name} is a file and no folder to bind"))
            .help("bind the folder that it is in, or write the file with a [[file]]")),
        Found::Folder { .. } if !spec.binds() && spec.source.starts_with("/dev/") => {
            Err(StepError::failed(format!("{name} is a folder and no device")))
        }
        Found::Word | Found::Device { .. } | Found::File { .. } | Found::Folder { .. } => Ok(()),
    }
}

async fn unmount(ctx: &Context, change: &Change) -> Result<(), StepError> {
    let path = change.path.as_str();
    match ctx.mounts.unmount(path, change.recursive).await {
        Ok(()) => Ok(()),
        Err(MountError::Busy { .. }) => {
            let users = ctx.mounts.users(path);
            let named: Vec<_> = users.iter().take(MOST_NAMED).map(ToString::to_string).collect();
            let more = users.len().saturating_sub(MOST_NAMED);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            let by = if named.is_empty() { "somebody who is not seen here".to_owned() } else { named.join(", ") };
            Err(StepError::failed(format!("{path} is in use by {by}{more}"))
                .help("stop what uses it: nothing was unmounted, and nothing is by force")
                .retry())
        }
        Err(error) => Err(error.into()),
    }
}

/// So many users of a mount are named.
const MOST_NAMED: usize = 8;

#[cfg(test)]
mod tests;
