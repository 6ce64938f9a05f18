//! No way to write: Landlock on the calling thread, inherited by what it starts.
//!
//! Known imprecision: Landlock guards content, names and creation in the file system. It does not guard changes of mode, owner and
//! times of what is there already, nor sockets; programs run in here must be ones that look.

use std::path::Path;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};

/// This kernel cannot take write access away.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("this kernel has no Landlock")]
    Absent,
    #[error("Landlock refuses")]
    Landlock(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Takes write access to every file from the calling thread, for good, and from all that it starts. `/dev/null` stays, and
/// what is below `except`, where that is there. Never on a thread of a pool that others use.
pub fn without_writing(except: Option<&Path>) -> Result<(), SandboxError> {
    let boxed = |error: landlock::RulesetError| SandboxError::Landlock(Box::new(error));
    let writes = AccessFs::from_write(ABI::V5);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)
        .map_err(boxed)?
        .create()
        .map_err(boxed)?;
    if let Ok(null) = PathFd::new("/dev/null") {
        ruleset = ruleset.add_rule(PathBeneath::new(null, AccessFs::WriteFile | AccessFs::Truncate)).map_err(boxed)?;
    }
    if let Some(Ok(folder)) = except.map(PathFd::new) {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, writes)).map_err(boxed)?;
    }
    let status = ruleset.restrict_self().map_err(boxed)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(SandboxError::Absent),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sandboxed_thread_reads_and_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "before").unwrap();
        let inside = path.clone();
        let (read, write) = std::thread::spawn(move || {
            super::without_writing(None).expect("the kernel has Landlock");
            (std::fs::read(&inside), std::fs::write(&inside, "after"))
        })
        .join()
        .unwrap();
        assert_eq!(read.unwrap(), b"before");
        assert_eq!(write.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        std::fs::write(&path, "other threads still write").unwrap();
    }

    #[test]
    fn a_folder_that_is_left_open_can_be_written_in_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        let (inside, outside) = std::thread::spawn(move || {
            super::without_writing(Some(&open)).expect("the kernel has Landlock");
            let gone = std::fs::write(open.join("x"), "x").and_then(|()| std::fs::remove_file(open.join("x")));
            (gone, std::fs::write(open.with_file_name("x"), "x"))
        })
        .join()
        .unwrap();
        inside.unwrap();
        assert_eq!(outside.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    }
}
