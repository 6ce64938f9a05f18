//! `[[file]]`: read whole, replaced whole.

use muster_catalog::kinds::file::FileSpec;
use muster_plan::kinds::file::{Change, Current, Does, Observed};

use super::accounts::{Accounts, known, mode};
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Files},
};

/// Read of a file that is longer than what is asked for, to show the difference.
const SHOWN: usize = 256 * 1024;

pub async fn observe(ctx: &Context, spec: &FileSpec) -> Result<Observed, StepError> {
    let mut observed = look(&*ctx.files, &Accounts::new(&*ctx.files), spec)?;
    if let Some(name) = &spec.secret {
        observed.secret = Some(ctx.secrets.get(name).await?);
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
        content,
    });
    Ok(Observed {
        current,
        secret: None,
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
            // The owner first: a change of owner clears the set-id bits.
            ctx.files.set_owner(&spec.path, uid, gid)?;
            ctx.files.set_mode(&spec.path, *mode)?;
        }
        Does::Remove => ctx.files.remove(&spec.path, false)?,
    }
    Ok(Done::default())
}
