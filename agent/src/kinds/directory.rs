//! `[[directory]]`: made, mended, purged of what nobody owns.

use muster_catalog::kinds::directory::DirectorySpec;
use muster_plan::kinds::directory::{Change, Current, Does, Observed};

use super::accounts::{Accounts, known, mode};
use crate::{
    Context, Done, Scope, StepError,
    ports::{FileKind, Files},
};

pub async fn observe(ctx: &Context, spec: &DirectorySpec) -> Result<Observed, StepError> {
    look(&*ctx.files, &Accounts::new(&*ctx.files), &ctx.scope, spec)
}

/// Without a task switch: for many in a row on one blocking thread.
pub fn look(
    files: &dyn Files,
    accounts: &Accounts<'_>,
    scope: &Scope,
    spec: &DirectorySpec,
) -> Result<Observed, StepError> {
    let current = files.stat(&spec.path)?.map(|stat| Current {
        directory: stat.kind == FileKind::Directory,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
    });
    let mut strangers = Vec::new();
    if spec.purge && !spec.absent && current.as_ref().is_some_and(|current| current.directory) {
        find_strangers(files, scope, spec.path.trim_end_matches('/'), &mut strangers)?;
    }
    Ok(Observed {
        current,
        mode: mode(&spec.mode)?,
        uid: accounts.uid(&spec.owner)?,
        gid: accounts.gid(&spec.group)?,
        strangers,
    })
}

/// What is in `folder`, owned by no resource and holding nothing that is.
fn find_strangers(files: &dyn Files, scope: &Scope, folder: &str, found: &mut Vec<String>) -> Result<(), StepError> {
    for name in files.list(folder)?.unwrap_or_default() {
        let path = format!("{folder}/{name}");
        let inside = format!("{path}/");
        let holds = scope.owned.range(inside.clone()..).next().is_some_and(|(next, _)| next.starts_with(&inside));
        match scope.owned.get(&path) {
            Some(true) => continue,
            Some(false) if !holds => continue,
            Some(false) | None => {}
        }
        if !holds {
            found.push(path);
        } else if files.stat(&path)?.is_some_and(|stat| stat.kind == FileKind::Directory) {
            find_strangers(files, scope, &path, found)?;
        }
    }
    Ok(())
}

pub async fn apply(ctx: &Context, spec: &DirectorySpec, change: &Change) -> Result<Done, StepError> {
    let set = |uid: &Option<u32>, gid: &Option<u32>, mode: u32| {
        let (uid, gid) = (known(*uid, "user", &spec.owner)?, known(*gid, "group", &spec.group)?);
        ctx.files.set_owner(&spec.path, uid, gid)?;
        ctx.files.set_mode(&spec.path, mode)?;
        Ok::<_, StepError>(())
    };
    match &change.does {
        Does::Make { mode, uid, gid } => {
            if ctx.files.stat(&spec.path)?.is_some_and(|stat| stat.kind != FileKind::Directory) {
                return Err(StepError::failed(format!("{} is there and is no folder", spec.path))
                    .help("move it away by hand, or manage it with `[[file]] absent = true`"));
            }
            ctx.files.make_dir(&spec.path)?;
            set(uid, gid, *mode)?;
        }
        Does::Mend { attributes, mode, uid, gid, purge } => {
            if *attributes {
                set(uid, gid, *mode)?;
            }
            for path in purge {
                ctx.files.remove(path, true)?;
            }
        }
        Does::Remove { tree } => ctx.files.remove(&spec.path, *tree)?,
    }
    Ok(Done::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::files::RealFiles;

    #[test]
    fn a_purge_spares_what_others_own_however_deep() {
        let root = tempfile::tempdir().unwrap();
        let files = RealFiles::below(root.path());
        for path in ["/d/own", "/d/stranger", "/d/sub/own", "/d/sub/stranger", "/d/old/x", "/d/home/x"] {
            files.write(path, b"", 0o644, 0, 0).unwrap();
        }
        let mut scope = Scope {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            node: "n".parse().unwrap(),
            generation: Default::default(),
            owned: Default::default(),
            groups: Default::default(),
            objects: Vec::new(),
        };
        let owned = ["/d", "/d/own", "/d/sub/own", "/d-other"].map(|path| (path.to_owned(), false));
        scope.owned = owned.into_iter().chain([("/d/home".to_owned(), true)]).collect();
        let mut found = Vec::new();
        find_strangers(&files, &scope, "/d", &mut found).unwrap();
        assert_eq!(found, ["/d/old", "/d/stranger", "/d/sub/stranger"]);
    }
}
