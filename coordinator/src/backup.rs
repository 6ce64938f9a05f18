//! A backup: the store as of one moment and the keys, as a tar sealed with age to recovery recipients. And back.
//!
//! What is in it can issue certificates and open every secret: it exists in clear nowhere but in this process and, for a
//! moment, in the state folder. Of the local state the newest events are in it, for nobody says those again; reports and
//! metrics are left out, because agents do.
//!
//! A restored coordinator raises the epoch, so that what it publishes counts as newer than what agents saw since the
//! backup.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use muster_ids::EnvName;
use muster_planner::Blueprint;
use muster_proto::Realm;
use serde::{Deserialize, Serialize};

use crate::{
    events::Event,
    secrets::{MasterKey, write_durably},
    state::{Local, LocalError, Root, RootError},
    store::{Sqlite, Store as _, StoreError},
};

/// The store's file in the state folder.
pub const STORE: &str = "state.db";
/// The local state's file, of which a backup holds the newest events alone.
pub const LOCAL: &str = "local.db";
/// The newest events, as JSON; backups of before have none.
const EVENTS: &str = "events.json";
/// As many of them: with the longest texts that is 8 MiB.
const EVENTS_HELD: u64 = 1000;
/// Says whose backup it is; the first entry.
const MANIFEST: &str = "backup.json";
/// What else a backup holds, and nothing beyond: no name from a backup is ever used as a path.
pub(crate) const KEYS: [&str; 4] = [MasterKey::FILE, "ca/root.pem", "ca/root.key", "ca/catalog.key"];
/// Larger files are none of ours.
const LARGEST: u64 = 1 << 32;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`{0}` is no age recipient (age1…)")]
    Recipient(String),
    #[error("a backup needs at least one recipient")]
    NoRecipient,
    #[error("the identity is none (AGE-SECRET-KEY-1…)")]
    Identity,
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("the store cannot be copied")]
    Copy(#[source] rusqlite::Error),
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    #[error("the backup cannot be opened with this identity, or is damaged")]
    Open(#[source] age::DecryptError),
    #[error("the backup is damaged")]
    Damaged(#[source] io::Error),
    #[error("the backup holds `{0}`, which no backup of ours has")]
    Foreign(String),
    #[error("the backup lacks {0}")]
    Lacks(&'static str),
    #[error("{0} is not empty: a backup is restored onto an empty volume only")]
    NotEmpty(PathBuf),
    #[error("the restored store cannot be used")]
    Store(#[from] StoreError),
    #[error("the restored record cannot be used")]
    Root(#[from] RootError),
    #[error("the backup has no record of {0}")]
    NoRecord(EnvName),
    #[error(
        "this is a backup of {found}, and {wanted} is to be restored\n  help: use a backup of {wanted}, or name the site and the environment of this one: -e {}", .found.environment
    )]
    OfAnother { found: Realm, wanted: Realm },
    #[error("the events cannot be read or kept")]
    Events(#[from] LocalError),
}

/// Whose backup, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub realm: Realm,
    /// Seconds since the epoch.
    pub taken: i64,
}

/// Parses recipients; at least one.
pub fn recipients(texts: &[String]) -> Result<Vec<age::x25519::Recipient>, BackupError> {
    if texts.is_empty() {
        return Err(BackupError::NoRecipient);
    }
    let parse = |text: &String| text.trim().parse().map_err(|_| BackupError::Recipient(text.clone()));
    texts.iter().map(parse).collect()
}

/// Writes the sealed backup of a state folder; its daemon may be running.
pub fn write(
    folder: &Path,
    manifest: &Manifest,
    recipients: &[age::x25519::Recipient],
    out: impl Write,
) -> Result<(), BackupError> {
    // In the same folder: it has the room, its mode, and no one else reads it.
    let copy = tempfile::Builder::new().prefix(".backup-").tempdir_in(folder).map_err(at(folder))?;
    let store = copy.path().join(STORE);
    let connection = rusqlite::Connection::open(folder.join(STORE)).map_err(BackupError::Copy)?;
    connection.execute("VACUUM INTO ?1", [store.to_string_lossy().as_ref()]).map_err(BackupError::Copy)?;
    drop(connection);

    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|_| BackupError::NoRecipient)?;
    let sealed = encryptor.wrap_output(out).map_err(BackupError::Write)?;
    let mut tar = tar::Builder::new(sealed);
    let json = serde_json::to_vec(manifest).expect("a manifest is names and numbers");
    append(&mut tar, MANIFEST, json.as_slice(), json.len() as u64)?;
    let mut file = fs::File::open(&store).map_err(at(&store))?;
    let length = file.metadata().map_err(at(&store))?.len();
    append(&mut tar, STORE, &mut file, length)?;
    for name in KEYS {
        let path = folder.join(name);
        let content = fs::read(&path).map_err(at(&path))?;
        append(&mut tar, name, content.as_slice(), content.len() as u64)?;
    }
    let local = folder.join(LOCAL);
    if local.exists() {
        let events = Local::open(&local)?.events(0, EVENTS_HELD)?;
        let json = serde_json::to_vec(&events).expect("events are texts and numbers");
        append(&mut tar, EVENTS, json.as_slice(), json.len() as u64)?;
    }
    let sealed = tar.into_inner().map_err(BackupError::Write)?;
    let mut out = sealed.finish().map_err(BackupError::Write)?;
    out.flush().map_err(BackupError::Write)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, content: impl Read, length: u64) -> Result<(), BackupError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content).map_err(BackupError::Write)
}

/// Opens a backup of `realm` into an empty folder and raises the epoch, which follows the clock: `now` is seconds since
/// 1970. Returns when it was taken. One of another environment is refused before anything is written. A crash in between leaves a folder without a store, which is then not empty: remove it and restore again.
pub fn restore(
    folder: &Path,
    sealed: impl Read,
    identity: &str,
    realm: &Realm,
    now: i64,
) -> Result<Manifest, BackupError> {
    // Comments are age-keygen's, and those of `coordinator key`.
    let mut lines = identity.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identity: age::x25519::Identity =
        lines.next().and_then(|line| line.parse().ok()).ok_or(BackupError::Identity)?;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut entries = fs::read_dir(folder).map_err(at(folder))?;
    if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")) {
        return Err(BackupError::NotEmpty(folder.to_owned()));
    }
    let decryptor = age::Decryptor::new(sealed).map_err(BackupError::Open)?;
    let plain = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(BackupError::Open)?;
    let files = read(plain)?;
    let part = |name: &'static str| files.get(name).ok_or(BackupError::Lacks(name));
    let manifest: Manifest =
        serde_json::from_slice(part(MANIFEST)?).map_err(|error| BackupError::Damaged(error.into()))?;
    if manifest.realm != *realm {
        return Err(BackupError::OfAnother { found: manifest.realm, wanted: realm.clone() });
    }
    for name in KEYS {
        part(name)?;
    }
    let events: Vec<Event> = match files.get(EVENTS) {
        Some(json) => serde_json::from_slice(json).map_err(|error| BackupError::Damaged(error.into()))?,
        None => vec![],
    };
    let ca = folder.join("ca");
    fs::create_dir_all(&ca).map_err(at(&ca))?;
    fs::set_permissions(&ca, fs::Permissions::from_mode(0o700)).map_err(at(&ca))?;
    for name in KEYS {
        let path = folder.join(name);
        let (parent, file) = name.rsplit_once('/').map_or((folder.to_owned(), name), |(p, f)| (folder.join(p), f));
        write_durably(&parent, file, part(name)?).map_err(at(&path))?;
    }
    if !events.is_empty() {
        Local::open(&folder.join(LOCAL))?.keep(&events)?;
    }
    // The store comes last, under its name only when its epoch is raised: before that the folder is no state.
    let raised = raise_epoch(part(STORE)?, folder, &manifest.realm.environment, now)?;
    let path = folder.join(STORE);
    fs::rename(&raised, &path).map_err(at(&path))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    Ok(manifest)
}

fn read(plain: impl Read) -> Result<BTreeMap<String, Vec<u8>>, BackupError> {
    let mut archive = tar::Archive::new(plain);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(BackupError::Damaged)? {
        let mut entry = entry.map_err(BackupError::Damaged)?;
        let name = entry.path().map_err(BackupError::Damaged)?.to_string_lossy().into_owned();
        let ours = name == MANIFEST || name == STORE || name == EVENTS || KEYS.contains(&name.as_str());
        if !ours || !entry.header().entry_type().is_file() || entry.size() > LARGEST {
            return Err(BackupError::Foreign(name));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(BackupError::Damaged)?;
        files.insert(name, content);
    }
    Ok(files)
}

fn raise_epoch(store: &[u8], folder: &Path, environment: &EnvName, now: i64) -> Result<PathBuf, BackupError> {
    const NEW: &str = "restored.db";
    write_durably(folder, NEW, store).map_err(at(folder))?;
    let path = folder.join(NEW);
    {
        let store = Sqlite::open(&path)?;
        let (text, version) = store.root(environment)?.ok_or_else(|| BackupError::NoRecord(environment.clone()))?;
        let mut root = Root::from_json(&text)?;
        root.begin_epoch(now);
        keep_sets(&store, &mut root)?;
        store.put_root(environment, &root.to_json(), Some(&version))?;
    }
    // SQLite's journal belongs to the file's old name: fold it in before the file is renamed.
    let connection = rusqlite::Connection::open(&path).map_err(BackupError::Copy)?;
    connection.pragma_update(None, "journal_mode", "DELETE").map_err(BackupError::Copy)?;
    connection.close().map_err(|(_, error)| BackupError::Copy(error))?;
    Ok(path)
}

/// What had left the site by the time of the backup may have come back since: nothing is deleted for it.
fn keep_sets(store: &Sqlite, root: &mut Root) -> Result<(), StoreError> {
    let Some(current) = &mut root.current else { return Ok(()) };
    // What cannot be read is told when it is opened.
    let Ok(mut blueprint) = serde_json::from_slice::<Blueprint>(&store.object(&current.blueprint)?) else {
        return Ok(());
    };
    if !blueprint.left_sets.is_empty() {
        blueprint.left_sets.clear();
        current.blueprint = store.put_object(blueprint.to_json().as_bytes())?;
    }
    Ok(())
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    |source| BackupError::File { path: path.to_owned(), source }
}

/// Collects what is written into chunks of 64 KiB and gives them to `send`, which says whether anyone still listens.
pub struct Chunks<F: FnMut(Vec<u8>) -> bool> {
    send: F,
    held: Vec<u8>,
}

const CHUNK: usize = 64 << 10;

impl<F: FnMut(Vec<u8>) -> bool> Chunks<F> {
    pub fn new(send: F) -> Self {
        Self { send, held: Vec::with_capacity(CHUNK) }
    }
}

impl<F: FnMut(Vec<u8>) -> bool> Write for Chunks<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.held, Vec::with_capacity(CHUNK));
        if (self.send)(chunk) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;
    use muster_ids::{Digest, Generation};

    use super::*;
    use crate::{events::Level, state::Publication};

    fn realm() -> Realm {
        Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() }
    }

    /// A state folder with a record of generation 1.41.
    fn state() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        MasterKey::open_or_create(folder.path()).unwrap();
        fs::create_dir(folder.path().join("ca")).unwrap();
        for name in &KEYS[1..] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let store = Sqlite::open(&folder.path().join(STORE)).unwrap();
        let object = store.put_object(b"blueprint").unwrap();
        let generation = Generation { epoch: 1, counter: 41 };
        let current = Publication { generation, site: object, site_object: object, blueprint: object, by: None };
        let root = Root { highest: generation, current: Some(current), ..Root::default() };
        store.put_root(&realm().environment, &root.to_json(), None).unwrap();
        folder
    }

    fn sealed(folder: &Path, identity: &age::x25519::Identity) -> Vec<u8> {
        let manifest = Manifest { version: 1, realm: realm(), taken: 7 };
        let mut out = Vec::new();
        let chunks = Chunks::new(|chunk| {
            out.extend(chunk);
            true
        });
        write(folder, &manifest, &[identity.to_public()], chunks).unwrap();
        out
    }

    #[test]
    fn what_was_backed_up_is_there_with_a_higher_epoch() {
        let identity = age::x25519::Identity::generate();
        let folder = state();
        let sealed = sealed(folder.path(), &identity);
        let leak = b"\"generation\"";
        assert!(!sealed.windows(leak.len()).any(|window| window == leak), "nothing is in clear");
        let left = fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".backup"))
            .count();
        assert_eq!(left, 0, "no copy stays");

        let empty = tempfile::tempdir().unwrap();
        // As `coordinator key` writes it.
        let secret = format!("# public key: {}\n{}\n", identity.to_public(), identity.to_string().expose_secret());
        let manifest = restore(empty.path(), sealed.as_slice(), &secret, &realm(), 60).unwrap();
        assert_eq!(manifest.realm, realm());
        let store = Sqlite::open(&empty.path().join(STORE)).unwrap();
        let root = Root::from_json(&store.root(&realm().environment).unwrap().unwrap().0).unwrap();
        let generation = root.current.unwrap().generation;
        assert!(generation.epoch > 1 && generation.counter == 42 && root.highest == generation, "{generation}");
        for name in KEYS {
            let (old, new) = (folder.path().join(name), empty.path().join(name));
            assert_eq!(fs::read(old).unwrap(), fs::read(&new).unwrap(), "{name}");
            assert_eq!(fs::metadata(new).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert!(matches!(
            restore(empty.path(), sealed.as_slice(), &secret, &realm(), 60),
            Err(BackupError::NotEmpty(_))
        ));
    }

    #[test]
    fn nothing_is_deleted_for_what_had_left_by_the_backup() {
        let folder = state();
        let store = Sqlite::open(&folder.path().join(STORE)).unwrap();
        let generation = Generation { epoch: 1, counter: 41 };
        let before = serde_json::json!({
            "parent": null, "generation": generation, "cluster": "easypay", "environment": "local", "site": Digest::of("x"),
            "network": {"subnet": "10.89.0.0/16"}, "nodes": {}, "disks": {}, "load_balancers": {}, "last_ordinal": {},
            "born": true, "sets": ["dns"], "left_sets": ["app-shop"],
        });
        let object = store.put_object(before.to_string().as_bytes()).unwrap();
        let current = Publication { generation, site: object, site_object: object, blueprint: object, by: None };
        let mut root = Root { highest: generation, current: Some(current), ..Root::default() };
        keep_sets(&store, &mut root).unwrap();
        let kept = store.object(&root.current.unwrap().blueprint).unwrap();
        let after: Blueprint = serde_json::from_slice(&kept).unwrap();
        assert!(after.left_sets.is_empty() && after.sets.contains("dns"), "{after:?}");
    }

    #[test]
    fn events_come_back_with_their_numbers_and_others_follow_them() {
        let identity = age::x25519::Identity::generate();
        let folder = state();
        let said = |time, text: &str| Event::new(time, Level::Warn, None, "step failed", text);
        let local = Local::open(&folder.path().join(LOCAL)).unwrap();
        for count in 0..EVENTS_HELD as i64 + 5 {
            local.append(said(count, &format!("file./srv/{count} is full"))).unwrap();
        }
        local.append(said(9000, "file./srv/1004 is full")).unwrap();
        let sealed = sealed(folder.path(), &identity);
        let empty = tempfile::tempdir().unwrap();
        let secret = identity.to_string().expose_secret().to_owned();
        restore(empty.path(), sealed.as_slice(), &secret, &realm(), 60).unwrap();
        let restored = Local::open(&empty.path().join(LOCAL)).unwrap();
        let newest = local.events(0, EVENTS_HELD).unwrap();
        assert_eq!(restored.events(0, 2 * EVENTS_HELD).unwrap(), newest);
        let last = newest.last().unwrap().number;
        assert_eq!(restored.append(said(9001, "another")).unwrap().number, last + 1);
    }

    #[test]
    fn a_backup_of_another_environment_restores_nothing() {
        let identity = age::x25519::Identity::generate();
        let folder = state();
        let sealed = sealed(folder.path(), &identity);
        let empty = tempfile::tempdir().unwrap();
        let secret = identity.to_string().expose_secret().to_owned();
        let prod = Realm { environment: "prod".parse().unwrap(), ..realm() };
        let error = restore(empty.path(), sealed.as_slice(), &secret, &prod, 60).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("this is a backup of {}, and {prod} is to be restored", realm())),
            "{error}"
        );
        assert!(error.contains("help: ") && error.ends_with("-e local"), "{error}");
        assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_wrong_identity_or_a_cut_backup_restores_nothing() {
        let identity = age::x25519::Identity::generate();
        let folder = state();
        let sealed = sealed(folder.path(), &identity);
        let secret = |identity: &age::x25519::Identity| identity.to_string().expose_secret().to_owned();
        let other = secret(&age::x25519::Identity::generate());
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(restore(empty.path(), sealed.as_slice(), &other, &realm(), 60), Err(BackupError::Open(_))));
        let cut = &sealed[..sealed.len() - 20];
        assert!(restore(empty.path(), cut, &secret(&identity), &realm(), 60).is_err());
        assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    }

    #[test]
    fn recipients_are_checked() {
        assert!(matches!(recipients(&[]), Err(BackupError::NoRecipient)));
        assert!(matches!(recipients(&["ssh-rsa x".into()]), Err(BackupError::Recipient(_))));
        assert!(recipients(&[age::x25519::Identity::generate().to_public().to_string()]).is_ok());
    }
}
