//! What this user's state folder keeps of an environment: an operator's identity, and what `up` was given.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::cloud::docker::Scope;

/// The file with the path of the list of artefacts.
const ARTEFACTS: &str = "artefacts";
/// The file with the plans that were shown, for completion.
const PLANS: &str = "plans";
const MOST_PLANS: usize = 5;

/// The folder of one environment.
pub fn folder(scope: &Scope) -> anyhow::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    let state = state.context(
        "there is no place for the operator's key: neither XDG_STATE_HOME nor HOME is set\n  help: export HOME=/root, or wherever your home is",
    )?;
    Ok(state.join("muster").join(format!("{}-{}", scope.cluster, scope.environment)))
}

/// Writes a file of the folder, whole or not at all; only its owner reads it.
pub fn keep(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// The list of artefacts that `up` was given last.
pub fn artefacts(folder: &Path) -> Option<PathBuf> {
    let mut path = fs::read(folder.join(ARTEFACTS)).ok()?;
    if path.last() == Some(&b'\n') {
        path.pop();
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    // Nothing of ours is anything else.
    path.is_absolute().then_some(path)
}

/// Remembers a list of artefacts, wherever the next command is called from.
pub fn remember(folder: &Path, list: &Path) -> anyhow::Result<()> {
    let list = std::path::absolute(list).with_context(|| format!("{} is no path", list.display()))?;
    if artefacts(folder).as_ref() == Some(&list) {
        return Ok(());
    }
    let line = [OsStr::as_bytes(list.as_os_str()), b"\n"].concat();
    keep(folder, ARTEFACTS, &line)
}

/// The plans that were shown, the newest first; not all of them can still be applied.
pub fn plans(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join(PLANS)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Remembers a plan that was shown.
pub fn remember_plan(folder: &Path, id: &str) -> anyhow::Result<()> {
    let others = plans(folder);
    let all = std::iter::once(id).chain(others.iter().map(String::as_str).filter(|other| *other != id));
    let lines: String = all.take(MOST_PLANS).map(|id| format!("{id}\n")).collect();
    keep(folder, PLANS, lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_up_was_given_comes_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/muster/easypay-local");
        assert_eq!(artefacts(&folder), None);
        let odd = Path::new(OsStr::from_bytes(b"/srv/a list\xff\n.json"));
        for list in [Path::new("/srv/local.json"), odd] {
            remember(&folder, list).unwrap();
            assert_eq!(artefacts(&folder).as_deref(), Some(list));
        }
        remember(&folder, Path::new("local.json")).unwrap();
        assert_eq!(artefacts(&folder), Some(std::env::current_dir().unwrap().join("local.json")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(ARTEFACTS))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing half written is left");
        fs::write(folder.join(ARTEFACTS), "local.json\n").unwrap();
        assert_eq!(artefacts(&folder), None, "a path that says nothing of where it begins");
    }

    #[test]
    fn the_newest_plan_comes_first_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["1-a", "2-b", "3-c", "2-b", "4-d", "5-e", "6-f"] {
            remember_plan(dir.path(), id).unwrap();
        }
        assert_eq!(plans(dir.path()), ["6-f", "5-e", "4-d", "2-b", "3-c"]);
    }
}
