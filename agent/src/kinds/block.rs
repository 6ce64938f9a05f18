//! `[[block]]`: the file is read, changed between its markers and replaced, one block at a time.

use muster_catalog::kinds::block::BlockSpec;
use muster_plan::kinds::block::{Change, Does, Observed, Seen, diff, with};

use super::editing::editing;
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Files, Stat},
};

/// Files longer than this are no settings.
const LONGEST: usize = 16 << 20;

pub async fn observe(ctx: &Context, spec: &BlockSpec) -> Result<Observed, StepError> {
    let file = match ctx.files.look(&spec.path, LONGEST)? {
        None => Seen::Missing,
        Some((stat, content)) => match unfit(&*ctx.files, &spec.path, &stat)? {
            Some(what) => Seen::NoFile(what),
            None => Seen::File { content, open: stat.mode & 0o004 != 0 },
        },
    };
    let mut observed = Observed { file, lost: Vec::new() };
    if diff(spec, &observed).is_some() {
        observed.lost = ctx.files.beside(&spec.path, None)?.lost;
    }
    Ok(observed)
}

/// What it is, where no block can stand in it.
fn unfit(files: &dyn Files, path: &str, stat: &Stat) -> Result<Option<String>, StepError> {
    Ok(match stat.kind {
        FileKind::File if stat.size > LONGEST as u64 => Some("a file of more than 16 MiB".to_owned()),
        FileKind::File => None,
        FileKind::Directory => Some("a folder".to_owned()),
        FileKind::Link => Some(format!("a link to {:?}", files.target(path)?.unwrap_or_default())),
        FileKind::Socket | FileKind::Other => Some("neither a file nor a folder".to_owned()),
    })
}

pub async fn apply(ctx: &Context, spec: &BlockSpec, change: &Change) -> Result<Done, StepError> {
    let block = match &change.does {
        Does::Write { block } => block.as_deref(),
        Does::Refuse { because, help } => return Err(StepError::failed(because).help(help)),
    };
    let _one = editing(&*ctx.files)?;
    // Read again: another block of the file may have been written since the look.
    let now = ctx.files.look(&spec.path, LONGEST)?.filter(|(stat, _)| stat.kind == FileKind::File);
    let Some((stat, content)) = now.filter(|(stat, content)| stat.size == content.len() as u64) else {
        return Err(StepError::failed(format!("{} was changed meanwhile", spec.path)).retry());
    };
    let new = with(&content, &spec.name, block)
        .map_err(|damage| StepError::failed(format!("{} was changed meanwhile", spec.path)).because(damage).retry())?;
    ctx.files.write(&spec.path, &new, stat.mode, stat.uid, stat.gid)?;
    Ok(Done::default())
}
