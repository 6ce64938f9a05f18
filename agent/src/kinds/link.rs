//! `[[link]]`: made beside and renamed into its place.

use muster_catalog::kinds::link::LinkSpec;
use muster_plan::kinds::link::{Change, Current, Does, Observed};

use std::path::Path;

use crate::{
    Context, Done, StepError,
    ports::{FileKind, Files},
};

pub async fn observe(ctx: &Context, spec: &LinkSpec) -> Result<Observed, StepError> {
    look(&*ctx.files, spec)
}

/// Without a task switch: for many in a row on one blocking thread.
pub fn look(files: &dyn Files, spec: &LinkSpec) -> Result<Observed, StepError> {
    let current = match files.stat(&spec.path)?.map(|stat| stat.kind) {
        None => None,
        // Gone in between: the next look decides.
        Some(FileKind::Link) => files.target(&spec.path)?.map(Current::Link),
        Some(FileKind::File) => Some(Current::File),
        Some(FileKind::Directory) => {
            let empty = files.entries(Path::new(&spec.path))?.is_none_or(|entries| entries.is_empty());
            Some(if empty { Current::EmptyFolder } else { Current::Folder })
        }
        Some(FileKind::Socket | FileKind::Other) => Some(Current::Other),
    };
    Ok(Observed { current })
}

pub async fn apply(ctx: &Context, spec: &LinkSpec, change: &Change) -> Result<Done, StepError> {
    match &change.does {
        Does::Make { target, folder, .. } => {
            if *folder {
                ctx.files.remove(&spec.path, false)?;
            }
            ctx.files.link(&spec.path, target)?;
        }
        Does::Remove => ctx.files.remove(&spec.path, false)?,
        Does::Refuse { because, help } => return Err(StepError::failed(because).help(help)),
    }
    Ok(Done::default())
}
