//! A file system in memory, which can be full and counts what is written.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::ports::{Beside, Entry, FileError, FileKind, Files, InUse, Inside, Lock, Stat};

#[derive(Default)]
pub struct FakeFiles {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    full: bool,
    /// Every successful change, in order: "write /etc/x".
    changes: Vec<String>,
}

#[derive(Clone)]
struct Node {
    stat: Stat,
    content: Vec<u8>,
}

fn folder() -> Node {
    Node {
        stat: Stat { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0, size: 0, shared: false },
        content: Vec::new(),
    }
}

fn failed(what: &'static str, path: &str, kind: ErrorKind) -> FileError {
    FileError { what, path: PathBuf::from(path), source: io::Error::from(kind), help: None }
}

fn clean(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(at, _)| &path[..at])
}

impl State {
    fn make_parents(&mut self, what: &'static str, path: &str) -> Result<(), FileError> {
        for parent in parents(path) {
            let node = self.nodes.entry(parent.to_owned()).or_insert_with(folder);
            if node.stat.kind != FileKind::Directory {
                return Err(failed(what, path, ErrorKind::NotADirectory));
            }
        }
        Ok(())
    }

    fn changed(&mut self, what: &str, path: &str) {
        self.changes.push(format!("{what} {path}"));
    }

    fn get_mut(&mut self, what: &'static str, path: &str) -> Result<&mut Node, FileError> {
        self.nodes.get_mut(path).ok_or_else(|| failed(what, path, ErrorKind::NotFound))
    }
}

impl FakeFiles {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a file there as if by hand: root's, 0644, not counted.
    pub fn put(&self, path: &str, content: &str) {
        let mut state = self.lock();
        let _ = state.make_parents("put", path);
        let stat =
            Stat { kind: FileKind::File, mode: 0o644, uid: 0, gid: 0, size: content.len() as u64, shared: false };
        state.nodes.insert(path.to_owned(), Node { stat, content: content.as_bytes().to_vec() });
    }

    pub fn text(&self, path: &str) -> Option<String> {
        self.lock().nodes.get(path).map(|node| String::from_utf8_lossy(&node.content).into_owned())
    }

    pub fn full(&self, full: bool) {
        self.lock().full = full;
    }

    /// What was changed through the port so far, in order.
    pub fn changes(&self) -> Vec<String> {
        self.lock().changes.clone()
    }
}

impl Files for FakeFiles {
    fn stat(&self, path: &str) -> Result<Option<Stat>, FileError> {
        Ok(self.lock().nodes.get(&clean(path)).map(|node| node.stat))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError> {
        match self.lock().nodes.get(&clean(path)) {
            Some(node) if node.stat.kind == FileKind::Directory => Err(failed("read", path, ErrorKind::IsADirectory)),
            node => Ok(node.map(|node| node.content.clone())),
        }
    }

    fn look(&self, path: &str, limit: usize) -> Result<Option<(Stat, Vec<u8>)>, FileError> {
        Ok(self
            .lock()
            .nodes
            .get(&clean(path))
            .map(|node| (node.stat, node.content[..node.content.len().min(limit)].to_vec())))
    }

    fn beside(&self, _path: &str, _uid: Option<u32>) -> Result<Beside, FileError> {
        Ok(Beside::default())
    }

    fn write(&self, path: &str, content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        if state.full {
            return Err(failed("write", &path, ErrorKind::StorageFull));
        }
        state.make_parents("write", &path)?;
        if state.nodes.get(&path).is_some_and(|node| node.stat.kind == FileKind::Directory) {
            return Err(failed("write", &path, ErrorKind::IsADirectory));
        }
        let stat = Stat { kind: FileKind::File, mode, uid, gid, size: content.len() as u64, shared: false };
        state.nodes.insert(path.clone(), Node { stat, content: content.to_vec() });
        state.changed("write", &path);
        Ok(())
    }

    fn write_in_place(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        let node = state.get_mut("write", &path)?;
        node.content = content.to_vec();
        node.stat.size = content.len() as u64;
        state.changed("write", &path);
        Ok(())
    }

    fn lock(&self, _path: &str) -> Result<Lock, FileError> {
        Ok(Lock::default())
    }

    fn make_dir(&self, path: &str) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        state.make_parents("make the folder", &path)?;
        match state.nodes.get(&path) {
            Some(node) if node.stat.kind == FileKind::Directory => return Ok(()),
            Some(_) => return Err(failed("make the folder", &path, ErrorKind::AlreadyExists)),
            None => {}
        }
        state.nodes.insert(path.clone(), folder());
        state.changed("make", &path);
        Ok(())
    }

    fn make_own_dir(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if !parent.is_empty() && !state.nodes.contains_key(parent) {
            return Err(failed("make the folder", &path, ErrorKind::NotFound));
        }
        if state.nodes.contains_key(&path) {
            return Err(failed("make the folder", &path, ErrorKind::AlreadyExists));
        }
        let mut made = folder();
        (made.stat.mode, made.stat.uid, made.stat.gid) = (mode, uid, gid);
        state.nodes.insert(path.clone(), made);
        state.changed("make", &path);
        Ok(())
    }

    fn set(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        let stat = &mut state.get_mut("set the owner and mode of", &path)?.stat;
        (stat.mode, stat.uid, stat.gid) = (mode, uid, gid);
        state.changed("set", &path);
        Ok(())
    }

    fn link(&self, path: &str, target: &str) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        state.make_parents("make the link", &path)?;
        if state.nodes.get(&path).is_some_and(|node| node.stat.kind == FileKind::Directory) {
            return Err(failed("make the link", &path, ErrorKind::IsADirectory));
        }
        let stat = Stat { kind: FileKind::Link, mode: 0o777, uid: 0, gid: 0, size: target.len() as u64, shared: false };
        state.nodes.insert(path.clone(), Node { stat, content: target.as_bytes().to_vec() });
        state.changed("link", &path);
        Ok(())
    }

    /// Links are not followed: a path is one of its nodes or nothing.
    fn target(&self, path: &str) -> Result<Option<String>, FileError> {
        let state = self.lock();
        let link = state.nodes.get(&clean(path)).filter(|node| node.stat.kind == FileKind::Link);
        Ok(link.map(|node| String::from_utf8_lossy(&node.content).into_owned()))
    }

    fn remove(&self, path: &str, tree: bool) -> Result<(), FileError> {
        let path = clean(path);
        let mut state = self.lock();
        if !state.nodes.contains_key(&path) {
            return Ok(());
        }
        let inside = format!("{path}/");
        let below: Vec<String> = state
            .nodes
            .range(inside.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&inside))
            .cloned()
            .collect();
        if !below.is_empty() && !tree {
            return Err(failed("remove", &path, ErrorKind::DirectoryNotEmpty));
        }
        for key in below {
            state.nodes.remove(&key);
        }
        state.nodes.remove(&path);
        state.changed("remove", &path);
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>, FileError> {
        let path = clean(path);
        let state = self.lock();
        match state.nodes.get(&path) {
            Some(node) if node.stat.kind == FileKind::Directory => {}
            Some(_) | None => return Ok(None),
        }
        let inside = format!("{path}/");
        let names = state.nodes.keys().filter_map(|key| key.strip_prefix(&inside));
        Ok(Some(names.filter(|name| !name.contains('/')).map(str::to_owned).collect()))
    }
    fn remove_path(&self, path: &Path, tree: bool) -> Result<(), FileError> {
        self.remove(&path.to_string_lossy(), tree)
    }

    fn entries(&self, folder: &Path) -> Result<Option<Vec<Entry>>, FileError> {
        let folder = clean(&folder.to_string_lossy());
        let Some(names) = self.list(&folder)? else { return Ok(None) };
        let state = self.lock();
        let entry = |name: String| {
            let kind = state.nodes.get(&format!("{folder}/{name}"))?.stat.kind;
            Some(Entry { name: name.into(), kind })
        };
        Ok(Some(names.into_iter().filter_map(entry).collect()))
    }

    fn inside(&self, folder: &Path) -> Result<Inside, FileError> {
        let inside = format!("{}/", clean(&folder.to_string_lossy()));
        let count = self.lock().nodes.keys().filter(|key| key.starts_with(&inside)).count();
        Ok(Inside { count, ..Inside::default() })
    }

    fn real(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        Ok(Some(path.to_owned()))
    }

    fn frozen(&self, _path: &std::path::Path) -> Result<Option<&'static str>, FileError> {
        Ok(None)
    }

    fn private(&self, _path: &str) -> Result<bool, FileError> {
        Ok(true)
    }

    fn in_use(&self) -> Result<InUse, FileError> {
        Ok(InUse::default())
    }
}
