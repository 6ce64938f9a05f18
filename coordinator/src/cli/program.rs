//! What to type to run this program again.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// `muster` where that is this program, else its path.
pub fn typed() -> String {
    match (std::env::current_exe(), std::env::current_dir()) {
        (Ok(exe), Ok(folder)) => typed_in(&exe, &folder, std::env::var_os("PATH").as_deref()),
        (Err(_), _) | (_, Err(_)) => "muster".to_owned(),
    }
}

fn typed_in(exe: &Path, folder: &Path, path: Option<&OsStr>) -> String {
    // The first one is what a shell takes; another muster would be of another version.
    let found =
        path.into_iter().flat_map(std::env::split_paths).map(|dir| dir.join("muster")).find(|file| file.is_file());
    let real = |file: PathBuf| file.canonicalize().ok();
    if found.and_then(real).is_some_and(|found| Some(found) == real(exe.to_owned())) {
        return "muster".to_owned();
    }
    match exe.strip_prefix(folder) {
        // Without a slash a shell would look it up.
        Ok(near) if near.components().count() == 1 => format!("./{}", near.display()),
        Ok(near) => near.display().to_string(),
        Err(_) => exe.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_name_only_where_a_shell_finds_this_very_program() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let (debug, other) = (folder.join("target/debug"), folder.join("bin"));
        for place in [&debug, &other] {
            std::fs::create_dir_all(place).unwrap();
            std::fs::write(place.join("muster"), "").unwrap();
        }
        let exe = debug.join("muster");
        let typed = |folder: &Path, path: &Path| typed_in(&exe, folder, Some(path.as_os_str()));
        assert_eq!(typed(&folder, &debug), "muster");
        assert_eq!(typed(&folder, &folder), "target/debug/muster");
        assert_eq!(typed(&folder, &other), "target/debug/muster", "that is another one");
        assert_eq!(typed(&debug, &folder), "./muster");
        assert_eq!(typed(&other, &folder), exe.display().to_string());
        assert_eq!(typed_in(&exe, &folder, None), "target/debug/muster");
    }
}
