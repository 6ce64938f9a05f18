//! The artefact cache: folders made once, outside the checkout, named by a hash of all that went into them.
//!
//! A folder is built under `tmp/`, in a folder of this run's own, and moved into place by one rename, so that a folder with
//! a final name is complete, whenever we were killed. One process at a time makes artefacts ([`Cache::open`] holds a lock
//! until dropped); what a killed one had started may go on writing for a while, where nobody reads. What Debian's archive
//! serves on a given day is no input: a cached image keeps the package versions of the day it was made, and deleting
//! the cache is how to get newer ones.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::progress::Progress;

/// A hash under construction of everything an artefact is made from.
#[derive(Clone)]
pub struct Inputs {
    kind: &'static str,
    hash: Sha256,
}

impl Inputs {
    /// Inputs of an artefact of this kind, whose recipe has this number: count it up when the code that makes it
    /// changes what comes out.
    pub fn new(kind: &'static str, recipe: u32) -> Self {
        Self { kind, hash: Sha256::new() }.text(kind).text(&recipe.to_string())
    }

    /// Adds one text. Lengths go in too, so that `ab`,`c` and `a`,`bc` differ.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub fn texts<'a>(self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        texts.into_iter().fold(self, Self::text)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
        self
    }

    /// Adds a file's content, not its name.
    pub fn file(self, path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.bytes(&content))
    }

    /// Twelve hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut text = hex::encode(self.hash.clone().finalize());
        text.truncate(12);
        text
    }

    fn folder(&self) -> String {
        format!("{}-{}", self.kind, self.hash())
    }
}

/// The cache, locked for this process.
pub struct Cache {
    root: PathBuf,
    /// Before the lock, so that it goes before it.
    tmp: TempDir,
    _lock: File,
}

impl Cache {
    /// `$XDG_CACHE_HOME/muster`, by default `~/.cache/muster`.
    pub fn default_root() -> Result<PathBuf> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?)
                .join(".cache"),
        };
        Ok(base.join("muster"))
    }

    /// Opens the cache at `root`, waits for its lock, and removes what a killed process left half done.
    pub fn open(root: &Path, progress: &Progress) -> Result<Self> {
        fs::create_dir_all(root.join("logs"))
            .with_context(|| format!("cannot make the cache folder {}", root.display()))?;
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            progress.note("  another `cargo xtask` is making artefacts: waiting for it");
            lock.lock().context("cannot lock the cache")?;
        }
        let all = root.join("tmp");
        fs::create_dir_all(&all).with_context(|| format!("cannot make {}", all.display()))?;
        for leftover in fs::read_dir(&all)?.flatten() {
            // Programs that a killed process had started may still write there: then a later run removes it.
            let _ = fs::remove_dir_all(leftover.path());
        }
        // For all to read, as other folders are: apt fetches as a user of its own.
        let open = fs::Permissions::from_mode(0o755);
        let tmp = tempfile::Builder::new().prefix("run-").permissions(open).tempdir_in(&all);
        let tmp = tmp.with_context(|| format!("cannot make a folder in {}", all.display()))?;
        Ok(Self { root: root.to_owned(), tmp, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for what is half made, of this process alone and gone with the cache's lock; on the cache's file system.
    pub fn tmp(&self) -> &Path {
        self.tmp.path()
    }

    /// The log file of a stage, emptied.
    pub fn new_log(&self, name: &str) -> PathBuf {
        let log = self.root.join("logs").join(format!("{name}.log"));
        // A missing file is what we want; any other trouble shows when the log is opened.
        let _ = fs::remove_file(&log);
        log
    }

    /// The name within the cache of a file that the cache holds.
    pub fn name_of<'a>(&self, path: &'a Path) -> Result<&'a str> {
        let name = path.strip_prefix(&self.root).with_context(|| format!("{} is not in the cache", path.display()))?;
        name.to_str().with_context(|| format!("{} has no plain name", path.display()))
    }

    /// Removes artefacts of a kind that were made more than `days` ago, all but `keep`: programs change with each edit.
    pub fn remove_old(&self, kind: &str, days: u64, keep: &Path) -> Result<()> {
        let age = Duration::from_secs(days * 24 * 60 * 60);
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_kind = name.rsplit_once('-').is_some_and(|(of, _)| of == kind);
            let made = fs::metadata(&path)?.modified()?;
            if is_kind && path != keep && made.elapsed().is_ok_and(|elapsed| elapsed > age) {
                fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Where the artefact of these inputs is, or will be.
    pub fn path(&self, inputs: &Inputs) -> PathBuf {
        self.root.join(inputs.folder())
    }

    /// The folder made from `inputs`: at once if it is there, else `build` fills a new one as a stage.
    pub fn folder(
        &self,
        progress: &Progress,
        title: &str,
        inputs: &Inputs,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(inputs);
        if path.is_dir() {
            return Ok(path);
        }
        progress.stage(title, || {
            let tmp = self.tmp().join(inputs.folder());
            fs::create_dir_all(&tmp)?;
            build(&tmp)?;
            fs::rename(&tmp, &path).with_context(|| format!("cannot move the result to {}", path.display()))
        })?;
        Ok(path)
    }
}

/// Writes a file whole or not at all.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().context("a path without a folder")?;
    fs::create_dir_all(dir)?;
    let tmp = tempfile::NamedTempFile::new_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    fs::write(tmp.path(), content)?;
    tmp.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_counts() {
        let base = Inputs::new("thing", 1).text("ab").text("c");
        assert_eq!(base.hash(), Inputs::new("thing", 1).text("ab").text("c").hash());
        assert_ne!(base.hash(), Inputs::new("thing", 1).text("a").text("bc").hash());
        assert_ne!(base.hash(), Inputs::new("thing", 2).text("ab").text("c").hash());
        assert_ne!(base.hash(), Inputs::new("other", 1).text("ab").text("c").hash());
        assert_eq!(base.hash().len(), 12);
    }

    #[test]
    fn old_ones_of_one_kind_go() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &Progress::new()).unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
            path
        };
        let [old, kept, other] = ["muster-1", "muster-2", "muster-agent-1"].map(make);
        cache.remove_old("muster", 2, &kept).unwrap();
        assert!(!old.exists() && kept.exists() && other.exists());
    }

    #[test]
    fn a_failed_build_leaves_no_folder_and_the_next_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let progress = Progress::new();
        let inputs = Inputs::new("thing", 1);
        let cache = Cache::open(dir.path(), &progress).unwrap();
        let failed = cache.folder(&progress, "thing", &inputs, |tmp| {
            fs::write(tmp.join("half"), "")?;
            anyhow::bail!("killed")
        });
        assert!(failed.is_err());
        assert!(!cache.path(&inputs).exists());
        drop(cache);

        let cache = Cache::open(dir.path(), &progress).unwrap();
        let made = cache.folder(&progress, "thing", &inputs, |tmp| Ok(fs::write(tmp.join("whole"), "")?)).unwrap();
        assert!(made.join("whole").exists());
        assert!(!made.join("half").exists());
        let again = cache.folder(&progress, "thing", &inputs, |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(made, again);
    }

    #[test]
    fn what_a_killed_runs_children_still_write_disturbs_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let progress = Progress::new();
        let inputs = Inputs::new("thing", 1);
        let former = Cache::open(dir.path(), &progress).unwrap();
        let theirs = former.tmp().join("thing");
        // Killed: the lock is free, and nothing was tidied up.
        let Cache { root: _, tmp, _lock } = former;
        drop((tmp.keep(), _lock));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let child = scope.spawn(|| {
                for n in 0.. {
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let _ = fs::create_dir_all(&theirs);
                    let _ = fs::write(theirs.join(n.to_string()), "theirs");
                }
            });
            let made = (0..20).try_for_each(|_| Cache::open(dir.path(), &progress).map(drop)).and_then(|()| {
                let cache = Cache::open(dir.path(), &progress)?;
                cache.folder(&progress, "thing", &inputs, |tmp| {
                    fs::create_dir_all(&theirs)?;
                    fs::write(theirs.join("late"), "theirs")?;
                    Ok(fs::write(tmp.join("ours"), "")?)
                })
            });
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            child.join().unwrap();
            let names: Vec<_> = fs::read_dir(made.unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["ours"]);
        });
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 1, "ours went with the lock");
        drop(Cache::open(dir.path(), &progress).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
