//! `[[file]]`: read whole, replaced whole.

use muster_catalog::kinds::file::FileSpec;
use muster_plan::kinds::file::{Change, Current, Does, Observed, diff};

use super::accounts::{self, Accounts, known, mode};
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Files},
};

/// Read of a file that is longer than what is asked for, to show the difference.
const SHOWN: usize = 256 * 1024;

pub async fn observe(ctx: &Context, spec: &FileSpec) -> Result<Observed, StepError> {
    let mut observed = look(&*ctx.files, &accounts::of_one(ctx, &spec.owner, &spec.group).await?, spec)?;
    if let Some(name) = &spec.secret {
        observed.secret = Some(ctx.secrets.get(name).await?);
    }
    if diff(spec, &observed).is_some() { look_closer(&*ctx.files, spec, observed) } else { Ok(observed) }
}

/// What hangs on a difference: looked at only where there is one, which most files have not.
pub fn look_closer(files: &dyn Files, spec: &FileSpec, mut observed: Observed) -> Result<Observed, StepError> {
    if observed.current.is_some() {
        let beside = files.beside(&spec.path, observed.uid)?;
        (observed.lost, observed.mounted) = (beside.lost, beside.mounted);
    }
    Ok(observed)
}

/// All but a secret's value, without a task switch: for many files in a row on one blocking thread.
pub fn look(files: &dyn Files, accounts: &Accounts<'_>, spec: &FileSpec) -> Result<Observed, StepError> {
    let limit = spec.bytes().len().max(SHOWN);
    let current = files.look(&spec.path, limit)?.map(|(stat, content)| Current {
        regular: stat.kind == FileKind::File,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        shared: stat.shared,
        folder: stat.kind == FileKind::Directory,
        content,
    });
    Ok(Observed {
        current,
        secret: None,
        lost: Vec::new(),
        mounted: false,
        mode: mode(spec.mode())?,
        uid: accounts.uid(&spec.owner)?,
        gid: accounts.gid(&spec.group)?,
    })
}

pub async fn apply(ctx: &Context, spec: &FileSpec, change: &Change) -> Result<Done, StepError> {
    let ids = |uid: &Option<u32>, gid: &Option<u32>| {
        Ok::<_, StepError>((known(*uid, "user", &spec.owner)?, known(*gid, "group", &spec.group)?))
    };
    match &change.does {
        Does::Create { content, mode, uid, gid } | Does::Replace { content, mode, uid, gid } => {
            let (uid, gid) = ids(uid, gid)?;
            ctx.files.write(&spec.path, content, *mode, uid, gid)?;
        }
        Does::Attributes { mode, uid, gid } => {
            let (uid, gid) = ids(uid, gid)?;
            ctx.files.set(&spec.path, *mode, uid, gid)?;
        }
        Does::Remove => ctx.files.remove(&spec.path, false)?,
        Does::Refuse => {
            return Err(StepError::failed(format!("{} is there and is a folder", spec.path))
                .help("move it away by hand, or manage it with `[[directory]]`"));
        }
    }
    Ok(Done::default())
}
