//! Mounts in memory, shown as the kernel shows them: tmpfs, devices that were put there, and bind mounts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_plan::{
    kinds::mount::bytes,
    mounts::{Mount, Shown, Table, clean},
};

use crate::ports::{Found, MountError, Mounts, NewMount, User};

pub struct FakeMounts {
    state: Mutex<State>,
}

struct State {
    table: Table,
    next: i32,
    found: BTreeMap<String, Found>,
    links: BTreeMap<String, String>,
    users: BTreeMap<String, Vec<User>>,
    refuses: Option<String>,
    did: Vec<String>,
    /// So many points before and after changes are left until the process dies.
    lives: Option<usize>,
}

impl Default for FakeMounts {
    fn default() -> Self {
        let root = Mount {
            id: 1,
            device: "8:1".into(),
            root: "/".into(),
            point: "/".into(),
            fstype: "ext4".into(),
            source: "/dev/sda1".into(),
            options: shown(&["rw", "relatime"]),
            superblock: shown(&["rw"]),
            ..Mount::default()
        };
        let state = State {
            table: Table(vec![root]),
            next: 2,
            found: BTreeMap::new(),
            links: BTreeMap::new(),
            users: BTreeMap::new(),
            refuses: None,
            did: Vec::new(),
            lives: None,
        };
        Self { state: Mutex::new(state) }
    }
}

fn shown(words: &[&str]) -> Shown {
    words.iter().map(|word| ((*word).to_owned(), None)).collect()
}

impl FakeMounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder or device that a source may name.
    pub fn put(&self, source: &str, found: Found) {
        self.lock().found.insert(source.to_owned(), found);
    }

    pub fn folder(&self, path: &str) {
        self.put(path, Found::Folder { path: path.to_owned() });
    }

    pub fn link(&self, from: &str, to: &str) {
        self.lock().links.insert(from.to_owned(), to.to_owned());
    }

    /// Who holds what is mounted at the path, from now on.
    pub fn use_by(&self, path: &str, users: Vec<User>) {
        self.lock().users.insert(path.to_owned(), users);
    }

    /// mount(8) fails with these words, from now on.
    pub fn refuse(&self, said: Option<&str>) {
        self.lock().refuses = said.map(str::to_owned);
    }

    /// The process that changes mounts dies (panics) at this point, counted before and after each change.
    pub fn die_at(&self, point: Option<usize>) {
        self.lock().lives = point;
    }

    /// What was changed so far, in order: "mount tmpfs /srv/x".
    pub fn did(&self) -> Vec<String> {
        self.lock().did.clone()
    }
}

impl State {
    fn point(&mut self) {
        if let Some(left) = &mut self.lives {
            assert!(*left > 0, "killed");
            *left -= 1;
        }
    }

    fn changed(&mut self, did: String) {
        self.did.push(did);
        self.point();
    }
}

/// Sets these words as mount(8) does: of the mount, or else of the file system.
fn set(options: &mut Shown, superblock: &mut Shown, words: &str, bind: bool) {
    let times = ["noatime", "relatime", "strictatime"];
    for word in words.split(',') {
        match word {
            "defaults" | "bind" | "rbind" | "nodiratime" | "diratime" => {}
            "rw" | "ro" => {
                let other = if word == "rw" { "ro" } else { "rw" };
                for all in [Some(&mut *options), (!bind).then_some(&mut *superblock)].into_iter().flatten() {
                    all.remove(other);
                    all.insert(word.to_owned(), None);
                }
            }
            "suid" | "dev" | "exec" => drop(options.remove(&format!("no{word}"))),
            "nosuid" | "nodev" | "noexec" => drop(options.insert(word.to_owned(), None)),
            _time if times.contains(&word) => {
                options.retain(|name, _| !times.contains(&name.as_str()));
                if word != "strictatime" {
                    options.insert(word.to_owned(), None);
                }
            }
            _of_the_file_system if bind => {}
            "async" => drop(superblock.remove("sync")),
            other => {
                let (name, value) = other.split_once('=').map_or((other, None), |(name, value)| (name, Some(value)));
                let size = value.filter(|_| name == "size").and_then(bytes);
                let value = size.map(|bytes| format!("{}k", bytes >> 10)).or(value.map(str::to_owned));
                superblock.insert(name.to_owned(), value);
            }
        }
    }
}

#[async_trait::async_trait]
impl Mounts for FakeMounts {
    fn table(&self) -> Result<Table, MountError> {
        Ok(self.lock().table.clone())
    }

    fn resolve(&self, path: &str) -> Result<String, MountError> {
        let path = clean(path);
        let state = self.lock();
        let link = state.links.iter().find_map(|(from, to)| Some((to, path.strip_prefix(from.as_str())?)));
        Ok(link
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
            .map_or(path.clone(), |(to, rest)| format!("{to}{rest}")))
    }

    async fn find(&self, source: &str) -> Result<Found, MountError> {
        let nothing = if source.starts_with('/') || source.contains('=') { Found::Missing } else { Found::Word };
        Ok(self.lock().found.get(source).cloned().unwrap_or(nothing))
    }

    fn backing(&self, _device: &str) -> Option<String> {
        None
    }

    fn memory(&self) -> u64 {
        4 << 30
    }

    async fn mount(&self, what: &NewMount<'_>) -> Result<(), MountError> {
        let found = self.find(what.source).await?;
        let mut state = self.lock();
        let missing = (found == Found::Missing).then(|| "special device does not exist".to_owned());
        if let Some(said) = state.refuses.clone().or(missing) {
            return Err(MountError::Refused { program: "mount", path: what.path.to_owned(), said });
        }
        state.point();
        let bind = what.options.split(',').any(|word| word == "bind");
        let id = state.next;
        let mut mount = match (&found, bind) {
            (Found::Folder { path }, true) => {
                let inside = state.table.holding(path).cloned().unwrap_or_default();
                let rest = path[inside.point.len()..].trim_matches('/');
                Mount { root: clean(&format!("{}/{rest}", inside.root)), ..inside }
            }
            (found, _) => Mount {
                device: match found {
                    Found::Device { number, .. } => number.clone(),
                    Found::Word | Found::File { .. } | Found::Folder { .. } | Found::Missing => format!("0:{id}"),
                },
                root: "/".into(),
                fstype: what.fstype.to_owned(),
                source: what.source.to_owned(),
                options: shown(&["rw", "relatime"]),
                superblock: shown(&["rw"]),
                ..Mount::default()
            },
        };
        set(&mut mount.options, &mut mount.superblock, what.options, bind);
        mount.id = id;
        mount.parent = state.table.holding(what.path).map_or(1, |mount| mount.id);
        mount.point = what.path.to_owned();
        state.next += 1;
        state.table.0.push(mount);
        state.changed(format!("mount {} {}", what.source, what.path));
        Ok(())
    }

    async fn remount(&self, path: &str, options: &str) -> Result<(), MountError> {
        let mut state = self.lock();
        let Some(top) = state.table.at(path).last().map(|mount| mount.id) else {
            return Err(MountError::Refused { program: "mount", path: path.to_owned(), said: "not mounted".into() });
        };
        let bind = options.split(',').any(|word| word == "bind");
        if let Some(mount) = state.table.0.iter_mut().find(|mount| mount.id == top) {
            set(&mut mount.options, &mut mount.superblock, options, bind);
        }
        state.changed(format!("remount {path}"));
        Ok(())
    }

    async fn propagate(&self, path: &str, how: &str) -> Result<(), MountError> {
        let mut state = self.lock();
        let top = state.table.at(path).last().map_or(0, |mount| mount.id);
        if let Some(mount) = state.table.0.iter_mut().find(|mount| mount.id == top) {
            (mount.shared, mount.unbindable) = (how.ends_with("shared"), how.ends_with("unbindable"));
            mount.slave = how.ends_with("slave");
        }
        state.changed(format!("make {path} {how}"));
        Ok(())
    }

    async fn unmount(&self, path: &str, recursive: bool) -> Result<(), MountError> {
        let mut state = self.lock();
        let held = state.users.get(path).is_some_and(|users| !users.is_empty());
        let below: Vec<i32> = state.table.below(path).iter().map(|mount| mount.id).collect();
        if held || (!below.is_empty() && !recursive) {
            return Err(MountError::Busy { path: path.to_owned() });
        }
        let Some(top) = state.table.at(path).last().map(|mount| mount.id) else {
            return Err(MountError::Refused { program: "umount", path: path.to_owned(), said: "not mounted".into() });
        };
        state.point();
        state.table.0.retain(|mount| mount.id != top && !below.contains(&mount.id));
        state.changed(format!("unmount {path}"));
        Ok(())
    }

    fn users(&self, path: &str) -> Vec<User> {
        let state = self.lock();
        let mut users = state.users.get(path).cloned().unwrap_or_default();
        users.extend(state.table.below(path).iter().map(|mount| User::Mount(mount.point.clone())));
        users
    }
}
