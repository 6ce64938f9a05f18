//! A package manager with a repository behind it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_plan::kinds::package::matches;

use crate::ports::{Installed, PackageError, Packages, Transaction};

#[derive(Default)]
pub struct FakePackages {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Name to versions, the newest first.
    available: BTreeMap<String, Vec<String>>,
    installed: BTreeMap<String, Installed>,
    transactions: Vec<Transaction>,
    fails: Option<PackageError>,
    updates_fail: Option<PackageError>,
    /// Called with the name of what was installed: what the package brings.
    brings: Vec<Arc<dyn Fn(&str) + Send + Sync>>,
    /// Called when indexes were read.
    updated: Vec<Arc<dyn Fn() + Send + Sync>>,
}

impl FakePackages {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn publish(&self, name: &str, version: &str) {
        self.lock().available.entry(name.to_owned()).or_default().insert(0, version.to_owned());
    }

    /// Every transaction that was asked for.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.lock().transactions.clone()
    }

    /// Every transaction fails so from now on, or none.
    pub fn fail(&self, error: Option<PackageError>) {
        self.lock().fails = error;
    }

    /// No index can be read from now on, or each.
    pub fn fail_updates(&self, error: Option<PackageError>) {
        self.lock().updates_fail = error;
    }

    pub fn on_update(&self, does: impl Fn() + Send + Sync + 'static) {
        self.lock().updated.push(Arc::new(does));
    }

    pub fn on_install(&self, brings: impl Fn(&str) + Send + Sync + 'static) {
        self.lock().brings.push(Arc::new(brings));
    }
}

#[async_trait::async_trait]
impl Packages for FakePackages {
    async fn installed(&self) -> Result<Arc<BTreeMap<String, Installed>>, PackageError> {
        Ok(Arc::new(self.lock().installed.clone()))
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError> {
        let (new, brings) = {
            let mut state = self.lock();
            state.transactions.push(transaction.clone());
            if let Some(error) = &state.fails {
                return Err(error.clone());
            }
            let mut new = Vec::new();
            for (name, wanted) in &transaction.install {
                let versions = state.available.get(name).map_or(&[][..], Vec::as_slice);
                let fits = |version: &&String| wanted.as_ref().is_none_or(|wanted| matches(wanted, version));
                let Some(version) = versions.iter().find(fits) else {
                    let version = if versions.is_empty() { None } else { wanted.clone() };
                    return Err(PackageError::NotFound { name: name.clone(), version });
                };
                new.push((name.clone(), version.clone()));
            }
            for (name, version) in &new {
                let hold = state.installed.get(name).is_some_and(|old| old.hold);
                state.installed.insert(name.clone(), Installed { version: version.clone(), complete: true, hold });
            }
            for name in &transaction.remove {
                state.installed.remove(name);
            }
            for (names, hold) in [(&transaction.unhold, false), (&transaction.hold, true)] {
                for name in names {
                    if let Some(package) = state.installed.get_mut(name) {
                        package.hold = hold;
                    }
                }
            }
            (new, state.brings.clone())
        };
        for (name, _) in &new {
            for brings in &brings {
                brings(name);
            }
        }
        Ok(())
    }

    async fn update(&self, _source: Option<&str>) -> Result<(), PackageError> {
        let updated = {
            let state = self.lock();
            if let Some(error) = &state.updates_fail {
                return Err(error.clone());
            }
            state.updated.clone()
        };
        for does in updated {
            does();
        }
        Ok(())
    }
}
