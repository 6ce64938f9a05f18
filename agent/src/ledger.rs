//! What the agent remembers between converges, in one small file.
//!
//! It is written before a change that somebody must be told of, so that a crash between the change and the restart loses nothing;
//! and after a converge. It holds no secret and no content. It can be lost: then one round of restarts may be missed and drift is
//! counted from zero, nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use muster_catalog::Spec;
use muster_ids::{Generation, ResourceId};
use serde::{Deserialize, Serialize};

use crate::ports::{FileError, Files};

/// Where the daemon keeps it.
pub const PATH: &str = "/var/lib/muster-agent/ledger.json";
/// Seconds in which repairs are counted.
const WINDOW: i64 = 3600;
/// So many repairs in the window are a fight.
const FIGHT: usize = 5;
/// Seconds for which a fight is left alone.
const TRUCE: i64 = 600;

/// Version 1, the current one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The newest generation that was converged, well or not: an older one is refused.
    pub generation: Option<Generation>,
    /// Which boot the rest was seen in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Whom to tell, and who changed.
    #[serde(default)]
    pub pending: BTreeMap<ResourceId, BTreeSet<ResourceId>>,
    /// Whom of these is being told, and which run of it was to end by that: another run has heard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub telling: BTreeMap<ResourceId, String>,
    /// What was as written when it was last looked at: the specification's digest, shortened.
    #[serde(default)]
    pub right: BTreeMap<ResourceId, String>,
    /// When a resource was put back: seconds since the epoch, within the last hour.
    #[serde(default)]
    pub repairs: BTreeMap<ResourceId, Vec<i64>>,
    /// Resources that somebody else changes as often as they are put back, and until when they are left alone.
    #[serde(default)]
    pub contested: BTreeMap<ResourceId, i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Versioned {
    #[serde(rename = "1")]
    V1(Ledger),
}

impl Ledger {
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Versioned::V1(self.clone())).unwrap_or_default()
    }

    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_slice(text)? {
            Versioned::V1(ledger) => Ok(ledger),
        }
    }

    /// Begins anew after a boot: what it took away is not what was last seen.
    pub fn booted(&mut self, boot: &str) {
        if self.boot.as_deref() != Some(boot) {
            self.boot = Some(boot.to_owned());
            self.right.retain(|id, _| !Spec::ends_with_boot(id.kind()));
        }
    }

    /// Counts a repair. True where it is one too many, and the resource is contested from now on.
    pub fn repaired(&mut self, resource: &ResourceId, now: i64) -> bool {
        let times = self.repairs.entry(resource.clone()).or_default();
        times.retain(|&then| then > now - WINDOW);
        times.push(now);
        let fight = times.len() >= FIGHT;
        if fight {
            self.contested.insert(resource.clone(), now + TRUCE);
        }
        fight
    }

    /// Until when the resource is left alone, where it is.
    pub fn truce(&self, resource: &ResourceId, now: i64) -> Option<i64> {
        self.contested.get(resource).copied().filter(|&until| until > now)
    }

    /// Somebody changed: whom to tell of it, whatever they heard of before.
    pub fn owe(&mut self, target: &ResourceId, by: &ResourceId) {
        self.pending.entry(target.clone()).or_default().insert(by.clone());
        self.telling.remove(target);
    }

    /// It heard all there was to hear.
    pub fn told(&mut self, target: &ResourceId) {
        self.pending.remove(target);
        self.telling.remove(target);
    }

    /// Forgets what is over.
    pub fn tidy(&mut self, now: i64) {
        self.telling.retain(|target, _| self.pending.contains_key(target));
        self.contested.retain(|_, until| *until > now);
        self.repairs.retain(|_, times| {
            times.retain(|&then| then > now - WINDOW);
            !times.is_empty()
        });
    }
}

/// The ledger and its file. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct LedgerFile {
    inner: Arc<Mutex<Ledger>>,
    files: Arc<dyn Files>,
    path: Arc<str>,
}

impl LedgerFile {
    /// Reads it; a missing one is empty. One that cannot be read is set aside as `….broken` and said aloud: an agent must come up.
    pub fn open(files: Arc<dyn Files>, path: &str) -> Result<Self, FileError> {
        let ledger = match files.read(path)? {
            None => Ledger::default(),
            Some(text) => match Ledger::from_json(&text) {
                Ok(ledger) => ledger,
                Err(error) => {
                    tracing::error!(%error, path, "the ledger cannot be read and is set aside");
                    files.write(&format!("{path}.broken"), &text, 0o600, 0, 0)?;
                    Ledger::default()
                }
            },
        };
        Ok(Self { inner: Arc::new(Mutex::new(ledger)), files, path: path.into() })
    }

    pub fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what is done already. Where it cannot be written it holds for this process, so that the same is not done over
    /// and over while a disk is full; after a crash it is done once more.
    pub fn settle(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let before = ledger.clone();
        change(&mut ledger);
        if *ledger != before
            && let Err(error) = self.files.write(&self.path, ledger.to_json().as_bytes(), 0o600, 0, 0)
        {
            tracing::error!(%error, cause = %error.source, "what was done cannot be remembered");
        }
    }

    /// Changes it and returns when the change is on disk; writes nothing where nothing changed.
    pub fn change<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> Result<T, FileError> {
        let mut ledger = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = ledger.clone();
        let result = change(&mut new);
        if new != *ledger {
            self.files.write(&self.path, new.to_json().as_bytes(), 0o600, 0, 0)?;
            *ledger = new;
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::files::RealFiles;

    fn id() -> ResourceId {
        ResourceId::new("file", "/etc/x")
    }

    #[test]
    fn the_first_versions_file_still_loads() {
        let golden = r#"{"version":"1","generation":{"epoch":0,"counter":41},"pending":{"service.containerd":["file./etc/containerd/config.toml"]},"right":{"file./etc/x":"0011223344556677"},"repairs":{"file./etc/x":[1700000000]},"contested":{"file./etc/x":1700000600}}"#;
        let ledger = Ledger::from_json(golden.as_bytes()).unwrap();
        assert_eq!(ledger.generation, Some(Generation { epoch: 0, counter: 41 }));
        assert_eq!(ledger.pending[&ResourceId::new("service", "containerd")].len(), 1);
        assert_eq!(ledger.to_json(), golden);
    }

    #[test]
    fn who_is_being_told_is_told_anew_of_another_change() {
        let (mut ledger, target) = (Ledger::default(), ResourceId::new("service", "x"));
        ledger.owe(&target, &id());
        ledger.telling.insert(target.clone(), "run".to_owned());
        assert_eq!(Ledger::from_json(ledger.to_json().as_bytes()).unwrap(), ledger);
        ledger.owe(&target, &id());
        assert!(ledger.telling.is_empty());
        ledger.telling.insert(target.clone(), "run".to_owned());
        ledger.told(&target);
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn the_fifth_repair_in_an_hour_is_a_fight() {
        let mut ledger = Ledger::default();
        assert!(!ledger.repaired(&id(), 0));
        for time in 1..4 {
            assert!(!ledger.repaired(&id(), 4000 + time));
        }
        assert!(!ledger.repaired(&id(), 4004), "the first is more than an hour ago");
        assert!(ledger.repaired(&id(), 4005));
        assert_eq!(ledger.truce(&id(), 4006), Some(4605));
        assert_eq!(ledger.truce(&id(), 4605), None);
    }

    #[test]
    fn what_a_boot_takes_away_is_forgotten_and_files_are_not() {
        let mut ledger = Ledger { boot: Some("1".into()), ..Ledger::default() };
        let service = ResourceId::new("service", "kubelet");
        ledger.right = [(id(), "a".to_owned()), (service.clone(), "b".to_owned())].into();
        ledger.booted("1");
        assert_eq!(ledger.right.len(), 2);
        ledger.booted("2");
        assert_eq!(ledger.boot.as_deref(), Some("2"));
        assert!(ledger.right.contains_key(&id()) && !ledger.right.contains_key(&service));
    }

    #[test]
    fn it_comes_back_from_disk_and_a_broken_one_is_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let files: Arc<dyn Files> = Arc::new(RealFiles::below(root.path()));
        let ledger = LedgerFile::open(Arc::clone(&files), "/l.json").unwrap();
        ledger.change(|ledger| drop(ledger.pending.insert(id(), BTreeSet::new()))).unwrap();
        let again = LedgerFile::open(Arc::clone(&files), "/l.json").unwrap();
        assert!(again.read(|ledger| ledger.pending.contains_key(&id())));
        files.write("/l.json", b"{", 0o600, 0, 0).unwrap();
        let empty = LedgerFile::open(Arc::clone(&files), "/l.json").unwrap();
        assert!(empty.read(|ledger| ledger.pending.is_empty()));
        assert_eq!(files.read("/l.json.broken").unwrap().unwrap(), b"{");
    }
}
