//! `[[directory]]`: made, mended, purged of what nobody owns.

use muster_catalog::kinds::directory::DirectorySpec;
use muster_plan::kinds::directory::{Change, Current, Does, Observed};

use super::{
    accounts::{self, Accounts, known, mode},
    purge,
};
use crate::{
    Context, Done, Scope, StepError,
    ports::{FileKind, Files},
};

pub async fn observe(ctx: &Context, spec: &DirectorySpec) -> Result<Observed, StepError> {
    look(&*ctx.files, &accounts::of_one(ctx, &spec.owner, &spec.group).await?, &ctx.scope, spec)
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
    let there = current.as_ref().is_some_and(|current| current.directory);
    let found = match (there && spec.purge, spec.absent) {
        (false, _) => purge::Found::default(),
        (true, false) => purge::strangers(files, accounts, scope, &spec.path)?,
        (true, true) => purge::removal(files, accounts, scope, &spec.path)?,
    };
    let uid = accounts.uid(&spec.owner)?;
    let taken_over = current.as_ref().filter(|current| current.directory && uid != Some(current.uid));
    let lost = if taken_over.is_some() { files.beside(&spec.path, uid)?.lost } else { Vec::new() };
    Ok(Observed {
        current,
        mode: mode(&spec.mode)?,
        uid,
        gid: accounts.gid(&spec.group)?,
        lost,
        strangers: found.strangers,
        reasons: found.reasons,
    })
}

pub async fn apply(ctx: &Context, spec: &DirectorySpec, change: &Change) -> Result<Done, StepError> {
    let set = |uid: &Option<u32>, gid: &Option<u32>, mode: u32| {
        let (uid, gid) = (known(*uid, "user", &spec.owner)?, known(*gid, "group", &spec.group)?);
        Ok::<_, StepError>(ctx.files.set(&spec.path, mode, uid, gid)?)
    };
    match &change.does {
        Does::Make { mode, uid, gid } => {
            ctx.files.make_dir(&spec.path)?;
            set(uid, gid, *mode)?;
        }
        Does::Mend { attributes, mode, uid, gid, purge } => {
            if *attributes {
                set(uid, gid, *mode)?;
            }
            for path in purge {
                ctx.files.remove_path(&path.path, true)?;
            }
        }
        Does::Remove { tree } => ctx.files.remove(&spec.path, *tree)?,
        Does::Refuse { because, help } => return Err(StepError::failed(because).help(help)),
    }
    Ok(Done::default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_plan::kinds::directory::diff;

    use super::*;
    use crate::{
        Owner,
        adapters::{fake::FakeMachine, files::RealFiles},
    };

    fn spec(path: &str, absent: bool) -> DirectorySpec {
        let (owner, group, mode) = ("root".into(), "root".into(), "0755".into());
        DirectorySpec { path: path.into(), mode, owner, group, purge: true, absent }
    }

    fn scope(owned: &[(&str, bool)]) -> Scope {
        let owner = |tree| Owner { by: "file./x".parse().unwrap(), tree };
        Scope {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            node: "n".parse().unwrap(),
            generation: Default::default(),
            keys: Default::default(),
            groups: Default::default(),
            objects: Vec::new(),
            owned: owned.iter().map(|(path, tree)| ((*path).to_owned(), owner(*tree))).collect(),
        }
    }

    fn names(observed: &Observed) -> Vec<&str> {
        observed.strangers.iter().map(|stranger| stranger.path.to_str().unwrap()).collect()
    }

    #[test]
    fn a_purge_spares_what_others_own_however_deep() {
        let root = tempfile::tempdir().unwrap();
        let files = RealFiles::below(root.path());
        for path in ["/d/own", "/d/stranger", "/d/sub/own", "/d/sub/stranger", "/d/old/x", "/d/home/x", "/d/max/x"] {
            files.write(path, b"", 0o644, 0, 0).unwrap();
        }
        files.write("/etc/passwd", b"max:x:1000:1000::/d/max:/bin/sh\n", 0o644, 0, 0).unwrap();
        let scope =
            scope(&[("/d", false), ("/d/own", false), ("/d/sub/own", false), ("/d-other", false), ("/d/home", true)]);
        let observed = look(&files, &Accounts::new(&files), &scope, &spec("/d", false)).unwrap();
        assert_eq!(names(&observed), ["/d/old", "/d/stranger", "/d/sub/stranger"]);
        assert_eq!((observed.strangers[0].inside, observed.strangers[1].folder), (1, false));
        let scope = self::scope(&[("/d/max", false)]);
        let observed = look(&files, &Accounts::new(&files), &scope, &spec("/d/max", false)).unwrap();
        assert_eq!(observed.reasons, ["/d/max is the home of max"]);
    }

    #[test]
    fn a_purge_knows_what_is_owned_by_another_name() {
        let root = tempfile::tempdir().unwrap();
        let files = RealFiles::below(root.path());
        files.write("/run/d/own", b"", 0o644, 0, 0).unwrap();
        files.write("/run/d/stranger", b"", 0o644, 0, 0).unwrap();
        files.link("/var/run", "/run").unwrap();
        for (folder, own) in [("/var/run/d", "/run/d/own"), ("/run/d", "/var/run/d/own")] {
            let scope = scope(&[(folder, false), (own, false)]);
            let observed = look(&files, &Accounts::new(&files), &scope, &spec(folder, false)).unwrap();
            assert_eq!(names(&observed), [format!("{folder}/stranger")]);
        }
        files.link("/srv/l", "/").unwrap();
        let observed = look(&files, &Accounts::new(&files), &scope(&[]), &spec("/srv/l/run", false)).unwrap();
        assert_eq!(observed.reasons, ["/run is a folder that the system needs"]);
    }

    #[test]
    fn sockets_that_are_held_stay_and_forbid_a_removal() {
        let root = tempfile::tempdir().unwrap();
        let files = RealFiles::below(root.path());
        files.make_dir("/d/sub").unwrap();
        let socket = |name: &str| std::os::unix::net::UnixListener::bind(root.path().join(name)).unwrap();
        let held = socket("d/sub/muster-test-held.sock");
        drop(socket("d/muster-test-left.sock"));
        let observed = look(&files, &Accounts::new(&files), &scope(&[]), &spec("/d", false)).unwrap();
        assert_eq!(names(&observed), ["/d/muster-test-left.sock"]);
        let observed = look(&files, &Accounts::new(&files), &scope(&[]), &spec("/d", true)).unwrap();
        assert_eq!(observed.reasons, ["/d/sub/muster-test-held.sock is a socket that a program holds"]);
        drop(held);
        let observed = look(&files, &Accounts::new(&files), &scope(&[]), &spec("/d", true)).unwrap();
        assert_eq!((observed.reasons.len(), names(&observed).len()), (0, 2));
    }

    #[tokio::test]
    async fn a_folder_goes_with_all_in_it_only_where_purge_says_so() {
        for purge in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let files = Arc::new(RealFiles::below(root.path()));
            files.write("/d/sub/somebodys", b"kept", 0o644, 0, 0).unwrap();
            files.write("/etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644, 0, 0).unwrap();
            files.write("/etc/group", b"root:x:0:\n", 0o644, 0, 0).unwrap();
            let ctx = Context { files: files.clone(), ..FakeMachine::new().node("n-1") };
            let spec = DirectorySpec { purge, ..spec("/d", true) };
            let observed = observe(&ctx, &spec).await.unwrap();
            let change = diff(&spec, &observed).expect("it is there, and is to go");
            assert_eq!(apply(&ctx, &spec, &change).await.is_ok(), purge);
            assert_eq!(files.read("/d/sub/somebodys").unwrap().is_some(), !purge);
        }
    }
}
