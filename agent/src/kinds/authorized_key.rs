//! `[[authorized_key]]`: lines of a file in a folder that somebody else than root may write.
//!
//! The user may put links into his folders, so none is followed, but root's own where root alone may swap it, as some distributions have for root: what is read here is written into a file of his. The file is read
//! again under a lock just before it is written, so that two keys of one converge lose nothing.

use muster_catalog::kinds::authorized_key::AuthorizedKeySpec;
use muster_plan::kinds::authorized_key::{Change, Observed, edited};

use super::{
    accounts::{self, Accounts, User, known},
    editing::editing,
};
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Stat},
};

/// A larger file is none of keys.
const MOST: usize = 1024 * 1024;

pub async fn observe(ctx: &Context, spec: &AuthorizedKeySpec) -> Result<Observed, StepError> {
    let Some(user) = user(ctx, spec).await? else { return Ok(Observed::default()) };
    Ok(Observed { user: true, content: read(ctx, &user, &place(ctx, &user)?)?.map(|(_, content)| content) })
}

async fn user(ctx: &Context, spec: &AuthorizedKeySpec) -> Result<Option<User>, StepError> {
    let own = Accounts::new(&*ctx.files).users()?.iter().find(|user| user.name == spec.user).cloned();
    match own {
        Some(user) => Ok(Some(user)),
        None => Ok(accounts::elsewhere(ctx, "passwd", &spec.user).await?.and_then(|line| accounts::user(&line))),
    }
}

fn folder(user: &User) -> String {
    format!("{}/.ssh", user.home.trim_end_matches('/'))
}

fn file(user: &User) -> String {
    format!("{}/authorized_keys", folder(user))
}

/// The file, or where a link of root's leads.
fn place(ctx: &Context, user: &User) -> Result<String, StepError> {
    let path = file(user);
    for one in [folder(user), path.clone()] {
        if ctx.files.stat(&one)?.is_some_and(|stat| stat.kind == FileKind::Link) {
            if !ctx.files.private(&one)? {
                break;
            }
            let real = ctx.mounts.resolve(&path)?;
            return Ok(if ctx.files.private(&real)? { real } else { path });
        }
    }
    Ok(path)
}

/// The file at its place, and what it is; none where it is not there.
fn read(ctx: &Context, user: &User, path: &str) -> Result<Option<(Stat, Vec<u8>)>, StepError> {
    let refused = |path: &str, why: &str| {
        StepError::failed(format!("{path} {why}"))
            .help("put a plain folder and a plain file there, or let go of this key")
    };
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    match ctx.files.stat(folder)?.map(|stat| stat.kind) {
        None => return Ok(None),
        Some(FileKind::Directory) => {}
        Some(FileKind::Link) => return Err(refused(folder, "is a link, which the user may turn to anywhere")),
        Some(FileKind::File | FileKind::Socket | FileKind::Other) => return Err(refused(folder, "is no folder")),
    }
    let Some((stat, content)) = ctx.files.look(path, MOST)? else { return Ok(None) };
    match stat.kind {
        FileKind::File if stat.size as usize > MOST => Err(refused(path, "is larger than any file of keys")),
        // The content of a third one's file would come into one of this user's.
        FileKind::File if stat.uid != user.uid && stat.uid != 0 => Err(refused(path, "belongs to another user")),
        FileKind::File => Ok(Some((stat, content))),
        FileKind::Link => Err(refused(path, "is a link, which the user may turn to anywhere")),
        FileKind::Directory | FileKind::Socket | FileKind::Other => Err(refused(path, "is no file")),
    }
}

pub async fn apply(ctx: &Context, spec: &AuthorizedKeySpec, _change: &Change) -> Result<Done, StepError> {
    let user = user(ctx, spec).await?;
    known(user.as_ref().map(|user| user.uid), "user", &spec.user)?;
    let Some(user) = user else { return Ok(Done::default()) };
    let _one = editing(&*ctx.files)?;
    let place = place(ctx, &user)?;
    let before = read(ctx, &user, &place)?;
    let (mode, uid, gid, content) = match &before {
        // What others may write lets in whom they like, and sshd does not read it.
        Some((stat, content)) => (stat.mode & !0o022, stat.uid, stat.gid, content.as_slice()),
        None => (0o600, user.uid, user.gid, &[][..]),
    };
    let folder = folder(&user);
    if ctx.files.stat(&folder)?.is_none() {
        if ctx.files.stat(&user.home)?.is_none() {
            let message = format!("the home {} of the user {} is not there", user.home, user.name);
            return Err(StepError::failed(message).help("make it with a [[directory]], and name that in `after`"));
        }
        ctx.files.make_own_dir(&folder, 0o700, user.uid, user.gid)?;
    }
    ctx.files.write(&place, &edited(spec, content), mode, uid, gid)?;
    Ok(Done::default())
}
