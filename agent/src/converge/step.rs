//! One step: look, do, look again, and what it is told by others.

use std::collections::BTreeSet;

use muster_catalog::{
    Resource, Spec,
    kinds::{package::PackageSpec, service::Disrupts},
};
use muster_ids::ResourceId;
use muster_plan::kinds::{Change, Describe, Observed, diff, on_notify};

use super::disruption::{Disruption, Went};
use crate::{Context, StepError, kinds, ledger::LedgerFile};

/// What one step needs.
pub struct Step<'a> {
    pub ctx: &'a Context,
    pub ledger: &'a LedgerFile,
    pub disruption: &'a Disruption,
    pub resource: &'a Resource,
    /// Why a change of an earlier converge's specification is no drift, nor a first one.
    pub id: ResourceId,
}

/// How a step ended well.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Something was done: lines for people.
    pub done: Option<Vec<String>>,
    /// What people should hear of it.
    pub notes: Vec<String>,
    /// It differed though nothing had been asked to change: somebody else changed it.
    pub repaired: bool,
}

impl Step<'_> {
    /// Makes the resource as written; `seen` is a difference that still counts.
    pub async fn run(&self, seen: Option<(Observed, Change)>) -> Result<Ended, StepError> {
        let (observed, change) = match seen {
            Some((observed, change)) => (observed, Some(change)),
            None => {
                let observed = kinds::observe(self.ctx, &self.resource.spec).await?;
                let change = diff(&self.resource.spec, &observed);
                (observed, change)
            }
        };
        let mut ended = Ended::default();
        // What is told to begin anew need not be waited for first.
        let change = if self.is_told() { change.and_then(Change::before_a_new_start) } else { change };
        if let Some(change) = change {
            ended.repaired = self.is_drift()? && !change.of_our_doing();
            self.announce()?;
            // What is started anew for its own difference hears by that.
            ended.done = Some(self.telling(&change, &mut ended.notes).await?);
        }
        if self.is_told()
            && let Some(lines) = self.told(&observed, &mut ended.notes).await?
        {
            ended.done.get_or_insert_default().extend(lines);
        }
        Ok(ended)
    }

    /// Does it and looks again.
    pub async fn change(&self, change: &Change, notes: &mut Vec<String>) -> Result<Vec<String>, StepError> {
        let reason = format!("{}: {}", self.id, change.detail().first().map_or("change", String::as_str));
        let disrupts = change.disrupts();
        if disrupts == Disrupts::Nothing {
            notes.extend(self.do_it(change).await?);
            return Ok(change.detail());
        }
        self.disruption.begin(&reason).await?;
        let done = self.do_it(change).await;
        let went = match &done {
            Err(_) => Went::Badly,
            Ok(_) => self.went(disrupts),
        };
        let fit = self.disruption.end(went).await;
        notes.extend(done?);
        fit?;
        Ok(change.detail())
    }

    async fn do_it(&self, change: &Change) -> Result<Vec<String>, StepError> {
        let notes = kinds::apply(self.ctx, &self.resource.spec, change).await?.notes;
        self.verify().await?;
        Ok(notes)
    }

    /// Where what was disrupted carries the node, its Ready is believed only with a fresh beat of kubelet's, which takes ten
    /// seconds at most. A membership's change waits for that itself.
    fn went(&self, disrupts: Disrupts) -> Went {
        let beats = Went::OfTheNode { beats_after: Some(self.ctx.clock.now()) };
        match &self.resource.spec {
            Spec::Service(service) if matches!(&*service.whole_name(), "kubelet.service" | "containerd.service") => {
                beats
            }
            Spec::ClusterMember(_) => Went::OfTheNode { beats_after: None },
            _other if disrupts == Disrupts::Node => beats,
            _other => Went::Well,
        }
    }

    /// Looks again: the difference must be empty.
    pub async fn verify(&self) -> Result<(), StepError> {
        let observed = kinds::observe(self.ctx, &self.resource.spec).await?;
        match diff(&self.resource.spec, &observed) {
            None => Ok(()),
            Some(change) => Err(StepError::failed(format!(
                "{} still differs after it was changed: {}",
                self.id,
                change.detail().join("; ")
            ))
            .help("does another program change it, or does it end at once? see its log")
            .retry()),
        }
    }

    /// It was as written in this very form when it was last looked at.
    pub fn is_drift(&self) -> Result<bool, StepError> {
        let digest = digest(&self.resource.spec);
        Ok(self.ledger.read(|ledger| ledger.right.get(&self.id) == Some(&digest)))
    }

    /// Writes down whom to tell, before the change: a crash after it still tells them.
    pub fn announce(&self) -> Result<(), StepError> {
        if self.resource.notify.is_empty() {
            return Ok(());
        }
        let known = self.ledger.read(|ledger| {
            let owed = |target| ledger.pending.get(target).is_some_and(|by: &BTreeSet<_>| by.contains(&self.id));
            self.resource.notify.iter().all(|target| owed(target) && !ledger.telling.contains_key(target))
        });
        if known {
            return Ok(());
        }
        self.ledger.change(|ledger| {
            for target in &self.resource.notify {
                ledger.owe(target, &self.id);
            }
        })?;
        Ok(())
    }

    /// Its specification, where it is a package.
    pub fn package(&self) -> Option<&PackageSpec> {
        match &self.resource.spec {
            Spec::Package(package) => Some(package),
            _other => None,
        }
    }

    /// Forgets what it was told: a package has nothing to do about it.
    pub fn heard(&self) -> Result<(), StepError> {
        if self.is_told() {
            self.ledger.change(|ledger| ledger.told(&self.id))?;
        }
        Ok(())
    }

    fn is_told(&self) -> bool {
        self.ledger.read(|ledger| ledger.pending.contains_key(&self.id))
    }

    /// Does what it was told. `before` is what was seen before its own change: what did not run then was started since.
    async fn told(&self, before: &Observed, notes: &mut Vec<String>) -> Result<Option<Vec<String>>, StepError> {
        let by = self.ledger.read(|ledger| ledger.pending.get(&self.id).cloned()).unwrap_or_default();
        let heard = self.heard_before_a_kill().await?;
        let lines = match on_notify(&self.resource.spec, before).filter(|_| !heard) {
            Some(change) => {
                let mut lines = self.telling(&change, notes).await?;
                let names: Vec<_> = by.iter().map(ToString::to_string).collect();
                if let Some(first) = lines.first_mut() {
                    first.push_str(&format!(" (told by {})", names.join(", ")));
                }
                Some(lines)
            }
            None => None,
        };
        self.ledger.settle(|ledger| {
            // What was told meanwhile stays.
            if ledger.pending.get(&self.id) == Some(&by) {
                ledger.told(&self.id);
            }
        });
        Ok(lines)
    }

    /// A change that begins a new run of what is told. The run that it ends is written down first: a kill after it, and the next converge
    /// sees that another one runs, which has heard.
    async fn telling(&self, change: &Change, notes: &mut Vec<String>) -> Result<Vec<String>, StepError> {
        let told = self.is_told() && change.begins_a_run();
        if told && let Some(run) = kinds::run(self.ctx, &self.resource.spec).await? {
            // On a full disk it is told all the same.
            self.ledger.settle(|ledger| drop(ledger.telling.insert(self.id.clone(), run)));
        }
        let done = self.change(change, notes).await;
        if told && done.is_err() {
            // It failed or waits for its turn: it is told again.
            self.ledger.settle(|ledger| drop(ledger.telling.remove(&self.id)));
        }
        done
    }

    /// An agent that was killed had told it already.
    async fn heard_before_a_kill(&self) -> Result<bool, StepError> {
        let Some(ended) = self.ledger.read(|ledger| ledger.telling.get(&self.id).cloned()) else { return Ok(false) };
        Ok(kinds::run(self.ctx, &self.resource.spec).await?.is_some_and(|run| run != ended))
    }
}

/// A specification's digest, shortened: enough to tell one resource's versions apart.
pub fn digest(spec: &muster_catalog::Spec) -> String {
    let mut digest = muster_ids::Digest::of(serde_json::to_vec(spec).unwrap_or_default()).to_string();
    digest.truncate(16);
    digest
}
