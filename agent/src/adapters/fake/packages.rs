//! A package manager with a repository behind it: dependencies, conflicts, holds, and packages whose scripts fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_plan::kinds::package::{
    matches,
    transaction::{Deed, Move},
};

use crate::ports::{Installed, Known, Owed, PackageError, Packages, Transaction};

#[derive(Default)]
pub struct FakePackages {
    state: Mutex<State>,
}

type Paid = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    /// Name to versions, the newest first.
    available: BTreeMap<String, Vec<String>>,
    installed: BTreeMap<String, Installed>,
    depends: BTreeMap<String, Vec<String>>,
    conflicts: Vec<(String, String)>,
    /// Their scripts fail.
    bad: BTreeSet<(String, String)>,
    /// Units that packages bring.
    units: BTreeMap<String, Vec<String>>,
    owed: Vec<(Owed, Paid)>,
    transactions: Vec<Transaction>,
    updates: usize,
    fails: Option<PackageError>,
    updates_fail: Option<PackageError>,
    /// Called with the name of what was installed: what the package brings.
    brings: Vec<Arc<dyn Fn(&str) + Send + Sync>>,
    /// Called when indexes were read.
    updated: Vec<Arc<dyn Fn() + Send + Sync>>,
}

impl State {
    /// What a transaction does, or why it is not possible.
    fn moves(&self, transaction: &Transaction) -> Result<Vec<Move>, PackageError> {
        let version = |name: &str| self.installed.get(name).map(|there| there.version.clone());
        let mut wanted: Vec<(String, Option<String>)> = transaction.install.clone().into_iter().collect();
        let mut moves: Vec<Move> = Vec::new();
        while let Some((name, pattern)) = wanted.pop() {
            let versions = self.available.get(&name).map_or(&[][..], Vec::as_slice);
            let fits = |version: &&String| pattern.as_ref().is_none_or(|wanted| matches(wanted, version));
            let Some(to) = versions.iter().find(fits) else {
                return Err(match pattern {
                    Some(version) if !versions.is_empty() => {
                        PackageError::NoSuchVersion { name, version, has: versions.to_vec() }
                    }
                    Some(_) | None => PackageError::NotFound { name, version: None },
                });
            };
            let place = |version: &String| versions.iter().position(|other| other == version);
            let from = version(&name);
            let deed = match &from {
                None => Deed::Install,
                Some(from) if from == to => Deed::Finish,
                Some(from) if place(from) > place(to) => Deed::Upgrade,
                Some(_) => Deed::Downgrade,
            };
            let there = |on: &str| self.installed.contains_key(on) || moves.iter().any(|step| step.name == on);
            let missing = |on: &&String| !on.split('|').any(there);
            let more: Vec<&String> = self.depends.get(&name).into_iter().flatten().filter(missing).collect();
            wanted.extend(more.into_iter().filter_map(|on| Some((on.split('|').next()?.to_owned(), None))));
            moves.push(Move { name, from, to: Some(to.clone()), deed });
        }
        let comes = |name: &String| moves.iter().any(|step| step.name == *name);
        let mut goes: Vec<String> = transaction.remove.clone();
        for (one, other) in &self.conflicts {
            if comes(one) && comes(other) {
                let said = format!("{one} : Conflicts: {other}");
                return Err(PackageError::Unmet { names: Vec::new(), said });
            }
            for (new, old) in [(one, other), (other, one)] {
                if comes(new) && self.installed.contains_key(old) {
                    goes.push(old.clone());
                }
            }
        }
        while let Some(name) = goes.pop() {
            if moves.iter().any(|step| step.name == name) {
                continue;
            }
            let comes = |other: &str| moves.iter().any(|step| step.name == other && step.deed != Deed::Remove);
            let stays = |other: &str| other != name && (self.installed.contains_key(other) || comes(other));
            let needs = |on: &String| on.split('|').any(|one| one == name) && !on.split('|').any(stays);
            let on_it = |(_, on): &(&String, &Vec<String>)| on.iter().any(needs);
            let dependents = self.depends.iter().filter(on_it).map(|(other, _)| other);
            goes.extend(dependents.filter(|other| self.installed.contains_key(*other)).cloned());
            let from = version(&name);
            moves.push(Move { name, from, to: None, deed: Deed::Remove });
        }
        Ok(moves)
    }
}

impl FakePackages {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn publish(&self, name: &str, version: &str) {
        self.lock().available.entry(name.to_owned()).or_default().insert(0, version.to_owned());
    }

    /// Is there, as if installed by hand.
    pub fn put(&self, name: &str, version: &str, hold: bool) {
        let package = Installed { version: version.to_owned(), complete: true, hold };
        self.lock().installed.insert(name.to_owned(), package);
    }

    /// `on` may be several with `|` between them, of which one is enough.
    pub fn depends(&self, name: &str, on: &str) {
        self.lock().depends.entry(name.to_owned()).or_default().push(on.to_owned());
    }

    pub fn conflict(&self, one: &str, other: &str) {
        self.lock().conflicts.push((one.to_owned(), other.to_owned()));
    }

    /// This version is unpacked, and then its scripts fail.
    pub fn fails_to_configure(&self, name: &str, version: &str) {
        self.lock().bad.insert((name.to_owned(), version.to_owned()));
    }

    /// An installed package brings this unit.
    pub fn brings_unit(&self, name: &str, unit: &str) {
        self.lock().units.entry(name.to_owned()).or_default().push(unit.to_owned());
    }

    /// A restart of this unit is owed until `paid`.
    pub fn owes(&self, unit: &str, package: &str, paid: impl Fn() -> bool + Send + Sync + 'static) {
        let owed = Owed { units: vec![unit.to_owned()], package: package.to_owned() };
        self.lock().owed.push((owed, Arc::new(paid)));
    }

    pub fn version(&self, name: &str) -> Option<String> {
        self.lock().installed.get(name).map(|package| package.version.clone())
    }

    pub fn held(&self, name: &str) -> bool {
        self.lock().installed.get(name).is_some_and(|package| package.hold)
    }

    /// Every transaction that was asked for.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.lock().transactions.clone()
    }

    /// How often indexes were read.
    pub fn updates(&self) -> usize {
        self.lock().updates
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
    async fn installed(&self) -> Result<Arc<Known>, PackageError> {
        Ok(Arc::new(Known { native: "amd64".to_owned(), packages: self.lock().installed.clone() }))
    }

    async fn candidates(&self, names: &BTreeSet<String>) -> Result<Arc<BTreeMap<String, String>>, PackageError> {
        let state = self.lock();
        let newest = |name: &String| Some((name.clone(), state.available.get(name)?.first()?.clone()));
        Ok(Arc::new(names.iter().filter_map(newest).collect()))
    }

    async fn simulate(&self, transaction: &Transaction) -> Result<Vec<Move>, PackageError> {
        self.lock().moves(transaction)
    }

    async fn finish(&self, _except: &BTreeSet<String>) -> Result<(), PackageError> {
        Ok(())
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError> {
        let (new, brings, broken) = {
            let mut state = self.lock();
            state.transactions.push(transaction.clone());
            if let Some(error) = &state.fails {
                return Err(error.clone());
            }
            let moves = state.moves(transaction)?;
            let mut broken = BTreeMap::new();
            let mut new = Vec::new();
            for Move { name, to, deed, .. } in moves {
                let Some(version) = to.filter(|_| deed != Deed::Remove) else {
                    if !transaction.goes.contains(&name) {
                        let tail = format!("{name} needs to be removed but remove is disabled");
                        return Err(PackageError::Failed { program: "apt-get".to_owned(), tail });
                    }
                    state.installed.remove(&name);
                    continue;
                };
                let complete = !state.bad.contains(&(name.clone(), version.clone()));
                if complete {
                    new.push(name.clone());
                } else {
                    broken.insert(name.clone(), "its script fails".to_owned());
                }
                // dpkg forgets a hold with the version.
                state.installed.insert(name, Installed { version, complete, hold: false });
            }
            for (names, hold) in [(&transaction.unhold, false), (&transaction.hold, true)] {
                for name in names {
                    if let Some(package) = state.installed.get_mut(name) {
                        package.hold = hold;
                    }
                }
            }
            (new, state.brings.clone(), broken)
        };
        for name in &new {
            for brings in &brings {
                brings(name);
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(PackageError::Broken { packages: broken }) }
    }

    async fn update(&self, _source: Option<&str>) -> Result<(), PackageError> {
        let updated = {
            let mut state = self.lock();
            state.updates += 1;
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

    async fn owed(&self) -> Vec<Owed> {
        let mut state = self.lock();
        state.owed.retain(|(_, paid)| !paid());
        state.owed.iter().map(|(owed, _)| owed.clone()).collect()
    }

    fn units(&self, name: &str) -> Vec<String> {
        self.lock().units.get(name).cloned().unwrap_or_default()
    }
}
